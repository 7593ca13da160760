//! The decoder by launches against the decoder of the CPU: choices of ragged bundles, vectors of
//! texts, and the same sampled tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;
use rallrec::device::{Device, KernelDevice};
use rallrec::events::Event;
use rallrec::generate::scoring::{Bundle, score};
use rallrec::generate::{Finish, GenerateSettings, Listener, Pooling, Prompt, Sample, embed, generate};
use rallrec::models::decoder::model::Counts;
use rallrec::models::decoder::train::Engine;
use rallrec::models::decoder::{Arithmetic, Config, Family, Model, SoftTokens};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::monitor::{Monitor, Silent};
use rallrec::ops::linear::quantised::{Bits, Form, Quantised, Row};
use rallrec::ops::linear::{Storage, Weight};
use rallrec::rng::{Rng, Use};
use rallrec::store::fixture;
use rallrec::tensor::Dtype;
use rallrec::{Matrix, Result};

use super::common::{devices, families, one};

fn model(family: &'static Family) -> Model {
    let config = fixture::config(family);
    let weights = fixture::weights(&config, 7, Dtype::F32).unwrap();
    Model::new(config, weights).unwrap()
}

/// The model on a device with kernels.
fn on(device: &KernelDevice, model: &Model) -> Model {
    model.on(&Device::Kernels(device.clone())).unwrap()
}

/// On every target but one, with a B that is not zero.
fn adapter(model: &Model) -> Adapter {
    let (c, rank) = (model.config(), 3);
    let mut rng = Rng::new(2, Use::Synthetic, 0, 0);
    let targets = vec![Target::QProj, Target::KProj, Target::VProj, Target::OProj, Target::UpProj, Target::DownProj];
    let shape = |t: Target| match t {
        Target::QProj => (c.hidden, c.q_width()),
        Target::KProj | Target::VProj => (c.hidden, c.kv_width()),
        Target::OProj => (c.q_width(), c.hidden),
        Target::GateProj | Target::UpProj => (c.hidden, c.intermediate),
        Target::DownProj => (c.intermediate, c.hidden),
    };
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() * 0.2).collect() };
    let mut pairs = Vec::new();
    for _ in 0..c.layers {
        let of = |&t: &Target| {
            let (inp, out) = shape(t);
            Pair { a: draw(rank * inp), b: draw(out * rank) }
        };
        pairs.push(targets.iter().map(of).collect());
    }
    Adapter { rank, alpha: 6.0, dropout: 0.0, targets, pairs }
}

#[test]
fn choices_are_the_same_on_every_device() {
    for (i, family) in families().enumerate() {
        let adapted = i % 2 == 1;
        let plain = model(family);
        let with = if adapted { Some(adapter(&plain)) } else { None };
        let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
        let vectors = (0..2 * plain.config().hidden).map(|_| rng.normal()).collect();
        let vectors = Matrix::from_vec(2, plain.config().hidden, vectors).unwrap();
        let soft = SoftTokens::new(vec![264, 270], vectors).unwrap();
        let model = plain.with_adapter(with.as_ref()).unwrap().with_soft(Some(soft)).unwrap();
        let mut beginning: Vec<u32> = (0..21).map(|i| i * 5 % 200).collect();
        beginning[4] = 264;
        let tail = |tail: &[u32]| [&beginning[..], tail].concat();
        let bundles: Vec<Bundle> =
            vec![vec![tail(&[1, 270, 3]), tail(&[9]), tail(&[1, 7, 7, 7])], vec![vec![4, 5]], vec![vec![6]]];
        let want = score(&model, &bundles, [10, 11], 1000).unwrap();
        for device in devices(6) {
            let on_device = on(&device, &model);
            for pass in [30, 1000] {
                let got = score(&on_device, &bundles, [10, 11], pass).unwrap();
                assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
                for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                    // Logits of order 1 behind two layers in f32.
                    for (g, w) in got.logits.iter().zip(&want.logits) {
                        assert!((g - w).abs() <= 2e-5, "{family:?}: {g} and not {w}");
                    }
                    assert!((got.log_sum_exp - want.log_sum_exp).abs() <= 2e-5, "{got:?} and not {want:?}");
                }
            }
        }
    }
}

