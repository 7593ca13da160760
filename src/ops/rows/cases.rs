//! Rows copied and added: the name, the kernels, what they are checked on and measured with.

mod bench;
mod check;

use crate::ops::registry::{ONE, Operator, kernels};

const EXACT: &[&str] = &["f32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rows",
    room: "rows",
    sources: &["rows"],
    kernels: kernels! {
        "copy_rows" ONE ["rows vectors / 256"] 256 "2 s rows width B" "language model: new keys and values into a cache, last rows out of a batch"
        "add_rows" EXACT ["rows vectors / 256"] 256 "4 (sources + 2 rows) width B" "tuning: gradients of chosen rows back into those of all"
    },
    checks: check::CASES,
    cases: bench::CASES,
    ..Operator::BARE
};

/// What a sum of a few rows may be off by; `size` is that of its terms.
pub fn sum_tolerance(size: f64) -> f64 {
    3e-7 * size + 1e-44
}
