//! Rotary positions: the name, the kernels, what they are checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{Operator, kernels};

const ROPES: &[&str] = &["f32", "bf16", "f32_single", "bf16_single"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rope",
    room: "rope",
    sources: &["rope"],
    arguments: &[super::kernel::RopeArgs::LAYOUT],
    kernels: kernels! {
        "rope" ROPES ["M heads half / vector / 256"] 256 "2 s M heads d B, 3 M heads d FLOP" "language model: rotary positions, forward and backward"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
    ..Operator::BARE
};

/// Half widths of heads, whole vectors and others.
pub const HALVES: &[usize] = &[1, 3, 4, 8, 20, 32];

/// What a turned value may be off by, whose pair is at most `largest`; below the normal numbers a
/// step of the storage counts. There and back costs two and a half times as much.
pub fn tolerance(narrow: bool, largest: f64) -> f64 {
    let (unit, step) = if narrow { (4.1e-3, 1e-40) } else { (3e-7, 1e-44) };
    2.0 * unit * largest + step
}
