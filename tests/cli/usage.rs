//! Help, usage errors, and the commands that need no model.

use super::common::{Place, recipe, say};

/// Every command with options that its help must name.
const COMMANDS: [(&[&str], &[&str]); 14] = [
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
    (&["recommend"], &["--run", "--user", "--top", "--json", "--score"]),
    (&["bench"], &["--device", "--seconds", "--json", "--threads", "spmm"]),
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
    with("nmae = \"x\"").ended_with(2).err_has("did you mean 'name'?").err_has("line 1");
    with("[data]\nkind = \"synthetc\"").ended_with(2).err_has("did you mean 'synthetic'?");
    with("[retrieve]\nk = \"many\"").ended_with(2).err_has("next:");
    with("[data\n").ended_with(2).err_has("line 1");
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
    with("retrieve.kk=7").ended_with(2).err_has("did you mean 'k'?");
    with("retrieve.k").ended_with(2).err_has("'='");
    with("retrieve..k=7").ended_with(2).err_has("empty part");
    with("name.first=a").ended_with(2).err_has("not a section");
    with("retrieve.k=-1").ended_with(2).err_has("--set");
    with("reason.samples=0").ended_with(2).err_has("reason.samples");
    say(&["run", &path, "--until", "grph"]).ended_with(2).err_has("graph");
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
    assert_eq!(found["threads"], 1);
    assert!(found["ceilings"]["read_gb_s"].as_f64().is_some_and(|x| x > 0.0));
    assert!(found["cases"].as_array().is_some_and(|c| c.len() == 2));
}

/// Every case of the kernels launches something and is held against a ceiling. In a process of its own: it switches the profile.
#[test]
fn kernels_are_timed_launch_by_launch() {
    let found = say(&["bench", "--device", "host", "--seconds", "0.001", "--json"]).ended_with(0).json();
    for ceiling in ["copy_gb_s", "mma_gflop_s"] {
        assert!(found["ceilings"][ceiling].as_f64().is_some_and(|x| x > 0.0), "{found}");
    }
    let launches = found["launches"].as_array().expect("a list");
    let shapes: std::collections::BTreeSet<String> =
        launches.iter().map(|l| format!("{} {}", l["op"].as_str().unwrap(), l["shape"].as_str().unwrap())).collect();
    assert_eq!(shapes.len(), 17, "a case launches nothing: {shapes:?}");
    for l in launches {
        let number = |key: &str| l[key].as_f64().is_some_and(|x| x.is_finite() && x >= 0.0);
        assert!(["gb_s", "gflop_s", "percent"].into_iter().all(number), "{l}");
        assert!(
            l["seconds"].as_f64().is_some_and(|x| x > 0.0) && l["launches"].as_u64().is_some_and(|n| n >= 5),
            "{l}"
        );
    }
    let text = say(&["bench", "rmsnorm", "--device", "host", "--seconds", "0.001"]).ended_with(0).out;
    assert!(text.contains("mma.sync") && text.contains("rmsnorm_bf16"), "{text}");
    say(&["bench", "spmn", "--device", "host"]).ended_with(2).err_has("did you mean 'spmm'");
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
