//! Training by launches against training on the CPU: losses and gradients of ragged batches, and
//! whole short runs.

use proptest::prelude::*;
use rallrec::device::{Device, KernelDevice};
use rallrec::models::decoder::train::{
    Branch, Engine, Group, Model, Packed, Parameters, Pass as OnePass, StepDropout, Trained,
};
use rallrec::models::decoder::{Arithmetic, Config, Family, SoftTokens, Weights};
use rallrec::models::lora::{Adapter, Target};
use rallrec::models::soft_prompt::{Inputs, Projector, SoftSettings, mean_norm};
use rallrec::ops::rope::Scaling;
use rallrec::rng::{Rng, Use};
use rallrec::store::fixture;
use rallrec::tensor::Dtype;
use rallrec::tune::{LoraSettings, SoftAdapter, SoftInputs, Training, TuneOutcome};
use rallrec::{Kind, Matrix, Monitor, Silent};

use super::common::{cases, devices, families};

/// Widths that no tile divides, a vocabulary of more than one tile, three layers.
fn base(family: &'static Family) -> (Config, Weights) {
    let config = Config {
        vocab: 70,
        hidden: 24,
        intermediate: 40,
        layers: 3,
        rope_theta: 100.0,
        rope_scaling: (family == Family::LLAMA).then_some(Scaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 32,
        }),
        ..fixture::config(family)
    };
    let weights = fixture::weights(&config, 9, Dtype::F32).unwrap();
    (config, weights)
}

fn adapter(config: &Config, targets: &[Target], rank: usize) -> Adapter {
    let mut a = Adapter::init(config, rank, 2.0 * rank as f64, targets, 5).unwrap();
    let mut rng = Rng::new(13, Use::Synthetic, 0, 0);
    a.pairs.iter_mut().flatten().for_each(|p| p.b.iter_mut().for_each(|b| *b = rng.normal() * 0.3));
    a
}

/// Groups with and without a prefix; branches whose token 0 is a target, so that targets share a
/// row; now and then one that is longer than a tile of queries.
fn groups(n: usize, seed: u64, soft: &[u32]) -> Vec<Group> {
    let mut rng = Rng::new(seed, Use::Synthetic, 3, 0);
    let tokens = |rng: &mut Rng, n: usize| -> Vec<u32> {
        let mut token = || {
            if !soft.is_empty() && rng.below(5) == 0 {
                soft[rng.below(soft.len() as u32) as usize]
            } else {
                rng.below(70)
            }
        };
        (0..n).map(|_| token()).collect()
    };
    let mut group = || {
        let prefix = if rng.below(4) == 0 { 0 } else { 1 + rng.below(40) as usize };
        let prefix = tokens(&mut rng, prefix);
        let branches = 1 + rng.below(3);
        let branch = |_| {
            let longest = if rng.below(4) == 0 { 40 } else { 6 };
            let len = 2 + rng.below(longest) as usize;
            let mut tokens = tokens(&mut rng, len);
            let first =
                if rng.below(2) == 0 && !prefix.is_empty() { 0 } else { 1 + rng.below(len as u32 - 1) as usize };
            let targets = first..first + 1 + rng.below((len - first) as u32) as usize;
            // Targets are in the vocabulary.
            tokens[targets.clone()].iter_mut().for_each(|t| *t %= 70);
            Branch { tokens, targets, weight: 0.5 + rng.uniform() }
        };
        let branches = (0..branches).map(branch).collect();
        Group { prefix, branches }
    };
    (0..n).map(|_| group()).collect()
}

/// Loss, gradient and, where the batch has soft tokens, theirs; added to what was there.
struct Pass<'a> {
    model: Model<'a>,
    batch: &'a Packed,
    trained: Trained,
    dropout: Option<StepDropout>,
}

