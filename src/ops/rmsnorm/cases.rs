//! RMSNorm: its name, its kernels, what it is checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{ONE, Operator, TYPES, kernels};

const BY_BLOCK: &[&str] = &["f32_256", "bf16_256"];
const BY_WARP: &[&str] = &["f32_32", "bf16_32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rmsnorm",
    room: "rmsnorm",
    sources: &["rmsnorm"],
    arguments: &[super::kernel::NormArgs::LAYOUT, super::kernel::NormBackwardArgs::LAYOUT],
    constants: &[("rmsnorm_chunk", super::kernel::CHUNK)],
    kernels: kernels! {
        "rmsnorm" BY_WARP ["rows / 4"] 128 "2 s M d B, 4 M d FLOP" "language model: norms of heads and narrow rows, a warp each"
        "rmsnorm" BY_BLOCK ["rows"] 256 "2 s M d B, 4 M d FLOP" "language model: norms of wide rows, with the residual sum fused"
        "rmsnorm_backward" BY_WARP ["rows / 4"] 128 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, narrow rows"
        "rmsnorm_backward" BY_BLOCK ["rows"] 256 "3 s M d B, 8 M d FLOP" "language model: gradient of a norm's input, wide rows"
        "rmsnorm_weight" TYPES ["row chunks x d / 32 vectors"] 256 "2 s M d B, 3 M d FLOP" "language model: gradient of a norm's weight"
        "rmsnorm_weight_sum" ONE ["d / 256"] 256 "4 chunks d B" "language model: parts of that gradient, in order"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
};

/// Widths of rows, some that no vector divides.
pub const DIMS: &[usize] = &[1, 3, 8, 31, 64, 130, 257];

/// What is added to the mean of squares.
pub const EPS: f32 = 1e-5;

/// What a value may be off by. A sum of squares in f32 is good to a few units, and bf16 rounds the
/// result once more. `size` is that of the terms of a gradient ([`super::oracle::sizes`]), which
/// may cancel: 300 on rows near zero.
pub fn tolerance(narrow: bool, want: f64, size: f64) -> f64 {
    let unit = if narrow { 4.1e-3 } else { 2e-6 };
    unit * want.abs() + 4e-6 * size + 1e-37
}
