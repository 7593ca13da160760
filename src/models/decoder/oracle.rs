//! The whole decoder in f64, in plain loops over one sequence, without a cache: written from the definition, sharing
//! no arithmetic with the fast path. For tests and for small models only.

use super::{Config, Linear, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::attention::oracle::seen;
use crate::ops::linear::Weight;
use crate::ops::rope::oracle::frequency;

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

fn times(x: &[f64], w: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn norm(x: &[f64], w: &[f32], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(w).map(|(v, &g)| v / (mean + eps).sqrt() * f64::from(g)).collect()
}

/// The angle by which pair `i` turns at `position`.
fn angle(config: &Config, i: usize, position: usize) -> f64 {
    let frequency = frequency(i, config.head_dim, config.rope_theta, config.rope_scaling.as_ref());
    position as f64 * frequency
}

fn turn(config: &Config, head: &mut [f64], position: usize) {
    let half = config.head_dim / 2;
    for i in 0..half {
        let (sin, cos) = angle(config, i, position).sin_cos();
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * cos - b * sin;
        head[i + half] = a * sin + b * cos;
    }
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
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let delta = times(&times(x, &wide(&pair.a)), &wide(&pair.b));
        let scale = adapter.alpha / adapter.rank as f64;
        y.iter_mut().zip(delta).for_each(|(y, d)| *y += scale * d);
    }
    y
}

/// Runs the decoder over one sequence.
pub fn forward(config: &Config, weights: &Weights, adapter: Option<&Adapter>, tokens: &[u32]) -> Output {
    let (c, d) = (config, config.head_dim);
    let embedding = matrix(&weights.embed);
    let mut stream: Vec<Vec<f64>> =
        tokens.iter().map(|&t| embedding[t as usize * c.hidden..][..c.hidden].to_vec()).collect();
    for (i, layer) in weights.layers.iter().enumerate() {
        let with = |target| adapter.map(|a| (a, i, target));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = norm(x, &layer.attn_norm, c.norm_eps);
            let mut q = apply(&layer.q, with(Target::QProj), &x);
            let mut k = apply(&layer.k, with(Target::KProj), &x);
            for (rows, weight) in [(&mut q, &layer.q_norm), (&mut k, &layer.k_norm)] {
                for head in rows.chunks_exact_mut(d) {
                    if let Some(weight) = weight {
                        head.copy_from_slice(&norm(head, weight, c.norm_eps));
                    }
                    turn(c, head, position);
                }
            }
            queries.push(q);
            keys.push(k);
            values.push(apply(&layer.v, with(Target::VProj), &x));
        }
        for (position, x) in stream.iter_mut().enumerate() {
            let mut mixed = vec![0.0; c.heads * d];
            for h in 0..c.heads {
                let kv = h * c.kv_heads / c.heads;
                let query = &queries[position][h * d..(h + 1) * d];
                let score = |t: usize| -> f64 {
                    let key = &keys[t][kv * d..(kv + 1) * d];
                    query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt()
                };
                let seen = seen(position + 1, c.window_of(i));
                let scores: Vec<f64> = seen.clone().map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                for (t, s) in seen.zip(&scores) {
                    for j in 0..d {
                        mixed[h * d + j] += (s - top).exp() / total * values[t][kv * d + j];
                    }
                }
            }
            let o = apply(&layer.o, with(Target::OProj), &mixed);
            x.iter_mut().zip(o).for_each(|(x, o)| *x += o);
            let n = norm(x, &layer.mlp_norm, c.norm_eps);
            let gate = apply(&layer.gate, with(Target::GateProj), &n);
            let up = apply(&layer.up, with(Target::UpProj), &n);
            let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let down = apply(&layer.down, with(Target::DownProj), &inner);
            x.iter_mut().zip(down).for_each(|(x, d)| *x += d);
        }
    }
    let hidden: Vec<Vec<f64>> = stream.iter().map(|x| norm(x, &weights.norm, c.norm_eps)).collect();
    let head = matrix(weights.head());
    let logits = hidden.iter().map(|h| times(h, &head)).collect();
    Output { hidden, logits }
}
