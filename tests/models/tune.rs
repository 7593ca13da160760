//! The training loop on a tiny model: it learns, accumulates, stops, resumes bit for bit, and
//! refuses bad input.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rallrec::device::{Device, KernelDevice};
use rallrec::events::Event;
use rallrec::models::decoder::train::{Branch, Engine, Group, Model, Packed, Parameters};
use rallrec::models::decoder::{Config, Family, Weights};
use rallrec::models::lora::{Adapter, Target};
use rallrec::models::soft_prompt::{Inputs, Projector, SoftSettings, mean_norm};
use rallrec::settings::Schedule;
use rallrec::store::fixture;
use rallrec::tensor::Dtype;
use rallrec::tune::{Evaluator, LoraSettings, Outcome, SoftAdapter, SoftInputs, Training, TuneOutcome, mean_loss};
use rallrec::{Kind, Matrix, Monitor, Result, Silent};

/// Stops after a number of steps.
struct StopAfter {
    steps: u64,
    seen: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl StopAfter {
    fn new(steps: u64) -> Self {
        Self { steps, seen: AtomicU64::new(0), events: Mutex::default() }
    }
}

impl Monitor for StopAfter {
    fn emit(&self, event: Event) {
        if matches!(event, Event::TrainStep { .. }) {
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
        self.events.lock().unwrap().push(event);
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.steps
    }
    fn stage(&self) -> &str {
        "tune"
    }
}

fn groups(n: u32) -> Vec<Group> {
    (0..n)
        .map(|u| {
            let line = |k: u32, salt: u32| (0..k).map(|i| 5 + (i * 3 + u * 7 + salt) % 40).collect::<Vec<u32>>();
            // The answer follows from the token before it: learnable.
            let branch = |i: u32| {
                let mut tokens = line(4 + i, i);
                tokens.push(if tokens[3].is_multiple_of(2) { 3 } else { 4 });
                Branch { targets: tokens.len() - 1..tokens.len(), tokens, weight: 1.0 }
            };
            Group { prefix: line(6 + u % 3, 9), branches: (0..1 + u % 3).map(branch).collect() }
        })
        .collect()
}

fn settings() -> LoraSettings {
    LoraSettings {
        rank: 4,
        targets: Target::ALL.to_vec(),
        learning_rate: 5e-3,
        batch: 4,
        micro_tokens: 40,
        epochs: 3,
        dropout: 0.1,
        checkpoint_seconds: 0.0,
        ..LoraSettings::default()
    }
}

fn base() -> (Config, Weights) {
    let config = fixture::config(Family::QWEN3);
    let weights = fixture::weights(&config, 3, Dtype::Bf16).unwrap();
    (config, weights)
}

fn flat(a: &Adapter) -> Vec<u32> {
    let mut out = Vec::new();
    a.clone().visit_mut(&mut |_, v| out.extend(v.iter().map(|x| x.to_bits()))).unwrap();
    out
}

fn tune(s: &LoraSettings, folder: Option<&std::path::Path>, monitor: &dyn Monitor) -> Result<TuneOutcome> {
    let (config, weights) = base();
    let adapter = Adapter::init(&config, s.rank, s.alpha, &s.targets, s.seed)?;
    let valid = groups(5);
    let mut engine = Engine::cpu()?;
    let mut run = |a: &Adapter| {
        mean_loss(
            &mut engine,
            Model { config: &config, weights: &weights, adapter: Some(a), soft: None },
            &valid,
            64,
            &Silent,
        )
    };
    let evaluator = Evaluator { name: "loss", higher_is_better: false, run: &mut run };
    let examples = groups(14);
    let training = Training { checkpoint: folder, ..Training::new(&config, &examples, s, monitor) };
    training.adapter(&weights, adapter, Some(evaluator))
}

#[test]
fn training_lowers_the_loss_and_reports_every_step() {
    let monitor = StopAfter::new(u64::MAX);
    let s = LoraSettings { epochs: 8, dropout: 0.0, ..settings() };
    let done = tune(&s, None, &monitor).unwrap();
    let steps = &done.history.steps;
    assert_eq!(steps.len(), 32);
    assert!(steps[31].loss <= 0.5 * steps[0].loss, "{} to {}", steps[0].loss, steps[31].loss);
    assert_eq!(done.history.evaluations.len(), 8);
    let events = monitor.events.lock().unwrap();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::TrainStep { .. })).count(), 32);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Metric { .. })).count(), 8);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    let whole = tune(&settings(), None, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for steps in [2, 3, 4] {
        let error = tune(&settings(), Some(folder.path()), &StopAfter::new(steps)).unwrap_err();
        assert_eq!(error.kind(), Kind::Stopped);
    }
    let resumed = tune(&settings(), Some(folder.path()), &Silent).unwrap();
    assert_eq!(resumed.history, whole.history);
    assert_eq!(flat(&resumed.best), flat(&whole.best));
    let again = tune(&settings(), Some(folder.path()), &StopAfter::new(0)).unwrap();
    assert_eq!(flat(&again.best), flat(&whole.best), "a finished run is not computed again");
}

