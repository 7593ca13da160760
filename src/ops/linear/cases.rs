//! Products with weights: their names, their kernels, what they are checked on and measured with.

mod bench;
mod check;

pub(crate) use bench::quantised;
pub use check::drawn_blocks;

use super::decode::Format;
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
    constants: &[
        ("tile_rows", super::kernel::TILE),
        ("tile_shared_f32", super::kernel::tile_shared::<f32>()),
        ("tile_shared_bf16", super::kernel::tile_shared::<half::bf16>()),
    ],
    kernels: kernels! {
        "gemm_nt" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: forward, bias and activation fused"
        "gemm_nn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of the input, slope fused"
        "gemm_tn" TYPES ["m / 64 x n / 64"] 128 "s k (m + n) + 4 m n B, 2 m n k FLOP" "projector: gradient of a weight"
        "column_sums" ONE ["columns / 32"] 256 "4 m n B, m n FLOP" "projector: gradient of a bias"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
};

/// Products in bf16, on the CPU.
pub const BF16: Operator = Operator {
    name: "linear_bf16",
    room: "linear",
    checks: check::BF16,
    cases: bench::BF16,
    counted: bench::COUNTED_BF16,
    ..Operator::BARE
};

/// Products in 8 bits.
pub const INT8: Operator = Operator {
    name: "linear_int8",
    room: "linear",
    checks: check::INT8,
    cases: bench::INT8,
    counted: bench::COUNTED_INT8,
    ..Operator::BARE
};

/// Few rows at a time, as a step of generation has.
pub const DECODE: Operator = Operator {
    name: "linear_decode",
    room: "linear",
    sources: &["linear_decode"],
    arguments: &[super::decode::FewRowsArgs::LAYOUT, super::decode::StepArgs::LAYOUT],
    kernels: kernels! {
        "decode_split" ONE ["M in / 2048"] 256 "10 M in B" "language model: few rows in f32 as planes of bf16, once for all outputs"
        "decode_bf16" WEIGHTS ["M / 8 or 32 x out / 16 or 32"] 256 "2 out in + (2 or 6) M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a bf16 weight"
        "decode_step" STEPS ["M / 8 or 32 x out / 16 or 32"] 256 "2 (out + M) (in + r) + 2 M out B, 2 M out (in + r) FLOP" "language model: a decode step in bf16, with the adapter"
        "decode_q8_0" WEIGHTS ["M / 8 or 32 x out / 16 or 32"] 256 "1.0625 out in + (2 or 6) M in + 4 M out B, 2 M out in FLOP" "language model: few rows through a Q8_0 weight, dequantised in registers"
        "decode_q4_0" WEIGHTS ["M / 8 or 32 x out / 16 or 32"] 256 "0.5625 out in + (2 or 6) M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_0"
        "decode_q4_1" WEIGHTS ["M / 8 or 32 x out / 16 or 32"] 256 "0.625 out in + (2 or 6) M in + 4 M out B, 2 M out in FLOP" "language model: the same for Q4_1"
    },
    checks: check::DECODE,
    cases: bench::DECODE,
    ..Operator::BARE
};

/// Quantised weights for products of many rows.
pub const DEQUANTISE: Operator = Operator {
    name: "dequantise",
    room: "linear",
    sources: &["linear_dequantise"],
    kernels: kernels! {
        "dequantise" BLOCKS ["N K / 2048"] 256 "N K (w + 4) B, w a stored weight's bytes" "language model: quantised weights for products of many rows"
    },
    checks: check::DEQUANTISE,
    cases: bench::DEQUANTISE,
    ..Operator::BARE
};

/// What a sum of products may be off by: `size` is the sum of the sizes of its terms, the bias and
/// what was there included. Sums are f32; a result that is stored in bf16 (`narrow`) is rounded
/// once more, to eight bits.
pub fn tolerance(narrow: bool, want: f64, size: f64) -> f64 {
    let stored = if narrow { want.abs() / 256.0 } else { 0.0 };
    stored + 2e-6 * size + 1e-36
}

/// What the shifted sums of quantised weights add to the size: they are of that of `8 d x` even
/// where they cancel, and a minimum multiplies all of x, whose sizes come to `x`.
pub fn shifted(x: f64) -> f64 {
    4.0 * x
}

/// Formats that kernels take.
pub const FORMATS: &[Format] = &[Format::Q8_0, Format::Q4_0, Format::Q4_1];
