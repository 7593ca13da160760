//! Gradients against finite differences of an f64 reference; shared prefixes and packing against
//! plain sequences.

use super::oracle::Oracle;
use super::{Branch, Engine, Group, Model, Packed, Parameters, Pass, StepDropout, Trained};
use crate::device::Device;
use crate::models::decoder::{Arithmetic, Config, Family, Layer, Linear, Weights, families};
use crate::models::lora::{Adapter, Target};
use crate::ops::linear::{Storage, Weight};
use crate::ops::rope::Scaling;
use crate::rng::{Rng, Use};

/// A copy whose values are owned f32.
pub fn owned(w: &Weights) -> Weights {
    let matrix = |w: &Weight| {
        let mut values = vec![0.0; w.rows() * w.cols()];
        w.read_rows(0, &mut values);
        Weight::from_f32(w.rows(), w.cols(), values).unwrap()
    };
    let linear = |l: &Linear| Linear { weight: matrix(&l.weight), bias: l.bias.clone() };
    let layer = |l: &Layer| Layer {
        q: linear(&l.q),
        k: linear(&l.k),
        v: linear(&l.v),
        o: linear(&l.o),
        gate: linear(&l.gate),
        up: linear(&l.up),
        down: linear(&l.down),
        ..l.clone()
    };
    Weights {
        embed: matrix(&w.embed),
        layers: w.layers.iter().map(layer).collect(),
        norm: w.norm.clone(),
        head: w.head.as_ref().map(matrix),
    }
}

pub fn config(family: &'static Family) -> Config {
    Config {
        family,
        vocab: 23,
        hidden: 12,
        intermediate: 20,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        norm_eps: 1e-5,
        rope_theta: 100.0,
        rope_scaling: (family == Family::LLAMA).then_some(Scaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 32,
        }),
        window: (family.windows != families::Windows::Never).then_some(3),
        full_every: matches!(family.windows, families::Windows::AllButEvery(_)).then_some(2),
        local_rope_theta: family.defaults.local_rope_theta.map(|_| 20.0),
        query_scalar: family.defaults.query_scalar.map(|_| 2.5),
        score_cap: family.defaults.score_cap.map(|_| 1.5),
        logit_cap: family.defaults.logit_cap.map(|_| 2.0),
        context: 512,
        tied: !family.qkv_bias,
        bos: None,
        eos: vec![1],
    }
}

pub fn weights(c: &Config, bf16: bool) -> Weights {
    let mut rng = Rng::new(11, Use::Synthetic, 0, 0);
    let mut matrix = |rows: usize, cols: usize| {
        let values: Vec<f32> = (0..rows * cols).map(|_| rng.normal() * 1.2 / (cols as f32).sqrt()).collect();
        if bf16 {
            let v = values.iter().map(|&v| half::bf16::from_f32(v)).collect();
            return Weight::new(rows, cols, Storage::Bf16(std::sync::Arc::new(v))).unwrap();
        }
        Weight::from_f32(rows, cols, values).unwrap()
    };
    let mut other = Rng::new(12, Use::Synthetic, 0, 0);
    let mut vector = |n: usize| -> Vec<f32> { (0..n).map(|_| 1.0 + 0.3 * other.normal()).collect() };
    let embed = matrix(c.vocab, c.hidden);
    let layers = (0..c.layers)
        .map(|_| {
            let mut linear = |out: usize, inp: usize, bias: Option<Vec<f32>>| Linear { weight: matrix(out, inp), bias };
            let qwen2 = c.family.qkv_bias;
            let qwen3 = c.family.qk_norm;
            let after = c.family.norms == families::Norms::BeforeAndAfter;
            Layer {
                attn_norm: vector(c.hidden),
                q: linear(c.q_width(), c.hidden, qwen2.then(|| vector(c.q_width()))),
                k: linear(c.kv_width(), c.hidden, qwen2.then(|| vector(c.kv_width()))),
                v: linear(c.kv_width(), c.hidden, qwen2.then(|| vector(c.kv_width()))),
                o: linear(c.hidden, c.q_width(), None),
                q_norm: qwen3.then(|| vector(c.head_dim)),
                k_norm: qwen3.then(|| vector(c.head_dim)),
                mlp_norm: vector(c.hidden),
                attn_post_norm: after.then(|| vector(c.hidden)),
                mlp_post_norm: after.then(|| vector(c.hidden)),
                gate: linear(c.intermediate, c.hidden, None),
                up: linear(c.intermediate, c.hidden, None),
                down: linear(c.hidden, c.intermediate, None),
            }
        })
        .collect();
    let head = (!c.tied).then(|| matrix(c.vocab, c.hidden));
    Weights { embed, layers, norm: vector(c.hidden), head }
}

