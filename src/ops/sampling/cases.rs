//! The draw of tokens: the names and kernels.

use crate::ops::registry::{ONE, Operator, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "sampling",
    room: "sampling",
    sources: &["sampling"],
    arguments: &[],
    kernels: kernels! {
        "sampling" ONE ["rows"] 512 "12 to 44 vocab B from L2, 4 vocab from memory" "generation: temperature, top-k, top-p and the CPU's Philox draw"
    },
    checks: &[],
    cases: &[],
};
