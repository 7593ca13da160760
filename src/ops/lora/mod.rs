//! The low-rank part of an adapted linear layer in training: `y += scale drop(x) A^T B^T` and its
//! backward.
//!
//! Shapes: x (M x in), A (r x in), B (out x r), y (M x out). Cost of a forward: `2 M r (in + out)`
//! FLOP and one reading of x, one reading and writing of y; the backward twice that. The dropout
//! mask is never stored: it is a pure function of (seed, step, layer, target, row name, column).

pub mod cases;
pub(super) mod cpu;
mod dropout;
pub mod kernel;
pub mod mask;
pub mod wgmma;

pub(crate) use cpu::{Low, forward};
pub use dropout::Dropout;
