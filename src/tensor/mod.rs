//! What operators and devices share: matrices, storage types, the work of a call, vector units,
//! timing. It imports nothing above it.

mod cost;
mod dtype;
mod matrix;
pub mod profile;
pub mod simd;
pub mod soft_cap;

pub use cost::Cost;
pub use dtype::Dtype;
pub use matrix::Matrix;
