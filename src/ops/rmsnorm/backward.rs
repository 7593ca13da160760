//! RMSNorm for training: the forward keeps `1 / rms` of each row, the backward uses it.
//!
//! `y = x rstd w`, `rstd = (mean(x^2) + eps)^-1/2`. With `g = dy w` and `xhat = x rstd`:
//! `dx = rstd (g - xhat mean(g xhat))`, `dw = sum over rows of dy xhat`.

use rayon::prelude::*;

use crate::tensor::profile::timed;
use crate::tensor::simd::{fold2, vectorized};

/// Rows a task takes.
const ROWS: usize = 32;

vectorized! {
    fn forward_row(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let rstd = 1.0 / (fold2(x, x, |a, b| a * b) / x.len() as f32 + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * rstd * w;
        }
        rstd
    }

    fn apply_row(x: &[f32], w: &[f32], rstd: f32, y: &mut [f32]) {
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * rstd * w;
        }
    }

    /// `dy` is overwritten with `dy w`.
    fn backward_row(x: &[f32], w: &[f32], rstd: f32, dy: &mut [f32], dx: &mut [f32]) {
        for (g, w) in dy.iter_mut().zip(w) {
            *g *= w;
        }
        let mean = fold2(dy, x, |g, x| g * x) * rstd / x.len() as f32;
        for ((d, g), x) in dx.iter_mut().zip(&*dy).zip(x) {
            *d += rstd * (g - x * rstd * mean);
        }
    }

    fn weight_row(x: &[f32], rstd: f32, dy: &[f32], dw: &mut [f32]) {
        for ((d, g), x) in dw.iter_mut().zip(dy).zip(x) {
            *d += g * x * rstd;
        }
    }
}

/// `y = norm(x)` row by row; `rstd` gets one value a row. Shapes: x, y (M x w.len()), rstd (M).
pub fn forward(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(rstd.len(), w.len()));
    let width = w.len();
    y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(rstd.par_chunks_mut(ROWS)).for_each(
        |((y, x), rstd)| {
            for ((y, x), r) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rstd) {
                *r = forward_row(x, w, eps, y);
            }
        },
    );
}

/// The forward again from a known `rstd`.
pub fn again(x: &[f32], w: &[f32], rstd: &[f32], y: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(rstd.len(), w.len()));
    let width = w.len();
    y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(rstd.par_chunks(ROWS)).for_each(
        |((y, x), rstd)| {
            for ((y, x), r) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rstd) {
                apply_row(x, w, *r, y);
            }
        },
    );
}

/// `dx += d norm(x)`; `dy` is used up. With `dw`, adds the weight's gradient, in an order that only the shape decides.
pub fn backward(x: &[f32], w: &[f32], rstd: &[f32], dy: &mut [f32], dx: &mut [f32], dw: Option<&mut [f32]>) {
    let _timed = timed("rmsnorm_backward", || super::cost(2 * rstd.len(), w.len()));
    let width = w.len();
    if let Some(dw) = dw {
        let rows = ROWS * 8;
        let partial: Vec<Vec<f32>> = (x.par_chunks(rows * width), dy.par_chunks(rows * width), rstd.par_chunks(rows))
            .into_par_iter()
            .map(|(x, dy, rstd)| {
                let mut sum = vec![0.0f32; width];
                for ((x, dy), r) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(rstd) {
                    weight_row(x, *r, dy, &mut sum);
                }
                sum
            })
            .collect();
        for sum in partial {
            for (d, s) in dw.iter_mut().zip(sum) {
                *d += s;
            }
        }
    }
    let step = ROWS * width;
    (x.par_chunks(step), dy.par_chunks_mut(step), dx.par_chunks_mut(step), rstd.par_chunks(ROWS))
        .into_par_iter()
        .for_each(|(x, dy, dx, rstd)| {
            let rows = x.chunks_exact(width).zip(dy.chunks_exact_mut(width)).zip(dx.chunks_exact_mut(width));
            for (((x, dy), dx), r) in rows.zip(rstd) {
                backward_row(x, w, *r, dy, dx);
            }
        });
}

/// RMSNorm of each head of a row (Qwen3's q and k norms), rows of `stride` values with heads from column `column`.
/// In place; keeps `rstd` (M x heads).
pub fn forward_heads(x: &mut [f32], (stride, column): (usize, usize), w: &[f32], eps: f32, rstd: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(rstd.len(), w.len()));
    let (dim, heads) = (w.len(), rstd.len() / (x.len() / stride).max(1));
    x.par_chunks_exact_mut(stride).zip(rstd.par_chunks_exact_mut(heads)).for_each(|(row, rstd)| {
        let mut copy = vec![0.0; dim];
        for (head, r) in row[column..column + heads * dim].chunks_exact_mut(dim).zip(rstd) {
            copy.copy_from_slice(head);
            *r = forward_row(&copy, w, eps, head);
        }
    });
}

/// Backward of [`forward_heads`]: `d` holds dy and becomes dx, `x` is the input, both laid out the same way.
pub fn backward_heads(
    x: &[f32],
    d: &mut [f32],
    (stride, column): (usize, usize),
    w: &[f32],
    rstd: &[f32],
    dw: Option<&mut [f32]>,
) {
    let _timed = timed("rmsnorm_backward", || super::cost(2 * rstd.len(), w.len()));
    let (dim, heads) = (w.len(), rstd.len() / (x.len() / stride).max(1));
    let columns = column..column + heads * dim;
    if let Some(dw) = dw {
        for ((x, dy), rstd) in x.chunks_exact(stride).zip(d.chunks_exact(stride)).zip(rstd.chunks_exact(heads)) {
            let pairs = x[columns.clone()].chunks_exact(dim).zip(dy[columns.clone()].chunks_exact(dim));
            for ((x, dy), r) in pairs.zip(rstd) {
                weight_row(x, *r, dy, dw);
            }
        }
    }
    let rows = x.par_chunks_exact(stride).zip(d.par_chunks_exact_mut(stride)).zip(rstd.par_chunks_exact(heads));
    rows.for_each(|((x, d), rstd)| {
        let mut dy = vec![0.0; dim];
        let pairs = x[columns.clone()].chunks_exact(dim).zip(d[columns.clone()].chunks_exact_mut(dim));
        for ((x, d), r) in pairs.zip(rstd) {
            dy.copy_from_slice(d);
            d.fill(0.0);
            backward_row(x, w, *r, &mut dy, d);
        }
    });
}
