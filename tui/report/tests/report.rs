//! The page and the event files of small runs, and of what a run folder may look like.

#[path = "../../../tests/common/skip.rs"]
mod skip;

use std::path::Path;
use std::process::Command;

use rallrec_events::scatter::{Dot, Scatter, Space};
use rallrec_events::{Event, HistoryItem, ItemName, Record, VERSION};

fn write(folder: &Path, events: Vec<Event>) {
    let lines: Vec<String> = events
        .into_iter()
        .enumerate()
        .map(|(n, event)| {
            let record = Record { v: VERSION, t_ms: 1_700_000_000_000 + 1000 * n as u64, event };
            serde_json::to_string(&record).unwrap() + "\n"
        })
        .collect();
    std::fs::write(folder.join("events.jsonl"), lines.concat()).unwrap();
    std::fs::write(folder.join("recipe.toml"), "name = \"tiny\" # <b>bold</b>\n").unwrap();
}

fn item(title: &str) -> ItemName {
    ItemName { id: "1".into(), title: title.into(), genres: vec!["Drama".into()] }
}

/// A run that says something about everything.
fn full() -> Vec<Event> {
    let mut events = vec![
        Event::RunStarted { recipe: "tiny".into(), device: "cpu".into(), program: "0.1.0".into(), resumed: false },
        Event::Machine { facts: vec![("processor".into(), "A <fast> one".into())] },
        Event::StageStarted { stage: "graph".into(), key: "aa".into() },
    ];
    for step in 1..=60u64 {
        events.push(Event::TrainStep {
            stage: "graph".into(),
            epoch: 1,
            step,
            steps: 60,
            loss: 1.0 / step as f64,
            learning_rate: 0.001,
            gradient_norm: Some(0.5),
            rate: Some(1e4),
        });
    }
    for epoch in 1..=5 {
        events.push(Event::Metric {
            stage: "graph".into(),
            name: "recall@20".into(),
            split: "valid".into(),
            value: 0.1 * f64::from(epoch),
            epoch: Some(epoch),
            best: true,
        });
        events.push(Event::Similarity {
            stage: "align".into(),
            epoch,
            positive: 0.1 * f64::from(epoch),
            negative: 0.0,
        });
    }
    for row in 0..40u64 {
        events.push(Event::PromptExample {
            row,
            set: "test".into(),
            label: Some(row % 2 == 0),
            target: item("<script>alert(1)</script>"),
            prompt: "Will the user like it?".into(),
            hint: "Someone thinks so.".into(),
        });
        for sample in 0..4 {
            events.push(Event::ReasoningSample {
                row,
                sample,
                p: 0.1 + 0.02 * row as f64 + 0.01 * f64::from(sample) * (1 + row % 4) as f64,
                answer: Some(true),
                tokens: 5 + sample * 7 + row as u32,
                finished: true,
                text: "It & that".into(),
                label: Some(row % 2 == 0),
                hint: Some(0.7),
                set: Some("test".into()),
                yes_no_mass: Some(0.99),
            });
        }
        events.push(Event::MergeResult {
            row,
            mean_reasoning: 0.3,
            var_reasoning: 0.001 * row as f64,
            mean_tuned: 0.6,
            var_tuned: 0.0,
            share_reasoning: 0.05,
            p: 0.55,
            label: Some(row % 2 == 0),
        });
    }
    for (alpha, chosen) in [(0.1, true), (1.0, false)] {
        for epsilon in [1e-3, 1e-2] {
            events.push(Event::SweepCell {
                alpha,
                epsilon,
                samples: 0,
                metric: "log_loss".into(),
                value: 0.6 + alpha + epsilon,
                chosen: chosen && epsilon < 5e-3,
            });
        }
    }
    let near = HistoryItem {
        item: item("Near"),
        position: 3,
        rating: 4.0,
        retrieved: Some(1),
        shown: Some(2),
        similarity: Some(0.9),
        text: Some(0.3),
        collaborative: Some(0.3),
        aligned: Some(0.3),
    };
    events.push(Event::RetrievalExample {
        row: 3,
        target: item("Target"),
        label: Some(true),
        embedding: "mix3".into(),
        history: vec![near],
    });
    events.push(Event::Ceilings { device: "cpu".into(), memory_gb_s: 20.0, gflop_s: 100.0 });
    events.push(Event::Operator {
        operator: "spmm".into(),
        device: "cpu".into(),
        calls: 3,
        seconds: 0.5,
        bytes: 5e9,
        flops: 1e9,
        ceiling_seconds: Some(0.25),
        shape: None,
    });
    for (row, auc) in [("global mean", 0.5), ("merged", 0.7)] {
        events.push(Event::ResultRow {
            row: row.into(),
            split: "test".into(),
            metrics: vec![("auc".into(), auc, auc - 0.1, auc + 0.1)],
            table: Some("Test rows".into()),
            n: Some(40),
            reference: Some("global mean".into()),
            against: vec![],
        });
    }
    events.push(Event::ResultRow {
        row: "LightGCN".into(),
        split: "test".into(),
        metrics: vec![("recall@10".into(), 0.2, 0.1, 0.3), ("ndcg@10".into(), 0.3125, 0.3, 0.35)],
        table: Some("Ranking, test part".into()),
        n: Some(40),
        reference: Some("popularity".into()),
        against: vec![],
    });
    events.push(Event::RunFinished { outcome: "done".into(), seconds: 9.0, message: String::new() });
    events
}

