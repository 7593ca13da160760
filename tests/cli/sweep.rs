//! Sweeps: what trials share, who chooses, what is left behind, how they go on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::{Place, results, say};

fn file(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn done(trial: &Value) -> Vec<&str> {
    trial["done"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect()
}

#[test]
fn trials_share_what_they_can_and_validation_rows_choose() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    let go = |more: &[&str]| {
        let over = ["--over", "tune.lora.learning_rate = [0.0005, 0.05]", "--over", "retrieve.k = [2, 4]"];
        say(&[&["sweep", &recipe, "--out", &out, "--judge", "tuned"][..], &over, more].concat()).ended_with(0)
    };
    let said = go(&[]);
    let folder = place.at("swept");
    let swept = file(&folder, "sweep.json");
    let trials = swept["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    assert_eq!(done(&trials[0]).len(), 10, "the first does all up to the judge's stage: {:?}", done(&trials[0]));
    assert_eq!(done(&trials[1]), ["retrieve", "prompts", "tune", "predict"]);
    // Its histories are those of the first; the adapter is another.
    assert_eq!(done(&trials[2]), ["tune", "predict"]);
    // The reasoning model was not asked for any trial.
    assert!(trials.iter().all(|t| !done(t).contains(&"reason")));

    // The best log loss of the validation rows, counted here.
    let values: Vec<f64> = trials.iter().map(|t| t["value"].as_f64().unwrap()).collect();
    let best = (0..4).min_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
    assert_eq!(swept["chosen"], best, "{values:?}");
    assert_eq!((&swept["metric"], &swept["judge"]), (&"log_loss".into(), &"tuned".into()));
    let table = &swept["tables"][0];
    assert_eq!((&table["split"], &table["n"]), (&"valid".into(), &10.into()));

    // The chosen recipe was run to its end: on all test rows, as a run of its own does.
    let chosen = folder.join("best.toml").display().to_string();
    let alone = place.text("alone");
    say(&["run", &chosen, "--out", &alone]).ended_with(0);
    assert_eq!(results(&folder)["tables"], results(&place.at("alone"))["tables"]);
    for words in ["chosen", "Chosen: ", "on 10 validation rows", "test rows choose nothing", "run to its end"] {
        assert!(said.out.contains(words), "no {words:?} in\n{}", said.out);
    }
    let report = std::fs::read_to_string(folder.join("sweep.md")).unwrap();
    assert!(said.out.starts_with(report.trim_end()), "{report}\n{}", said.out);

    // The same command finds everything, and tells the same.
    let again = go(&[]);
    assert_eq!(file(&folder, "sweep.json"), swept);
    assert_eq!(again.out.split("The chosen recipe").next(), said.out.split("The chosen recipe").next());
    // A key more: what is there is not done again.
    let json = go(&["--set", "evaluate.bootstrap=60", "--choose-only", "--json"]).json();
    assert_eq!(json["results"], Value::Null);
    assert_eq!(json["sweep"]["trials"].as_array().unwrap().len(), 4);
}

#[test]
fn a_merge_is_chosen_on_validation_rows_too_and_a_ranker_needs_no_language_model() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    let go = |more: &[&str]| {
        say(&[&["sweep", &recipe, "--out", &out, "--choose-only", "--json", "-q"][..], more].concat())
            .ended_with(0)
            .json()
    };
    let merged = go(&["--over", "merge.alpha = [0.01, 1e6]", "--set", "merge.sweep.alpha=[]", "--metric", "brier"]);
    let trials = merged["sweep"]["trials"].as_array().unwrap();
    assert_eq!(done(&trials[1]), ["merge"]);
    assert_ne!(trials[0]["value"], trials[1]["value"], "alpha decides whom the merge believes");
    assert_eq!(merged["sweep"]["tables"][0]["n"], 4, "rows that were reasoned about");
    // The recipe's own search chooses alpha, so this key has nothing to say.
    let text = say(&["sweep", &recipe, "--out", &out, "--choose-only", "-q", "--over", "merge.alpha = [0.01, 1e6]"]);
    text.ended_with(0).out_has("Every trial says the same");
    let reasoning = go(&["--over", "reason.samples = [1, 2]", "--judge", "reasoning"]);
    assert_eq!(done(&reasoning["sweep"]["trials"][0]), ["reason"]);
    let ranked = go(&["--over", "graph.lightgcn.layers = [1, 2]", "--judge", "lightgcn"]);
    let trials = ranked["sweep"]["trials"].as_array().unwrap();
    assert!(trials.iter().all(|t| done(t) == ["graph"] && t["value"].is_f64()), "{trials:?}");
    assert_eq!(ranked["sweep"]["metric"], "ndcg@10");
    // Nothing was asked of test rows but the one that stages need to go on.
    let artifacts = std::fs::read_dir(place.at("swept").join("artifacts")).unwrap().flatten();
    let mut looked = 0;
    for artifact in artifacts {
        for name in ["predictions.jsonl", "samples.jsonl"] {
            let Ok(text) = std::fs::read_to_string(artifact.path().join(name)) else { continue };
            let rows: std::collections::BTreeSet<u64> = (text.lines())
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .filter(|row| row["set"] == "test")
                .map(|row| row["row"].as_u64().unwrap())
                .collect();
            looked += 1;
            assert!(rows.len() <= 1, "{name} of {:?} has test rows {rows:?}", artifact.path());
        }
    }
    assert!(looked > 3, "{looked} files with rows");
}

#[test]
fn halving_gives_the_whole_budget_to_the_better_trials_alone() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    let over = ["--over", "graph.lightgcn.layers = [1, 2, 3]", "--judge", "lightgcn", "--metric", "recall"];
    let halving = ["--halving", "graph.lightgcn.epochs = [1, 2]", "--keep", "0.5"];
    let go = |more: &[&str]| say(&[&["sweep", &recipe, "--out", &out][..], &over, &halving, more].concat());
    let said = go(&["--choose-only"]).ended_with(0);
    let swept = file(&place.at("swept"), "sweep.json");
    let trials = swept["trials"].as_array().unwrap();
    // Three on one epoch, two on two, one on the recipe's own.
    let left: Vec<Option<&str>> = trials.iter().map(|t| t["left_at"].as_str()).collect();
    let at = |budget: Option<&str>| left.iter().filter(|at| **at == budget).count();
    let counts = [at(Some("graph.lightgcn.epochs=1")), at(Some("graph.lightgcn.epochs=2")), at(None)];
    assert_eq!(counts, [1, 1, 1], "{left:?}");
    let chosen = swept["chosen"].as_u64().unwrap() as usize;
    assert_eq!(left[chosen], None, "the chosen one had the whole budget");
    assert_eq!(swept["ranking"].as_array().unwrap().len(), 1, "a table of those on the whole budget");
    // Among the three on one epoch the worst was left: its value stands, and chose nothing.
    let worst = left.iter().position(|at| *at == Some("graph.lightgcn.epochs=1")).unwrap();
    let alone = place.text("alone");
    let values = ["1", "2", "3"].map(|layers| {
        let over = format!("graph.lightgcn.layers = [{layers}]");
        let set = ["--set", "graph.lightgcn.epochs=1", "--judge", "lightgcn", "--metric", "recall", "--choose-only"];
        let args = [&["sweep", &recipe, "--out", &alone, "--over", &over, "--json", "-q"][..], &set].concat();
        say(&args).ended_with(0).json()["sweep"]["trials"][0]["value"].as_f64().unwrap()
    });
    assert!(values.iter().all(|v| values[worst] <= *v), "{values:?}, left was {worst}");
    for words in ["left at graph.lightgcn.epochs=1", "which chose nothing", ", at graph.lightgcn.epochs=2"] {
        assert!(said.out.contains(words) || said.err.contains(words), "no {words:?} in\n{}{}", said.out, said.err);
    }
    let again = go(&["--choose-only"]).ended_with(0);
    assert_eq!(again.out.split("Chosen").nth(1), said.out.split("Chosen").nth(1));
    go(&["--over", "graph.lightgcn.epochs = [3]"]).ended_with(2);
}