#[test]
fn soft_caps_are_refused_by_name_before_anything_is_copied() {
    let plain = model(Family::GEMMA2);
    let host = Device::Kernels(one(0));
    for (score_cap, logit_cap) in [(Some(5.0), None), (None, Some(5.0))] {
        let config = Config { score_cap, logit_cap, ..plain.config().clone() };
        let model = Model::new(config.clone(), plain.weights().clone()).unwrap();
        for error in [model.on(&host).map(drop), Engine::on(&host, &config, plain.weights(), Arithmetic::F32).map(drop)]
        {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("Gemma 2 has soft caps") && error.contains("CPU"), "{error}");
        }
    }
    // Without them the same layer runs there.
    let config = Config { score_cap: None, logit_cap: None, ..plain.config().clone() };
    let model = Model::new(config, plain.weights().clone()).unwrap();
    let bundles: Vec<Bundle> = vec![vec![(1..30).collect()]];
    let want = score(&model, &bundles, [10, 11], 1000).unwrap();
    let got = score(&model.on(&host).unwrap(), &bundles, [10, 11], 1000).unwrap();
    assert!((got[0][0].log_sum_exp - want[0][0].log_sum_exp).abs() <= 2e-5, "{got:?} and not {want:?}");
}

/// Hears everything, and counts the steps.
#[derive(Default)]
struct Ear {
    answers: Vec<Sample>,
    heard: BTreeMap<(u32, u32), Vec<u32>>,
}

impl Listener for Ear {
    fn token(&mut self, row: u32, sample: u32, token: u32) -> Result<()> {
        self.heard.entry((row, sample)).or_default().push(token);
        Ok(())
    }

    fn finished(&mut self, sample: Sample) -> Result<()> {
        self.answers.push(sample);
        Ok(())
    }
}

#[derive(Default)]
struct Steps(AtomicUsize);

