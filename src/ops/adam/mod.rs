//! Adam (Kingma and Ba 2015, algorithm 1) with the bias corrections where PyTorch puts them.
//!
//! Cost: 28 bytes and about 12 FLOP a parameter.

pub mod cuda;
pub mod oracle;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::vectorized;

/// The step's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Step size, above 0.
    pub learning_rate: f32,
    /// Decay of the first moment, 0 to 1.
    pub beta1: f32,
    /// Decay of the second moment, 0 to 1.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl Adam {
    /// The usual decays 0.9 and 0.999, epsilon 1e-8.
    pub fn new(learning_rate: f32) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// Parameters of one parallel piece.
const PIECE: usize = 16 * 1024;

/// Cost of a step on `n` parameters.
pub fn cost(n: usize) -> Cost {
    Cost { bytes: 28.0 * n as f64, flops: 12.0 * n as f64 }
}

/// Step number `t` (from 1): updates `p` and its moments `m`, `v` from the gradient `g`. All of one length.
pub fn step(adam: &Adam, t: u64, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    step_rows(adam, t, p, g, m, v, 1, &[]);
}

/// As [`step`] for rows of `width` values; row `r` gets the extra gradient `weight[r] * p` (the derivative of
/// `weight/2 |p|^2`). An empty `weight` means none.
#[allow(clippy::too_many_arguments)]
pub fn step_rows(
    adam: &Adam,
    t: u64,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    width: usize,
    weight: &[f32],
) {
    let _timed = timed("adam", || cost(p.len()));
    assert!(p.len() == g.len() && p.len() == m.len() && p.len() == v.len(), "adam: lengths differ");
    let width = width.max(1);
    assert!(weight.is_empty() || weight.len() * width == p.len(), "adam: one weight a row");
    let exponent = i32::try_from(t).unwrap_or(i32::MAX);
    let c1 = 1.0 - f64::from(adam.beta1).powi(exponent);
    let c2 = 1.0 - f64::from(adam.beta2).powi(exponent);
    let rate = (f64::from(adam.learning_rate) / c1) as f32;
    let root = c2.sqrt() as f32;
    let rows = (PIECE / width).max(1);
    let piece = rows * width;
    (p.par_chunks_mut(piece), g.par_chunks(piece), m.par_chunks_mut(piece), v.par_chunks_mut(piece))
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (p, g, m, v))| {
            if weight.is_empty() {
                return update(adam, rate, root, 0.0, p, g, m, v);
            }
            let rows = p.chunks_mut(width).zip(g.chunks(width)).zip(m.chunks_mut(width)).zip(v.chunks_mut(width));
            for ((((p, g), m), v), &w) in rows.zip(&weight[i * rows_of(piece, width)..]) {
                update(adam, rate, root, w, p, g, m, v);
            }
        });
}

fn rows_of(piece: usize, width: usize) -> usize {
    piece / width
}

vectorized! {
    fn update(adam: &Adam, rate: f32, root: f32, w: f32, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        let (a, b) = (1.0 - adam.beta1, 1.0 - adam.beta2);
        for i in 0..n {
            let grad = g[i] + w * p[i];
            m[i] += a * (grad - m[i]);
            v[i] = adam.beta2 * v[i] + b * grad * grad;
            p[i] -= rate * m[i] / (v[i].sqrt() / root + adam.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn matches_the_oracle_over_steps(
            start in prop::collection::vec(-2.0f32..2.0, 1..50),
            seed in 0u64..1000,
            weight in prop::sample::select(vec![0.0f32, 0.3]),
        ) {
            let adam = Adam::new(1e-2);
            let n = start.len();
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            let mut o = oracle::State::new(start.iter().map(|&x| f64::from(x)).collect());
            for t in 1..=5 {
                let g: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
                step_rows(&adam, t, &mut p, &g, &mut m, &mut v, n, &[weight]);
                o.step(&adam, &g.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), f64::from(weight));
            }
            for (a, b) in p.iter().zip(&o.p) {
                prop_assert!((f64::from(*a) - b).abs() <= 5e-6 * (1.0 + b.abs()), "{} and not {}", a, b);
            }
        }
    }

    #[test]
    fn pieces_do_not_show() {
        let n = PIECE * 2 + 48;
        let g: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 3.0).collect();
        let weight: Vec<f32> = (0..n / 16).map(|i| (i % 3) as f32).collect();
        let (mut p, mut m, mut v) = (vec![0.5; n], vec![0.0; n], vec![0.0; n]);
        step_rows(&Adam::new(0.1), 1, &mut p, &g, &mut m, &mut v, 16, &weight);
        for r in [0, 1, PIECE / 16 - 1, PIECE / 16, n / 16 - 1] {
            let s = r * 16..(r + 1) * 16;
            let (mut a, mut b, mut c) = (vec![0.5; 16], vec![0.0; 16], vec![0.0; 16]);
            step_rows(&Adam::new(0.1), 1, &mut a, &g[s.clone()], &mut b, &mut c, 16, &weight[r..=r]);
            assert_eq!(a, p[s], "row {r}");
        }
    }
}
