//! The ceilings' names and kernels. They are what the others are measured against.

use crate::ops::registry::{ONE, Operator, kernels};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "peak",
    room: "peak",
    sources: &["peak"],
    constants: &[("peak_share", super::SHARE)],
    kernels: kernels! {
        "mma_peak" ONE ["4096"] 256 "262144 x steps FLOP a block" "bench: what mma.sync gives at best, the ceiling of the others"
        "gather_peak" ONE ["numbers / 1024"] 128 "(4 + row) numbers B" "bench: rows fetched by number and nothing else, the ceiling of propagation"
    },
    ..Operator::BARE
};