impl Monitor for Steps {
    fn emit(&self, _: Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
    fn stage(&self) -> &str {
        "test"
    }
}

/// Answers in order, after what was heard of them was compared with them; and the number of steps.
fn answers(run: impl FnOnce(&dyn Monitor, &mut dyn Listener) -> Result<()>) -> (Vec<Sample>, usize) {
    let (mut ear, steps) = (Ear::default(), Steps::default());
    run(&steps, &mut ear).unwrap();
    let mut answers = ear.answers;
    answers.sort_by_key(|a| (a.row, a.sample));
    for answer in &answers {
        let heard = ear.heard.remove(&(answer.row, answer.sample)).unwrap_or_default();
        assert_eq!(heard, answer.tokens, "row {}, sample {}", answer.row, answer.sample);
    }
    assert!(ear.heard.is_empty(), "tokens of no answer: {:?}", ear.heard);
    (answers, steps.0.into_inner())
}

/// Prompts of one token, of several, and of more than attention takes in one piece; samples from
/// none to more than go together.
fn prompts() -> Vec<Prompt> {
    let tokens = |n: u32, by: u32| (0..n).map(|i| (by * i + 1) % 263).collect::<Vec<u32>>();
    vec![
        Prompt::new(4, tokens(19, 3), 5),
        Prompt { row: 9, tokens: vec![77, 5], samples: vec![6, 2] },
        Prompt::new(2, tokens(30, 7), 0),
        Prompt::new(1, tokens(270, 5), 4),
        Prompt::new(7, vec![60], 3),
        Prompt::new(5, tokens(19, 3), 1),
    ]
}

#[test]
fn sampled_tokens_are_those_of_the_cpu_and_do_not_depend_on_each_other() {
    // One prompt is four tokens shorter than the context.
    let plain = model(Family::LLAMA);
    let config = Config { context: 274, ..plain.config().clone() };
    let plain = Model::new(config, plain.weights().clone()).unwrap();
    let model = plain.with_adapter(Some(&adapter(&plain))).unwrap();
    let prompts = prompts();
    let settings = GenerateSettings {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.95,
        min_new_tokens: 2,
        max_new_tokens: 6,
        seed: 11,
        ends: Vec::new(),
        max_rows: 64,
    };
    // A quarter of the vocabulary ends an answer, so that some end early.
    let stop: Vec<u32> = (0..264).step_by(4).collect();
    let (want, _) = answers(|monitor, ear| generate(&model, &prompts, &stop, &settings, monitor, ear));
    assert_eq!(want.len(), 15);
    for finish in [Finish::Stop, Finish::Length, Finish::Context] {
        assert!(want.iter().any(|a| a.finish == finish), "no answer ends by {finish:?}");
    }
    assert!(want.iter().all(|a| a.tokens.len() >= 2) && want.iter().any(|a| a.tokens.len() == 6));
    for device in devices(12) {
        let upload = || on(&device, &model);
        let (on_device, one_by_one) = (upload().with_recording(true), upload().with_recording(false));
        let run_on = |on_device: &Model, max_rows: usize| {
            let settings = GenerateSettings { max_rows, ..settings.clone() };
            answers(|monitor, ear| generate(on_device, &prompts, &stop, &settings, monitor, ear))
        };
        let run = |max_rows: usize| run_on(&on_device, max_rows);
        let (got, steps) = run(64);
        assert_eq!(got, want);
        assert_eq!(steps, 7, "all prompts go together: a step a token, and one to see that nothing is left");
        assert_eq!(on_device.counts().reads, 1, "prompts that go together are read together");
        for max_rows in [1, 3] {
            let (got, steps) = run(max_rows);
            assert_eq!(got, want, "other tokens in rows of {max_rows}");
            let tokens: usize = want.iter().map(|a| a.tokens.len() + usize::from(a.finish == Finish::Stop)).sum();
            assert!(
                steps <= 7 + tokens.div_ceil(max_rows) + 6,
                "{steps} steps in rows of {max_rows}: places stay free"
            );
            assert_eq!(run_on(&one_by_one, max_rows), (got, steps));
        }
        let counts = on_device.counts();
        assert!(counts.recorded > 3 && counts.replayed > 3, "{counts:?}");
        assert_eq!(one_by_one.counts(), Counts { reads: counts.reads - 1, recorded: 0, replayed: 0 });
    }
}

#[test]
fn a_recorded_step_serves_answers_of_any_length_and_a_recording_makes_room_where_it_has_none() {
    let config = Config { layers: 1, ..fixture::config(Family::QWEN3) };
    let plain = Model::new(config.clone(), fixture::weights(&config, 7, Dtype::F32).unwrap()).unwrap();
    let model = plain.with_adapter(Some(&adapter(&plain))).unwrap();
    let tokens = |n: u32| (0..n).map(|i| (7 * i + 1) % 263).collect::<Vec<u32>>();
    let on_device = on(&one(4), &model).with_recording(true);
    let check = |prompts: &[Prompt], max_rows: usize, max_new_tokens: usize| {
        let settings = GenerateSettings { max_rows, max_new_tokens, ..GenerateSettings::default() };
        let (want, _) = answers(|monitor, ear| generate(&model, prompts, &[], &settings, monitor, ear));
        let (got, _) = answers(|monitor, ear| generate(&on_device, prompts, &[], &settings, monitor, ear));
        assert_eq!(got, want);
        (on_device.counts().recorded, on_device.counts().replayed)
    };
    // Attention takes 256 keys in one piece: an answer gets its second in the middle of a
    // recording.
    let counts = check(&[Prompt::new(3, tokens(2), 1)], 1, 260);
    assert_eq!(counts, (1, 257), "260 tokens: one of the prompt, one step to begin with");
    // Behind two prompts of one piece come two of three, for which the recording has no room.
    let lengths = [5, 5, 520, 520];
    let prompts: Vec<Prompt> = (0..4).map(|row| Prompt::new(row, tokens(lengths[row as usize]), 1)).collect();
    assert_eq!(check(&prompts, 2, 6), (1 + 2, 257 + 3 + 4));
}

#[test]
fn where_memory_is_short_fewer_answers_go_together() {
    let model = model(Family::LLAMA);
    let (prompts, settings) = (prompts(), GenerateSettings { max_new_tokens: 200, ..GenerateSettings::default() });
    let device = one(3);
    let on_device = on(&device, &model);
    let stop: Vec<u32> = (0..264).step_by(2).collect();
    let run = || answers(|monitor, ear| generate(&on_device, &prompts[1..2], &stop, &settings, monitor, ear));
    let (want, together) = run();
    // A token's keys and values take 256 bytes: two answers of 200 tokens do not fit into 90,000,
    // one does.
    let limit = device.memory_in_use().0 + 90_000;
    device.limit_memory(limit);
    let (got, one_by_one) = run();
    assert_eq!(got, want);
    assert!(one_by_one > together, "{one_by_one} steps and {together}");
    device.limit_memory(0);
    let heard = &mut Vec::<Sample>::new();
    let refused = generate(&on_device, &prompts, &stop, &settings, &Silent, heard).unwrap_err().to_string();
    assert!(refused.contains("asked for keys and values"), "{refused}");
}

/// Answers grow past the window while they are written on, in replayed steps too.
#[test]
fn a_window_moves_with_the_answer_as_on_the_cpu() {
    let plain = model(Family::MISTRAL);
    let narrow = Model::new(Config { window: Some(3), ..plain.config().clone() }, plain.weights().clone()).unwrap();
    let settings = GenerateSettings {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.95,
        min_new_tokens: 9,
        max_new_tokens: 9,
        seed: 11,
        ends: Vec::new(),
        max_rows: 64,
    };
    for model in [plain, narrow] {
        let write = |model: &Model, max_rows: usize| {
            let settings = GenerateSettings { max_rows, ..settings.clone() };
            answers(|monitor, ear| generate(model, &prompts(), &[], &settings, monitor, ear)).0
        };
        let want = write(&model, 64);
        assert_eq!(want.len(), 15);
        for device in devices(12) {
            let on_device = on(&device, &model);
            for max_rows in [64, 3] {
                assert_eq!(write(&on_device, max_rows), want, "{:?}, rows of {max_rows}", model.config().window);
            }
        }
    }
}

#[test]
fn vectors_of_texts_are_those_of_the_cpu() {
    for (i, family) in families().enumerate() {
        let adapted = i % 2 == 1;
        let plain = model(family);
        let with = if adapted { Some(adapter(&plain)) } else { None };
        let model = plain.with_adapter(with.as_ref()).unwrap();
        let head: Vec<u32> = (0..21).map(|i| i * 5 % 200).collect();
        let behind = |tail: &[u32]| [&head[..], tail].concat();
        let long: Vec<u32> = (0..70).map(|i| i * 11 % 263).collect();
        let texts =
            [behind(&[9]), vec![], behind(&[1, 7, 7, 7]), head.clone(), vec![3, 4], behind(&long), behind(&[9])];
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for (head, pooling) in [(&head[..], Pooling::Mean), (&head, Pooling::Last), (&[], Pooling::Mean)] {
            let want = embed(&model, head, &texts, pooling).unwrap();
            for device in devices(9) {
                let on_device = on(&device, &model);
                let got = embed(&on_device, head, &texts, pooling).unwrap();
                // Values of order 1 behind two layers in f32.
                assert_close(&got, &want, 2e-5);
                assert_eq!(got.row(0), got.row(6), "one text, two vectors");
                assert_eq!(embed(&on_device, head, &[&[], &[]], pooling).unwrap(), Matrix::zeros(2, 32));
                assert!(embed(&on_device, head, &[&[1, 9999]], pooling).unwrap_err().to_string().contains("9999"));
            }
        }
    }
}

fn assert_close(got: &Matrix, want: &Matrix, tolerance: f32) {
    assert_eq!((got.rows(), got.cols()), (want.rows(), want.cols()));
    for (at, (g, w)) in got.as_slice().iter().zip(want.as_slice()).enumerate() {
        assert!((g - w).abs() <= tolerance, "value {at}: {g} and not {w}");
    }
}

#[test]
fn weights_stored_as_bf16_are_bf16_on_a_device() {
    let stored = |family, dtype| {
        let config = fixture::config(family);
        let weights = fixture::weights(&config, 7, dtype).unwrap();
        Model::new(config, weights).unwrap()
    };
    for (dtype, storage) in [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F32), (Dtype::Bf16, Dtype::Bf16)] {
        let on_device = on(&one(0), &stored(Family::LLAMA, dtype));
        assert_eq!(on_device.dtype(), storage, "{dtype:?}");
    }
    let beginning: Vec<u32> = (0..21).map(|i| i * 5 % 200).collect();
    let tail = |tail: &[u32]| [&beginning[..], tail].concat();
    let bundles: Vec<Bundle> = vec![vec![tail(&[1, 3]), tail(&[9])], vec![vec![4, 5]], vec![vec![6; 40]]];
    for family in families() {
        let plain = stored(family, Dtype::Bf16);
        let model = plain.with_adapter(Some(&adapter(&plain))).unwrap();
        let want = score(&model, &bundles, [10, 11], 1000).unwrap();
        let texts = [&beginning[..], &[7, 8, 9]];
        let vectors = embed(&model, &[], &texts, Pooling::Mean).unwrap();
        for device in devices(6) {
            let on_device = on(&device, &model);
            let got = score(&on_device, &bundles, [10, 11], 1000).unwrap();
            let mut largest = 0.0f32;
            for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                // Activations carry 8 bits, through two layers: logits of order 1.
                for (g, w) in got.logits.iter().zip(&want.logits) {
                    assert!((g - w).abs() <= BF16, "{family:?}: {g} and not {w}");
                    largest = largest.max((g - w).abs());
                }
                assert!((got.log_sum_exp - want.log_sum_exp).abs() <= f64::from(BF16), "{got:?} and not {want:?}");
            }
            assert!(largest > 1e-4, "{family:?}: as exact as f32");
            assert_close(&embed(&on_device, &[], &texts, Pooling::Mean).unwrap(), &vectors, BF16);
        }
    }
}