pub fn adapter(c: &Config, targets: &[Target]) -> Adapter {
    let mut a = Adapter::init(c, 2, 3.0, targets, 5).unwrap();
    let mut rng = Rng::new(13, Use::Synthetic, 0, 0);
    a.pairs.iter_mut().flatten().for_each(|p| p.b.iter_mut().for_each(|b| *b = rng.normal() * 0.4));
    a
}

fn tokens(n: usize, salt: u32) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 7 + salt * 5 + i * i * salt) % 23).collect()
}

/// A tree with three branches (token 0 of one is a target), and two plain sequences.
pub fn groups() -> Vec<Group> {
    let branch = |n, salt, targets, weight| Branch { tokens: tokens(n, salt), targets, weight };
    vec![
        Group {
            prefix: tokens(9, 1),
            branches: vec![branch(5, 2, 3..5, 1.0), branch(3, 3, 0..1, 0.5), branch(7, 4, 0..7, 2.0)],
        },
        Group::plain(tokens(11, 5), 9..11),
        Group::plain(tokens(4, 6), 1..4),
    ]
}

fn flat(n: usize) -> Vec<f32> {
    vec![0.0; n]
}

pub fn gradient(
    model: Model<'_>,
    batch: &Packed,
    trained: Trained,
    dropout: Option<StepDropout>,
    scale: f32,
) -> (f64, Vec<f32>) {
    let n = match trained {
        Trained::All => owned(model.weights).count().unwrap(),
        Trained::Adapter { .. } => model.adapter.unwrap().clone().count().unwrap(),
    };
    let mut g = flat(n);
    let pass = Pass { model, batch, trained, dropout, scale };
    let loss = Engine::cpu().unwrap().gradient(&pass, &mut g, None).unwrap();
    (loss, g)
}

/// Compares with central differences of the reference, tensor by tensor relative to the tensor's
/// largest gradient.
pub fn check(mut value: impl FnMut(usize, f64) -> f64, names: &[(String, usize)], g: &[f32], scale: f64, every: usize) {
    let mut at = 0;
    for (name, len) in names {
        let picks: Vec<usize> = (0..*len).step_by(every).map(|i| at + i).collect();
        let want: Vec<f64> = picks.iter().map(|&i| scale * (value(i, 1e-5) - value(i, -1e-5)) / 2e-5).collect();
        let largest = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (&i, want) in picks.iter().zip(&want) {
            let got = f64::from(g[i]);
            assert!((got - want).abs() <= 1e-4 * largest, "{name}[{}]: {got} against {want}", i - at);
        }
        at += len;
    }
    assert_eq!(at, g.len());
}

pub const FAMILIES: [&Family; 6] = families::ALL;

/// Compares loss and gradient of a pass with the oracle's loss and its central differences, of
/// every `every`th parameter.
fn check_pass(pass: &Pass<'_>, every: usize) {
    let Pass { model, batch, trained, dropout, scale } = *pass;
    let (loss, g) = gradient(model, batch, trained, dropout, scale);
    let mut oracle = Oracle::new(model.config, model.weights, model.adapter);
    oracle.dropout = dropout;
    let want = oracle.loss(batch);
    assert!((loss - want).abs() <= 2e-5 * want.abs(), "{:?}: {loss} against {want}", model.config.family);
    let mut names = Vec::new();
    let mut name = |n: &str, v: &mut [f32]| names.push((n.to_string(), v.len()));
    match trained {
        Trained::All => owned(model.weights).visit_mut(&mut name).unwrap(),
        Trained::Adapter { .. } => model.adapter.unwrap().clone().visit_mut(&mut name).unwrap(),
    }
    let shift = |oracle: &mut Oracle<'_>, i: usize, by: f64| match trained {
        Trained::All => oracle.full[i] += by,
        Trained::Adapter { .. } => oracle.pairs[i] += by,
    };
    let value = |i: usize, by: f64| {
        shift(&mut oracle, i, by);
        let loss = oracle.loss(batch);
        shift(&mut oracle, i, -by);
        loss
    };
    check(value, &names, &g, f64::from(scale), every);
}

