//! Bayesian personalised ranking (Rendle et al. 2009) on a batch of triples (user, positive, negative):
//! `loss = mean softplus(s_neg - s_pos) + lambda/(2 B) * sum (|e0_user|^2 + |e0_pos|^2 + |e0_neg|^2)`,
//! scores being inner products of output rows `e`, the penalty on the layer-0 rows `e0`.
//!
//! Gives the gradient of the first term with respect to `e`, only in touched rows, and a weight a row for the
//! second, whose gradient is `weight[r] * e0[r]`. Contributions to a row are added in batch order by one thread, so
//! the bits do not depend on the number of threads.
//!
//! Cost: about `14 B d` FLOP and `24 B d` bytes of gathers.

mod cpu;
pub mod cuda;
pub mod oracle;

pub use cpu::Bpr;

use crate::tensor::Cost;

/// A batch; node ids share one space (users first, then items).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Users.
    pub users: Vec<u32>,
    /// An item the user has an edge to.
    pub positives: Vec<u32>,
    /// An item the user has no edge to.
    pub negatives: Vec<u32>,
}

/// Cost of one batch of `n` triples at width `dim`.
pub fn cost(n: usize, dim: usize) -> Cost {
    Cost { bytes: 24.0 * (n * dim) as f64, flops: 14.0 * (n * dim) as f64 }
}
