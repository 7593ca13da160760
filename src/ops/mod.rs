//! The operators. Each has one contract (`mod.rs`), an f64 oracle, a CPU version and, later, a CUDA version;
//! one property-test body runs against every implementation.

use serde::{Deserialize, Serialize};

pub mod attention;
pub mod linear;
pub mod rmsnorm;
pub mod rope;
pub mod sampling;
pub mod simd;
pub mod swiglu;
pub mod yes_no;

/// What one call of an operator must move and compute at least; the base of every "percent of the ceiling".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes read plus written, each operand once.
    pub bytes: f64,
    /// Floating point operations; a multiply-add counts two.
    pub flops: f64,
}
