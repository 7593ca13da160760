//! Rows copied and added: the names and kernels.

use crate::ops::registry::{ONE, Operator, kernels};

const EXACT: &[&str] = &["f32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "rows",
    room: "rows",
    sources: &["rows"],
    arguments: &[],
    kernels: kernels! {
        "copy_rows" ONE ["rows vectors / 256"] 256 "2 s rows width B" "language model: new keys and values into a cache, last rows out of a batch"
        "add_rows" EXACT ["rows vectors / 256"] 256 "4 (sources + 2 rows) width B" "tuning: gradients of chosen rows back into those of all"
    },
    checks: &[],
    cases: &[],
};
