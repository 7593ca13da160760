//! The CPU version: pieces of rows in parallel.

use rayon::prelude::*;

use super::{Adam, cost};
use crate::tensor::profile::timed;
use crate::tensor::simd::vectorized;

/// Parameters of one parallel piece.
const PIECE: usize = 16 * 1024;

/// Rows of `width` values, all of one length.
pub(super) struct Rows<'a> {
    pub p: &'a mut [f32],
    pub g: &'a [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
    pub width: usize,
}

/// As [`super::step`], which has checked the lengths. An empty `weight` means none.
pub(super) fn step(adam: &Adam, t: u64, rows: Rows<'_>, weight: &[f32]) {
    let Rows { p, g, m, v, width } = rows;
    let _timed = timed("adam", || cost(p.len()));
    let (rate, root) = adam.corrected(t);
    // Without weights rows do not matter, and a list of one long row is cut all the same.
    let width = if weight.is_empty() { 1 } else { width };
    let rows = (PIECE / width).max(1);
    let piece = rows * width;
    (p.par_chunks_mut(piece), g.par_chunks(piece), m.par_chunks_mut(piece), v.par_chunks_mut(piece))
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (p, g, m, v))| {
            if weight.is_empty() {
                return update(adam, rate, root, 0.0, p, g, m, v);
            }
            let each = p.chunks_mut(width).zip(g.chunks(width)).zip(m.chunks_mut(width)).zip(v.chunks_mut(width));
            for ((((p, g), m), v), &w) in each.zip(&weight[i * rows..]) {
                update(adam, rate, root, w, p, g, m, v);
            }
        });
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

    #[test]
    fn pieces_do_not_show() {
        let n = PIECE * 2 + 48;
        let g: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 3.0).collect();
        let weight: Vec<f32> = (0..n / 16).map(|i| (i % 3) as f32).collect();
        let (mut p, mut m, mut v) = (vec![0.5; n], vec![0.0; n], vec![0.0; n]);
        step(&Adam::new(0.1), 1, Rows { p: &mut p, g: &g, m: &mut m, v: &mut v, width: 16 }, &weight);
        for r in [0, 1, PIECE / 16 - 1, PIECE / 16, n / 16 - 1] {
            let s = r * 16..(r + 1) * 16;
            let (mut a, mut b, mut c) = (vec![0.5; 16], vec![0.0; 16], vec![0.0; 16]);
            let rows = Rows { p: &mut a, g: &g[s.clone()], m: &mut b, v: &mut c, width: 16 };
            step(&Adam::new(0.1), 1, rows, &weight[r..=r]);
            assert_eq!(a, p[s], "row {r}");
        }
    }
}
