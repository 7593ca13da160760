use std::collections::BTreeSet;

use rallrec_events::StageId;

use super::*;
use crate::settings::{Checked, Kind, Schema, Value, schema_of};

fn read(text: &str, sets: &[&str]) -> crate::Result<Read> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    read_text(text, "r.toml", &sets)
}

fn refused(text: &str, sets: &[&str]) -> String {
    match read(text, sets) {
        Ok(_) => panic!("{text} {sets:?} is taken"),
        Err(e) => e.to_string(),
    }
}

/// All keys of the schema that are no sections, with what they may hold.
fn keys() -> Vec<(String, Kind, Option<Kind>)> {
    fn walk(schema: &Schema<'_>, path: &str, keys: &mut Vec<(String, Kind, Option<Kind>)>) {
        for name in schema.names() {
            let (key, path) = (schema.key(name).unwrap(), format!("{path}{name}"));
            match key.kind() {
                Kind::Section => walk(&key, &format!("{path}."), keys),
                kind => {
                    let entry = matches!(kind, Kind::List { .. }).then(|| key.entry(0).kind());
                    keys.push((path, kind, entry));
                }
            }
        }
    }
    let schema = schema_of::<Recipe>().unwrap();
    let mut keys = Vec::new();
    walk(&Schema::root(&schema), "", &mut keys);
    keys
}

/// Values in TOML that a key of this kind cannot hold.
fn illegal(kind: &Kind, entry: Option<&Kind>) -> Vec<String> {
    let mut bad: Vec<String> = Vec::new();
    let mut add = |values: &[&str]| bad.extend(values.iter().map(|v| (*v).to_owned()));
    match kind {
        Kind::Section => add(&["3"]),
        Kind::Bool => add(&["\"yes\"", "1"]),
        Kind::Integer(range) => {
            add(&["\"many\"", "1.5", "true", "99999999999999999999"]);
            let all = [-1, 0, 1, i64::MAX];
            bad.extend(all.into_iter().filter(|i| !range.holds(*i as f64)).map(|i| i.to_string()));
        }
        Kind::Float { range, single } => {
            add(&["\"many\"", "true", "nan", "inf", "-inf"]);
            let all = [-1.0, 0.0, 1.0, 1.5, 1e30, 1e300];
            bad.extend(all.into_iter().filter(|x| !range.holds(*x)).map(|x: f64| format!("{x:?}")));
            if *single {
                bad.push("1e300".into());
            }
        }
        Kind::Text { least, or_list } => {
            add(&["3", "true", if *or_list { "[3]" } else { "[\"a\"]" }]);
            if *least > 0 {
                add(&["\"\"", "\"  \""]);
            }
        }
        Kind::Words(_) => add(&["\"no_such_word\"", "\"\"", "3"]),
        Kind::List { least, unique, .. } => {
            add(&["3", "\"x\""]);
            if *least > 0 {
                add(&["[]"]);
            }
            let entry = entry.expect("a list has entries");
            bad.extend(illegal(entry, None).into_iter().map(|v| format!("[{v}]")));
            if let (true, Kind::Words(words)) = (*unique, entry) {
                bad.push(format!("[\"{0}\", \"{0}\"]", words[0]));
            }
        }
    }
    bad
}

#[test]
fn every_key_refuses_what_it_cannot_hold_by_its_own_name() {
    let keys = keys();
    assert!(keys.len() > 150, "{} keys", keys.len());
    let mut tried = 0;
    for (path, kind, entry) in &keys {
        for bad in illegal(kind, entry.as_ref()) {
            tried += 1;
            let said = refused(&format!("\n{path} = {bad}"), &[]);
            assert!(said.starts_with(&format!("r.toml:2: {path}: ")), "{path} = {bad}: {said}");
            assert!(said.contains("\n  next: "), "{said}");
            // What follows a `--set` with a word that is no TOML is a text.
            let change = format!("{path}={bad}");
            let said = refused("", &[&change]);
            assert!(said.starts_with(&format!("--set {change}: {path}: ")), "{change}: {said}");
        }
    }
    assert!(tried > 4 * keys.len(), "{tried} values of {} keys", keys.len());
    for section in ["data", "merge.sweep", "tune.lora", "collab"] {
        assert!(refused(&format!("{section} = 3"), &[]).starts_with(&format!("r.toml:1: {section}: ")));
    }
}

