//! Whole runs: what is reused, what is done again, and what cannot be run.

use std::os::unix::fs::PermissionsExt;

use super::common::{Place, rallrec, results, say};

/// Names of the stages that were reused, and of those that were done.
pub fn outcome(err: &str) -> (Vec<String>, Vec<String>) {
    let of = |how: &str| {
        let line = |l: &&str| l.split_whitespace().nth(1) == Some(how);
        err.lines().filter(line).filter_map(|l| l.split_whitespace().next()).map(str::to_string).collect()
    };
    (of("reused"), of("done"))
}

const ALL: [&str; 13] = [
    "data", "describe", "embed", "graph", "align", "collab", "retrieve", "prompts", "tune", "predict", "reason",
    "merge", "evaluate",
];

#[test]
fn the_whole_chain_runs_is_reused_and_does_again_only_what_depends_on_a_change() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let go = |more: &[&str]| say(&[&["run", &recipe, "--out", &out][..], more].concat()).ended_with(0);
    let first = go(&[]);
    assert_eq!(outcome(&first.err).1, ALL, "{}", first.err);
    assert!(!first.out.contains('\u{1b}') && !first.err.contains('\u{1b}'), "no escape codes in files and pipes");
    for file in ["recipe.toml", "results.json", "results.md", "events.jsonl", "log.txt"] {
        assert!(place.at("run").join(file).is_file(), "{file}");
    }
    // The first note stood behind the fence, where Markdown takes it for a language.
    let written = std::fs::read_to_string(place.at("run").join("results.md")).unwrap();
    assert!(written.lines().filter(|line| line.starts_with("```")).eq(["```text", "```"]), "{written}");
    let found = results(&place.at("run"));

    let second = go(&["--json"]);
    assert_eq!(outcome(&second.err), (ALL.map(String::from).to_vec(), vec![]), "{}", second.err);
    assert_eq!(second.json()["tables"], found["tables"]);

    runs_are_held_to_one_another(&place, &out);

    // The merge's constants concern nothing before the merge, the alignment's seed nothing before
    // the alignment. The sweep chooses alpha, so that another one changes nothing behind the merge.
    let third = go(&["--set", "merge.epsilon=0.5"]);
    assert_eq!(outcome(&third.err).1, ALL[11..], "{}", third.err);
    let swept = go(&["--set", "merge.alpha=0.5"]);
    assert_eq!(outcome(&swept.err).1, ["merge"], "{}", swept.err);
    let fourth = go(&["--set", "align.seed=1"]);
    let (reused, done) = outcome(&fourth.err);
    assert_eq!(reused[..5], ["data", "describe", "embed", "graph", "collab"], "{}", fourth.err);
    assert_eq!(done[..2], ["align", "retrieve"], "{}", fourth.err);
    // The printed recipe of the run folder is a recipe: with it everything is found again.
    let own = place.text("run/recipe.toml");
    let fifth = say(&["run", &own, "--out", &out]).ended_with(0);
    assert_eq!(outcome(&fifth.err).1, Vec::<String>::new(), "{}", fifth.err);
    let sixth = go(&["--from", "predict"]);
    assert_eq!(
        outcome(&sixth.err),
        (ALL[..9].iter().map(|s| s.to_string()).collect(), ALL[9..].iter().map(|s| s.to_string()).collect())
    );
    assert_eq!(results(&place.at("run")), found, "done again with the same result");

    let said = say(&["compare", &out, "--json"]).ended_with(0);
    assert_eq!(said.json()["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["merge"]["cells"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["merge"]["test_cells"].as_array().map(Vec::len), Some(2));

    // The ablation without the hint is what a run without hints gives: same rows, same random
    // numbers.
    let log_loss = |results: &serde_json::Value, name: &str| {
        let rows = results["tables"][0]["table"]["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == name)?;
        Some(row["metrics"]["log_loss"]["value"].as_f64().expect("a number"))
    };
    // In a folder of its own: the answers without the hint stand in this one already.
    say(&["run", &recipe, "--out", &place.text("bare"), "--set", "reason.hint=false"]).ended_with(0);
    let bare = results(&place.at("bare"));
    let ablated = log_loss(&found, "reasoning, without the hint");
    assert!(ablated.is_some() && ablated == log_loss(&bare, "reasoning"));
    assert_ne!(ablated, log_loss(&found, "reasoning"), "the hint changes what is thought");
    assert_eq!(log_loss(&bare, "reasoning, without the hint"), None);
    more_rows_ask_only_what_is_new(&place, &recipe, &out);
    go(&[]);
    damage_is_told_before_anything_is_exported(&place, &out);
    recommendations(&place, &out);
    // Products in 8 bits are another model: what it reads is done again.
    let eight = go(&["--set", "model.arithmetic=int8", "--until", "embed"]);
    assert_eq!(outcome(&eight.err).1.last().map(String::as_str), Some("embed"), "{}", eight.err);
}

/// One changed bit of an artifact went into exported tables without a word: their size alone was
/// looked at.
fn damage_is_told_before_anything_is_exported(place: &Place, out: &str) {
    let to = place.text("rows.csv");
    let export = |what: &str| say(&["export", what, out, "--to", &to, "--force"]);
    for (what, stage, file, again) in [
        ("rows", "data.samples", "samples.bin", "--from data"),
        ("predictions", "reason", "samples.jsonl", "--from reason"),
    ] {
        export(what).ended_with(0);
        let files: Vec<_> = artifacts(&place.at("run"), stage).iter().map(|folder| folder.join(file)).collect();
        let flip = || {
            for path in &files {
                let mut bytes = std::fs::read(path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
        };
        flip();
        export(what).ended_with(2).err_has("is damaged").err_has(again);
        flip();
        export(what).ended_with(0);
    }
}

/// More rows and one more sample, on the finished run of the test above: the model is asked what is
/// new, and the files are those of a run that was asked for all of it at once.
fn more_rows_ask_only_what_is_new(place: &Place, recipe: &str, out: &str) {
    let sets = ["--set", "rows.test=14", "--set", "reason.test_rows=6", "--set", "reason.samples=3"];
    let events = place.at("run").join("events.jsonl");
    let before = std::fs::read_to_string(&events).unwrap().lines().count();
    say(&[&["run", recipe, "--out", out][..], &sets].concat()).ended_with(0);
    let fresh = place.text("fresh");
    say(&[&["run", recipe, "--out", &fresh][..], &sets].concat()).ended_with(0);
    let asked = |run: &str, from: usize| -> [u64; 2] {
        let text = std::fs::read_to_string(place.at(run).join("events.jsonl")).unwrap();
        let events = text.lines().skip(from).map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        let costs: Vec<_> = events.filter(|e| e["kind"] == "prompt_cost").collect();
        [("plain", "prompts"), ("reasoning", "tokens")]
            .map(|(how, what)| costs.iter().filter(|c| c["how"] == how).map(|c| c[what].as_u64().unwrap()).sum())
    };
    let (grown, whole) = (asked("run", before), asked("fresh", 0));
    assert!(grown[0] > 0 && grown[1] > 0, "{grown:?}");
    assert!(4 * grown[0] < whole[0], "prompts that are scored: {grown:?} of {whole:?}");
    assert!(4 * grown[1] < 3 * whole[1], "tokens that are written: {grown:?} of {whole:?}");
    for (stage, file) in [
        ("predict.score", "predictions.jsonl"),
        ("predict.ablation", "predictions.jsonl"),
        ("predict.zero_shot", "predictions.jsonl"),
        ("reason", "samples.jsonl"),
        ("reason", "without_hint.jsonl"),
    ] {
        let only = artifacts(&place.at("fresh"), stage).remove(0);
        let own = place.at("run/artifacts").join(only.file_name().unwrap());
        let read = |folder: &std::path::Path| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(&own), read(&only), "{stage} {file}");
    }
}

/// On the finished run of the test above.
fn recommendations(place: &Place, out: &str) {
    let ask = |more: &[&str]| say(&[&["recommend", "--run", out][..], more].concat());
    let found = ask(&["--user", "3", "--top", "4", "--json"]).ended_with(0).json();
    let items = found["items"].as_array().unwrap();
    assert_eq!(items.len(), 4, "{found}");
    let score = |i: usize| items[i]["score"].as_f64().unwrap();
    assert!((1..4).all(|i| score(i - 1) >= score(i)), "{found}");
    assert!(items.iter().all(|i| i["is_cold"] == false), "new items stand apart: {found}");
    assert!(items.iter().all(|i| !i["reason"].as_str().unwrap().is_empty()));
    let asked = ask(&["--user", "3", "--top", "4", "--json", "--score", "llm"]).ended_with(0).json();
    let of = |i: usize, key: &str| asked["items"][i][key].as_f64().unwrap();
    let merged = |i: usize| of(i, "merged_score");
    assert!((1..4).all(|i| merged(i - 1) >= merged(i)), "{asked}");
    assert!((0..4).all(|i| (0.0..=1.0).contains(&of(i, "model_probability"))), "{asked}");
    let model = &asked["model"];
    // The validation rows that the model has answered weigh its answers.
    let weight = |key: &str| model["weight"][key].as_f64().unwrap();
    assert!(weight("weight") >= 0.0 && weight("rows") > 0.0, "{asked}");
    assert!(weight("auc") >= weight("ranker_auc") && model["seconds_each"].as_f64() > Some(0.0), "{asked}");
    // Somebody who is not in the data is asked about too.
    let given = ask(&["--history", "1:5,2:4,3:1", "--top", "4", "--json", "--score", "llm"]).ended_with(0).json();
    assert!((0..4).all(|i| given["items"][i]["model_probability"].as_f64().is_some()), "{given}");
    assert!(model["asked"].as_u64() >= Some(4) && model["asked"] == model["candidates"], "{asked}");
    assert_eq!(asked["ranked_by"], found["ranked_by"], "the model orders what the ranker chose");
    let text = ask(&["--user", "3", "--top", "4"]).ended_with(0);
    assert!(text.out.contains("ranked by") && !text.out.contains('\u{1b}'), "{}", text.out);
    ask(&["--user", "41"]).ended_with(2).err_has("nearest ids").err_has("40");
    ask(&["--user", "3", "--top", "0"]).ended_with(2).err_has("--top");
    // A stage that is gone is named, and nothing is computed in its stead.
    let artifacts = place.at("run").join("artifacts");
    for entry in std::fs::read_dir(&artifacts).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("align-") {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    ask(&["--user", "3"]).ended_with(2).err_has("'align'").err_has("--until align");
    let again = std::fs::read_dir(&artifacts).unwrap().flatten();
    assert!(!again.map(|e| e.file_name()).any(|n| n.to_string_lossy().starts_with("align-")));
}

/// Artifacts of a run folder that belong to a stage (`tune`) or to a part of one (`prompts.tune`).
fn artifacts(run: &std::path::Path, stage: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(run.join("artifacts")).unwrap().flatten();
    let own = |p: &std::path::PathBuf| p.file_name().unwrap().to_string_lossy().starts_with(&format!("{stage}-"));
    entries.map(|e| e.path()).filter(own).collect()
}

/// Names of all artifacts of a stage and of its parts, sorted.
fn names(run: &std::path::Path, stage: &str) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("artifacts")).unwrap().flatten();
    let name = |e: std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(name).filter(|n| n.split(['-', '.']).next() == Some(stage)).collect();
    names.sort();
    names
}

#[test]
fn soft_tokens_run_end_to_end_and_leave_everything_before_the_prompts_alone() {
    let place = Place::new();
    let (recipe, out, plain) = (place.recipe(), place.text("soft"), place.text("plain"));
    let off = ["--set", "soft.scale=2.0", "--set", "soft.hidden=9"];
    say(&[&["run", &recipe, "--out", &plain][..], &["--until", "predict"]].concat()).ended_with(0);
    let again = say(&[&["run", &recipe, "--out", &plain, "--until", "predict"][..], &off].concat()).ended_with(0);
    assert_eq!(outcome(&again.err).1, Vec::<String>::new(), "switched off, the section changes nothing");
    let on = ["--set", "soft.source=ssl", "--set", "soft.items=all", "--set", "soft.user=liked"];
    let go = |more: &[&str]| say(&[&["run", &recipe, "--out", &out][..], &on, more].concat()).ended_with(0);
    assert_eq!(outcome(&go(&[]).err).1, ALL);
    let lines = |run: &str, stage: &str, file: &str| -> Vec<serde_json::Value> {
        let found = artifacts(&place.at(run), stage);
        assert_eq!(found.len(), 1, "{found:?}");
        let text = std::fs::read_to_string(found[0].join(file)).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    for stage in &ALL[..10] {
        let names = ["soft", "plain"].map(|run| names(&place.at(run), stage));
        let same = names[0].iter().filter(|name| names[1].contains(name)).count();
        let touched = ["prompts", "tune", "predict"].contains(stage);
        assert_eq!(same, if touched { 0 } else { names[0].len() }, "{stage}: {names:?}");
    }
    // The words are the same; the user, the shown items and the target have tokens.
    let mut prompts = ["soft", "plain"].map(|run| lines(run, "prompts.tune", "prompts.jsonl"));
    for row in &mut prompts[0] {
        let prompt = row["prompt"].as_object_mut().unwrap();
        let soft = prompt.remove("soft").unwrap();
        assert_eq!(soft.as_array().unwrap().len(), 2 + prompt["shown"].as_array().unwrap().len());
    }
    assert_eq!(prompts[0], prompts[1]);
    assert!(artifacts(&place.at("soft"), "tune")[0].join("projector.safetensors").is_file());
    let scored = ["soft", "plain"].map(|run| {
        ["score", "ablation", "zero_shot"]
            .into_iter()
            .flat_map(|part| lines(run, &format!("predict.{part}"), "predictions.jsonl"))
            .collect::<Vec<_>>()
    });
    assert_eq!(scored[0].len(), scored[1].len());
    for (a, b) in scored[0].iter().zip(&scored[1]) {
        assert_eq!(a["p"] == b["p"], a["model"] == "zero_shot", "{a} {b}");
    }
    // A killed prediction goes on, with the same result.
    let found = results(&place.at("soft"));
    let folder = artifacts(&place.at("soft"), "predict.score").remove(0);
    let part = folder.with_file_name(format!("{}.part", folder.file_name().unwrap().to_string_lossy()));
    std::fs::rename(&folder, &part).unwrap();
    std::fs::remove_file(part.join("artifact.json")).unwrap();
    let rows = std::fs::read_to_string(part.join("predictions.jsonl")).unwrap();
    let some: Vec<&str> = rows.lines().take(7).collect();
    std::fs::write(part.join("predictions.jsonl"), some.join("\n") + "\n").unwrap();
    go(&[]);
    assert_eq!(results(&place.at("soft")), found);
    // The projector's settings concern nothing before the tuning.
    let other = go(&["--set", "soft.learning_rate=1e-2"]);
    assert_eq!(outcome(&other.err).1, ALL[8..], "{}", other.err);
    let ask = ["recommend", "--run", &out, "--user", "3", "--top", "3", "--score", "llm", "--json"];
    let asked = say(&ask).ended_with(0).json();
    assert!((0..3).all(|i| asked["items"][i]["model_probability"].as_f64().is_some()), "{asked}");
    // Soft tokens of somebody who is not in the data, too.
    let given = say(&["recommend", "--run", &out, "--history", "1:5,2:1", "--score", "llm", "--json"]).ended_with(0);
    assert!(given.json()["items"][0]["model_probability"].is_number());
    let wrong =
        |set: &str| say(&["run", &recipe, "--out", &out, "--set", set, "--set", "soft.user=graph"]).ended_with(2);
    wrong("soft.source=text").err_has("soft.user");
    wrong("soft.source=colab").err_has("did you mean 'colla'");
}

#[test]
fn until_ends_early_and_colours_stay_off() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let mut command = rallrec();
    command.env("NO_COLOR", "1").args(["run", &recipe, "--out", &out, "--until", "describe"]);
    let said = super::common::Said::of(&command.output().unwrap()).ended_with(0);
    assert_eq!(outcome(&said.err).1, ALL[..2], "{}", said.err);
    assert!(!said.err.contains('\u{1b}') && said.out.is_empty());
    assert!(!place.at("run/results.json").exists());
    let quiet = say(&["run", &recipe, "--out", &out, "--until", "describe", "--quiet"]).ended_with(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

/// What the features weigh is kept with them; a damaged artifact is named.
#[test]
fn the_tuned_model_ranks_with_the_features_that_it_was_tuned_with() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let sets = ["--set", "collab.wording=verdict", "--set", "collab.fold_in.sources=['ratings']", "--until", "tune"];
    say(&[&["run", &recipe, "--out", &out][..], &sets].concat()).ended_with(0);
    let ask = || say(&["recommend", "--run", &out, "--user", "3", "--top", "3", "--score", "llm", "--json"]);
    let kept = ask().ended_with(0).json();
    assert!((0..3).all(|i| kept["items"][i]["model_probability"].as_f64().is_some()), "{kept}");
    // The run ended before the model was asked about validation rows: nothing weighs its answers.
    assert!(
        kept["model"]["weight"].is_null() && kept["items"][0]["merged_score"] == kept["items"][0]["model_probability"]
    );
    let given = say(&["recommend", "--run", &out, "--history", "1:5,2:1", "--score", "llm", "--json"]).ended_with(0);
    assert!(given.json()["items"][0]["model_probability"].is_number());
    for folder in artifacts(&place.at("run"), "collab.tune") {
        std::fs::remove_file(folder.join("weights.json")).expect("the weights");
    }
    ask().ended_with(2).err_has("weights.json");
}

/// A folder of the version before has another layout: it is refused, by `run` and by what reads a
/// run.
#[test]
fn a_run_folder_of_the_version_before_is_refused_with_what_to_do() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("old"));
    let artifact = place.at("old").join("artifacts/graph-0123456789ab");
    std::fs::create_dir_all(&artifact).unwrap();
    std::fs::write(artifact.join("done.json"), r#"{"stage":"graph","key":"0123456789ab","seconds":1.0,"bytes":0}"#)
        .unwrap();
    std::fs::copy(&recipe, place.at("old").join("recipe.toml")).unwrap();
    for command in [
        &["run", &recipe, "--out", &out][..],
        &["recommend", "--run", &out, "--user", "3"],
        &["compare", &out, &out, "--within", "0"],
    ] {
        say(command).ended_with(2).err_has("layout 1").err_has("--out").err_has("do every stage again");
    }
    assert!(artifact.join("done.json").exists(), "nothing is removed");
}

#[test]
fn a_trace_holds_stages_and_operators() {
    let place = Place::new();
    let (recipe, out, file) = (place.recipe(), place.text("run"), place.text("trace.json"));
    say(&["run", &recipe, "--out", &out, "--until", "graph", "--trace", &file]).ended_with(0);
    let trace = std::fs::read_to_string(&file).expect("a trace");
    let events: Vec<serde_json::Value> = serde_json::from_str(&trace).expect("whole JSON");
    let has = |category: &str, name: &str| events.iter().any(|e| e["cat"] == category && e["name"] == name);
    assert!(has("stage", "embed") && has("stage", "graph"), "{events:?}");
    assert!(has("operator", "spmm") && has("operator", "linear"), "{events:?}");
    let nowhere = place.text("no/folder/trace.json");
    say(&["run", &recipe, "--out", &out, "--trace", &nowhere]).ended_with(2).err_has(&nowhere);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    let recipe = place.recipe();
    std::fs::write(place.at("file"), "").unwrap();
    let said = say(&["run", &recipe, "--out", &place.text("file"), "--until", "data"]).ended_with(2);
    assert!(said.err.contains("file") && said.err.contains("next:"), "{}", said.err);
    let locked = place.at("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    // The administrator may write everywhere; then there is nothing to see.
    if std::fs::write(locked.join("probe"), "").is_err() {
        let out = locked.join("run").display().to_string();
        say(&["run", &recipe, "--out", &out, "--until", "data"]).ended_with(2).err_has("permissions");
    } else {
        crate::skip::skip("plain user", "this user may write in a read-only folder");
    }
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn models_that_cannot_be_used_are_refused() {
    let place = Place::new();
    let recipe = place.recipe();
    let out = place.text("run");
    let with = |model: &str, until: &str| {
        let set = format!("model.path={model}");
        say(&["run", &recipe, "--out", &out, "--set", &set, "--until", until])
    };
    with("/nonexistent/model", "embed").ended_with(2).err_has("/nonexistent/model").err_has("next:");
    // Without the merges, "Yes" is three tokens.
    let split = place.model("split", 4096, |t| t.replace(r#"["Y","e"],["Ye","s"],["N","o"]"#, ""));
    with(&split, "embed").ended_with(2).err_has("Yes").err_has("token");
    // The prompts' fixed part alone is longer.
    let short = place.model("short", 64, |t| t);
    with(&short, "embed").ended_with(0);
    with(&short, "prompts").ended_with(2).err_has("64").err_has("next:");
}

/// A run is the same as itself; one probability or one word changed in a copy is found and named.
fn runs_are_held_to_one_another(place: &Place, run: &str) {
    let same = say(&["compare", run, run, "--within", "0", "--json"]).ended_with(0).json();
    for kind in ["prompts", "predictions", "answers"] {
        assert!(same[kind]["rows"].as_u64().is_some_and(|n| n > 4) && same[kind]["differ"] == 0, "{kind}: {same}");
    }
    let copy = |name: &str, stage: &str, file: &str, change: &dyn Fn(&str) -> String| {
        for entry in std::fs::read_dir(place.at("run/artifacts")).expect("artifacts").flatten() {
            let to = place.at(name).join("artifacts").join(entry.file_name());
            if entry.path().is_file() {
                std::fs::create_dir_all(place.at(name).join("artifacts")).expect("a folder");
                std::fs::copy(entry.path(), &to).expect("copied");
                continue;
            }
            std::fs::create_dir_all(&to).expect("a folder");
            let of_stage = entry.file_name().to_string_lossy().starts_with(stage);
            let parts = std::fs::read_dir(entry.path()).expect("an artifact").flatten();
            for part in parts.filter(|part| part.path().is_file()) {
                if of_stage && part.file_name() == *file {
                    let text = std::fs::read_to_string(part.path()).expect("lines");
                    std::fs::write(to.join(file), change(&text)).expect("written");
                } else {
                    std::fs::copy(part.path(), to.join(part.file_name())).expect("copied");
                }
            }
        }
        place.text(name)
    };
    let number = |text: &str| {
        let at = text.find("\"p\":").expect("a probability") + 4;
        let end = at + text[at..].find(',').expect("more fields");
        format!("{}{}{}", &text[..at], 0.987_654_321, &text[end..])
    };
    let moved = copy("moved", "predict.score-", "predictions.jsonl", &number);
    let said = say(&["compare", run, &moved, "--within", "0.001"]).ended_with(1);
    assert!(
        said.err.contains("predictions differ") && said.out.contains("predictions: 1 of"),
        "{}{}",
        said.out,
        said.err
    );
    say(&["compare", run, &moved, "--within", "0.001", "--except", "0.5"]).ended_with(0);
    let reworded =
        copy("reworded", "reason-", "samples.jsonl", &|text| text.replacen("\"text\":\"", "\"text\":\"other ", 1));
    say(&["compare", run, &reworded, "--within", "1"]).ended_with(1).err_has("1 of").err_has("sampled answers differ");
    say(&["compare", run, "--within", "0.1"]).ended_with(2).err_has("two run folders");
    say(&["compare", run, run, "--within", "2"]).ended_with(2).err_has("0 to 1");
    say(&["compare", run, &place.text("nowhere"), "--within", "0"]).ended_with(2);
}
