//! SwiGLU: the names and kernels.

use crate::ops::registry::{Operator, TYPES, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "swiglu",
    room: "swiglu",
    sources: &["swiglu"],
    arguments: &[],
    kernels: kernels! {
        "swiglu" TYPES ["M w / vector / 256"] 256 "3 s M w B, 12 M w FLOP" "language model: silu(gate) up"
        "swiglu_backward" TYPES ["M w / vector / 256"] 256 "5 s M w B, 20 M w FLOP" "language model: its gradient, in place"
    },
    checks: &[],
    cases: &[],
};
