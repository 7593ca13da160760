//! `Y = X W^T`: the product with a weight matrix of shape (out, in) as checkpoints store it, and
//! its backward.
//!
//! Cost of a forward of M rows: `2 M out in` FLOP, `bytes(W) + 4 M (in + out)` bytes.

mod amx;
pub mod bf16;
pub mod cases;
pub mod convert;
mod cpu;
pub mod decode;
mod few;
pub(crate) mod gemm;
pub mod int8;
mod jobs;
pub mod kernel;
pub mod layers;
mod low_rank;
pub(crate) mod narrow;
pub mod oracle;
mod panel;
pub mod quantised;
pub(crate) mod tile;
pub mod weight;

pub(crate) use cpu::{
    Product, add_column_sums, matmul_nn, matmul_nn_many, matmul_nt, matmul_nt_many, matmul_nt_panel, matmul_tn,
};
pub(crate) use low_rank::add_low_rank;
pub use quantised::Quantised;
pub use weight::{InFile, Storage, Weight};

use crate::tensor::Cost;

/// Cost of `M` rows through `w`.
pub fn cost(w: &Weight, rows: usize) -> Cost {
    let (out, inp, m) = (w.rows() as f64, w.cols() as f64, rows as f64);
    Cost { bytes: w.bytes() as f64 + 4.0 * m * (out + inp), flops: 2.0 * m * out * inp }
}

/// Cost of `M` rows through several weights of one input.
fn cost_of_all<'a>(weights: impl Iterator<Item = &'a Weight>, rows: usize) -> Cost {
    weights
        .map(|w| cost(w, rows))
        .fold(Cost::default(), |a, b| Cost { bytes: a.bytes + b.bytes, flops: a.flops + b.flops })
}

/// Cost of a product of `M` rows, in f32, with the (out, in) side of `size` bytes a value.
fn cost_of(rows: usize, out: usize, inp: usize, size: f64) -> Cost {
    let (m, out, inp) = (rows as f64, out as f64, inp as f64);
    Cost { bytes: size * out * inp + 4.0 * m * (out + inp), flops: 2.0 * m * out * inp }
}
