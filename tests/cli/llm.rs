//! `rallrec llm` on a random model, and models and prompts that cannot be used.

use super::common::{Place, say};

#[test]
fn logits_are_a_distribution_and_the_answers_agree_with_it() {
    let place = Place::new();
    let model = place.model("model", 64, |t| t);
    let ask = ["llm", "logits", "--model", &model, "--prompt", "Hello", "--answers", "Yes,No"];
    let found = say(&[&ask[..], &["--top", "300", "--json"]].concat()).ended_with(0).json();
    let top = found["top"].as_array().unwrap();
    assert_eq!(top.len(), 264, "the whole vocabulary");
    let p = |t: &serde_json::Value| t["probability"].as_f64().unwrap();
    let sum: f64 = top.iter().map(p).sum();
    assert!((sum - 1.0).abs() <= 1e-9, "{sum}");
    assert!(top.windows(2).all(|w| p(&w[0]) >= p(&w[1])));
    let answers = &found["answers"];
    let (yes, no) = (p(&answers["first"]), p(&answers["second"]));
    assert_eq!((answers["first"]["token"].as_str(), answers["second"]["token"].as_str()), (Some("Yes"), Some("No")));
    assert!((answers["two_way"].as_f64().unwrap() - yes / (yes + no)).abs() <= 1e-9);
    assert!((answers["mass"].as_f64().unwrap() - (yes + no)).abs() <= 1e-12);
    let text = say(&ask).ended_with(0);
    assert!(text.out.contains("\"Yes\" against \"No\"") && !text.out.contains('\u{1b}'), "{}", text.out);
}

#[test]
fn an_embedding_is_printed_whole_or_summarised() {
    let place = Place::new();
    let model = place.model("model", 64, |t| t);
    let ask = ["llm", "embed", "--model", &model, "--prompt", "Hello"];
    let vector = |pooling: &str| -> Vec<f64> {
        let said = say(&[&ask[..], &["--json", "--pooling", pooling]].concat()).ended_with(0);
        said.json().as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let (mean, last) = (vector("mean"), vector("last"));
    assert_eq!((mean.len(), last.len()), (32, 32));
    assert_ne!(mean, last);
    let norm = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (arithmetic, most) in [("bf16", 0.02), ("int8", 0.03)] {
        let said = say(&[&ask[..], &["--json", "--arithmetic", arithmetic]].concat()).ended_with(0);
        let rounded: Vec<f64> = said.json().as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let off = mean.iter().zip(&rounded).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / norm;
        assert!(off > 0.0 && off < most, "products in {arithmetic} are {off} off");
    }
    let text = say(&ask).ended_with(0).out;
    assert!(text.contains(&format!("norm           {norm:.4}")), "{norm} in {text}");
    // A prompt of one token is its own mean.
    let one = ["llm", "embed", "--model", &model, "--prompt", "H", "--json", "--pooling"];
    let (mean, last) = (say(&[&one[..], &["mean"]].concat()).out, say(&[&one[..], &["last"]].concat()).out);
    assert_eq!(mean, last);
}

#[test]
fn generation_repeats_with_its_seed_and_reads_files() {
    let place = Place::new();
    let model = place.model("model", 64, |t| t);
    let file = place.text("prompt.txt");
    std::fs::write(&file, "Hello").unwrap();
    let write = |more: &[&str]| {
        let ask = ["llm", "generate", "--model", &model, "--prompt-file", &file, "--max-tokens", "8", "--json"];
        say(&[&ask[..], &["--min-tokens", "8", "--samples", "3", "--temperature", "1"], more].concat()).ended_with(0)
    };
    let first = write(&["--seed", "1"]);
    assert!(first.err.contains("tokens/s"), "{}", first.err);
    assert_eq!(first.out, write(&["--seed", "1"]).out);
    assert_ne!(first.out, write(&["--seed", "2"]).out);
    let samples = first.json()["samples"].as_array().unwrap().clone();
    assert_eq!(samples.len(), 3);
    assert!(samples.iter().all(|s| s["tokens"] == 8 && s["finish"] == "length"), "{samples:?}");
    assert_ne!(samples[0]["text"], samples[1]["text"]);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let place = Place::new();
    let model = place.model("model", 16, |t| t);
    let with = |more: &[&str]| say(&[&["llm", "logits", "--model", &model][..], more].concat()).ended_with(2);
    with(&["--prompt", ""]).err_has("empty");
    with(&["--prompt", "this is longer than sixteen tokens"]).err_has("context of 16").err_has("next:");
    with(&["--prompt-file", "/nonexistent/prompt"]).err_has("check the path");
    let file = place.text("latin1.txt");
    std::fs::write(&file, b"one\ncaf\xe9").unwrap();
    with(&["--prompt-file", &file]).err_has("line 2").err_has("not UTF-8");
    std::fs::write(&file, "").unwrap();
    with(&["--prompt-file", &file]).err_has("empty");
    with(&["--prompt", "a", "--answers", "Yes"]).err_has("--answers");
    with(&["--prompt", "a", "--answers", "Yes,Perhaps"]).err_has("Perhaps");
    with(&["--prompt", "a", "--adapter", "/nonexistent/adapter"]).err_has("adapter_config.json");
    let write = |more: &[&str]| {
        say(&[&["llm", "generate", "--model", &model, "--prompt", "a"][..], more].concat()).ended_with(2)
    };
    write(&["--max-tokens", "0"]).err_has("max_new_tokens");
    write(&["--temperature", "-1"]);
    write(&["--top-p", "0"]).err_has("top_p");
    write(&["--min-tokens", "9", "--max-tokens", "3"]).err_has("min_new_tokens");
    say(&["llm", "embed", "--model", "/nonexistent/model", "--prompt", "a"]).ended_with(2).err_has("known models");
    say(&["llm", "embed", "--model", "smollm2-135m", "--prompt", "a"]).ended_with(2).err_has("model pull smollm2-135m");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    use rallrec::models::decoder::Family;
    use rallrec::models::lora::{Adapter, Target};
    use rallrec::store::fixture;
    let place = Place::new();
    let model = place.model("model", 64, |t| t);
    let mut wide = fixture::config(Family::LLAMA);
    let own = Adapter::init(&wide, 2, 4.0, &[Target::QProj], 1).unwrap();
    rallrec::store::peft::write(&place.at("own"), &own, &wide, "m").unwrap();
    wide.hidden = 48;
    let other = Adapter::init(&wide, 2, 4.0, &[Target::QProj], 1).unwrap();
    rallrec::store::peft::write(&place.at("other"), &other, &wide, "m").unwrap();
    let with =
        |adapter: &str| say(&["llm", "logits", "--model", &model, "--prompt", "a", "--adapter", &place.text(adapter)]);
    with("own").ended_with(0);
    with("other").ended_with(2).err_has("next:");
}
