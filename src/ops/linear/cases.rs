//! Products with weights: the names and kernels.

use crate::ops::registry::{ONE, Operator, TYPES, kernels};

const BLOCKS: &[&str] = &["q8_0", "q4_0", "q4_1"];
const STEPS: &[&str] = &["bf16_8", "bf16_32"];
const WEIGHTS: &[&str] = &["f32_8", "f32_32", "bf16_8", "bf16_32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "linear",
    room: "linear",
    sources: &["linear"],
    arguments: &[super::kernel::GemmArgs::LAYOUT],
    kernels: kernels! {
        "gemm_nt" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: forward, bias and activation fused"
        "gemm_nn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of the input, slope fused"
        "gemm_tn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of a weight"
        "column_sums" ONE ["columns / 32"] 256 "4 m n B, m n FLOP" "projector: gradient of a bias"
    },
    checks: &[],
    cases: &[],
};

/// Products in 8 bits.
pub const INT8: Operator = Operator {
    name: "linear_int8",
    room: "linear",
    sources: &[],
    arguments: &[],
    kernels: &[],
    checks: &[],
    cases: &[],
};

/// Few rows at a time, as a step of generation has.
pub const DECODE: Operator = Operator {
    name: "linear_decode",
    room: "linear",
    sources: &["linear_decode"],
    arguments: &[],
    kernels: kernels! {
        "decode_bf16" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "2 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a bf16 weight"
        "decode_step" STEPS ["M / 8 or 32 x out / 16"] 256 "2 (out + M) (in + r) + 2 M out B, 2 M out (in + r) FLOP" "language model: a decode step in bf16, with the adapter"
        "decode_q8_0" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "1.0625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a Q8_0 weight, dequantised in registers"
        "decode_q4_0" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "0.5625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_0"
        "decode_q4_1" WEIGHTS ["M / 8 or 32 x out / 16"] 256 "0.625 out in + s M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_1"
    },
    checks: &[],
    cases: &[],
};

/// Quantised weights for products of many rows.
pub const DEQUANTISE: Operator = Operator {
    name: "dequantise",
    room: "linear",
    sources: &["linear_dequantise"],
    arguments: &[],
    kernels: kernels! {
        "dequantise" BLOCKS ["N K / 2048"] 256 "N K (w + 4) B, w a stored weight's bytes" "language model: quantised weights for products of many rows"
    },
    checks: &[],
    cases: &[],
};