#[test]
fn a_budget_ends_a_sweep_and_random_draws_are_fewer() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    let go = |more: &[&str]| {
        let over = [
            "--over",
            "evaluate.bins = [5]",
            "--over",
            "graph.lightgcn.init_std = { from = 0.01, to = 1.0, log = true }",
        ];
        let all =
            [&["sweep", &recipe, "--out", &out, "--judge", "ranker", "--choose-only", "--json"][..], &over[2..], more];
        say(&all.concat()).ended_with(0).json()["sweep"].clone()
    };
    let drawn = go(&["--random", "3"]);
    assert_eq!((drawn["trials"].as_array().unwrap().len(), &drawn["left"]), (3, &0.into()));
    assert_eq!(go(&["--random", "3"])["trials"], drawn["trials"], "the seed draws the same");
    let short = go(&["--random", "5", "--budget", "0.001s"]);
    assert_eq!((short["trials"].as_array().unwrap().len(), &short["left"]), (1, &4.into()));
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    for (more, wanted) in [
        (&["--over", "retrieve.gama = [1]"][..], "retrieve.gama"),
        (&["--over", "retrieve.gamma = [0.5, 7]"], "retrieve.gamma: 7 is out of range"),
        (&["--over", "retrieve.gamma"], "there is no '='"),
        (&["--over", "merge.alpha = [1, 2]", "--judge", "tuned"], "every trial would say the same"),
        (&["--over", "align.tau = [1, 2]", "--judge", "lightgcn"], "every trial would say the same"),
        (&["--over", "threads = [1, 2]"], "every trial would say the same"),
        (&["--over", "retrieve.k = [1, 2]", "--metric", "luck"], "no metric 'luck'"),
        (&["--over", "retrieve.k = [1, 2]", "--budget", "3x"], "no unit 'x'"),
        (&["--over", "retrieve.k = [1, 2]", "--set", "model.path=/nonexistent/m"], "model.path"),
    ] {
        let said = say(&[&["sweep", &recipe, "--out", &out][..], more].concat()).ended_with(2);
        assert!(said.err.contains(wanted), "{more:?}: {}", said.err);
        assert!(!place.at("swept").exists(), "{more:?} made a folder");
    }
}

#[test]
fn a_stopped_sweep_goes_on() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("swept"));
    let arguments = [
        "sweep",
        &recipe,
        "--out",
        &out,
        "--judge",
        "tuned",
        "--over",
        "tune.lora.seed = [1, 2, 3, 4, 5, 6]",
        "--choose-only",
    ];
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while !place.at("swept").join("sweep.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(240), "no trial ends");
        assert!(child.try_wait().expect("waits").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    let status = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("a shell");
    assert!(status.success());
    let ended = child.wait_with_output().expect("ends");
    let err = String::from_utf8(ended.stderr).unwrap();
    let before = file(&place.at("swept"), "sweep.json");
    let known = before["trials"].as_array().unwrap();
    // A machine that is quick enough may have done all of them.
    if ended.status.code() != Some(0) {
        assert_eq!(ended.status.code(), Some(130), "{err}");
        assert!(err.contains("go on with: rallrec sweep"), "{err}");
        assert!(known.len() < 6);
    }
    say(&arguments).ended_with(0);
    let swept = file(&place.at("swept"), "sweep.json");
    let trials = swept["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 6);
    assert_eq!(&trials[..known.len()], &known[..], "what was done keeps its time");
}
