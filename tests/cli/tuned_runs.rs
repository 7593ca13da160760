//! Several runs of the tuned model: other adapters, other renderings of the history.

use std::path::Path;

use serde_json::Value;

use super::common::{Place, results, say};
use super::run::outcome;

/// (mean, variance) of the tuned model in each merged test row, by the folder's newest merge.
fn tuned(folder: &Path) -> Vec<(f64, f64)> {
    let entries = std::fs::read_dir(folder.join("artifacts")).unwrap().flatten();
    let merges = entries.filter(|e| e.file_name().to_string_lossy().starts_with("merge-"));
    let newest = merges.max_by_key(|e| e.metadata().unwrap().modified().unwrap()).expect("a merge");
    let text = std::fs::read_to_string(newest.path().join("merge.json")).unwrap();
    let merged: Value = serde_json::from_str(&text).unwrap();
    let rows = merged["test"].as_array().unwrap().iter();
    rows.map(|row| (row[1]["mean_tuned"].as_f64().unwrap(), row[1]["var_tuned"].as_f64().unwrap())).collect()
}

#[test]
fn runs_of_other_adapters_and_renderings_give_the_tuned_model_a_variance() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let folder = place.at("run");
    let go = |more: &[&str]| {
        let said = say(&[&["run", &recipe, "--out", &out][..], more].concat()).ended_with(0);
        (outcome(&said.err).1, tuned(&folder))
    };
    let set = |key: &'static str| ["--set", key];
    let (_, one) = go(&[]);
    assert!(!one.is_empty() && one.iter().all(|(_, var)| *var == 0.0), "{one:?}");
    let table = results(&folder)["tables"][0].clone();
    let row_of = |table: &Value, name: &str| {
        table["table"]["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned().expect("a row")
    };

    // Another adapter: tuned and asked once more, nothing else.
    let seeds = set("tune.more_seeds=[7, 8]");
    let (done, of_seeds) = go(&[&seeds[..], &set("tune.lora.learning_rate=0.05")].concat());
    assert_eq!(done, ["tune", "predict", "reason", "merge", "evaluate"]);
    assert!(of_seeds.iter().any(|(_, var)| *var > 0.0), "{of_seeds:?}");
    let (done, _) = go(&seeds);
    assert_eq!(done, ["tune", "predict", "merge", "evaluate"], "the first adapter and its hints are there");

    // Other renderings.
    let rendered = set("predict.renderings=['simple', 'low']");
    let (done, of_renderings) = go(&rendered);
    assert_eq!(done, ["retrieve", "prompts", "predict", "merge", "evaluate"]);
    assert_eq!(of_renderings.len(), one.len());
    assert!(of_renderings.iter().any(|(_, var)| *var > 0.0), "{of_renderings:?}");
    let differ = |a: &[(f64, f64)], b: &[(f64, f64)]| a.iter().zip(b).any(|(a, b)| (a.0 - b.0).abs() > 1e-9);
    assert!(differ(&of_renderings, &one), "the mean of the runs enters");
    // The row of the tuned model is that of its first run.
    let now = results(&folder)["tables"][0].clone();
    assert_eq!(row_of(&now, "tuned")["metrics"], row_of(&table, "tuned")["metrics"]);

    // The authors' code takes the first run's value, and the variance of all.
    let (done, first) = go(&[&rendered[..], &set("merge.tuned_mean=first")].concat());
    assert_eq!(done, ["merge", "evaluate"]);
    assert!(!differ(&first, &one), "the first run's value enters");
    let same_variance = first.iter().zip(&of_renderings).all(|(a, b)| (a.1 - b.1).abs() <= 1e-12);
    assert!(same_variance, "{first:?} {of_renderings:?}");
}

#[test]
fn the_papers_rows_are_there_where_they_are_asked_for() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let go = |more: &[&str]| {
        let said = say(&[&["run", &recipe, "--out", &out][..], more].concat()).ended_with(0);
        (outcome(&said.err).1, results(&place.at("run"))["tables"].clone())
    };
    let names = |tables: &Value| -> Vec<String> {
        let rows = tables.as_array().unwrap().iter().flat_map(|t| t["table"]["rows"].as_array().unwrap());
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    let (_, before) = go(&[]);
    let (done, after) = go(&[
        "--set",
        "predict.more_histories=['hybrid_score', 'rella']",
        "--set",
        "merge.plain_mean=true",
        "--set",
        "reason.without_retrieval=true",
        "--set",
        "predict.ablation_rows=4",
    ]);
    assert_eq!(done, ["retrieve", "prompts", "predict", "reason", "merge", "evaluate"]);
    let (before, after) = (names(&before), names(&after));
    let new: Vec<&String> = after.iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(
        new,
        [
            "plain mean of both",
            "reasoning, without retrieval",
            "plain mean of both, without the hint",
            "tuned, hybrid score",
            "tuned, as ReLLa retrieves"
        ]
    );
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
}

/// Fewer prompts without retrieval than rows that are reasoned about would leave gaps.
#[test]
fn reasoning_without_retrieval_wants_its_prompts() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let said = say(&["run", &recipe, "--out", &out, "--set", "reason.without_retrieval=true"]).ended_with(2);
    said.err_has("reason.without_retrieval: predict.ablation_rows = 2").err_has("set predict.ablation_rows to 0");
}