#[test]
fn adapter_gradients_match_finite_differences() {
    for family in FAMILIES {
        let (c, batch) = (config(family), Packed::of(&groups()));
        for (bf16, dropout) in [(false, None), (true, Some(StepDropout { p: 0.3, seed: 4, step: 2 }))] {
            let (w, a) = (weights(&c, bf16), adapter(&c, &Target::ALL));
            let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
            let trained = Trained::Adapter { first_layer: 0 };
            check_pass(&Pass { model, batch: &batch, trained, dropout, scale: 0.25 }, 5);
        }
    }
}

#[test]
fn gradients_of_all_weights_match_finite_differences() {
    for family in FAMILIES {
        let c = config(family);
        let (w, batch) = (weights(&c, false), Packed::of(&groups()));
        let model = Model { config: &c, weights: &w, adapter: None, soft: None };
        check_pass(&Pass { model, batch: &batch, trained: Trained::All, dropout: None, scale: 0.5 }, 11);
    }
}

/// Relative to the largest value.
fn near(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what} [{i}]: {a} against {b}, largest {largest}");
    }
}

#[test]
fn a_shared_prefix_equals_separate_sequences_and_a_batch_equals_its_parts() {
    let c = config(Family::LLAMA);
    let (w, a) = (weights(&c, false), adapter(&c, &[Target::QProj, Target::VProj]));
    let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
    let trained = Trained::Adapter { first_layer: 0 };
    let (loss, g) = gradient(model, &Packed::of(&groups()), trained, None, 1.0);
    let (mut loss_apart, mut g_apart) = (0.0, flat(g.len()));
    for group in groups() {
        for b in group.branches {
            let tokens = [group.prefix.clone(), b.tokens].concat();
            let shift = group.prefix.len();
            let targets = b.targets.start + shift..b.targets.end + shift;
            let plain = Group { prefix: vec![], branches: vec![Branch { tokens, targets, weight: b.weight }] };
            let (l, part) = gradient(model, &Packed::of(&[plain]), trained, None, 1.0);
            loss_apart += l;
            g_apart.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        }
    }
    assert!((loss - loss_apart).abs() <= 1e-5 * loss, "{loss} against {loss_apart}");
    near(&g, &g_apart, 2e-5, "gradient");
}

#[test]
fn long_sequences_cross_tiles() {
    // More rows than one attention tile, prefixes and branches both.
    let mut c = config(Family::QWEN3);
    c.layers = 2;
    let (w, a) = (weights(&c, false), adapter(&c, &[Target::KProj, Target::DownProj]));
    let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
    let branch = |n, salt, targets| Branch { tokens: tokens(n, salt), targets, weight: 1.0 };
    let group = Group { prefix: tokens(150, 1), branches: vec![branch(90, 2, 0..90), branch(5, 3, 4..5)] };
    let batch = Packed::of(&[group, Group::plain(tokens(70, 4), 69..70)]);
    let trained = Trained::Adapter { first_layer: 0 };
    check_pass(&Pass { model, batch: &batch, trained, dropout: None, scale: 1.0 }, 37);
}

#[test]
fn a_fresh_adapter_gives_the_base_loss_and_lower_layers_can_be_left_alone() {
    let c = config(Family::QWEN2);
    let (w, batch) = (weights(&c, true), Packed::of(&groups()));
    let fresh = Adapter::init(&c, 3, 6.0, &[Target::QProj, Target::UpProj], 1).unwrap();
    let base =
        Engine::cpu().unwrap().loss(Model { config: &c, weights: &w, adapter: None, soft: None }, &batch).unwrap();
    let with = Engine::cpu()
        .unwrap()
        .loss(Model { config: &c, weights: &w, adapter: Some(&fresh), soft: None }, &batch)
        .unwrap();
    assert_eq!(base, with, "B = 0 must change nothing");
    let a = adapter(&c, &[Target::QProj, Target::UpProj]);
    let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
    let (_, all) = gradient(model, &batch, Trained::Adapter { first_layer: 0 }, None, 1.0);
    let (_, upper) = gradient(model, &batch, Trained::Adapter { first_layer: 2 }, None, 1.0);
    let cut = all.len() / 3 * 2;
    assert!(upper[..cut].iter().all(|&v| v == 0.0));
    assert_eq!(upper[cut..], all[cut..]);
}

