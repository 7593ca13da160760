//! RMSNorm: the names and kernels.

use crate::ops::registry::{ONE, Operator, TYPES, kernels};

const BY_BLOCK: &[&str] = &["f32_256", "bf16_256"];
const BY_WARP: &[&str] = &["f32_32", "bf16_32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rmsnorm",
    room: "rmsnorm",
    sources: &["rmsnorm"],
    arguments: &[],
    kernels: kernels! {
        "rmsnorm" BY_WARP ["rows / 4"] 128 "2 s M d B, 4 M d FLOP" "language model: norms of heads and narrow rows, a warp each"
        "rmsnorm" BY_BLOCK ["rows"] 256 "2 s M d B, 4 M d FLOP" "language model: norms of wide rows, with the residual sum fused"
        "rmsnorm_backward" BY_WARP ["rows / 4"] 128 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, narrow rows"
        "rmsnorm_backward" BY_BLOCK ["rows"] 256 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, wide rows"
        "rmsnorm_weight" TYPES ["row chunks x d / 32 vectors"] 256 "2 s M d B, 3 M d FLOP" "language model: gradient of a norm's weight"
        "rmsnorm_weight_sum" ONE ["d / 256"] 256 "4 chunks d B" "language model: parts of that gradient, in order"
    },
    checks: &[],
    cases: &[],
};
