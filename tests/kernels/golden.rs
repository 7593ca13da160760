//! SmolLM2-135M by launches against the reference outputs of PyTorch and of an independent f64
//! forward: all of them on a GPU, the first layers of a short prompt on the host build.
//! `RALLREC_GOLDEN_ON_HOST=1` sends one short prompt through the whole model there too: minutes.

use std::collections::BTreeMap;

use crate::shared::families::{SEED, STEP, config, prompts as small_prompts};
use crate::shared::{Tensors, assert_close, golden, kept_golden, smollm2, wide};
use rallrec::Silent;
use rallrec::device::{Device, KernelDevice, Kind};
use rallrec::generate::scoring::score;
use rallrec::generate::{GenerateSettings, Pooling, Prompt, Sample, embed, generate};
use rallrec::models::decoder::train::{self, Engine, Group, Packed, Parameters, Pass, Trained};
use rallrec::models::decoder::{Arithmetic, Config, Layer, Model, Weights};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::ops::linear::Weight;
use rallrec::store::{Loaded, fixture};
use rallrec::tensor::Dtype;

use super::common::{devices, families};

const LOGITS: f64 = 5e-4;
const STATES: f64 = 5e-5;
const LOG_SUMS: f64 = 2e-4;
const MEAN_LOSS: f64 = 1e-4;
const GRADIENT: f64 = 2e-3;

/// The model whose weights were rounded to bf16, as the reference has them, but held in f32:
/// kernels compute in the dtype of the weights.
fn open() -> Option<(Loaded, Tensors)> {
    let file = golden("smollm2.safetensors")?;
    let mut loaded = smollm2()?;
    let widen = |w: &mut Weight| {
        let mut values = vec![0.0; w.rows() * w.cols()];
        w.read_rows(0, &mut values);
        *w = Weight::from_f32(w.rows(), w.cols(), values).expect("the same shape");
    };
    widen(&mut loaded.weights.embed);
    loaded.weights.head.iter_mut().for_each(widen);
    for layer in &mut loaded.weights.layers {
        let Layer { q, k, v, o, gate, up, down, .. } = layer;
        for linear in [q, k, v, o, gate, up, down] {
            widen(&mut linear.weight);
        }
    }
    Some((loaded, Tensors::open(&file)))
}

/// Devices that the whole model is sent through, with the prompts and the greedy tokens that each
/// has time for.
fn whole(what: &str) -> Vec<(KernelDevice, Vec<usize>, usize)> {
    let asked = std::env::var("RALLREC_GOLDEN_ON_HOST").is_ok_and(|v| v == "1");
    let mut all = Vec::new();
    for device in devices(3) {
        match device.kind() {
            Kind::Cuda => all.push((device, (0..6).collect(), 32)),
            Kind::Host if asked => all.push((device, vec![0], 2)),
            Kind::Host => println!("left out on the host build, where it takes long: {what}"),
        }
    }
    all
}

fn prompts(t: &Tensors, which: &[usize]) -> Vec<Vec<u32>> {
    which.iter().map(|n| t.ids(&format!("prompt{n}.input_ids"))).collect()
}

/// Pairs of tokens whose logits are looked at: the answers, the likeliest, and some from all over
/// the vocabulary.
fn pairs(want: &[f64]) -> Vec<[u32; 2]> {
    let mut order: Vec<u32> = (0..want.len() as u32).collect();
    order.sort_by(|&a, &b| want[b as usize].total_cmp(&want[a as usize]));
    let spread = |i: usize| (i * 7919 % want.len()) as u32;
    vec![
        [10_539, 5230],
        [order[0], order[1]],
        [0, want.len() as u32 - 1],
        [spread(1), spread(2)],
        [spread(3), order[2]],
    ]
}

/// Logits of `model` behind each prompt, and the log-sum-exp of all of them, against `key` of the
/// reference.
fn logits(device: &KernelDevice, model: &Model, t: &Tensors, which: &[usize], key: &str) {
    let on_device = model.on(&Device::Kernels(device.clone())).unwrap();
    for (n, tokens) in which.iter().zip(prompts(t, which)) {
        let want = t.f64(&key.replace('#', &n.to_string()));
        let top = want.iter().copied().fold(f64::MIN, f64::max);
        let log_sum = top + want.iter().map(|l| (l - top).exp()).sum::<f64>().ln();
        for pair in pairs(&want) {
            let choice = score(&on_device, &[vec![tokens.clone()]], pair, 4096).unwrap()[0][0];
            let wanted = pair.map(|id| want[id as usize]);
            assert_close(&format!("prompt {n}, logits of {pair:?}"), &choice.logits, &wanted, LOGITS);
            let off = (choice.log_sum_exp - log_sum).abs();
            assert!(off <= LOG_SUMS, "prompt {n}: log-sum-exp {} and not {log_sum}", choice.log_sum_exp);
        }
    }
}