#[test]
fn what_is_printed_names_every_key_with_its_range() {
    let text = annotated(&Recipe::default()).unwrap();
    let mut section = String::new();
    let mut printed = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && (!line.starts_with('#') || line.ends_with("(not set)"))
        {
            printed.insert(format!("{section}{name}"));
        }
    }
    let known: BTreeSet<String> = keys().into_iter().map(|k| k.0).collect();
    assert_eq!(printed, known);
    for line in ["# Range: 1 to 1000. Default: 30.", "# Range: above 0, and at most 1000. Default: 0.1.", "# One of: "]
    {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_place() {
    let text = "seed = 1\n[merge]\nepsilon = 0\n[tune.lora]\nrank = 0\nrate = 3\n[reason]\ntemperature = -1\n";
    let said = refused(text, &["retrieve.k=0"]);
    assert!(said.contains("5 settings are wrong"), "{said}");
    for fault in [
        "r.toml:3: merge.epsilon: 0 is out of range\n    next: set it to a number, above 0",
        "r.toml:5: tune.lora.rank: 0 is out of range\n    next: set it to a whole number, 1 to 65536",
        "r.toml:6: tune.lora.rate: there is no such key",
        "r.toml:8: reason.temperature: -1 is out of range",
        "--set retrieve.k=0: retrieve.k: 0 is out of range",
    ] {
        assert!(said.contains(fault), "{fault}\n{said}");
    }
}

#[test]
fn the_nearest_right_name_is_offered() {
    assert!(refused("nmae = \"x\"", &[]).contains("did you mean 'name'?"));
    assert!(refused("[retrieve]\nkk = 3", &[]).contains("did you mean 'retrieve.k'?"));
    // The key of a section below.
    assert!(refused("[tune]\nlearning_rate = 1e-3", &[]).contains("did you mean 'tune.lora.learning_rate'?"));
    assert!(refused("[data]\nkind = \"synthetc\"", &[]).contains("did you mean 'synthetic'?"));
    assert!(refused("[quux]\na = 1", &[]).contains("r.toml:1: quux: there is no such section"));
}

#[test]
fn keys_that_contradict_each_other_are_refused_by_name() {
    for (text, key) in [
        ("name = \"a/b\"", "name"),
        ("data.split.train = 0.9", "data.split"),
        ("data.kind = \"ml-1m\"", "data.path"),
        ("data.core.user_min = 9\ndata.core.user_max = 3", "data.core.user_min"),
        ("data.synthetic.ratings = 7", "data.synthetic.ratings"),
        ("data.kind = \"table\"\ndata.path = \"x\"\ndata.table.separator = '\"'", "data.table.separator"),
        ("data.kind = \"table\"\ndata.path = \"x\"\ndata.table.scale = [5, 1]", "data.table.scale"),
        ("describe.min_tokens = 2000", "describe.min_tokens"),
        ("data.kind = \"ml-1m\"\ndata.path = \"x\"\ndescribe.source = \"file\"", "describe.file"),
        ("align.batch = 1", "align.batch"),
        ("prompt.date = \"yesterday\"", "prompt.date"),
        ("soft.source = \"text\"\nsoft.user = \"graph\"", "soft.user"),
        ("predict.no = \"Yes\"", "predict.no"),
        ("reason.certainty.middle = 0.5", "reason.certainty.middle"),
        ("merge.weights = [0]", "merge.weights"),
        ("merge.experts = [\"collaborative\"]", "merge.experts"),
        ("evaluate.reference = \"nobody\"", "evaluate.reference"),
        ("evaluate.reference = \"tuned, nobody\"", "evaluate.reference"),
        ("evaluate.reference = \"merged, many experts\"", "evaluate.reference"),
        ("evaluate.reference = \"merged, 3 experts\"", "evaluate.reference"),
    ] {
        let said = refused(text, &[]);
        let place = said.split(": ").nth(1).unwrap_or_default();
        assert_eq!(place, key, "{said}");
        assert!(said.starts_with("r.toml"), "{said}");
    }
    Recipe::default().check().unwrap();
}

#[test]
fn old_names_work_and_say_what_they_are_called_now() {
    let old = "[facts]\nknowledge = \"verdict\"\nfolds = 4\n[facts.taste]\nsources = [\"ratings\"]\n\
               [facts.taste.ratings]\ndim = 8\n[data]\ndescription_words = 24\nshuffle_seed = 9\ntable.damaged = \"skip\"\n[describe]\n\
               max_words = 0\n[prompt]\nknowledge = \"first\"\nhistory = 10\norder = \"relevant\"\n[merge]\nwindow = 3\n\
               [tune]\nrenderings = [\"high\"]\n";
    let new = "[collab]\nwording = \"verdict\"\nfolds = 4\n[collab.fold_in]\nsources = [\"ratings\"]\n\
               [collab.fold_in.ratings]\ndim = 8\n[data]\nseed = 9\ndamaged = \"skip\"\n[describe]\nwords = 24\n[prompt]\n\
               placement = \"first\"\n[tune]\ntemplates = [\"high\"]\n";
    let (old, new) = (read(old, &[]).unwrap(), read(new, &[]).unwrap());
    assert_eq!(old.recipe, new.recipe);
    assert_eq!(new.lines, [""; 0]);
    let said = old.lines.join("\n");
    for path in renamed::old_paths().iter().filter(|p| **p != "data.descriptions") {
        assert!(said.contains(&format!("'{path}'")), "{path}: {said}");
    }
    assert!(said.contains("recipe: 'facts.taste' is now 'collab.fold_in'"), "{said}");
    assert_eq!(old.lines.len(), renamed::old_paths().len() - 1);

    let set = read("", &["facts.taste.sources=['ratings']", "data.descriptions=a.json"]).unwrap();
    // What `--set` names is meant from the working directory.
    let here = std::env::current_dir().unwrap().join("a.json");
    assert_eq!(set.recipe.describe.file.as_deref(), Some(here.as_path()));
    assert_eq!(set.lines.len(), 2);
    // A `--set` wins over the file, whatever the names.
    let over = read("[collab]\nwording = \"item\"", &["facts.knowledge=silent"]).unwrap();
    assert_eq!(
        annotated(&over.recipe).unwrap(),
        annotated(&read("collab.wording = \"silent\"", &[]).unwrap().recipe).unwrap()
    );
}

#[test]
fn every_row_of_the_tables_can_be_the_reference() {
    let experts = |n: usize| {
        [
            "merge.experts=['tuned']",
            "merge.experts=['tuned', 'reasoning']",
            "merge.experts=['tuned', 'reasoning', 'collaborative']",
        ][n - 1]
    };
    for name in crate::eval::rows::names() {
        let n = name.strip_prefix("merged, ").and_then(|rest| rest.strip_suffix(" experts")?.parse().ok());
        let reference = format!("evaluate.reference={name}");
        let sets = [reference.as_str(), "collab.wording=silent", experts(n.unwrap_or(2))];
        assert_eq!(read("", &sets).unwrap().recipe.evaluate.reference, name);
    }
}

#[test]
fn a_row_of_the_tables_may_have_its_old_name() {
    let old = read("evaluate.reference = \"facts alone\"", &[]).unwrap();
    assert_eq!(old.recipe.evaluate.reference, crate::eval::rows::FEATURES);
    assert_eq!(old.lines, ["recipe: evaluate.reference = \"facts alone\" is now \"causal features alone\""]);
    let new = read("", &["evaluate.reference=causal features alone"]).unwrap();
    assert_eq!((new.recipe, new.lines), (old.recipe, Vec::new()));
}

#[test]
fn a_key_under_both_names_is_refused() {
    let said = refused("[facts]\nfolds = 4\n[collab]\nfolds = 5", &[]);
    assert!(said.starts_with("r.toml:4: collab.folds: it stands there a second time, as 'facts'"), "{said}");
    let said = refused("", &["facts.folds=4", "collab.folds=5"]);
    assert!(said.contains("collab.folds: it stands there a second time"), "{said}");
    // 0 words were no limit, so the other key says it all.
    let words = |text: &str| read(text, &[]).unwrap().recipe.describe.words;
    assert_eq!(words("describe.max_words = 0\ndata.description_words = 24"), 24);
    refused("describe.max_words = 40\ndata.description_words = 24", &[]);
    // A wrong value under an old name is reported by the new one.
    let said = refused("facts.folds = 1", &[]);
    assert!(said.starts_with("r.toml:1: collab.folds: 1 is out of range"), "{said}");
}

#[test]
fn every_stream_follows_the_seed_unless_it_has_its_own() {
    let seed = |text: &str, key: &str| {
        let recipe = read(text, &[]).unwrap().recipe;
        let values = Value::from(serde_json::to_value(&recipe).unwrap());
        values.at(key).cloned().unwrap_or_else(|| panic!("there is no {key}"))
    };
    for streams::Stream { key, draws } in &streams::STREAMS {
        assert!(!draws.is_empty());
        assert_eq!(seed("", key), Value::Integer(42), "{key}");
        assert_eq!(seed("seed = 7", key), Value::Integer(7), "{key}");
        assert_eq!(seed(&format!("seed = 7\n{key} = 3"), key), Value::Integer(3), "{key}");
        let others = streams::STREAMS.iter().filter(|s| s.key != *key);
        others.for_each(|other| assert_eq!(seed(&format!("seed = 7\n{key} = 3"), other.key), Value::Integer(7)));
    }
    assert_eq!(seed("collab.seed = 5", "collab.fold_in.ratings.seed"), Value::Integer(5));
    assert_eq!(seed("seed = 7", "data.synthetic.seed"), Value::Integer(1), "a world, not a draw");
    // A schema has no seed that is not a stream.
    let seeds: Vec<String> = keys().into_iter().map(|k| k.0).filter(|k| k.ends_with("seed")).collect();
    assert_eq!(seeds.len(), streams::STREAMS.len() + 3, "{seeds:?}");
}

#[test]
fn a_printed_recipe_reads_as_itself_and_leaves_its_seeds_free() {
    for text in ["", "seed = 7\ntune.lora.seed = 3", "faithful = true\ndata.kind = \"ml-32m\"\ndata.path = \"x\""] {
        let recipe = read(text, &[]).unwrap().recipe;
        let printed = annotated(&recipe).unwrap();
        assert_eq!(read(&printed, &[]).unwrap().recipe, recipe);
        assert_eq!(annotated(&read(&printed, &[]).unwrap().recipe).unwrap(), printed);
        let moved = read(&printed, &["seed=11"]).unwrap().recipe;
        assert_eq!(moved.reason.seed, 11);
        assert_eq!(moved.tune.lora.seed, if text.contains("lora") { 3 } else { 11 });
    }
    let printed = annotated(&Recipe::default()).unwrap();
    assert!(printed.contains("learning_rate = 0.001\n"), "as it was written, not as 32 bits keep it");
}

#[test]
fn files_and_models_are_looked_for_before_anything_runs() {
    let text = "[data]\nkind = \"ml-1m\"\npath = \"/nonexistent/ml-1m\"\n[describe]\nsource = \"file\"\n\
                file = \"/nonexistent/texts.json\"\n[model]\npath = \"/nonexistent/model\"\nreasoning = \"nobodys-model\"\n";
    let read = read(text, &[]).unwrap();
    let said = read.check_files(None).unwrap_err().to_string();
    for fault in
        ["r.toml:3: data.path: ", "r.toml:6: describe.file: ", "r.toml:8: model.path: ", "r.toml:9: model.reasoning: "]
    {
        assert!(said.contains(fault), "{fault}: {said}");
    }
    let said = read.check_files(Some(StageId::Data)).unwrap_err().to_string();
    assert!(said.starts_with("r.toml:3: data.path: ") && said.contains("next: "), "{said}");
    let said = read.check_files(Some(StageId::Tune)).unwrap_err().to_string();
    assert!(said.contains("model.path") && !said.contains("model.reasoning"), "{said}");
    super::tests::read("model.path = \"builtin\"", &[]).unwrap().check_files(None).unwrap();
}

#[test]
fn paper_sets_what_the_text_states_and_a_written_key_wins() {
    let value = |recipe: &Recipe, key: &str| Value::from(serde_json::to_value(recipe).unwrap()).at(key).cloned();
    let (plain, paper) = (read("", &[]).unwrap().recipe, read("paper = true", &[]).unwrap());
    assert!(paper.lines.is_empty(), "{:?}", paper.lines);
    let mut differ = BTreeSet::new();
    for (key, toml) in presets::PAPER {
        let wanted = read(&format!("{key} = {toml}"), &[]).unwrap().recipe;
        assert_eq!(value(&paper.recipe, key), value(&wanted, key), "{key}");
        if value(&plain, key) != value(&wanted, key) {
            differ.insert(key.to_owned());
        }
    }
    // The default of beta is the paper's already, and so is the metric of the sweep.
    assert!(differ.len() >= presets::PAPER.len() - 2, "{differ:?}");
    // A key that is written wins, whether by the file or by --set, and a line says so.
    let own = read("paper = true\n[retrieve]\npca = 64\nbeta = 1", &["align.tau=0.5"]).unwrap();
    assert_eq!((own.recipe.retrieve.pca, own.recipe.align.tau), (64, 0.5));
    assert_eq!(own.recipe.retrieve.rule, crate::retrieval::RerankRule::Paper);
    assert_eq!(
        own.lines,
        [
            "recipe: 'align.tau' stays as --set align.tau=0.5 has it: it wins over `paper = true`",
            "recipe: 'retrieve.pca' stays as r.toml:3 has it: it wins over `paper = true`"
        ]
    );
    assert_eq!(read("paper = false", &[]).unwrap().recipe, plain);
}

#[test]
fn paper_and_faithful_set_different_keys_and_hold_together() {
    let paper: BTreeSet<String> = presets::sets("paper").unwrap().into_iter().map(|s| s.0).collect();
    let faithful: BTreeSet<String> = presets::sets("faithful").unwrap().into_iter().map(|s| s.0).collect();
    assert!(paper.len() > 10 && faithful.len() > 10, "{paper:?} {faithful:?}");
    assert_eq!(paper.intersection(&faithful).count(), 0);
    let both = read("paper = true\nfaithful = true\ndata.kind = \"ml-1m\"\ndata.path = \"x\"", &[]).unwrap();
    assert!(both.lines.is_empty(), "{:?}", both.lines);
    assert_eq!(both.recipe.predict.score, crate::eval::Score::DoubleSoftmax);
    assert_eq!(both.recipe.retrieve.rule, crate::retrieval::RerankRule::Paper);
    assert!(both.recipe.retrieve.faithful_off_by_one && both.recipe.retrieve.pca == 0);
    // What is printed reads as itself.
    let printed = annotated(&both.recipe).unwrap();
    let again = read(&printed, &[]).unwrap();
    assert_eq!((again.recipe, again.lines), (both.recipe, Vec::new()));
}

#[test]
fn a_written_key_wins_over_faithful() {
    let text = "faithful = true\n[predict]\nscore = \"two_way\"";
    let own = read(text, &["retrieve.faithful_walk_back=false"]).unwrap();
    assert_eq!(own.recipe.predict.score, crate::eval::Score::TwoWay);
    assert!(!own.recipe.retrieve.faithful_walk_back && own.recipe.retrieve.faithful_target_in_history);
    assert!(own.recipe.tune.select_on_test);
    let stays = |key: &str, by: &str| format!("recipe: '{key}' stays as {by} has it: it wins over `faithful = true`");
    let mut lines = own.lines;
    lines.sort();
    let walk = stays("retrieve.faithful_walk_back", "--set retrieve.faithful_walk_back=false");
    assert_eq!(lines, [stays("predict.score", "r.toml:3"), walk]);
}

#[test]
fn a_template_file_is_checked_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.jinja");
    let text = format!("model.path = \"builtin\"\n[prompt]\nfile = '{}'", file.display());
    let said = |until| read(&text, &[]).unwrap().check_files(until).unwrap_err().to_string();
    assert!(said(None).starts_with("r.toml:3: prompt.file: "), "{}", said(None));
    read(&text, &[]).unwrap().check_files(Some(StageId::Retrieve)).unwrap();
    std::fs::write(&file, "{{ question }}\n{{ titel }}").unwrap();
    assert!(said(None).contains("mine.jinja:2: there is no variable `titel`"), "{}", said(None));
    std::fs::write(&file, "{{ question }}").unwrap();
    read(&text, &[]).unwrap().check_files(None).unwrap();
    // It has no places for soft tokens.
    let said = refused(&text, &["soft.source=ssl"]);
    assert!(said.contains("prompt.file: a template of your own has no places for soft tokens"), "{said}");
}
