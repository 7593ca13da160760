//! The shape and the weights of a tiny random model.

use super::families::{Norms, Windows};
use super::parts::{LayerPart as L, Part};
use super::{Config, Family, Layer, Linear, Weights};
use crate::error::Result;
use crate::ops::linear::{Weight, convert};
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;

/// Shape: 2 layers, hidden 32, 4 heads (8 wide; 16 with q and k norms), 2 key and value heads,
/// intermediate 64, vocabulary 264 (bytes, special tokens, "Yes", "No"), context 4,096. Tied,
/// except with biases (Qwen2). A window of 5 where the family has windows, in the first layer alone
/// where some layers have none; the family's soft caps so low that they act.
pub fn config(family: &'static Family) -> Config {
    Config {
        family,
        vocab: 264,
        hidden: 32,
        intermediate: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: if family.qk_norm { 16 } else { 8 },
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        window: (family.windows != Windows::Never).then_some(5),
        full_every: matches!(family.windows, Windows::AllButEvery(_)).then_some(2),
        local_rope_theta: family.defaults.local_rope_theta.map(|_| 100.0),
        query_scalar: family.defaults.query_scalar.map(|_| 24.0),
        score_cap: family.defaults.score_cap.map(|_| 2.0),
        logit_cap: family.defaults.logit_cap.map(|_| 3.0),
        context: 4096,
        tied: !family.qkv_bias,
        bos: None,
        eos: vec![2],
    }
}

/// Random weights of a configuration, rounded to `dtype`: norms near 1, matrices of standard
/// deviation 1 / sqrt(in), embedding 0.5. The values depend on seed, tensor and shape only.
pub fn weights(config: &Config, seed: u64, dtype: Dtype) -> Result<Weights> {
    let stream = |part: Part, row: usize| {
        let (tensor, layer) = match part {
            Part::Embed => (0, 0),
            Part::Norm => (1, 0),
            Part::Head => (2, 0),
            Part::Layer(i, part) => (3 + part as u32, i as u32),
        };
        // 2^32 draw groups a row are enough for any width.
        Rng::new(seed, Use::Init, tensor, layer).at((row as u64) << 32)
    };
    let matrix = |part: Part| -> Result<Weight> {
        let (rows, cols) = part.shape(config);
        let deviation = if part == Part::Embed { 0.5 } else { 1.0 / (cols as f32).sqrt() };
        let storage = convert::build(rows, cols, dtype, |row, out| {
            let mut rng = stream(part, row);
            out.fill_with(|| deviation * rng.normal());
        })?;
        Weight::new(rows, cols, storage)
    };
    let vector = |part: Part, mean: f32| -> Vec<f32> {
        let (_, cols) = part.shape(config);
        let mut rng = stream(part, 0);
        // Rounded like a stored tensor, so that saving and loading gives the same values.
        let mut values: Vec<f32> = (0..cols).map(|_| mean + 0.1 * rng.normal()).collect();
        let bytes = convert::narrow(&values, dtype);
        convert::widen(&bytes, dtype, &mut values);
        values
    };
    let linear = |i: usize, weight: L, bias: Option<L>| -> Result<Linear> {
        let bias = bias.filter(|_| config.family.qkv_bias).map(|b| vector(Part::Layer(i, b), 0.0));
        Ok(Linear { weight: matrix(Part::Layer(i, weight))?, bias })
    };
    let post_norm =
        |i: usize, n: L| (config.family.norms == Norms::BeforeAndAfter).then(|| vector(Part::Layer(i, n), 1.0));
    let head_norm = |i: usize, n: L| config.family.qk_norm.then(|| vector(Part::Layer(i, n), 1.0));
    let mut layers = Vec::with_capacity(config.layers);
    for i in 0..config.layers {
        layers.push(Layer {
            attn_norm: vector(Part::Layer(i, L::AttnNorm), 1.0),
            q: linear(i, L::Q, Some(L::QBias))?,
            k: linear(i, L::K, Some(L::KBias))?,
            v: linear(i, L::V, Some(L::VBias))?,
            o: linear(i, L::O, None)?,
            q_norm: head_norm(i, L::QNorm),
            k_norm: head_norm(i, L::KNorm),
            mlp_norm: vector(Part::Layer(i, L::MlpNorm), 1.0),
            attn_post_norm: post_norm(i, L::AttnPostNorm),
            mlp_post_norm: post_norm(i, L::MlpPostNorm),
            gate: linear(i, L::Gate, None)?,
            up: linear(i, L::Up, None)?,
            down: linear(i, L::Down, None)?,
        });
    }
    let head = if config.tied { None } else { Some(matrix(Part::Head)?) };
    Ok(Weights { embed: matrix(Part::Embed)?, layers, norm: vector(Part::Norm, 1.0), head })
}
