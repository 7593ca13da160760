//! Help, usage errors, and the commands that need no model.

use std::collections::BTreeSet;

use rallrec::ops::registry::{ALL, Case, Make};

use super::common::{Place, recipe, say};

/// Every command with options that its help must name.
const COMMANDS: [(&[&str], &[&str]); 20] = [
    (&[], &["run", "data", "model", "llm", "recommend", "compare", "bench", "doctor", "Exit codes"]),
    (&["run"], &["--set", "--from", "--until", "--out", "--device", "--print-recipe", "--json", "--quiet", "Stages:"]),
    (&["demo"], &["--set", "--from", "--until", "--out", "--device", "--print-recipe", "--json", "--quiet"]),
    (&["data"], &["inspect"]),
    (&["data", "inspect"], &["--json", "ml-1m"]),
    (&["model"], &["pull", "inspect"]),
    (&["model", "pull"], &["--source", "--json"]),
    (&["model", "inspect"], &["--json"]),
    (&["llm"], &["logits", "embed", "generate"]),
    (
        &["llm", "logits"],
        &["--model", "--adapter", "--prompt", "--prompt-file", "--chat", "--dtype", "--top", "--answers"],
    ),
    (&["llm", "embed"], &["--pooling", "--json"]),
    (
        &["llm", "generate"],
        &["--samples", "--temperature", "--top-p", "--top-k", "--max-tokens", "--min-tokens", "--seed"],
    ),
    (&["recommend"], &["--run", "--user", "--top", "--json", "--score", "--history", "--exclude", "--all-users"]),
    (&["score"], &["--run", "--pairs", "--to", "ranked_by"]),
    (&["bench"], &["--device", "--seconds", "--json", "--threads", "--write", "spmm"]),
    (&["compare"], &["--within", "--except", "--json"]),
    (&["clean"], &["--dry-run", "--yes", "--json"]),
    (&["explain"], &["KEY"]),
    (&["completions"], &["bash", "zsh", "fish"]),
    (&["man"], &["COMMAND"]),
];

#[test]
fn the_help_of_every_command_names_its_options() {
    for (command, options) in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let said = say(&arguments).ended_with(0);
        assert_eq!(said.err, "");
        for option in options {
            assert!(said.out.contains(option), "{command:?} does not name {option}:\n{}", said.out);
        }
    }
}

/// A foreign layout was read as this one, and a results.json of half a gigabyte took 6 GB.
#[test]
fn results_of_another_layout_or_size_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.at("run")).unwrap();
    let results = place.at("run").join("results.json");
    let whole = serde_json::json!({
        "version": 99, "recipe": "r", "program": "0", "device": "cpu", "score": "two_way", "tables": [], "merge": null,
        "notes": [], "stages": [], "seconds": 1.0, "peak_memory": 0
    });
    std::fs::write(&results, whole.to_string()).unwrap();
    std::fs::write(place.at("run").join("events.jsonl"), "").unwrap();
    let run = place.text("run");
    say(&["compare", &run, &run]).ended_with(2).err_has("layout 99");
    std::fs::write(&results, whole.to_string().replace("99", "1")).unwrap();
    say(&["compare", &run, &run, "--results"]).ended_with(0);
    std::fs::File::options().write(true).open(&results).unwrap().set_len(400 << 20).unwrap();
    say(&["compare", &run, &run]).err_has("no run writes more");
}

#[test]
fn shells_and_man_get_what_they_read() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef rallrec"), ("fish", "complete -c rallrec")] {
        let said = say(&["completions", shell]).ended_with(0);
        assert!(said.out.contains(sign) && said.out.contains("recommend"), "{shell}");
    }
    say(&["completions", "csh"]).ended_with(2).err_has("possible values");
    let said = say(&["man"]).ended_with(0);
    assert!(said.out.contains(".TH rallrec") && said.out.contains("recommend"));
    assert!(say(&["man", "run"]).ended_with(0).out.contains("print"));
    say(&["man", "nothing"]).ended_with(2).err_has("the commands are");
}

