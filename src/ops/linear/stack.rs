//! Weights of equal input width whose outputs are the columns of one matrix: q, k and v, or gate and up.

use rayon::prelude::*;

use super::gemm::{View, product};
use super::{Weight, matmul_nn_stacked, matmul_nt_stacked};

/// The weights, first to last.
pub struct Stack<'a>(pub &'a [&'a Weight]);

impl Stack<'_> {
    /// Output width.
    pub fn out(&self) -> usize {
        self.0.iter().map(|w| w.rows()).sum()
    }

    /// `y (M x out) = x (M x in) W^T`, or `+=`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], accumulate: bool) {
        matmul_nt_stacked(x, self.0, y, accumulate);
    }

    /// `dx (M x in) = dy (M x out) W`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        matmul_nn_stacked(dy, self.0, dx, false);
    }
}

/// `dw (out x in) += dy^T x`, where dy is columns `column ..` of rows of `stride` values.
pub fn weight_gradient(dy: &[f32], (stride, column): (usize, usize), x: &[f32], inp: usize, dw: &mut [f32]) {
    let (m, out) = (x.len() / inp, dw.len() / inp);
    assert!(dy.len() == m * stride && column + out <= stride, "weight gradient: shapes differ");
    // SAFETY: lengths are checked above.
    unsafe {
        let lhs = View(dy.as_ptr().add(column), 1, stride);
        product((out, inp, m), dw.as_mut_ptr(), inp, true, lhs, View(x.as_ptr(), inp, 1), 1.0, true);
    }
}

/// `db += column sums` of columns `column ..` of rows of `stride` values.
pub fn bias_gradient(dy: &[f32], (stride, column): (usize, usize), db: &mut [f32]) {
    for row in dy.chunks_exact(stride) {
        for (d, g) in db.iter_mut().zip(&row[column..]) {
            *d += g;
        }
    }
}

/// Adds `bias` to columns `column ..` of each row.
pub fn add_bias(y: &mut [f32], (stride, column): (usize, usize), bias: &[f32]) {
    y.par_chunks_exact_mut(stride).with_min_len(32).for_each(|row| {
        for (y, b) in row[column..].iter_mut().zip(bias) {
            *y += b;
        }
    });
}
