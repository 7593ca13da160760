//! InfoNCE in both directions over n pairs of rows, the same row index being the positive pair:
//! with `s_ij = sim(x_i, y_j) / tau`,
//! `loss = weight * mean over i of [ logsumexp_j s_ij - s_ii + logsumexp_j s_ji - s_ii ]`,
//! forward and backward by the raw rows and by `tau`.
//!
//! `sim` is the cosine (rows are normalised inside; a zero row stays zero and gets no gradient) or
//! the inner product. Score tiles are made, used and made again; memory is `O(n d)`, never `n x n`.
//! Each output row is summed by one thread in a fixed order.
//!
//! Cost: `10 n^2 d` FLOP and about `3 n^2` exponentials for loss and gradients.

pub mod cases;
mod cpu;
mod exp;
pub mod kernel;
pub mod oracle;

use serde::{Deserialize, Serialize};

use crate::device::{Device, Place, Rows, View, mixed};
use crate::error::{Error, Result};
use crate::tensor::{Cost, Matrix};

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

/// Loss and gradients.
#[derive(Debug)]
pub struct Gradients {
    /// The loss.
    pub loss: f64,
    /// By the raw rows x, n x d in f32.
    pub x: Rows,
    /// By the raw rows y, n x d in f32.
    pub y: Rows,
    /// By tau.
    pub tau: f64,
    /// What it took at least.
    pub cost: Cost,
}

/// Refuses what are no pairs; (pairs, width).
fn check(x: &View<'_>, y: &View<'_>, params: &Params) -> Result<(usize, usize)> {
    let (n, dim) = x.shape();
    let whole = |view: &View<'_>| match view {
        View::Cpu { values, .. } => values.len() == n * dim,
        _ => true,
    };
    if n == 0 || dim == 0 || y.shape() != (n, dim) || !whole(x) || !whole(y) {
        let (m, width) = y.shape();
        return Err(Error::failed("infonce", format!("x is {n} x {dim}, y {m} x {width}: not pairs of rows")));
    }
    if !(params.tau.is_finite() && params.tau > 0.0) {
        return Err(Error::usage("tau", format!("{} must be above 0", params.tau)));
    }
    Ok((n, dim))
}

/// Loss and gradients of the pairs `x`, `y` (each `n x d`, n at least 1); both may be bf16 on a
/// device with kernels.
///
/// # Errors
/// Shapes that are no pairs, a tau that is not above 0, rows at different places, on the CPU a loss
/// that is not finite, a device that fails.
pub fn infonce(device: &Device, x: View<'_>, y: View<'_>, params: &Params) -> Result<Gradients> {
    let (n, dim) = check(&x, &y, params)?;
    match (device, x, y) {
        (Device::Cpu, View::Cpu { values: x, .. }, View::Cpu { values: y, .. }) => {
            let (loss, by) = cpu::infonce(x, y, dim, params, true)?;
            let rows = |values| Ok(Rows::Cpu(Matrix::from_vec(n, dim, values)?));
            Ok(Gradients { loss, x: rows(by.x)?, y: rows(by.y)?, tau: by.tau, cost: cost(n, dim) })
        }
        (Device::Kernels(_), View::F32(x), View::F32(y)) => kernel::infonce(x, y, params).map(Into::into),
        (Device::Kernels(_), View::Bf16(x), View::Bf16(y)) => kernel::infonce(x, y, params).map(Into::into),
        _ => Err(mixed("infonce", &[Place::of(device), x.place(), y.place()])),
    }
}

/// The loss alone, the bits of [`infonce`]'s.
///
/// # Errors
/// As [`infonce`].
pub fn loss(device: &Device, x: View<'_>, y: View<'_>, params: &Params) -> Result<(f64, Cost)> {
    let (n, dim) = check(&x, &y, params)?;
    match (device, x, y) {
        (Device::Cpu, View::Cpu { values: x, .. }, View::Cpu { values: y, .. }) => {
            Ok((cpu::infonce(x, y, dim, params, false)?.0, loss_cost(n, dim)))
        }
        (Device::Kernels(_), View::F32(x), View::F32(y)) => kernel::loss(x, y, params),
        (Device::Kernels(_), View::Bf16(x), View::Bf16(y)) => kernel::loss(x, y, params),
        _ => Err(mixed("infonce", &[Place::of(device), x.place(), y.place()])),
    }
}

impl From<kernel::DeviceGradients> for Gradients {
    fn from(of: kernel::DeviceGradients) -> Self {
        Self { loss: of.loss, x: Rows::F32(of.x), y: Rows::F32(of.y), tau: of.tau, cost: of.cost }
    }
}

/// Cost of the loss alone.
pub fn loss_cost(n: usize, dim: usize) -> Cost {
    let (n, d) = (n as f64, dim as f64);
    Cost { bytes: 8.0 * n * d, flops: 4.0 * n * n * d }
}

/// Cost of loss and gradients for `n` pairs of width `dim`.
pub fn cost(n: usize, dim: usize) -> Cost {
    let (n, d) = (n as f64, dim as f64);
    Cost { bytes: 16.0 * n * d, flops: 10.0 * n * n * d }
}