#[test]
fn a_key_is_explained_and_a_wrong_one_leads_to_near_ones() {
    let said = say(&["explain", "retrieve.k"]).ended_with(0);
    for wanted in ["a whole number", "Range: 1 to", "Default: ", "retrieve", "evaluate"] {
        assert!(said.out.contains(wanted), "{wanted}: {}", said.out);
    }
    say(&["explain", "retreive.k"]).ended_with(2).err_has("retrieve.k");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    say(&[]).ended_with(2);
    say(&["recomend"]).ended_with(2).err_has("recommend");
    say(&["doctor", "--jsn"]).ended_with(2).err_has("--json");
    say(&["llm", "logits", "--model", "m"]).ended_with(2).err_has("--prompt");
    say(&["llm", "embed", "--model", "m", "--prompt", "a", "--pooling", "max"]).ended_with(2).err_has("mean");
    say(&["llm", "embed", "--model", "m", "--prompt", "a", "--dtype", "f64"]).ended_with(2).err_has("bf16");
    say(&["data", "inspect", "synthetik"]).ended_with(2).err_has("synthetic");
    say(&["bench", "spmn"]).ended_with(2).err_has("did you mean 'spmm'");
    say(&["bench", "spmm", "--seconds", "0"]).ended_with(2).err_has("--seconds");
    say(&["compare", "/nonexistent/run"]).ended_with(2).err_has("results.json").err_has("next:");
    say(&["model", "inspect", "/nonexistent/model"]).ended_with(2).err_has("known models");
    say(&["recommend", "--run", "/nonexistent/run", "--user", "1"]).ended_with(2).err_has("recipe.toml");
}

#[test]
fn recipes_with_mistakes_are_refused_with_the_right_name() {
    let place = Place::new();
    let path = place.text("recipe.toml");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        say(&["run", &path, "--print-recipe"])
    };
    with("nmae = \"x\"").ended_with(2).err_has("did you mean 'name'?").err_has("recipe.toml:1: nmae");
    with("[data]\nkind = \"synthetc\"").ended_with(2).err_has("did you mean 'synthetic'?");
    with("[retrieve]\nk = \"many\"").ended_with(2).err_has("next:");
    with("[data\n").ended_with(2).err_has("recipe.toml:1: the line is no TOML");
    with("name = \"a/b\"").ended_with(2).err_has("name");
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    say(&["run", &path]).ended_with(2).err_has("recipe.toml").err_has("next:");
    say(&["run", "/nonexistent/recipe.toml"]).ended_with(2).err_has("check the path");
}

#[test]
fn set_changes_a_key_or_says_what_is_wrong() {
    let place = Place::new();
    let path = place.text("recipe.toml");
    std::fs::write(&path, recipe("builtin")).unwrap();
    let with = |change: &str| say(&["run", &path, "--print-recipe", "--set", change]);
    let said = with("retrieve.k=7").ended_with(0);
    assert!(said.out.lines().any(|l| l == "k = 7"), "{}", said.out);
    with("retrieve.kk=7").ended_with(2).err_has("did you mean 'retrieve.k'?");
    with("retrieve.k").ended_with(2).err_has("'='");
    with("retrieve..k=7").ended_with(2).err_has("empty part");
    with("name.first=a").ended_with(2).err_has("not a section");
    with("retrieve.k=-1").ended_with(2).err_has("--set");
    with("reason.samples=0").ended_with(2).err_has("reason.samples");
    say(&["run", &path, "--until", "grph"]).ended_with(2).err_has("graph");
}

