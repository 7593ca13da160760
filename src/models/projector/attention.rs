//! Self-attention in front of the perceptron: the slices of a text's embedding look at one another
//! before they are mapped.
//!
//! A row of width D is read as T tokens X (T x d, d = D / T; the last is filled with zeros), and
//!
//! ```text
//! Z = X + softmax(X A X^T / sqrt(d)) X B
//! ```
//!
//! where A (queries times keys) and B (values times output) are d x d and learnt. Both begin at 0,
//! so the projector begins as the perceptron alone. Forward and backward of M rows cost some
//! `12 M T d (d + T)` FLOP.

use rayon::prelude::*;

use crate::error::Result;
use crate::tensor::Matrix;

/// Shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Attention {
    /// Width of a row.
    pub dim: usize,
    /// Tokens of a row.
    pub tokens: usize,
}

/// A and B, or their gradients; both empty where there is no attention.
pub(super) type Mixing = [Vec<f32>; 2];

impl Attention {
    /// Width of a token.
    pub fn width(&self) -> usize {
        self.dim.div_ceil(self.tokens)
    }

    /// Before the first step.
    pub fn init(&self) -> Mixing {
        let n = self.width() * self.width();
        [vec![0.0; n], vec![0.0; n]]
    }

    fn tokens_of(&self, row: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        x.resize(self.tokens * self.width(), 0.0);
        x
    }

    /// Attention weights (T x T) and what they gather (T x d).
    fn gather(&self, x: &[f64], a: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (t, d) = (self.tokens, self.width());
        let scale = 1.0 / (d as f64).sqrt();
        let xa = product(x, a, [t, d, d]);
        let mut p = vec![0.0; t * t];
        for (row, from) in p.chunks_exact_mut(t).zip(xa.chunks_exact(d)) {
            for (to, key) in row.iter_mut().zip(x.chunks_exact(d)) {
                *to = scale * from.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
            }
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|v| *v = (*v - most).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        let c = product(&p, x, [t, t, d]);
        (p, c)
    }

    /// Z of every row.
    pub fn forward(&self, rows: &Matrix, mixing: &Mixing) -> Result<Matrix> {
        let (t, d) = (self.tokens, self.width());
        let [a, b] = mixing.each_ref().map(|m| m.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>());
        let of = |row: &[f32]| -> Vec<f32> {
            let x = self.tokens_of(row);
            let (_, c) = self.gather(&x, &a);
            let added = product(&c, &b, [t, d, d]);
            x.iter().zip(&added).take(self.dim).map(|(x, y)| (x + y) as f32).collect()
        };
        let out: Vec<Vec<f32>> = rows.as_slice().par_chunks(self.dim).map(of).collect();
        Matrix::from_vec(rows.rows(), self.dim, out.concat())
    }

    /// Gradients by A and B, from those by Z (M x D).
    pub fn backward(&self, rows: &Matrix, mixing: &Mixing, by: &[f32]) -> Mixing {
        let (t, d) = (self.tokens, self.width());
        let scale = 1.0 / (d as f64).sqrt();
        let [a, b] = mixing.each_ref().map(|m| m.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>());
        let of = |(row, by): (&[f32], &[f32])| -> [Vec<f64>; 2] {
            let (x, by) = (self.tokens_of(row), self.tokens_of(by));
            let (p, c) = self.gather(&x, &a);
            let by_b = transposed(&c, &by, [t, d, d]);
            // By C, by P, by the scores.
            let by_c = by.chunks_exact(d).flat_map(|by| {
                b.chunks_exact(d).map(|row| row.iter().zip(by).map(|(b, y)| b * y).sum::<f64>()).collect::<Vec<_>>()
            });
            let by_c: Vec<f64> = by_c.collect();
            let mut by_s = vec![0.0; t * t];
            for i in 0..t {
                let (own, weights) = (&by_c[i * d..(i + 1) * d], &p[i * t..(i + 1) * t]);
                let by_p: Vec<f64> =
                    x.chunks_exact(d).map(|x| x.iter().zip(own).map(|(a, b)| a * b).sum::<f64>()).collect();
                let mean: f64 = by_p.iter().zip(weights).map(|(g, w)| g * w).sum();
                for j in 0..t {
                    by_s[i * t + j] = scale * weights[j] * (by_p[j] - mean);
                }
            }
            // S = X A X^T, so by A = X^T (by S) X.
            let by_a = transposed(&x, &product(&by_s, &x, [t, t, d]), [t, d, d]);
            [by_a, by_b]
        };
        let pairs: Vec<(&[f32], &[f32])> = rows.as_slice().chunks(self.dim).zip(by.chunks(self.dim)).collect();
        // Sums in an order that threads do not change.
        let parts: Vec<[Vec<f64>; 2]> = pairs
            .par_chunks(64)
            .map(|some| {
                let mut sum = [vec![0.0; d * d], vec![0.0; d * d]];
                for &pair in some {
                    for (sum, g) in sum.iter_mut().zip(of(pair)) {
                        sum.iter_mut().zip(g).for_each(|(s, g)| *s += g);
                    }
                }
                sum
            })
            .collect();
        let mut out = self.init();
        for n in 0..2 {
            let mut sum = vec![0.0f64; d * d];
            parts.iter().for_each(|part| sum.iter_mut().zip(&part[n]).for_each(|(s, g)| *s += g));
            out[n].iter_mut().zip(&sum).for_each(|(to, s)| *to = *s as f32);
        }
        out
    }
}

/// `a (m x k) b (k x n)`.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for (row, to) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        for (x, line) in row.iter().zip(b.chunks_exact(n)) {
            to.iter_mut().zip(line).for_each(|(to, b)| *to += x * b);
        }
    }
    out
}

