//! The operators. Each has one contract (`mod.rs`), an f64 oracle, a CPU version and, later, a CUDA version;
//! one property-test body runs against every implementation.

use serde::{Deserialize, Serialize};

pub mod adam;
pub mod adamw;
pub mod attention;
pub mod bpr;
pub mod copy;
pub mod cross_entropy;
pub mod infonce;
pub mod linear;
pub mod lora;
pub mod merge;
pub mod mlp;
pub mod profile;
pub mod rmsnorm;
pub mod rope;
pub mod sampling;
pub mod simd;
pub mod spmm;
pub mod swiglu;
pub mod topk;
pub mod yes_no;

/// What one call of an operator must move and compute at least; the base of every "percent of the ceiling".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes read plus written, each operand once.
    pub bytes: f64,
    /// Floating point operations; a multiply-add counts two.
    pub flops: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}
