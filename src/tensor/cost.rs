//! The work of one call of an operator.

use serde::{Deserialize, Serialize};

/// What one call of an operator must move and compute at least; the base of every "percent of the
/// ceiling".
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