/// `a^T (k x m) b (m x n)` of a (m x k).
fn transposed(a: &[f64], b: &[f64], [_, k, n]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; k * n];
    for (row, line) in a.chunks_exact(k).zip(b.chunks_exact(n)) {
        for (x, to) in row.iter().zip(out.chunks_exact_mut(n)) {
            to.iter_mut().zip(line).for_each(|(to, b)| *to += x * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};

    fn drawn(rng: &mut Rng, n: usize) -> Vec<f32> {
        (0..n).map(|_| 0.5 * rng.normal()).collect()
    }

    #[test]
    fn without_weights_rows_stay_as_they_are() {
        let mut rng = Rng::new(1, Use::Synthetic, 0, 0);
        let shape = Attention { dim: 10, tokens: 3 };
        assert_eq!(shape.width(), 4);
        let rows = Matrix::from_vec(5, 10, drawn(&mut rng, 50)).unwrap();
        assert_eq!(shape.forward(&rows, &shape.init()).unwrap(), rows);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let mut rng = Rng::new(2, Use::Synthetic, 0, 0);
        // The last token is filled with zeros.
        let shape = Attention { dim: 11, tokens: 3 };
        let rows = Matrix::from_vec(4, 11, drawn(&mut rng, 44)).unwrap();
        let by = drawn(&mut rng, 44);
        let mixing: Mixing = [drawn(&mut rng, 16), drawn(&mut rng, 16)];
        let value = |mixing: &Mixing| -> f64 {
            let z = shape.forward(&rows, mixing).unwrap();
            z.as_slice().iter().zip(&by).map(|(z, g)| f64::from(*z) * f64::from(*g)).sum()
        };
        let got = shape.backward(&rows, &mixing, &by);
        for which in 0..2 {
            for n in 0..16 {
                let moved = |step: f32| {
                    let mut other = mixing.clone();
                    other[which][n] += step;
                    value(&other)
                };
                let want = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let found = f64::from(got[which][n]);
                assert!((found - want).abs() <= 2e-3, "{which} {n}: {found} and not {want}");
            }
        }
        assert!(got.iter().all(|g| g.iter().any(|v| v.abs() > 1e-3)), "{got:?}");
    }
}