#[test]
fn accumulation_equals_one_big_batch() {
    let run =
        |micro_tokens| tune(&LoraSettings { micro_tokens, batch: 14, epochs: 1, ..settings() }, None, &Silent).unwrap();
    let (small, big) = (run(1), run(100_000));
    let (a, b) = (small.history.steps[0], big.history.steps[0]);
    assert!((a.loss - b.loss).abs() <= 1e-5, "{} {}", a.loss, b.loss);
    assert!((a.gradient_norm - b.gradient_norm).abs() <= 1e-4 * b.gradient_norm);
}

#[test]
fn patience_ends_training_and_the_best_adapter_is_kept() {
    let (config, weights) = base();
    let s = LoraSettings { epochs: 20, early_stop_patience: 2, ..settings() };
    let adapter = Adapter::init(&config, s.rank, s.alpha, &s.targets, 1).unwrap();
    let values = [0.5, 0.7, 0.6, 0.65, 0.9];
    let mut seen: Vec<Vec<u32>> = Vec::new();
    let mut run = |a: &Adapter| {
        seen.push(flat(a));
        Ok(values[seen.len() - 1])
    };
    let evaluator = Evaluator { name: "auc", higher_is_better: true, run: &mut run };
    let examples = groups(8);
    let training = Training::new(&config, &examples, &s, &Silent);
    let done = training.adapter(&weights, adapter, Some(evaluator)).unwrap();
    assert!(done.stopped_early);
    assert_eq!(done.history.evaluations.len(), 4, "two evaluations after the best");
    assert_eq!(flat(&done.best), seen[1]);
}

#[test]
fn a_small_model_learns_from_scratch() {
    let config = fixture::config(Family::LLAMA);
    let weights = Weights::init(&config, 1).unwrap();
    let s = LoraSettings { epochs: 12, learning_rate: 3e-3, schedule: Schedule::Constant, ..settings() };
    let examples = groups(14);
    let done = Training::new(&config, &examples, &s, &Silent).all_weights(weights, None).unwrap();
    let (first, last) = (done.history.steps[0].loss, done.history.steps.last().unwrap().loss);
    assert!(last <= 0.3 * first, "{first} to {last}");
}