impl Pass<'_> {
    fn run(&self, engine: &mut Engine) -> (f64, Vec<f32>, Vec<f32>) {
        let count = self.model.adapter.unwrap().clone().count().unwrap();
        let (mut g, mut by_soft) = (vec![0.125; count], vec![0.125; self.model.soft.map_or(0, SoftTokens::values)]);
        let by = self.model.soft.is_some().then_some(by_soft.as_mut_slice());
        let Self { model, batch, trained, dropout } = *self;
        let loss = engine.gradient(&OnePass { model, batch, trained, dropout, scale: 0.25 }, &mut g, by).unwrap();
        (loss, g, by_soft)
    }

    /// Every tensor's gradient within 2e-5 of the CPU's, relative to the tensor's largest (at least
    /// 1e-3).
    fn compare(&self, device: &KernelDevice) -> Result<(), TestCaseError> {
        let mut cpu = Engine::cpu().unwrap();
        let (loss, g, by_soft) = self.run(&mut cpu);
        let device = Device::Kernels(device.clone());
        let mut engine = Engine::on(&device, self.model.config, self.model.weights, Arithmetic::F32).unwrap();
        let (got, want) = [&mut engine, &mut cpu].map(|e| e.loss(self.model, self.batch).unwrap()).into();
        prop_assert!((got - want).abs() <= 1e-6 * want.abs(), "loss without dropout {got} and not {want}");
        let got = self.run(&mut engine);
        prop_assert!((got.0 - loss).abs() <= 1e-6 * loss.abs(), "loss {} and not {loss}", got.0);
        let mut tensors = Vec::new();
        self.model.adapter.unwrap().clone().visit_mut(&mut |n, v| tensors.push((n.to_string(), v.len()))).unwrap();
        let mut at = 0;
        for (name, len) in tensors {
            near(&name, &got.1[at..at + len], &g[at..at + len])?;
            at += len;
        }
        near("soft tokens", &got.2, &by_soft)?;
        // Threads and blocks in another order, the adapter already there.
        prop_assert!(self.run(&mut engine) == got, "two runs differ");
        Ok(())
    }
}

