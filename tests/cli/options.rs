//! Options beyond the papers, through the whole chain: what each of them changes in the files of a
//! run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::common::{Place, results, say};

/// The newest artifact whose folder begins so.
fn newest(folder: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder.join("artifacts")).unwrap().flatten();
    let own = entries.filter(|e| e.file_name().to_string_lossy().starts_with(name));
    own.max_by_key(|e| e.metadata().unwrap().modified().unwrap()).unwrap_or_else(|| panic!("no {name}")).path()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lines by set and row.
fn by_row(lines: &[Value]) -> BTreeMap<(String, u64), Vec<&Value>> {
    let mut found: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for line in lines {
        found.entry((line["set"].as_str().unwrap().into(), line["row"].as_u64().unwrap())).or_default().push(line);
    }
    found
}

struct Run {
    place: Place,
    recipe: String,
}

impl Run {
    fn new() -> Self {
        let place = Place::new();
        let recipe = place.recipe();
        Self { place, recipe }
    }

    fn folder(&self) -> PathBuf {
        self.place.at("run")
    }

    fn go(&self, sets: &[&str]) {
        let out = self.place.text("run");
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        say(&[&["run", &self.recipe, "--out", &out, "-q"][..], &sets].concat()).ended_with(0);
    }
}

#[test]
fn a_row_whose_samples_agree_gets_no_more_and_those_it_has_are_the_same() {
    let run = Run::new();
    run.go(&["reason.samples=6"]);
    let all = lines(&newest(&run.folder(), "reason").join("samples.jsonl"));
    // What it cost stands in the results.
    let text = std::fs::read_to_string(run.folder().join("results.md")).unwrap();
    for words in ["## Costs of the answers", "of at most 6", "## Reasoning samples by length"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    // The random model's answers hardly differ: a wide bound stops each row at once, a narrow one
    // none.
    run.go(&["reason.samples=6", "reason.adaptive=0.9"]);
    let few = lines(&newest(&run.folder(), "reason").join("samples.jsonl"));
    assert_eq!(all.len(), 8 * 6);
    assert_eq!(few.len(), 8 * 2);
    let all_rows = by_row(&all);
    for (row, samples) in by_row(&few) {
        assert_eq!(samples[..], all_rows[&row][..2], "{row:?}");
    }
    run.go(&["reason.samples=6", "reason.adaptive=1e-12", "reason.adaptive_step=3"]);
    let again = lines(&newest(&run.folder(), "reason").join("samples.jsonl"));
    let equal = |samples: &[&Value]| samples.windows(2).all(|w| w[0]["p"] == w[1]["p"]);
    for (row, samples) in by_row(&again) {
        assert!(samples.len() == 6 || equal(&samples), "{row:?} stopped at {}", samples.len());
    }
}

#[test]
fn a_thought_ends_at_its_answer_where_that_is_asked_for() {
    let run = Run::new();
    let texts = |sets: &[&str]| {
        run.go(sets);
        lines(&newest(&run.folder(), "reason").join("samples.jsonl"))
    };
    let long = texts(&["reason.max_tokens=60", "reason.temperature=1.5", "model.path=builtin"]);
    let short =
        texts(&["reason.max_tokens=60", "reason.temperature=1.5", "model.path=builtin", "reason.stop_at_answer=true"]);
    let tokens = |all: &[Value]| all.iter().map(|s| s["tokens"].as_u64().unwrap()).sum::<u64>();
    assert!(tokens(&short) < tokens(&long), "{} and {}", tokens(&short), tokens(&long));
    for (short, long) in short.iter().zip(&long) {
        let (short, long) = (short["text"].as_str().unwrap(), long["text"].as_str().unwrap());
        assert!(long.starts_with(short), "{short:?} is no beginning of {long:?}");
        let said = short.ends_with("Yes") || short.ends_with("No");
        assert!(short == long || said, "{short:?} ends without an answer");
    }
}

#[test]
fn a_residual_is_added_to_the_features() {
    let run = Run::new();
    run.go(&["collab.wording=silent", "tune.residual=true"]);
    let folder = run.folder();
    let features = lines(&newest(&folder, "collab.score").join("features.jsonl"));
    let features: BTreeMap<u64, f64> =
        features.iter().map(|f| (f["row"].as_u64().unwrap(), f["features"]["p"].as_f64().unwrap())).collect();
    let predictions = lines(&newest(&folder, "predict.score").join("predictions.jsonl"));
    assert_eq!(predictions.len(), 22);
    for line in &predictions {
        let logits = line["choice"]["logits"].as_array().unwrap();
        // They are 32-bit numbers, as few digits as name them.
        let logits: Vec<f64> = logits.iter().map(|l| f64::from(l.as_f64().unwrap() as f32)).collect();
        let p = features[&line["row"].as_u64().unwrap()];
        let want = 1.0 / (1.0 + (-((p / (1.0 - p)).ln() + logits[0] - logits[1])).exp());
        assert!((line["p"].as_f64().unwrap() - want).abs() <= 1e-9, "{line}");
    }
    // Another way of counting features moves the sum, also where the adapter stays.
    let table = results(&folder)["tables"][0].clone();
    run.go(&["collab.wording=silent"]);
    assert_ne!(results(&folder)["tables"][0], table);
    let bad = ["run", &run.recipe, "--set", "tune.residual=true"];
    say(&bad).ended_with(2).err_has("collab.wording");
}

#[test]
fn a_reasoner_is_tuned_on_answers_or_on_its_own_thoughts() {
    let run = Run::new();
    let samples = |sets: &[&str]| {
        run.go(sets);
        let all = lines(&newest(&run.folder(), "reason-").join("samples.jsonl"));
        all.iter().map(|s| (s["text"].clone(), s["p"].clone())).collect::<Vec<_>>()
    };
    let rate = "tune.lora.learning_rate=0.05";
    let plain = samples(&[rate]);
    let answer = samples(&[rate, "reason.tuned_by=answer"]);
    let reward = samples(&[rate, "reason.tuned_by=reward"]);
    assert!(plain != answer && plain != reward && answer != reward);
    let tuned = newest(&run.folder(), "reason.tuned");
    assert!(tuned.join("adapter/adapter_model.safetensors").is_file());
    let summary: Value = serde_json::from_slice(&std::fs::read(tuned.join("reward.json")).unwrap()).unwrap();
    assert_eq!((&summary["rows"], &summary["thoughts"]), (&6.into(), &12.into()));
    let kept = summary["kept"].as_u64().unwrap();
    assert!((1..=6).contains(&kept), "{summary}");
}

#[test]
fn spoiled_descriptions_learnt_orders_attention_and_content_priors_go_through() {
    let run = Run::new();
    run.go(&[]);
    let plain = lines(&newest(&run.folder(), "describe").join("descriptions.jsonl"));
    for sets in [
        &["describe.noise=0.5"][..],
        &["describe.swapped=1.0"],
        &["retrieve.rule=learned", "retrieve.template=rerank"],
        &["align.projection=attention", "align.tokens=4"],
        &["collab.wording=verdict", "collab.content=tfidf"],
        &["collab.wording=verdict", "collab.content=embedding"],
    ] {
        run.go(sets);
        if sets[0].starts_with("describe") {
            let spoiled = lines(&newest(&run.folder(), "describe.spoiled").join("descriptions.jsonl"));
            assert_eq!(spoiled.len(), plain.len());
            assert!(spoiled.iter().zip(&plain).any(|(a, b)| a != b), "{sets:?}");
        }
    }
    // Recommendations of a run with a content prior ask the tuned model as the run did.
    let out = run.place.text("run");
    let asked = ["recommend", "--run", &out, "--user", "3", "--top", "3", "--score", "llm", "--json"];
    let told = say(&asked).ended_with(0).json();
    assert!(told.to_string().contains("\"item\""), "{told}");
}