/// How far bf16 activations may lead from f32 ones.
const BF16: f32 = 0.15;

#[test]
fn bf16_answers_do_not_depend_on_each_other() {
    let config = fixture::config(Family::LLAMA);
    let model = Model::new(config.clone(), fixture::weights(&config, 7, Dtype::Bf16).unwrap()).unwrap();
    let prompts = &prompts()[..3];
    let settings = GenerateSettings { max_new_tokens: 5, ..GenerateSettings::default() };
    for device in devices(12) {
        let on_device = on(&device, &model);
        let run = |max_rows: usize| {
            let settings = GenerateSettings { max_rows, ..settings.clone() };
            answers(|monitor, ear| generate(&on_device, prompts, &[2], &settings, monitor, ear)).0
        };
        let together = run(64);
        assert_eq!(together.len(), 7);
        assert!([1, 3].into_iter().all(|max_rows| run(max_rows) == together));
    }
}

/// The matrix in blocks of 32, as the named format rounds it.
fn quantised(weight: &Weight, form: Form) -> Weight {
    let (rows, cols) = (weight.rows(), weight.cols());
    let (low, high) =
        if form.bits == Bits::Eight { (-127, 127) } else { (-i32::from(form.centre), 15 - i32::from(form.centre)) };
    let fill = |row: usize, parts: Row<'_>| {
        let mut values = vec![0.0; cols];
        weight.read_rows(row, &mut values);
        for (g, group) in values.chunks_exact(32).enumerate() {
            let least = if form.minimum { group.iter().copied().fold(f32::INFINITY, f32::min) } else { 0.0 };
            let least = f16::from_f32(least).to_f32();
            let largest = group.iter().map(|v| (v - least).abs()).fold(0.0, f32::max);
            let scale = f16::from_f32(largest / high as f32).to_f32();
            (parts.scales[g], parts.minima[g]) = (scale, least);
            for (code, v) in parts.codes[g * 32..].iter_mut().zip(group) {
                *code = (((v - least) / scale).round() as i32).clamp(low, high) as i8;
            }
        }
    };
    let blocks = Quantised::build(rows, cols, form, fill).unwrap();
    Weight::new(rows, cols, Storage::Quantised(Arc::new(blocks))).unwrap()
}

