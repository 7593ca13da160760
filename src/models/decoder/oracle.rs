//! The whole decoder in f64, in plain loops, without a cache: written from the definition, sharing
//! no arithmetic with the fast path. Inference and training are held to it. For tests and for small
//! models only.

use super::placed::Norm;
use super::{Config, Linear, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::linear::Weight;
use crate::ops::rope::oracle::frequency;
use crate::tensor::soft_cap::oracle as soft_cap;

/// A decoder's parameters in f64, wherever they come from.
pub(crate) trait Parameters {
    /// What the model reads for a token.
    fn embedding(&self, token: u32) -> Vec<f64>;
    /// What a linear layer makes of `x`, which is row `row` of the text.
    fn linear(&self, layer: usize, target: Target, row: usize, x: &[f64]) -> Vec<f64>;
    /// A norm of a layer; `None` where the family has none.
    fn norm(&self, layer: usize, norm: Norm) -> Option<Vec<f64>>;
    /// The norm behind the last layer.
    fn last_norm(&self) -> Vec<f64>;
}

fn norm(x: &[f64], w: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(w).map(|(v, g)| v / (mean + eps).sqrt() * g).collect()
}

fn apply_rope(frequencies: &[f64], head: &mut [f64], position: u32) {
    let half = frequencies.len();
    for (i, frequency) in frequencies.iter().enumerate() {
        let (sin, cos) = (f64::from(position) * frequency).sin_cos();
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * cos - b * sin;
        head[i + half] = a * sin + b * cos;
    }
}

/// What a row's query heads make of the rows that it sees.
fn attend(config: &Config, query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>], seen: &[usize]) -> Vec<f64> {
    let d = config.head_dim;
    let mut mixed = vec![0.0; config.heads * d];
    for (h, mixed) in mixed.chunks_exact_mut(d).enumerate() {
        let kv = h * config.kv_heads / config.heads * d;
        let score = |&t: &usize| -> f64 {
            let dot = query[h * d..].iter().zip(&keys[t][kv..kv + d]).map(|(a, b)| a * b).sum::<f64>();
            soft_cap(dot / config.query_scalar.unwrap_or(d as f64).sqrt(), config.score_cap)
        };
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        for (&t, s) in seen.iter().zip(&scores) {
            let share = (s - top).exp() / total;
            mixed.iter_mut().zip(&values[t][kv..]).for_each(|(m, v)| *m += share * v);
        }
    }
    mixed
}

/// Hidden states behind the final norm of rows with these tokens and positions; row i sees the rows
/// `seen[i]`, of which a layer with a window shows the last ones alone.
pub(crate) fn states(
    config: &Config,
    parameters: &dyn Parameters,
    tokens: &[u32],
    positions: &[u32],
    seen: &[Vec<usize>],
) -> Vec<Vec<f64>> {
    let (c, eps) = (config, config.norm_eps);
    let frequencies = |layer: usize| -> Vec<f64> {
        let local = c.local_rope_theta.filter(|_| c.window_of(layer).is_some());
        let (theta, scaling) = local.map_or((c.rope_theta, c.rope_scaling.as_ref()), |theta| (theta, None));
        (0..c.head_dim / 2).map(|i| frequency(i, c.head_dim, theta, scaling)).collect()
    };
    let scale = if c.family.scaled_embeddings { (c.hidden as f64).sqrt() } else { 1.0 };
    let embedding = |token: &u32| parameters.embedding(*token).into_iter().map(|x| x * scale).collect();
    let mut stream: Vec<Vec<f64>> = tokens.iter().map(embedding).collect();
    let normed = |layer, which, x: &[f64]| match parameters.norm(layer, which) {
        Some(w) => norm(x, &w, eps),
        None => x.to_vec(),
    };
    for layer in 0..c.layers {
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let frequencies = frequencies(layer);
        for (row, x) in stream.iter().enumerate() {
            let x = normed(layer, Norm::Attention, x);
            let head = |target, which| {
                let mut out = parameters.linear(layer, target, row, &x);
                for head in out.chunks_exact_mut(c.head_dim) {
                    head.copy_from_slice(&normed(layer, which, head));
                    apply_rope(&frequencies, head, positions[row]);
                }
                out
            };
            queries.push(head(Target::QProj, Norm::Query));
            keys.push(head(Target::KProj, Norm::Key));
            values.push(parameters.linear(layer, Target::VProj, row, &x));
        }
        for (row, x) in stream.iter_mut().enumerate() {
            let seen = &seen[row][c.window_of(layer).map_or(0, |window| seen[row].len().saturating_sub(window))..];
            let mixed = attend(c, &queries[row], &keys, &values, seen);
            let o = parameters.linear(layer, Target::OProj, row, &mixed);
            x.iter_mut().zip(normed(layer, Norm::AttentionPost, &o)).for_each(|(x, o)| *x += o);
            let n = normed(layer, Norm::Mlp, x);
            let gate = parameters.linear(layer, Target::GateProj, row, &n);
            let up = parameters.linear(layer, Target::UpProj, row, &n);
            let inner: Vec<f64> = gate.iter().zip(up).map(|(&g, u)| c.family.activation.oracle(g, u)).collect();
            let down = parameters.linear(layer, Target::DownProj, row, &inner);
            x.iter_mut().zip(normed(layer, Norm::MlpPost, &down)).for_each(|(x, d)| *x += d);
        }
    }
    stream.iter().map(|x| norm(x, &parameters.last_norm(), eps)).collect()
}

