//! The draw of tokens: its name, its kernel, what it is checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{ONE, Operator, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "sampling",
    room: "sampling",
    sources: &["sampling"],
    arguments: &[super::kernel::SamplingArgs::LAYOUT],
    constants: &[("sampling_shared", super::kernel::SHARED), ("sampling_vocabulary", super::kernel::MOST)],
    kernels: kernels! {
        "sampling" ONE ["rows"] 512 "12 to 44 vocab B from L2, 4 vocab from memory" "generation: temperature, top-k, top-p and the CPU's Philox draw"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
};

/// How far the uniform number may lie outside the interval of the token that it draws. Where
/// `top_p` falls so near to a token's edge, rounding may keep the token or not.
pub const TOLERANCE: f64 = 1e-5;