#[test]
fn nothing_is_started_with_a_recipe_that_cannot_run() {
    let place = Place::new();
    let path = place.text("recipe.toml");
    let out = place.text("run");
    for (text, key) in [
        ("merge.epsilon = 0", "1: merge.epsilon: 0 is out of range"),
        ("tune.lora.rank = 0", "1: tune.lora.rank: 0 is out of range"),
        ("reason.temperature = -1", "1: reason.temperature: -1 is out of range"),
        ("tune.lora.learning_rate = 1e300", "1: tune.lora.learning_rate: 1e300 is out of range"),
        ("graph.lightgcn.dim = 4611686018427387904", "1: graph.lightgcn.dim: 4611686018427387904 is out of range"),
        ("align.tau = inf", "1: align.tau: inf is not a finite number"),
        ("evaluate.reference = \"nobody\"", "1: evaluate.reference: no row is called"),
        ("model.path = \"/nonexistent/model\"", "1: model.path: /nonexistent/model is neither"),
        ("model.path = \"builtin\"\nmodel.reasoning = \"/nonexistent\"", "2: model.reasoning: /nonexistent is neither"),
        ("data = { kind = \"ml-1m\", path = \"/nonexistent/ml-1m\" }", "1: data.path: /nonexistent/ml-1m is neither"),
        ("describe = { source = \"file\", file = \"/nonexistent.json\" }", "1: describe.file: there is no file"),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = say(&["run", &path, "--out", &out, "-q"]).ended_with(2);
        said.err_has(&format!("recipe.toml:{key}")).err_has("next:");
        assert!(!std::path::Path::new(&out).exists(), "{text} has started a run");
    }
}

#[test]
fn an_old_name_works_and_is_reported_once() {
    let place = Place::new();
    let path = place.text("recipe.toml");
    std::fs::write(&path, "[facts]\nknowledge = \"silent\"\n[facts.taste]\nsources = [\"ratings\"]\n").unwrap();
    let said = say(&["run", &path, "--print-recipe"]).ended_with(0);
    assert_eq!(said.err.matches("recipe: 'facts.taste' is now 'collab.fold_in'\n").count(), 1, "{}", said.err);
    assert!(said.out.contains("[collab.fold_in]") && said.out.contains("wording = \"silent\""), "{}", said.out);
    say(&["demo", "--print-recipe", "--set", "facts.folds=3"]).ended_with(0).err_has("'facts' is now 'collab'");
}

#[test]
fn a_printed_recipe_is_a_recipe_and_resolves_to_itself() {
    let place = Place::new();
    let path = place.text("recipe.toml");
    for text in [String::new(), recipe("builtin"), "faithful = true\n[data]\nkind = \"ml-1m\"\npath = \"x\"".into()] {
        std::fs::write(&path, text).unwrap();
        let first = say(&["run", &path, "--print-recipe"]).ended_with(0).out;
        let again = place.text("again.toml");
        std::fs::write(&again, &first).unwrap();
        let second = say(&["run", &again, "--print-recipe"]).ended_with(0).out;
        assert_eq!(first, second);
        assert!(first.contains("# "), "keys come with their meaning");
        let read = |path: &str| rallrec::config::load(path.as_ref(), &[]).unwrap();
        assert_eq!(read(&path), read(&again));
    }
}

/// Each of these ran, or said something else than what was wrong.
#[test]
fn what_cannot_be_meant_is_refused_at_once() {
    let place = Place::new();
    let (path, empty) = (place.recipe(), place.text("empty.toml"));
    std::fs::write(&empty, "# nothing\n").unwrap();
    say(&["run", &empty, "--out", &place.text("a")]).ended_with(2).err_has("is empty").err_has("rallrec init");
    let span = ["run", &path, "--from", "merge", "--until", "data", "--out", &place.text("b")];
    say(&span).ended_with(2).err_has("--from: the stage 'merge' comes behind 'data'");
    let after = ["run", &path, "--after", &place.text("typo"), "--out", &place.text("c")];
    say(&after).ended_with(2).err_has("--after: ").err_has("typo is no folder");
    assert!(["a", "b", "c"].iter().all(|name| !place.at(name).exists()), "nothing is left behind");
    // Another name for CUDA, where the CPU was proposed as the nearest word.
    let gpu = say(&["run", &path, "--device", "gpu", "--print-recipe"]).ended_with(0);
    assert!(gpu.out.contains("device = \"cuda\""), "{}", gpu.out);
    let model = say(&["model", "inspect", "builtin", "--json"]).ended_with(0).json();
    assert!(model["parameters"].as_u64().is_some_and(|n| n > 0), "{model}");
}