fn near(name: &str, got: &[f32], want: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    // Both began at 0.125.
    let largest = want.iter().fold(1e-3f32, |m, v| m.max((v - 0.125).abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        prop_assert!((g - w).abs() <= 2e-5 * largest + 1.5e-8, "{name} [{i}]: {g} and not {w}, largest {largest}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(6))]
    #[test]
    fn losses_and_gradients_are_those_of_the_cpu(
        family in prop::sample::select(families().collect::<Vec<_>>()), all: bool, rank in 1usize..5, first_layer in 0usize..3, dropped: bool, n in 1usize..4,
        seed in 0u64..1_000_000,
    ) {
        let (config, weights) = base(family);
        let targets: &[Target] = if all { &Target::ALL } else { &[Target::QProj, Target::VProj] };
        let adapter = adapter(&config, targets, rank);
        let model = Model { config: &config, weights: &weights, adapter: Some(&adapter), soft: None };
        let batch = Packed::of(&groups(n, seed, &[]));
        let dropout = dropped.then_some(StepDropout { p: 0.3, seed, step: 7 });
        let pass = Pass { model, batch: &batch, trained: Trained::Adapter { first_layer }, dropout };
        for device in devices(seed) {
            pass.compare(&device)?;
        }
    }
}

#[test]
fn every_family_with_all_targets_shared_rows_and_dropout() {
    for (i, family) in families().enumerate() {
        let (config, weights) = base(family);
        let adapter = adapter(&config, &Target::ALL, 3);
        let model = Model { config: &config, weights: &weights, adapter: Some(&adapter), soft: None };
        // Token 0 of two branches is a target, which the last row of the prefix predicts for both.
        let branch = |tokens: &[u32], targets, weight| Branch { tokens: tokens.to_vec(), targets, weight };
        let shared = Group {
            prefix: (0..35).map(|t| t * 3 % 70).collect(),
            branches: vec![branch(&[4, 5, 6], 0..2, 1.0), branch(&[7], 0..1, 0.5), branch(&[8, 9, 3, 1], 2..4, 2.0)],
        };
        let batch = Packed::of(&[shared, Group::plain(vec![1, 2, 3, 4, 5], 2..5), Group::plain(vec![6, 7], 1..2)]);
        let dropout = (i > 0).then_some(StepDropout { p: 0.2, seed: 3, step: 1 });
        let pass = Pass { model, batch: &batch, trained: Trained::Adapter { first_layer: 0 }, dropout };
        for device in devices(i as u64) {
            pass.compare(&device).unwrap();
        }
    }
}

#[test]
fn soft_tokens_get_their_gradient_through_layers_that_are_not_trained() {
    let (config, weights) = base(Family::QWEN2);
    let adapter = adapter(&config, &[Target::KProj, Target::UpProj], 2);
    let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
    let ids = [71, 75, 90];
    let vectors = (0..3 * config.hidden).map(|_| rng.normal()).collect();
    let soft = SoftTokens::new(ids.to_vec(), Matrix::from_vec(3, config.hidden, vectors).unwrap()).unwrap();
    let model = Model { config: &config, weights: &weights, adapter: Some(&adapter), soft: Some(&soft) };
    let batch = Packed::of(&groups(3, 21, &ids));
    assert!(batch.tokens.iter().any(|t| ids.contains(t)));
    for first_layer in [0, 2] {
        let dropout = Some(StepDropout { p: 0.1, seed: 5, step: 2 });
        let pass = Pass { model, batch: &batch, trained: Trained::Adapter { first_layer }, dropout };
        for device in devices(3) {
            pass.compare(&device).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_trained_on_a_device_is_refused() {
    let (config, weights) = base(Family::LLAMA);
    let mut engine = Engine::on(&Device::Kernels(KernelDevice::host(0)), &config, &weights, Arithmetic::F32).unwrap();
    let pair = adapter(&config, &[Target::QProj], 2);
    let mut wrong = |model: Model<'_>, batch: &Packed, trained, n: usize| {
        let pass = OnePass { model, batch, trained, dropout: None, scale: 1.0 };
        engine.gradient(&pass, &mut vec![0.0; n], None).unwrap_err().to_string()
    };
    let plain = Model { config: &config, weights: &weights, adapter: None, soft: None };
    let with = Model { adapter: Some(&pair), ..plain };
    let batch = Packed::of(&[Group::plain(vec![1, 2, 3], 2..3)]);
    let adapters = Trained::Adapter { first_layer: 0 };
    assert!(wrong(plain, &batch, Trained::All, 9).contains("adapters alone"));
    assert!(wrong(plain, &batch, adapters, 9).contains("adapters alone"));
    assert!(wrong(with, &batch, adapters, 9).contains("9 values"));
    assert!(wrong(with, &Packed::of(&[Group::plain(vec![1, 99, 3], 2..3)]), adapters, 9).contains("99"));
    assert!(wrong(with, &Packed::default(), adapters, 9).contains("has no target"));
    let (other, _) = base(Family::QWEN2);
    assert!(wrong(Model { config: &other, ..with }, &batch, adapters, 3 * 2 * (24 + 32)).contains("another"));
}

fn settings() -> LoraSettings {
    LoraSettings {
        rank: 2,
        targets: vec![Target::QProj, Target::VProj, Target::GateProj, Target::DownProj],
        learning_rate: 2e-3,
        dropout: 0.1,
        first_layer: 1,
        batch: 3,
        micro_tokens: 60,
        epochs: 2,
        weight_decay: 0.01,
        checkpoint_seconds: 0.0,
        ..LoraSettings::default()
    }
}

fn flat(p: &(impl Parameters + Clone)) -> Vec<f32> {
    let mut out = Vec::new();
    p.clone().visit_mut(&mut |_, v| out.extend_from_slice(v)).unwrap();
    out
}

fn bits(p: &(impl Parameters + Clone)) -> Vec<u32> {
    flat(p).iter().map(|v| v.to_bits()).collect()
}

/// Largest distance, and largest distance of `want` from where both began. A NaN is infinitely far.
fn apart(got: &[f32], want: &[f32], start: &[f32]) -> (f32, f32) {
    let far = |a: &[f32], b: &[f32]| {
        let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        each.fold(0.0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
    };
    assert!(got.len() == want.len() && want.len() == start.len());
    (far(got, want), far(want, start))
}

/// Stops after the second step.
struct Stopping(std::sync::atomic::AtomicU64);

impl Monitor for Stopping {
    fn emit(&self, event: rallrec::events::Event) {
        if matches!(event, rallrec::events::Event::TrainStep { .. }) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed) >= 2
    }
    fn stage(&self) -> &str {
        "tune"
    }
}

#[test]
fn a_short_training_gives_the_adapter_of_the_cpu_and_resumes_bit_for_bit() {
    let (config, weights) = base(Family::QWEN3);
    let (s, examples) = (settings(), groups(7, 40, &[]));
    let start = Adapter::init(&config, s.rank, s.alpha, &s.targets, s.seed).unwrap();
    let on_cpu = Training::new(&config, &examples, &s, &Silent);
    let want = on_cpu.adapter(&weights, start.clone(), None).unwrap();
    assert_eq!(want.history.steps.len(), 6);
    for device in devices(4) {
        let device = Device::Kernels(device);
        let run = |folder: Option<&std::path::Path>, monitor: &dyn Monitor| -> rallrec::Result<TuneOutcome> {
            let training = Training { device: &device, checkpoint: folder, monitor, ..on_cpu };
            training.adapter(&weights, start.clone(), None)
        };
        let got = run(None, &Silent).unwrap();
        for (got, want) in got.history.steps.iter().zip(&want.history.steps) {
            assert!((got.loss - want.loss).abs() <= 1e-5 * want.loss, "{got:?} and not {want:?}");
            let (g, w) = (got.gradient_norm, want.gradient_norm);
            assert!((g - w).abs() <= 1e-4 * w, "{got:?} and not {want:?}");
        }
        // Adam divides by the gradient's own size, so where that is rounding alone a step of any
        // sign is as good: 2 % of the way that the parameters went.
        let (apart, way) = apart(&flat(&got.best), &flat(&want.best), &flat(&start));
        assert!(way > 1e-3 && apart <= 0.02 * way, "{apart} apart after {way}");
        assert_eq!(got.best.pairs[0], start.pairs[0], "the lowest layer is not trained");
        let folder = tempfile::tempdir().unwrap();
        let stopped = run(Some(folder.path()), &Stopping(0.into())).unwrap_err();
        assert_eq!(stopped.kind(), Kind::Stopped);
        let resumed = run(Some(folder.path()), &Silent).unwrap();
        assert_eq!(resumed.history, got.history);
        assert_eq!(bits(&resumed.best), bits(&got.best));
    }
}

#[test]
fn a_short_training_with_soft_tokens_gives_adapter_and_projector_of_the_cpu() {
    let (config, weights) = base(Family::LLAMA);
    let s = LoraSettings { epochs: 1, ..settings() };
    let ids: Vec<u32> = (70..76).collect();
    let mut rng = Rng::new(8, Use::Synthetic, 0, 0);
    let x = Matrix::from_vec(6, 4, (0..24).map(|_| rng.normal()).collect()).unwrap();
    let (examples, inputs) = (groups(6, 30, &ids), Inputs::new(ids, x).unwrap());
    let adapter = Adapter::init(&config, s.rank, s.alpha, &s.targets, s.seed).unwrap();
    let soft = SoftSettings { hidden: 8, ..SoftSettings::default() };
    let projector = Projector::init(&soft, inputs.matrix(), config.hidden, mean_norm(&weights.embed), s.seed).unwrap();
    let start = SoftAdapter { adapter, projector };
    let with = SoftInputs { inputs: &inputs, learning_rate: 1e-3 };
    let on_cpu = Training::new(&config, &examples, &s, &Silent);
    let want = on_cpu.soft_adapter(&weights, start.clone(), with, None).unwrap();
    for device in devices(5) {
        let on = Device::Kernels(device);
        let got = Training { device: &on, ..on_cpu }.soft_adapter(&weights, start.clone(), with, None).unwrap();
        for (got, want) in got.history.steps.iter().zip(&want.history.steps) {
            assert!((got.loss - want.loss).abs() <= 1e-5 * want.loss, "{got:?} and not {want:?}");
        }
        let (apart, way) = apart(&flat(&got.best), &flat(&want.best), &flat(&start));
        assert!(way > 1e-3 && apart <= 0.02 * way, "{apart} apart after {way}");
    }
}