fn scatter(folder: &Path) {
    let dots = 30;
    let points = |k: f32| (0..dots).map(|i| Some([(i as f32).sin() * k, (i as f32).cos()])).collect();
    let space = |name: &str, k| Space {
        name: name.into(),
        method: "PCA".into(),
        explained: Some([0.5, 0.2]),
        points: points(k),
    };
    let picture = Scatter {
        version: 1,
        key: "k".into(),
        items: (0..dots)
            .map(|i| Dot { title: format!("{i}"), genre: if i % 2 == 0 { "Drama" } else { "War" }.into() })
            .collect(),
        spaces: vec![space("text", 1.0), space("collaborative", 2.0), space("aligned", 3.0)],
    };
    std::fs::write(folder.join("scatter.json"), serde_json::to_vec(&picture).unwrap()).unwrap();
}

/// Nothing is fetched, nothing is run, every element is closed.
fn check_page(page: &str) {
    for outside in ["http://", "https://", "<script", "src=", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    for tag in ["svg", "figure", "section", "table", "details", "p", "pre", "g", "tr", "div"] {
        let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
    for broken in ["NaN", "Infinity", ">inf", "undefined"] {
        let at = page.find(broken).map(|at| &page[at.saturating_sub(200)..(at + 50).min(page.len())]);
        assert!(at.is_none(), "the page holds {broken}: {at:?}");
    }
}

#[test]
fn a_full_run_has_every_section_and_needs_nothing_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), full());
    scatter(folder.path());
    let page = rallrec_report::html(folder.path()).unwrap();
    check_page(&page);
    for id in
        ["results", "merge", "sampling", "training", "retrieval", "prompts", "operators", "stages", "machine", "recipe"]
    {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section {id}");
    }
    for text in [
        "Ranking, test part",
        "NDCG@10",
        "0.3125",
        "Before alignment: text embeddings",
        "After alignment",
        "Accuracy of the mean answer against the spread",
        "Accuracy of single answers against their length",
        "Merge sweep on the validation rows",
        "Reliability over 40 merged test rows",
        // The template engine writes a slash as an entity.
        "measured ceiling: 20.0 GB&#x2f;s",
        "prefers-color-scheme: dark",
        "@media print",
        "name = &quot;tiny&quot;",
        "A &lt;fast&gt; one",
        "at most 9.1 % at alpha 0.1",
    ] {
        assert!(page.contains(text), "the page lacks: {text}");
    }
    assert!(page.matches("<svg").count() >= 15, "{} pictures", page.matches("<svg").count());
    // 40 prompts with 4 samples each: the average length of the samples is there.
    assert!(page.contains("Length of 160 answers"));
}

#[test]
fn what_a_run_did_not_say_is_left_out_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let page = |events: Vec<Event>| {
        write(folder.path(), events);
        let page = rallrec_report::html(folder.path()).unwrap();
        check_page(&page);
        page
    };
    let early = page(full().into_iter().take(10).collect());
    assert!(early.contains("There are no results") && early.contains("ended without a word"));
    assert!(!early.contains("<section id=\"merge\">"));
    // Values that are none leave no broken picture.
    page(vec![
        Event::SweepCell {
            alpha: f64::NAN,
            epsilon: 0.1,
            samples: 0,
            metric: "auc".into(),
            value: f64::NAN,
            chosen: true,
        },
        Event::MergeResult {
            row: 1,
            mean_reasoning: f64::NAN,
            var_reasoning: f64::NAN,
            mean_tuned: 0.5,
            var_tuned: 0.0,
            share_reasoning: f64::NAN,
            p: f64::NAN,
            label: Some(true),
        },
    ]);
    std::fs::write(folder.path().join("scatter.json"), "{").unwrap();
    std::fs::write(folder.path().join("results.json"), "[").unwrap();
    let damaged = page(full());
    assert!(damaged.contains("scatter.json cannot be read") && damaged.contains("results.json cannot be read"));
}

#[test]
fn a_folder_without_events_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("absent")] {
        let error = rallrec_report::html(&path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("events.jsonl"), "{error}");
    }
}

/// A real TensorBoard reads what was written: the interpreter that RALLREC_PYTHON names must have
/// it.
#[test]
fn tensorboard_reads_the_event_files() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), full());
    let to = folder.path().join("tb");
    let (file, scalars) = rallrec_report::tensorboard::export(folder.path(), &to).unwrap();
    assert!(file.exists() && scalars > 240, "{scalars} scalars");
    // Again: replaced, not doubled.
    rallrec_report::tensorboard::export(folder.path(), &to).unwrap();
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
    let Some(python) = std::env::var_os("RALLREC_PYTHON") else {
        skip::skip("env RALLREC_PYTHON", "RALLREC_PYTHON names no Python interpreter");
        return;
    };
    let script = r#"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
found.Reload()
for tag in sorted(found.Tags()["scalars"]):
    points = found.Scalars(tag)
    print(tag, len(points), points[-1].step, f"{points[-1].value:.6f}")
"#;
    let has = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has.is_ok_and(|o| o.status.success()) {
        skip::skip("tensorboard", format!("{} has no tensorboard", python.display()));
        return;
    }
    let out = Command::new(&python).args(["-c", script]).arg(&to).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for line in [
        "graph/loss 60 60 0.016667",
        "graph/learning_rate 60 60 0.001000",
        "graph/valid/recall@20 5 5 0.500000",
        "align/similarity_positive 5 5 0.500000",
        "results/Test_rows/merged/auc 1 0 0.700000",
    ] {
        assert!(text.lines().any(|l| l == line), "TensorBoard lacks: {line}\n{text}");
    }
}
