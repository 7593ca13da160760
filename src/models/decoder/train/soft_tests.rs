//! Gradients by soft tokens, and by the projector behind them, against finite differences of the
//! f64 reference.

use super::oracle::Oracle;
use super::tests::{FAMILIES, adapter, check, config, gradient, groups, owned, weights};
use super::{Engine, Group, Model, Packed, Parameters, Pass, StepDropout, Trained};
use crate::models::decoder::SoftTokens;
use crate::models::lora::Target;
use crate::models::soft_prompt::{Inputs, Projector, SoftSettings};
use crate::ops::mlp::oracle as mlp;
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

/// The groups of the other tests with soft tokens in a prefix, twice in a branch, and in plain
/// sequences.
fn soft_groups() -> Vec<Group> {
    let mut all = groups();
    all[0].prefix[2] = 23;
    all[0].prefix[7] = 40;
    all[0].branches[0].tokens[1] = 31;
    all[0].branches[2].tokens = [vec![31, 31], all[0].branches[2].tokens.clone()].concat();
    all[0].branches[2].targets = 2..9;
    all[1].branches[0].tokens[8] = 23;
    all[2].branches[0].tokens[0] = 99;
    all
}

const IDS: [u32; 4] = [23, 31, 40, 99];

fn random(rows: usize, cols: usize) -> Matrix {
    let mut rng = Rng::new(21, Use::Synthetic, 0, 0);
    Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| rng.normal() * 0.7).collect()).unwrap()
}

#[test]
fn gradients_by_soft_tokens_match_finite_differences() {
    let batch = Packed::of(&soft_groups());
    for family in FAMILIES {
        let c = config(family);
        let (w, a) = (weights(&c, true), adapter(&c, &Target::ALL));
        let soft = SoftTokens::new(IDS.to_vec(), random(4, c.hidden)).unwrap();
        let dropout = Some(StepDropout { p: 0.3, seed: 4, step: 2 });
        let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: Some(&soft) };
        let count = a.clone().count().unwrap();
        let run = |first_layer: usize| {
            let (mut g, mut by) = (vec![0.0; count], vec![0.0; soft.values()]);
            let trained = Trained::Adapter { first_layer };
            let pass = Pass { model, batch: &batch, trained, dropout, scale: 0.25 };
            let loss = Engine::cpu().unwrap().gradient(&pass, &mut g, Some(&mut by)).unwrap();
            (loss, g, by)
        };
        let (loss, g, by) = run(0);
        let mut oracle = Oracle::new(&c, &w, Some(&a));
        oracle.dropout = dropout;
        for &id in &IDS {
            oracle.soft.insert(id, soft.get(id).unwrap().iter().map(|&v| f64::from(v)).collect());
        }
        let want = oracle.loss(&batch);
        assert!((loss - want).abs() <= 2e-5 * want.abs(), "{family:?}: {loss} against {want}");
        let names: Vec<(String, usize)> = IDS.iter().map(|id| (format!("{id}"), c.hidden)).collect();
        let value = |i: usize, by: f64| {
            let move_it = |o: &mut Oracle<'_>, by: f64| o.soft.get_mut(&IDS[i / 12]).unwrap()[i % 12] += by;
            move_it(&mut oracle, by);
            let loss = oracle.loss(&batch);
            move_it(&mut oracle, -by);
            loss
        };
        check(value, &names, &by, 0.25, 1);
        // The adapter's gradient is the same with and without that by the soft tokens.
        assert_eq!(gradient(model, &batch, Trained::Adapter { first_layer: 0 }, dropout, 0.25), (loss, g.clone()));
        // Layers that are not trained still pass the gradient on.
        let (_, upper, below) = run(2);
        assert_eq!(below, by, "{family:?}");
        let cut = count / 3 * 2;
        assert!(upper[..cut].iter().all(|&v| v == 0.0) && upper[cut..] == g[cut..]);
    }
}

#[test]
fn gradients_by_the_projector_match_finite_differences() {
    let c = config(crate::models::decoder::Family::LLAMA);
    let (w, a) = (weights(&c, false), adapter(&c, &[Target::QProj, Target::VProj]));
    let batch = Packed::of(&soft_groups());
    let inputs = Inputs::new(IDS.to_vec(), random(4, 5)).unwrap();
    let settings = SoftSettings { hidden: 6, ..SoftSettings::default() };
    let mut projector = Projector::init(&settings, inputs.matrix(), c.hidden, 3.0, 1).unwrap();
    let (soft, saved) = projector.tokens_saved(&inputs).unwrap();
    let mut by_soft = vec![0.0; soft.values()];
    let mut by_pairs = vec![0.0; a.clone().count().unwrap()];
    let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: Some(&soft) };
    let trained = Trained::Adapter { first_layer: 0 };
    let pass = Pass { model, batch: &batch, trained, dropout: None, scale: 1.0 };
    Engine::cpu().unwrap().gradient(&pass, &mut by_pairs, Some(&mut by_soft)).unwrap();
    let mut g = vec![0.0; projector.count().unwrap()];
    projector.backward(inputs.matrix().as_slice(), &saved, &by_soft, &mut g).unwrap();
    let mut oracle = Oracle::new(&c, &w, Some(&a));
    let mut loss = |p: &Projector| {
        let (shape, tensors, gain) = p.parts();
        let x = inputs.matrix().as_slice();
        let out = mlp::mlp(shape, tensors, x, &vec![0.0; 4 * c.hidden]).0;
        for (id, row) in IDS.iter().zip(out.chunks_exact(c.hidden)) {
            oracle.soft.insert(*id, row.iter().map(|v| v * f64::from(gain)).collect());
        }
        oracle.loss(&batch)
    };
    let largest = g.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let mut flat = Vec::new();
    projector.visit_mut(&mut |_, v| flat.extend_from_slice(v)).unwrap();
    for i in (0..g.len()).step_by(3) {
        let mut at = |by: f32| {
            let mut moved = projector.clone();
            let (mut n, mut value) = (0, 0.0);
            let mut change = |_: &str, v: &mut [f32]| {
                if (n..n + v.len()).contains(&i) {
                    v[i - n] += by;
                    value = f64::from(v[i - n]);
                }
                n += v.len();
            };
            moved.visit_mut(&mut change).unwrap();
            (value, loss(&moved))
        };
        // Parameters are f32: the step is what they really moved by.
        let ((a, low), (b, high)) = (at(-1e-3), at(1e-3));
        let (want, got) = ((high - low) / (b - a), f64::from(g[i]));
        assert!((got - want).abs() <= 1e-4 * largest, "parameter {i}: {got} against {want}, largest {largest}");
    }
}

#[test]
fn soft_tokens_are_read_but_are_no_targets_and_unknown_ones_are_refused() {
    let c = config(crate::models::decoder::Family::QWEN2);
    let w = owned(&weights(&c, false));
    let mut group = Group::plain(vec![1, 31, 2, 3], 3..4);
    group.check_with(23, &IDS, 100).unwrap();
    assert!(group.check(23, 100).unwrap_err().to_string().contains("31"));
    group.branches[0].targets = 1..4;
    assert!(group.check_with(23, &IDS, 100).unwrap_err().to_string().contains("target"));
    let batch = Packed::of(&[Group::plain(vec![1, 31, 2, 3], 3..4)]);
    let soft = SoftTokens::new(vec![30], random(1, c.hidden)).unwrap();
    for soft in [None, Some(&soft)] {
        let model = Model { config: &c, weights: &w, adapter: None, soft };
        assert!(Engine::cpu().unwrap().loss(model, &batch).unwrap_err().to_string().contains("31"));
    }
}