#[test]
fn bad_input_is_refused_with_a_next_step() {
    let (config, weights) = base();
    let adapter = || Adapter::init(&config, 2, 4.0, &[Target::QProj], 1).unwrap();
    let go = |groups: Vec<Group>, s: &LoraSettings| {
        let training = Training::new(&config, &groups, s, &Silent);
        training.adapter(&weights, adapter(), None).map(|_| ()).unwrap_err()
    };
    let s = settings();
    assert_eq!(go(vec![], &s).kind(), Kind::Input);
    for (tokens, targets) in [
        (vec![1, 2], 0..1),
        (vec![1, 2], 1..3),
        (vec![1, 2], 1..1),
        (vec![u32::MAX, 2], 1..2),
        (vec![1; config.context + 1], 1..2),
    ] {
        let error = go(vec![Group::plain(tokens, targets)], &s);
        assert_eq!(error.kind(), Kind::Input, "{error}");
        assert!(error.place().contains("example 0"), "{error}");
    }
    let mut heavy = Group::plain(vec![1, 2], 1..2);
    heavy.branches[0].weight = f32::NAN;
    assert_eq!(go(vec![heavy], &s).kind(), Kind::Input);
    let bad = LoraSettings { dropout: 1.0, ..settings() };
    assert_eq!(go(groups(2), &bad).kind(), Kind::Usage);
    // The first step is finite, since B is zero; behind it gate and up are so large that their
    // product is not.
    let wild =
        LoraSettings { learning_rate: 1000.0, clip: 0.0, epochs: 20, schedule: Schedule::Constant, ..settings() };
    let mut far = Adapter::init(&config, 2, 4.0, &[Target::GateProj, Target::UpProj], 1).unwrap();
    far.pairs.iter_mut().flatten().for_each(|pair| pair.a.fill(1e17));
    let examples = groups(8);
    let error = Training::new(&config, &examples, &wild, &Silent).adapter(&weights, far, None).map(drop).unwrap_err();
    assert!(error.next_step().contains("learning_rate"), "{error}");
    let bad = Adapter { rank: 3, ..adapter() };
    let examples = groups(2);
    let training = Training::new(&config, &examples, &s, &Silent);
    assert!(training.adapter(&weights, bad, None).is_err());
    let host = Device::Kernels(KernelDevice::host(0));
    let all = Training { device: &host, ..training }.all_weights(weights.clone(), None).map(|_| ()).unwrap_err();
    assert!(all.to_string().contains("adapters alone"), "{all}");
    assert!(Adapter::init(&config, 0, 1.0, &[Target::QProj], 1).is_err());
    assert!(Adapter::init(&config, 1, 1.0, &[Target::QProj, Target::QProj], 1).is_err());
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    tune(&settings(), Some(folder.path()), &StopAfter::new(1)).unwrap_err();
    let file = folder.path().join("checkpoint.safetensors");
    let other = LoraSettings { seed: 1, ..settings() };
    let error = tune(&other, Some(folder.path()), &Silent).unwrap_err();
    assert!(error.next_step().contains("remove"), "{error}");
    let bytes = std::fs::read(&file).unwrap();
    for cut in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let error = tune(&settings(), Some(folder.path()), &Silent).unwrap_err();
        assert_eq!(error.kind(), Kind::Input, "{error}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
}

/// Examples whose answer stands in a soft token alone: everything else is the same.
fn soft_groups(n: u32) -> (Vec<Group>, Inputs) {
    let vocab = base().0.vocab as u32;
    let group = |u: u32| {
        let branch = |i: u32| {
            let item = (u * 5 + i * 3) % 12;
            let tokens = vec![7, vocab + item, 8, if item.is_multiple_of(2) { 3 } else { 4 }];
            Branch { targets: 3..4, tokens, weight: 1.0 }
        };
        Group { prefix: vec![20, vocab + 12 + u % 2, 21], branches: (0..1 + u % 3).map(branch).collect() }
    };
    // The side is the sign of one of four coordinates.
    let row = |i: u32| {
        let side = if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        [(i % 5) as f32 - 2.0, side * (1.0 + (i % 3) as f32 / 4.0), (i % 7) as f32 - 3.0, 0.5]
    };
    let x = Matrix::from_vec(14, 4, (0..14).flat_map(row).collect()).unwrap();
    ((0..n).map(group).collect(), Inputs::new((vocab..vocab + 14).collect(), x).unwrap())
}

fn tune_soft(
    s: &LoraSettings,
    rate: f64,
    folder: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Outcome<SoftAdapter>> {
    let (config, weights) = base();
    let (groups, inputs) = soft_groups(14);
    let adapter = Adapter::init(&config, s.rank, s.alpha, &s.targets, s.seed)?;
    let soft = SoftSettings { hidden: 8, ..SoftSettings::default() };
    let projector = Projector::init(&soft, inputs.matrix(), config.hidden, mean_norm(&weights.embed), s.seed)?;
    let mut engine = Engine::cpu()?;
    let mut run = |p: &SoftAdapter| {
        let tokens = p.projector.tokens(&inputs)?;
        let model = Model { config: &config, weights: &weights, adapter: Some(&p.adapter), soft: Some(&tokens) };
        engine.loss(model, &Packed::of(&groups[..5]))
    };
    let evaluator = Some(Evaluator { name: "loss", higher_is_better: false, run: &mut run });
    let start = SoftAdapter { adapter, projector };
    let training = Training { checkpoint: folder, ..Training::new(&config, &groups, s, monitor) };
    training.soft_adapter(&weights, start, SoftInputs { inputs: &inputs, learning_rate: rate }, evaluator)
}

fn flat_soft(p: &SoftAdapter) -> Vec<u32> {
    let mut out = Vec::new();
    p.clone().visit_mut(&mut |_, v| out.extend(v.iter().map(|x| x.to_bits()))).unwrap();
    out
}

#[test]
fn the_projector_learns_what_only_the_embeddings_say() {
    // With the adapter held still, the projector alone must learn.
    let s = LoraSettings { epochs: 30, dropout: 0.0, learning_rate: 1e-12, schedule: Schedule::Constant, ..settings() };
    let done = tune_soft(&s, 1e-2, None, &Silent).unwrap();
    let (first, last) = (done.history.steps[0].loss, done.history.steps.last().unwrap().loss);
    assert!(last <= 0.3 * first, "{first} to {last}");
    let still = tune_soft(&s, 1e-12, None, &Silent).unwrap();
    assert!(still.history.steps.last().unwrap().loss > 0.6 * first, "the learning rate is the projector's own");
}

#[test]
fn a_resumed_run_with_soft_tokens_equals_an_uninterrupted_one_bit_for_bit() {
    let s = LoraSettings { first_layer: 1, weight_decay: 0.01, ..settings() };
    let whole = tune_soft(&s, 2e-3, None, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for steps in [2, 3, 4] {
        let error = tune_soft(&s, 2e-3, Some(folder.path()), &StopAfter::new(steps)).unwrap_err();
        assert_eq!(error.kind(), Kind::Stopped);
    }
    let other = tune_soft(&s, 3e-3, Some(folder.path()), &Silent).unwrap_err();
    assert!(other.to_string().contains("another"), "{other}");
    let resumed = tune_soft(&s, 2e-3, Some(folder.path()), &Silent).unwrap();
    assert_eq!(resumed.history, whole.history);
    assert_eq!(flat_soft(&resumed.best), flat_soft(&whole.best));
    // Layers below the first trained one are as they were.
    let (config, _) = base();
    let fresh = Adapter::init(&config, s.rank, s.alpha, &s.targets, s.seed).unwrap();
    assert_eq!(whole.best.adapter.pairs[0], fresh.pairs[0]);
    assert_ne!(whole.best.adapter.pairs[1], fresh.pairs[1]);
}
