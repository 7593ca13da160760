//! On real runs: what a changed key does again. Every key is gone through in
//! `src/pipeline/keys_test.rs`, on stand-ins.

use super::common::{Place, say};
use super::run::outcome;

#[test]
fn ten_keys_do_again_exactly_what_depends_on_them_and_a_renamed_model_nothing() {
    let place = Place::new();
    let (recipe, out) = (place.recipe(), place.text("run"));
    let go = |more: &[&str]| {
        let said = say(&[&["run", &recipe, "--out", &out][..], more].concat()).ended_with(0);
        outcome(&said.err).1
    };
    assert_eq!(go(&[]).len(), 13);
    let other = format!("model.reasoning={}", place.model("other", 2048, |t| t));
    let after_prompts = ["retrieve", "prompts", "predict", "reason", "merge", "evaluate"];
    let cases: [(&str, &[&str]); 13] = [
        ("evaluate.bootstrap=60", &["evaluate"]),
        ("merge.epsilon=0.01", &["merge", "evaluate"]),
        // Another model that says the same: the same weights, a shorter context.
        (&other, &["reason"]),
        ("reason.seed=7", &["reason", "merge", "evaluate"]),
        ("predict.zero_shot_rows=5", &["predict", "evaluate"]),
        ("predict.ablation_rows=3", &["retrieve", "prompts", "predict", "evaluate"]),
        // More rows are scored: nothing is tuned again.
        ("rows.test=13", &after_prompts),
        // The samples come out as they were, and so does everything behind them.
        ("data.seed=7", &["data"]),
        // The template prints no date: each stage that the model works in is done, with the same
        // result, and the merge finds its inputs as they were.
        ("prompt.date=2024-05-17", &["prompts", "tune", "predict", "reason"]),
        // Keys of what is switched off, and how often a state is stored.
        ("retrieve.gamma=0.4", &[]),
        ("soft.scale=2.0", &[]),
        ("describe.temperature=0.5", &[]),
        ("tune.lora.checkpoint_seconds=7.0", &[]),
    ];
    for (set, stages) in cases {
        assert_eq!(go(&["--set", set]), stages, "{set}");
    }
    std::fs::rename(place.at("model"), place.at("renamed")).unwrap();
    let renamed = format!("model.path={}", place.text("renamed"));
    assert_eq!(go(&["--set", &renamed]), Vec::<String>::new(), "a model is its content, wherever it lies");
}