/// Decode steps read the blocks of a quantised file, prompts their values: the CPU's tokens and
/// logits, whatever goes beside them.
#[test]
fn quantised_weights_are_decoded_from_their_blocks() {
    let form = |bits, centre, minimum| Form { group: 32, bits, centre, minimum, shared: 0 };
    let prompts = &prompts()[..3];
    for (form, adapted) in
        [(form(Bits::Eight, 0, false), true), (form(Bits::Four, 8, false), false), (form(Bits::Four, 0, true), true)]
    {
        let config = fixture::config(Family::QWEN2);
        let mut weights = fixture::weights(&config, 7, Dtype::F32).unwrap();
        weights.embed = quantised(&weights.embed, form);
        weights.head = weights.head.as_ref().map(|head| quantised(head, form));
        for l in &mut weights.layers {
            for linear in [&mut l.q, &mut l.k, &mut l.v, &mut l.o, &mut l.gate, &mut l.up, &mut l.down] {
                linear.weight = quantised(&linear.weight, form);
            }
        }
        let plain = Model::new(config, weights).unwrap();
        let with = if adapted { Some(adapter(&plain)) } else { None };
        let model = plain.with_adapter(with.as_ref()).unwrap();
        let settings = GenerateSettings { max_new_tokens: 5, ..GenerateSettings::default() };
        let (want, _) = answers(|monitor, ear| generate(&model, prompts, &[2], &settings, monitor, ear));
        let bundles: Vec<Bundle> = vec![vec![vec![4, 5, 9], vec![4, 5, 7, 7]], vec![vec![6; 20]]];
        let scores = score(&model, &bundles, [10, 11], 1000).unwrap();
        for device in devices(12) {
            let on_device = on(&device, &model);
            assert!(on_device.decodes_blocks(), "{form:?}");
            let got = score(&on_device, &bundles, [10, 11], 1000).unwrap();
            assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
            for (got, want) in got.iter().flatten().zip(scores.iter().flatten()) {
                // Logits of order 1 behind two layers in f32.
                for (g, w) in got.logits.iter().zip(&want.logits) {
                    assert!((g - w).abs() <= 2e-5, "{form:?}: {g} and not {w}");
                }
                assert!((got.log_sum_exp - want.log_sum_exp).abs() <= 2e-5, "{form:?}: {got:?} and not {want:?}");
            }
            for max_rows in [64, 3, 1] {
                let settings = GenerateSettings { max_rows, ..settings.clone() };
                let (got, _) = answers(|monitor, ear| generate(&on_device, prompts, &[2], &settings, monitor, ear));
                assert_eq!(got, want, "{form:?} in rows of {max_rows}");
            }
        }
    }
    let model = model(Family::LLAMA);
    assert!(devices(1).iter().all(|d| !on(d, &model).decodes_blocks()));
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = model(Family::LLAMA);
    let on_device = on(&one(0), &model);
    for (prompt, word) in
        [(vec![], "no tokens"), (vec![9999], "not in the vocabulary"), (vec![1; 4096], "leave no room")]
    {
        let prompts = [Prompt::new(3, prompt, 1)];
        let heard = &mut Vec::<Sample>::new();
        let error =
            generate(&on_device, &prompts, &[], &GenerateSettings::default(), &Silent, heard).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("row 3"), "{error}");
    }
}
