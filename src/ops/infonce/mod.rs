//! InfoNCE in both directions over n pairs of rows, the same row index being the positive pair:
//! with `s_ij = sim(x_i, y_j) / tau`,
//! `loss = weight * mean over i of [ logsumexp_j s_ij - s_ii + logsumexp_j s_ji - s_ii ]`,
//! forward and backward by the raw rows and by `tau`.
//!
//! `sim` is the cosine (rows are normalised inside; a zero row stays zero and gets no gradient) or the inner product.
//! Score tiles are made, used and made again; memory is `O(n d)`, never `n x n`. Each output row is summed by one
//! thread in a fixed order.
//!
//! Cost: `10 n^2 d` FLOP and about `3 n^2` exponentials for loss and gradients.

mod cpu;
pub mod cuda;
mod exp;
pub mod oracle;

pub use cpu::{Gradients, infonce};

use serde::{Deserialize, Serialize};

use crate::tensor::Cost;

/// How two rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// Inner product of normalised rows.
    #[default]
    Cosine,
    /// Inner product.
    InnerProduct,
}

/// The loss's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// How rows are compared.
    pub similarity: Similarity,
    /// Temperature, above 0.
    pub tau: f32,
    /// Factor on the sum of both directions: 1, or one half for their mean.
    pub weight: f32,
}

/// Cost of loss and gradients for `n` pairs of width `dim`.
pub fn cost(n: usize, dim: usize) -> Cost {
    let (n, d) = (n as f64, dim as f64);
    Cost { bytes: 16.0 * n * d, flops: 10.0 * n * n * d }
}