/// As the models of another library's f32, absolute, on logits of a few units.
const SMALL: f64 = 1e-4;

/// Small random models of every family against the logits of transformers. They need no file but
/// one of the repository, so they run wherever the test program does.
#[test]
fn logits_of_small_models_of_every_family() {
    let file = kept_golden("families.json");
    let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let kept: BTreeMap<String, Vec<Vec<f64>>> = serde_json::from_slice(&text).unwrap();
    for family in families() {
        let config = config(family);
        let model = Model::new(config.clone(), fixture::weights(&config, SEED, Dtype::F32).unwrap()).unwrap();
        let want = &kept[family.name];
        for device in devices(7) {
            let on_device = model.on(&Device::Kernels(device.clone())).unwrap();
            // The host build takes a second for what a GPU does in a millisecond.
            let every = if device.kind() == Kind::Host { want[0].len() / 2 } else { 1 };
            let asked: Vec<Vec<Vec<u32>>> = small_prompts().into_iter().map(|prompt| vec![prompt]).collect();
            for i in (0..want[0].len() - 1).step_by(every) {
                let pair = [i, i + 1].map(|i| (i * STEP) as u32);
                let choices = score(&on_device, &asked, pair, 4096).unwrap();
                assert_eq!(choices.len(), want.len());
                for (n, (choice, want)) in choices.iter().zip(want).enumerate() {
                    let what = format!("{} on {device:?}, prompt {n}, logits of {pair:?}", family.name);
                    assert_close(&what, &choice[0].logits, &want[i..i + 2], SMALL);
                }
            }
        }
    }
}

#[test]
fn logits_states_and_greedy_tokens() {
    let Some((loaded, t)) = open() else { return };
    let model = Model::new(loaded.config, loaded.weights).unwrap();
    for (device, which, steps) in whole("the logits, states and greedy tokens of SmolLM2") {
        logits(&device, &model, &t, &which, "prompt#.last_logits_f64");
        let on_device = model.on(&Device::Kernels(device.clone())).unwrap();
        let texts = prompts(&t, &which);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let mean = embed(&on_device, &[], &texts, Pooling::Mean).unwrap();
        let last = embed(&on_device, &[], &texts, Pooling::Last).unwrap();
        for (i, n) in which.iter().enumerate() {
            assert_close("mean state", mean.row(i), &t.f64(&format!("prompt{n}.mean_hidden_f64")), STATES);
            assert_close("last state", last.row(i), &wide(&t.f32(&format!("prompt{n}.last_hidden"))), STATES);
        }
        let greedy = GenerateSettings { temperature: 0.0, max_new_tokens: steps, ..GenerateSettings::default() };
        let asked: Vec<Prompt> =
            which.iter().zip(prompts(&t, &which)).map(|(&n, tokens)| Prompt::new(n as u32, tokens, 1)).collect();
        let mut answers = Vec::<Sample>::new();
        generate(&on_device, &asked, &[], &greedy, &Silent, &mut answers).unwrap();
        assert_eq!(answers.len(), which.len());
        for answer in &answers {
            let want = t.ids(&format!("prompt{}.greedy_ids", answer.row));
            assert_eq!(answer.tokens, want[..steps], "prompt {}", answer.row);
        }
    }
}

fn adapter(t: &Tensors, layers: usize) -> Adapter {
    let pair = |layer: usize, target: &str| Pair {
        a: t.f32(&format!("lora.{layer}.{target}.A")),
        b: t.f32(&format!("lora.{layer}.{target}.B")),
    };
    Adapter {
        rank: 8,
        alpha: 16.0,
        dropout: 0.0,
        targets: vec![Target::QProj, Target::VProj],
        pairs: (0..layers).map(|l| vec![pair(l, "q_proj"), pair(l, "v_proj")]).collect(),
    }
}

/// An unpadded sequence with its one run of labels.
fn group(ids: &[u32], labels: &[u32]) -> Group {
    // -100 marks what is no target.
    let targets: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] as i32 >= 0).collect();
    let range = targets[0]..targets[targets.len() - 1] + 1;
    assert_eq!(range.len(), targets.len(), "one run of labels");
    Group::plain(ids.to_vec(), range)
}