#[test]
fn json_of_the_small_commands_parses() {
    let found = say(&["data", "inspect", "synthetic", "--json"]).ended_with(0).json();
    assert!(found.as_object().is_some_and(|m| m.len() > 3), "{found}");
    let found = say(&["doctor", "--json"]).ended_with(0).json();
    let entries = found.as_array().expect("a list");
    for what in ["program", "cpu", "gpu", "models"] {
        assert!(entries.iter().any(|e| e["what"] == what && e["found"].is_string()), "{what}: {found}");
    }
    let found = say(&["bench", "rmsnorm", "--seconds", "0.01", "--threads", "1", "--json"]).ended_with(0).json();
    assert_eq!(found["about"]["threads"], 1);
    for ceiling in ["read_gb_s", "gflop_s", "core_gflop_s"] {
        assert!(found["ceilings"][ceiling].as_f64().is_some_and(|x| x > 0.0), "{ceiling}: {}", found["ceilings"]);
    }
    assert!(found["cases"].as_array().is_some_and(|c| c.len() == 2));
}

/// Every case of the kernels launches something and is held against a floor and against ceilings,
/// and every kernel is timed by some case. In a process of its own: it switches the profile.
#[test]
fn every_kernel_is_timed_by_some_case() {
    let found = say(&["bench", "--device", "host", "--seconds", "0.001", "--json"]).ended_with(0).json();
    for ceiling in ["copy_gb_s", "gflop_s"] {
        assert!(found["ceilings"][ceiling].as_f64().is_some_and(|x| x > 0.0), "{found}");
    }
    for what in ["device", "kernels", "program", "date", "command"] {
        assert!(found["about"][what].as_str().is_some_and(|text| !text.is_empty()), "{what}: {}", found["about"]);
    }
    let above = |of: &serde_json::Value, key: &str| of[key].as_f64().is_some_and(|x| x.is_finite() && x > 0.0);
    let cases = found["cases"].as_array().expect("a list");
    let left_out = found["left_out"].as_array().expect("a list");
    let of_kernels = |case: &&Case| !matches!(case.make, Make::Cpu(_));
    assert_eq!(cases.len() + left_out.len(), rallrec::bench::all().filter(of_kernels).count());
    let mut timed = BTreeSet::new();
    for case in cases {
        let name = format!("{} {} {}", case["op"], case["work"], case["storage"]);
        assert!(
            ["seconds", "p10", "p90", "floor_seconds", "percent"].iter().all(|key| above(case, key)),
            "{name}: {case}"
        );
        assert!(case["sizes"].as_object().is_some_and(|sizes| !sizes.is_empty()), "{name}");
        let goal = &case["goal"];
        assert!(
            goal.is_null() || (above(goal, "wanted") && goal["reached"].is_null()),
            "judged on the host build: {goal}"
        );
        let launches = case["launches"].as_array().expect("a list");
        assert!(!launches.is_empty(), "{name} launches nothing");
        for launch in launches {
            assert!(above(launch, "seconds") && above(launch, "percent"), "{name}: {launch}");
            timed.insert(launch["kernel"].as_str().expect("a name").to_owned());
        }
    }
    // These are ceilings, or need a GPU of one sort: their cases are left out here, and say why.
    let elsewhere = |name: &str| ["mma_peak", "gather_peak"].contains(&name) || name.ends_with("_sm90a");
    let missing: Vec<String> = ALL
        .iter()
        .flat_map(|operator| operator.kernels)
        .flat_map(|kernel| kernel.names().collect::<Vec<_>>())
        .filter(|name| !elsewhere(name) && !timed.contains(name))
        .collect();
    assert!(missing.is_empty(), "no case of `bench` times {missing:?}");
    assert!(left_out.iter().all(|l| l["why"].as_str().is_some_and(|why| why.contains("9.0"))), "{left_out:?}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let program = assert_cmd::cargo::cargo_bin("rallrec");
    let mut child = std::process::Command::new(program)
        .args(["data", "inspect", "synthetic"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