/// Final hidden states (T, hidden) and logits (T, vocab).
pub struct Output {
    /// After the final norm.
    pub hidden: Vec<Vec<f64>>,
    /// Of every position.
    pub logits: Vec<Vec<f64>>,
}

fn matrix(w: &Weight) -> Vec<f64> {
    let mut values = vec![0.0f32; w.rows() * w.cols()];
    w.read_rows(0, &mut values);
    values.into_iter().map(f64::from).collect()
}

pub(crate) fn times(x: &[f64], w: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
}

/// Weights in memory, perhaps with an adapter.
struct Plain<'a> {
    hidden: usize,
    embedding: Vec<f64>,
    weights: &'a Weights,
    adapter: Option<&'a Adapter>,
}

/// W x + b + (alpha / r) B A x.
fn apply(linear: &Linear, adapter: Option<(&Adapter, usize, Target)>, x: &[f64]) -> Vec<f64> {
    let mut y = times(x, &matrix(&linear.weight));
    if let Some(bias) = &linear.bias {
        y.iter_mut().zip(bias).for_each(|(y, &b)| *y += f64::from(b));
    }
    if let Some((adapter, layer, target)) = adapter
        && let Some(pair) = adapter.pair(layer, target)
    {
        let delta = times(&times(x, &wide(&pair.a)), &wide(&pair.b));
        let scale = adapter.alpha / adapter.rank as f64;
        y.iter_mut().zip(delta).for_each(|(y, d)| *y += scale * d);
    }
    y
}

impl Parameters for Plain<'_> {
    fn embedding(&self, token: u32) -> Vec<f64> {
        self.embedding[token as usize * self.hidden..][..self.hidden].to_vec()
    }

    fn linear(&self, layer: usize, target: Target, _row: usize, x: &[f64]) -> Vec<f64> {
        apply(self.weights.layers[layer].linear(target), self.adapter.map(|a| (a, layer, target)), x)
    }

    fn norm(&self, layer: usize, norm: Norm) -> Option<Vec<f64>> {
        let l = &self.weights.layers[layer];
        match norm {
            Norm::Attention => Some(wide(&l.attn_norm)),
            Norm::Query => l.q_norm.as_deref().map(wide),
            Norm::Key => l.k_norm.as_deref().map(wide),
            Norm::Mlp => Some(wide(&l.mlp_norm)),
            Norm::AttentionPost => l.attn_post_norm.as_deref().map(wide),
            Norm::MlpPost => l.mlp_post_norm.as_deref().map(wide),
        }
    }

    fn last_norm(&self) -> Vec<f64> {
        wide(&self.weights.norm)
    }
}

/// Runs the decoder over one sequence.
pub fn forward(config: &Config, weights: &Weights, adapter: Option<&Adapter>, tokens: &[u32]) -> Output {
    let plain = Plain { hidden: config.hidden, embedding: matrix(&weights.embed), weights, adapter };
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let seen: Vec<Vec<usize>> = (0..tokens.len()).map(|row| (0..=row).collect()).collect();
    let hidden = states(config, &plain, tokens, &positions, &seen);
    let head = matrix(weights.head());
    let capped = |h: &Vec<f64>| times(h, &head).into_iter().map(|x| soft_cap(x, config.logit_cap)).collect();
    let logits = hidden.iter().map(capped).collect();
    Output { hidden, logits }
}
