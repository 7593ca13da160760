//! LoRA loss, gradients and three optimiser steps on SmolLM2-135M against PyTorch's, kept as
//! reference outputs.

use std::path::PathBuf;

use rallrec::models::decoder::train::{Engine, Group, Model, Packed, Parameters, Pass, Trained};
use rallrec::models::lora::{Adapter, Target};
use rallrec::ops::adamw::AdamW;
use safetensors::SafeTensors;

const MEAN_LOSS: f64 = 1e-4;
const GRADIENT: f64 = 2e-3;

fn golden() -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/smollm2.safetensors");
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        crate::shared::skip::skip(&format!("file {}", path.display()), "no reference outputs");
    }
    bytes
}

fn floats(t: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let t = t.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn ints(t: &SafeTensors<'_>, name: &str) -> Vec<i32> {
    let t = t.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    t.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn adapter(t: &SafeTensors<'_>, prefix: &str, layers: usize) -> Adapter {
    let config = rallrec::models::decoder::Config {
        layers,
        ..rallrec::store::fixture::config(rallrec::models::decoder::Family::LLAMA)
    };
    let mut a = Adapter::init(&config, 8, 16.0, &[Target::QProj, Target::VProj], 0).unwrap();
    for (l, pairs) in a.pairs.iter_mut().enumerate() {
        for (pair, name) in pairs.iter_mut().zip(["q_proj", "v_proj"]) {
            pair.a = floats(t, &format!("{prefix}.{l}.{name}.A"));
            pair.b = floats(t, &format!("{prefix}.{l}.{name}.B"));
        }
    }
    a
}

/// The unpadded sequence with its range of targets.
fn group(ids: &[i32], labels: &[i32]) -> Group {
    let targets: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] >= 0).collect();
    let range = targets[0]..targets[targets.len() - 1] + 1;
    assert_eq!(range.len(), targets.len(), "one run of labels");
    Group::plain(ids.iter().map(|&i| i as u32).collect(), range)
}

/// Worst relative error of the matrices, each as `|got - want| / |want|` in the Frobenius norm.
fn worst(adapter: &Adapter, flat: &[f32], want: impl Fn(&str) -> Option<Vec<f32>>) -> f64 {
    let (mut at, mut worst) = (0, 0.0f64);
    let mut compared = 0;
    for l in 0..adapter.pairs.len() {
        for (pair, name) in adapter.pairs[l].iter().zip(["q_proj", "v_proj"]) {
            for (kind, len) in [("A", pair.a.len()), ("B", pair.b.len())] {
                if let Some(want) = want(&format!("{l}.{name}.{kind}")) {
                    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                    let got = &flat[at..at + len];
                    let off = norm(&mut got.iter().zip(&want).map(|(g, w)| f64::from(*g) - f64::from(*w)));
                    let size = norm(&mut want.iter().map(|&w| f64::from(w)));
                    let error = off / size;
                    assert!(error <= GRADIENT, "{l}.{name}.{kind}: relative error {error}");
                    worst = worst.max(error);
                    compared += 1;
                }
                at += len;
            }
        }
    }
    assert!(compared >= 8);
    worst
}

#[test]
fn lora_training_matches_pytorch() {
    let (Some(loaded), Some(bytes)) = (crate::shared::smollm2(), golden()) else { return };
    let t = SafeTensors::deserialize(&bytes).unwrap();
    let mut a = adapter(&t, "lora", loaded.config.layers);
    a.check(&loaded.config).unwrap();
    let count = a.count().unwrap();
    let mut engine = Engine::cpu().unwrap();
    let trained = Trained::Adapter { first_layer: 0 };
    let mut run = |a: &Adapter, batch: &Packed| {
        let mut g = vec![0.0; count];
        let scale = 1.0 / batch.targets.len() as f32;
        let model = Model { config: &loaded.config, weights: &loaded.weights, adapter: Some(a), soft: None };
        let loss = engine.gradient(&Pass { model, batch, trained, dropout: None, scale }, &mut g, None).unwrap();
        (loss / batch.targets.len() as f64, g)
    };
    // One masked example: all gradients.
    let one = Packed::of(&[group(&ints(&t, "train.input_ids"), &ints(&t, "train.labels"))]);
    let (loss, g) = run(&a, &one);
    let want = f64::from(floats(&t, "train.loss")[0]);
    assert!((loss - want).abs() <= MEAN_LOSS, "{loss} against {want}");
    let error = worst(&a, &g, |name| Some(floats(&t, &format!("train.grad.lora.{name}"))));
    println!("one example: loss off by {:.1e}, worst gradient {error:.1e}", (loss - want).abs());
    // A padded batch of three, here without the padding.
    let (ids, labels) = (ints(&t, "batch.input_ids"), ints(&t, "batch.labels"));
    let lengths = ints(&t, "batch.lengths");
    let width = ids.len() / lengths.len();
    let groups: Vec<Group> = lengths
        .iter()
        .enumerate()
        .map(|(i, &n)| {
            let row = i * width..i * width + n as usize;
            group(&ids[row.clone()], &labels[row])
        })
        .collect();
    let batch = Packed::of(&groups);
    let (loss, g) = run(&a, &batch);
    let want = f64::from(floats(&t, "batch.loss")[0]);
    assert!((loss - want).abs() <= MEAN_LOSS, "{loss} against {want}");
    let error = worst(&a, &g, |name| {
        let name = format!("batch.grad.lora.{name}");
        t.tensor(&name).is_ok().then(|| floats(&t, &name))
    });
    println!("batch of three: loss off by {:.1e}, worst gradient {error:.1e}", (loss - want).abs());
    // Three steps of AdamW on it.
    let want = [0.572_812_378_406_524_7, 0.259_683_221_578_598, 0.163_094_431_161_880_5, 0.119_953_580_200_672_15];
    let (mut m, mut v) = (vec![0.0; count], vec![0.0; count]);
    for step in 1..=4u64 {
        let (loss, g) = run(&a, &batch);
        let want = want[step as usize - 1];
        assert!((loss - want).abs() <= 2.0 * MEAN_LOSS, "before step {step}: {loss} against {want}");
        if step == 4 {
            break;
        }
        let adam = AdamW { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01, step };
        let mut at = 0;
        a.visit_mut(&mut |_, p| {
            let span = at..at + p.len();
            adam.apply(p, &g[span.clone()], &mut m[span.clone()], &mut v[span.clone()], 1.0).unwrap();
            at = span.end;
        })
        .unwrap();
    }
    let mut flat = Vec::new();
    a.clone().visit_mut(&mut |_, v| flat.extend_from_slice(v)).unwrap();
    let error = worst(&a, &flat, |name| {
        let name = format!("adamw.after3.lora.{name}");
        t.tensor(&name).is_ok().then(|| floats(&t, &name))
    });
    println!("after three steps: worst matrix {error:.1e}");
}