#[test]
fn an_engine_gives_the_same_bits_again_and_after_other_batches() {
    let c = config(Family::LLAMA);
    let (w, a) = (weights(&c, true), adapter(&c, &Target::ALL));
    let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
    let (batch, small) = (Packed::of(&groups()), Packed::of(&groups()[2..]));
    let trained = Trained::Adapter { first_layer: 0 };
    let mut engine = Engine::cpu().unwrap();
    let mut run = |batch: &Packed| {
        let mut g = flat(a.clone().count().unwrap());
        let pass = Pass { model, batch, trained, dropout: None, scale: 1.0 };
        let loss = engine.gradient(&pass, &mut g, None).unwrap();
        (loss, g)
    };
    let first = run(&batch);
    run(&small);
    assert_eq!(run(&batch), first);
}

/// In bf16 the gradient is that of the function that is computed: the loss changes along it as it
/// says, and it is near that in f32 with the same weights.
#[test]
fn gradients_in_bf16_are_those_of_products_in_bf16() {
    for family in FAMILIES {
        let (c, batch) = (config(family), Packed::of(&groups()));
        let (w, a) = (weights(&c, true), adapter(&c, &[Target::QProj, Target::VProj, Target::DownProj]));
        let model = Model { config: &c, weights: &w, adapter: Some(&a), soft: None };
        let trained = Trained::Adapter { first_layer: 0 };
        let (_, exact) = gradient(model, &batch, trained, None, 1.0);
        let mut engine = Engine::on(&Device::Cpu, &c, &w, Arithmetic::Bf16).unwrap();
        let mut g = flat(exact.len());
        let pass = Pass { model, batch: &batch, trained, dropout: None, scale: 1.0 };
        engine.gradient(&pass, &mut g, None).unwrap();
        let square = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let off = (square(&mut g.iter().zip(&exact).map(|(a, b)| a - b)) / square(&mut exact.iter().copied())).sqrt();
        assert!(off > 1e-4 && off < 0.0625, "{family:?}: the gradient in bf16 is off by {off}");
        // Central differences, the mean of many: what rounding takes from a loss is another at each
        // place.
        let size = square(&mut g.iter().copied());
        let mut loss = |by: f64| {
            let (mut moved, mut at) = (a.clone(), 0);
            moved
                .visit_mut(&mut |_, values| {
                    values.iter_mut().zip(&g[at..]).for_each(|(v, g)| *v += (by * f64::from(*g)) as f32);
                    at += values.len();
                })
                .unwrap();
            engine.loss(Model { adapter: Some(&moved), ..model }, &batch).unwrap()
        };
        let steps = (0..12).map(|i| (0.02 + 0.002 * f64::from(i)) / size.sqrt());
        let slope = steps.map(|by| (loss(by) - loss(-by)) / (2.0 * by)).sum::<f64>() / 12.0;
        assert!((slope - size).abs() <= 0.0625 * size, "{family:?}: a slope of {slope} along a gradient of {size}");
    }
}

#[test]
fn in_bf16_adapters_alone_are_trained() {
    let c = config(Family::LLAMA);
    let (w, batch) = (weights(&c, false), Packed::of(&groups()));
    let mut engine = Engine::on(&Device::Cpu, &c, &w, Arithmetic::Bf16).unwrap();
    let model = Model { config: &c, weights: &w, adapter: None, soft: None };
    let pass = Pass { model, batch: &batch, trained: Trained::All, dropout: None, scale: 1.0 };
    let mut g = flat(owned(&w).count().unwrap());
    let refused = engine.gradient(&pass, &mut g, None).unwrap_err();
    assert!(refused.to_string().contains("adapters alone") && g.iter().all(|&g| g == 0.0), "{refused}");
    let other = Config { layers: 2, ..c.clone() };
    assert!(engine.loss(Model { config: &other, ..model }, &batch).is_err(), "another model");
}
