//! Whatever is applied, the view neither panics nor grows beyond its bound, and it does not matter
//! how the records come.

use proptest::prelude::*;
use rallrec_events::tail::{Item, Tail};
use rallrec_events::view::MOST_BYTES;
use rallrec_events::{Event, Gpu, HistoryItem, ItemName, Record, RunView, VERSION};

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -2.0..2.0f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e-300]),
    ]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..50, 1 => any::<u64>()]
}

fn stage() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["graph", "tune", "align", "reason", "merge", "evaluate", "predict"])
            .prop_map(String::from),
        1 => "[a-z]{1,6}",
        1 => "\u{e4}{100,200}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => ".{0,60}", 1 => (1usize..4).prop_map(|n| "\u{20ac}uro ".repeat(n * 4000))]
}

fn item() -> impl Strategy<Value = ItemName> {
    (text(), prop::collection::vec("[A-Z]{0,9}", 0..12)).prop_map(|(title, genres)| ItemName {
        id: "7".into(),
        title,
        genres,
    })
}

fn event() -> impl Strategy<Value = Event> {
    let step = (stage(), count(), number(), number(), prop::option::of(number())).prop_map(
        |(stage, step, loss, learning_rate, gradient_norm)| Event::TrainStep {
            stage,
            epoch: step as u32,
            step,
            steps: 50,
            loss,
            learning_rate,
            gradient_norm,
            rate: gradient_norm,
        },
    );
    let sample = (count(), 0u32..70, number(), any::<Option<bool>>(), any::<Option<bool>>(), text()).prop_map(
        |(row, sample, p, answer, label, text)| Event::ReasoningSample {
            row,
            sample,
            p,
            answer,
            tokens: sample.wrapping_mul(97),
            finished: label.is_some(),
            text,
            label,
            hint: Some(p),
            set: None,
            yes_no_mass: Some(p),
        },
    );
    let merged = (count(), number(), number(), number(), any::<Option<bool>>()).prop_map(|(row, a, b, p, label)| {
        Event::MergeResult {
            row,
            mean_reasoning: a,
            var_reasoning: b,
            mean_tuned: p,
            var_tuned: a,
            share_reasoning: b,
            p,
            label,
        }
    });
    let retrieval =
        (count(), item(), prop::collection::vec((item(), any::<u32>()), 0..150)).prop_map(|(row, target, items)| {
            let history = items
                .into_iter()
                .map(|(item, n)| HistoryItem {
                    item,
                    position: n,
                    shown: n.is_multiple_of(3).then_some(n),
                    retrieved: n.is_multiple_of(2).then_some(n),
                    ..HistoryItem::default()
                })
                .collect();
            Event::RetrievalExample { row, target, label: None, embedding: "mix3".into(), history }
        });
    let system = (prop::collection::vec(any::<f32>(), 0..40), count(), number()).prop_map(|(cores, n, x)| {
        let gpu = Gpu { name: "G".into(), utilisation: Some(x), power: Some(x), ..Gpu::default() };
        Event::System {
            cores,
            process: None,
            memory_used: n,
            memory_total: n,
            disk_free: None,
            disk_total: None,
            run_bytes: None,
            gpus: Some(vec![gpu; 3]),
        }
    });
    prop_oneof![
        4 => step,
        6 => sample,
        3 => merged,
        2 => (stage(), "[a-z]{1,4}").prop_map(|(stage, key)| Event::StageStarted { stage, key }),
        2 => (stage(), count(), count()).prop_map(|(stage, done, total)| Event::StageProgress {
            stage, done, total, unit: "rows".into() }),
        1 => (stage(), any::<bool>(), number()).prop_map(|(stage, cached, seconds)| Event::StageFinished {
            stage, key: "k".into(), cached, seconds, bytes: 1 }),
        2 => (stage(), "[a-z]{1,3}", number(), any::<Option<u32>>()).prop_map(|(stage, name, value, epoch)|
            Event::Metric { stage, name, split: "valid".into(), value, epoch, best: true }),
        1 => (stage(), any::<u32>(), number(), number()).prop_map(|(stage, epoch, positive, negative)|
            Event::Similarity { stage, epoch, positive, negative }),
        1 => (count(), any::<u32>(), any::<bool>(), text()).prop_map(|(row, sample, start, text)|
            Event::TextChunk { row, sample, start, text }),
        1 => (number(), count(), count()).prop_map(|(seconds, prompts, tokens)| Event::PromptCost {
            how: if tokens % 2 == 0 { "plain" } else { "reasoning" }.into(), prompts, seconds, tokens }),
        1 => (number(), number(), 0u32..9, number()).prop_map(|(alpha, epsilon, samples, value)| Event::SweepCell {
            alpha, epsilon, samples, metric: "m".into(), value, chosen: false }),
        1 => ("[a-z]{1,2}", "[a-z]{1,2}", number()).prop_map(|(row, table, x)| Event::ResultRow {
            row, split: "test".into(), metrics: vec![("auc".into(), x, x, x)], table: Some(table), n: None,
            reference: None, against: vec![] }),
        1 => retrieval,
        1 => (count(), item(), text()).prop_map(|(row, target, prompt)| Event::PromptExample {
            row, set: "test".into(), label: None, target, hint: prompt.clone(), prompt }),
        1 => ("[a-z]{1,3}", count(), number()).prop_map(|(operator, calls, x)| Event::Operator {
            operator, device: "cpu".into(), calls, seconds: x, bytes: x, flops: x, ceiling_seconds: Some(x),
            shape: None }),
        1 => system,
        1 => (stage(), text()).prop_map(|(stage, what)| Event::Warning { stage, next: what.clone(), what }),
        1 => text().prop_map(|text| Event::Log { level: "info".into(), text }),
        1 => prop::collection::vec(stage(), 0..40).prop_map(|stages| Event::Plan { stages }),
        1 => Just(Event::RunStarted {
            recipe: "r".into(), device: "d".into(), program: "p".into(), resumed: true }),
        1 => prop::sample::select(vec!["done", "failed", "stopped"]).prop_map(|o| Event::RunFinished {
            outcome: o.into(), seconds: 1.0, message: String::new() }),
        1 => stage().prop_map(|stage| Event::Paused { stage }),
        1 => Just(Event::Unknown),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (event(), count(), prop_oneof![9 => Just(VERSION), 1 => any::<u32>()])
        .prop_map(|(event, t_ms, v)| Record { v, t_ms, event });
    prop::collection::vec(record, 0..200)
}

/// Everything that a pane may ask, none of which may panic.
fn ask_everything(view: &RunView) {
    for stage in &view.stages.list {
        let _ = (stage.rate(), stage.eta(), stage.share());
    }
    for training in view.training.0.values() {
        let _ = (training.loss.range(), training.loss.last(), training.loss.len());
    }
    let sampling = &view.sampling;
    let _ = (sampling.cost_ratio(), sampling.unparsed_share(), sampling.by_deviation.moving(500));
    let _ = sampling.by_length.moving(3);
    for prompt in view.prompts.iter() {
        let _ = (prompt.moments(), prompt.verdict(), prompt.mean_tokens());
    }
    for model in [&view.merge.tuned, &view.merge.reasoning, &view.merge.merged] {
        let _ = (model.accuracy(), model.log_loss(), model.reliability.points(), model.reliability.ece());
    }
    for operator in view.operators.by_time() {
        let _ = (operator.gb_s(), operator.tflop_s(), operator.of_ceiling(), operator.intensity());
    }
    for example in &view.retrieval.examples {
        let _ = (example.retrieved(), example.shown());
    }
    // What `--json` prints.
    serde_json::to_string(view).expect("serialises");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sequence_of_records_makes_it_panic_or_grow(list in records()) {
        let mut view = RunView::new();
        for record in &list {
            view.apply(record);
        }
        ask_everything(&view);
        prop_assert!(view.footprint() <= MOST_BYTES, "{} bytes", view.footprint());
        prop_assert_eq!(view.records, list.len() as u64);
    }

    /// Through a file that is read in pieces, and one by one.
    #[test]
    fn it_does_not_matter_how_the_records_come(list in records(), cut in any::<prop::sample::Index>()) {
        let lines: Vec<String> = list.iter().map(|r| r.to_line().unwrap()).collect();
        // As the file has them: numbers that JSON cannot hold are none.
        let mut one_by_one = RunView::new();
        for line in &lines {
            one_by_one.apply(&Record::parse(line.trim_end()).unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let bytes = lines.concat().into_bytes();
        let at = cut.index(bytes.len() + 1);
        let (mut tail, mut view) = (Tail::new(&path), RunView::new());
        for part in [&bytes[..at], &bytes[..]] {
            std::fs::write(&path, part).unwrap();
            while tail.poll(|item| if let Item::Record(r) = item { view.apply(&r) }).more {}
        }
        prop_assert_eq!(format!("{view:?}"), format!("{one_by_one:?}"));
    }
}

/// Titles so long that the line would be beyond what a reader takes: nothing is lost, wherever the
/// file is cut.
#[test]
fn a_record_with_huge_titles_comes_through() {
    let item = ItemName { id: "7".into(), title: "\u{20ac}uro ".repeat(12_000), genres: vec![] };
    let history = vec![HistoryItem { item: item.clone(), ..HistoryItem::default() }; 30];
    let event = Event::RetrievalExample { row: 3, target: item, label: None, embedding: "mix3".into(), history };
    let record = Record { v: VERSION, t_ms: 1, event };
    assert!(serde_json::to_string(&record).unwrap().len() > rallrec_events::LONGEST);
    let line = record.to_line().unwrap();
    for cut in (0..20).chain(line.len() - 20..=line.len()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (mut tail, mut view) = (Tail::new(&path), RunView::new());
        for part in [&line.as_bytes()[..cut], line.as_bytes()] {
            std::fs::write(&path, part).unwrap();
            while tail
                .poll(|item| {
                    if let Item::Record(r) = item {
                        view.apply(&r)
                    }
                })
                .more
            {}
        }
        assert_eq!((view.records, tail.counts().damaged, tail.has_torn_end()), (1, 0, false), "cut at {cut}");
        assert_eq!(view.retrieval.get(3).map(|e| e.history.len()), Some(30), "cut at {cut}");
    }
}

/// The worst that each list can be filled with, many times over.
#[test]
fn a_flood_stays_within_the_bound() {
    let long = "\u{e4}".repeat(6000);
    let mut view = RunView::new();
    let mut apply = |event| view.apply(&Record { v: VERSION, t_ms: 5, event });
    let target = ItemName { id: long.clone(), title: long.clone(), genres: vec![long.clone(); 20] };
    for n in 0..3000u64 {
        let row = n;
        apply(Event::PromptExample {
            row,
            set: "test".into(),
            label: Some(true),
            target: target.clone(),
            prompt: long.clone(),
            hint: long.clone(),
        });
        for sample in 0..70 {
            apply(Event::ReasoningSample {
                row,
                sample,
                p: 0.5,
                answer: None,
                tokens: 3,
                finished: true,
                text: long.clone(),
                label: None,
                hint: None,
                set: None,
                yes_no_mass: None,
            });
        }
        let history = vec![HistoryItem { item: target.clone(), shown: Some(1), ..HistoryItem::default() }; 20];
        apply(Event::RetrievalExample { row, target: target.clone(), label: None, embedding: long.clone(), history });
        apply(Event::Log { level: long.clone(), text: long.clone() });
        apply(Event::Warning { stage: format!("s{n}"), what: format!("{n}{long}"), next: long.clone() });
        apply(Event::TextChunk { row: 1, sample: 1, start: false, text: long.clone() });
        for (metric, stage) in [("a", n % 50), ("b", n % 40)] {
            apply(Event::Metric {
                stage: format!("t{stage}"),
                name: format!("{metric}{}", n % 30),
                split: "v".into(),
                value: 1.0,
                epoch: Some(n as u32),
                best: false,
            });
        }
        apply(Event::Operator {
            operator: format!("o{}", n % 500),
            device: "cpu".into(),
            calls: u64::MAX,
            seconds: 1.0,
            bytes: 1.0,
            flops: 1.0,
            ceiling_seconds: None,
            shape: Some(long.clone()),
        });
    }
    let held = view.footprint();
    assert!(held <= MOST_BYTES, "{held} bytes");
    // The bound is not a formality: the flood fills a good part of it.
    assert!(held > MOST_BYTES / 8, "{held} bytes");
}
