//! `Y = X W^T`: the product with a weight matrix of shape (out, in) as checkpoints store it, and its backward.
//!
//! Cost of a forward of M rows: `2 M out in` FLOP, `bytes(W) + 4 M (in + out)` bytes.

mod cpu;
pub mod cuda;
pub mod decode;
mod dot;
mod low_rank;
pub mod oracle;
pub mod weight;

pub use cpu::{matmul_nn, matmul_nt, matmul_tn};
pub use dot::{Product, matmul_nt_many, matmul_nt_panel, matmul_nt_stacked};
pub use low_rank::add_low_rank;
pub use weight::{Dtype, Storage, Weight};

use super::Cost;

/// Cost of `M` rows through `w`.
pub fn cost(w: &Weight, rows: usize) -> Cost {
    let (out, inp, m) = (w.rows() as f64, w.cols() as f64, rows as f64);
    Cost { bytes: w.bytes() as f64 + 4.0 * m * (out + inp), flops: 2.0 * m * out * inp }
}
