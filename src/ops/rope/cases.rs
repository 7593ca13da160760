//! Rotary positions: the names and kernels.

use crate::ops::registry::{Operator, kernels};

const ROPES: &[&str] = &["f32", "bf16", "f32_single", "bf16_single"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rope",
    room: "rope",
    sources: &["rope"],
    arguments: &[],
    kernels: kernels! {
        "rope" ROPES ["M heads half / vector / 256"] 256 "2 s M heads d B, 3 M heads d FLOP" "language model: rotary positions, forward and backward"
    },
    checks: &[],
    cases: &[],
};