/// Relative error of each matrix of the adapter that the reference has, in the Frobenius norm; how
/// many were compared.
fn gradients_match(adapter: &Adapter, flat: &[f32], t: &Tensors, prefix: &str) -> usize {
    let (mut at, mut compared) = (0, 0);
    for (l, pairs) in adapter.pairs.iter().enumerate() {
        for (pair, name) in pairs.iter().zip(["q_proj", "v_proj"]) {
            for (kind, len) in [("A", pair.a.len()), ("B", pair.b.len())] {
                let got = &flat[at..at + len];
                at += len;
                let Some(want) = t.maybe_f32(&format!("{prefix}.{l}.{name}.{kind}")) else { continue };
                let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                let off = norm(&mut got.iter().zip(&want).map(|(g, w)| f64::from(*g) - f64::from(*w)));
                let error = off / norm(&mut want.iter().map(|&w| f64::from(w)));
                assert!(error <= GRADIENT, "{prefix}.{l}.{name}.{kind}: relative error {error}");
                compared += 1;
            }
        }
    }
    assert_eq!(at, flat.len());
    compared
}

#[test]
fn lora_logits_loss_and_gradients() {
    let Some((loaded, t)) = open() else { return };
    let mut a = adapter(&t, loaded.config.layers);
    a.check(&loaded.config).unwrap();
    let count = a.count().unwrap();
    let model = Model::new(loaded.config.clone(), loaded.weights.clone()).unwrap();
    let adapted = model.with_adapter(Some(&a)).unwrap();
    for (device, which, _) in whole("the logits, loss and gradients of its adapter") {
        let which: Vec<usize> = which.into_iter().filter(|n| [0, 2, 3].contains(n)).collect();
        logits(&device, &adapted, &t, &which, "lora_prompt#.last_logits_f64");
        if device.kind() == Kind::Host {
            println!("left out on the host build, where it takes hours: the loss and gradients of SmolLM2's adapter");
            continue;
        }
        let mut engine =
            Engine::on(&Device::Kernels(device), &loaded.config, &loaded.weights, Arithmetic::F32).unwrap();
        let mut run = |batch: &Packed| {
            let mut g = vec![0.0; count];
            let model =
                train::Model { config: &loaded.config, weights: &loaded.weights, adapter: Some(&a), soft: None };
            let (trained, scale) = (Trained::Adapter { first_layer: 0 }, 1.0 / batch.targets.len() as f32);
            let loss = engine.gradient(&Pass { model, batch, trained, dropout: None, scale }, &mut g, None).unwrap();
            (loss / batch.targets.len() as f64, g)
        };
        let one = Packed::of(&[group(&t.ids("train.input_ids"), &t.ids("train.labels"))]);
        let (loss, g) = run(&one);
        let want = f64::from(t.f32("train.loss")[0]);
        assert!((loss - want).abs() <= MEAN_LOSS, "one example: {loss} and not {want}");
        assert_eq!(gradients_match(&a, &g, &t, "train.grad.lora"), 4 * a.pairs.len());
        let (ids, labels, lengths) = (t.ids("batch.input_ids"), t.ids("batch.labels"), t.ids("batch.lengths"));
        let width = ids.len() / lengths.len();
        let of = |(i, &n): (usize, &u32)| {
            let row = i * width..i * width + n as usize;
            group(&ids[row.clone()], &labels[row])
        };
        let (loss, g) = run(&Packed::of(&lengths.iter().enumerate().map(of).collect::<Vec<_>>()));
        let want = f64::from(t.f32("batch.loss")[0]);
        assert!((loss - want).abs() <= MEAN_LOSS, "a batch of three: {loss} and not {want}");
        assert!(gradients_match(&a, &g, &t, "batch.grad.lora") >= 8);
    }
}

/// A model cut behind its second layer: what it pools is the norm of the reference's second layer.
#[test]
fn the_first_layers_of_a_short_prompt() {
    const LAYERS: usize = 2;
    let Some((loaded, t)) = open() else { return };
    let (config, mut weights): (Config, Weights) =
        (Config { layers: LAYERS, ..loaded.config.clone() }, loaded.weights.clone());
    weights.layers.truncate(LAYERS);
    let (tokens, hidden, eps) = (t.ids("prompt0.input_ids"), config.hidden, config.norm_eps);
    let out = wide(&t.f32("trace.layer_out"));
    let rows = out[(LAYERS - 1) * tokens.len() * hidden..LAYERS * tokens.len() * hidden].chunks_exact(hidden);
    let mut want = vec![0.0; hidden];
    for row in rows {
        let rms = (row.iter().map(|x| x * x).sum::<f64>() / hidden as f64 + eps).sqrt();
        for (to, (x, w)) in want.iter_mut().zip(row.iter().zip(&weights.norm)) {
            *to += x / rms * f64::from(*w) / tokens.len() as f64;
        }
    }
    let model = Model::new(config, weights).unwrap();
    for device in devices(5) {
        let on_device = model.on(&Device::Kernels(device.clone())).unwrap();
        let got = embed(&on_device, &[], &[&tokens], Pooling::Mean).unwrap();
        let worst = assert_close("two layers", got.row(0), &want, STATES);
        println!("{device:?}: two layers within {worst:.1e}");
    }
}
