//! SwiGLU: its name, its kernels, what it is checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{Operator, TYPES, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "swiglu",
    room: "swiglu",
    sources: &["swiglu"],
    kernels: kernels! {
        "swiglu" TYPES ["M w / vector / 256"] 256 "3 s M w B, 12 M w FLOP" "language model: silu(gate) up"
        "swiglu_backward" TYPES ["M w / vector / 256"] 256 "5 s M w B, 20 M w FLOP" "language model: its gradient, in place"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
    ..Operator::BARE
};

/// What a multiple of `silu` may be off by; `factor` is what it is multiplied by. Below 1e-36 an
/// exponential's reciprocal has no bits left.
pub fn tolerance(narrow: bool, want: f64, factor: f64) -> f64 {
    let unit = if narrow { 4.1e-3 } else { 1e-6 };
    unit * want.abs() + 1e-36 * factor.abs() + 1e-30
}

/// What a multiple of the slope of `silu` may be off by: it has a zero near -1.278, where two parts
/// cancel.
pub fn slope_tolerance(narrow: bool, want: f64, factor: f64) -> f64 {
    tolerance(narrow, want, factor) + 1e-6 * factor.abs()
}
