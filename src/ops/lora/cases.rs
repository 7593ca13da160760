//! Layers with adapters: their names, their kernels, what they are checked on and measured with.
//! Tolerances are those of products ([`crate::ops::linear::cases::tolerance`]).

mod bench;
mod check;

use crate::ops::registry::{ONE, Operator, TYPES, kernels};

const EXACT: &[&str] = &["f32"];
const HOPPER: &[&str] = &["bf16_sm90a", "bf16_f32_sm90a"];
const WIDE: &[&str] = &["bf16", "bf16_f32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "lora",
    room: "lora",
    sources: &["lora"],
    arguments: &[
        super::kernel::ShrinkArgs::LAYOUT,
        super::kernel::LoraArgs::LAYOUT,
        super::kernel::AdapterGradientArgs::LAYOUT,
    ],
    constants: &[("wide_rows", super::kernel::WIDE), ("wide_shared", super::kernel::RING)],
    kernels: kernels! {
        "lora_shrink" TYPES ["tiles x r / 64 x in / 512"] 128 "s in (M + r) B, 2 M in r FLOP" "language model: S = scale X A^T of every token's adapter"
        "lora_shrink_turned" TYPES ["tiles x r / 64 x out / 512"] 128 "s out (M + r) B, 2 M out r FLOP" "language model: dS = scale dY B"
        "lora_shrink_sum" TYPES ["tiles"] 256 "(4 splits + s) M r B" "language model: parts of S or dS, in order"
        "lora_forward" WIDE ["tiles of 128 x out / 128"] 256 "s (M + out) (in + r) + s M out B, 2 M out (in + r) FLOP" "language model: Y = [X | S] [W | B]^T, several adapters at once, and every layer without one"
        "lora_backward" WIDE ["tiles of 128 x in / 128"] 256 "s (M + in) (out + r) + s M in B, 2 M in (out + r) FLOP" "language model: dX = [dY | dS] [W ; A]"
        "lora_forward" EXACT ["tiles of 64 x out / 64"] 128 "4 (M + out) (in + r) + 4 M out B, 2 M out (in + r) FLOP" "language model: the same with f32 storage"
        "lora_backward" EXACT ["tiles of 64 x in / 64"] 128 "4 (M + in) (out + r) + 4 M in B, 2 M in (out + r) FLOP" "language model: the same with f32 storage"
        "lora_gradient" TYPES ["m / 64 x n / 64 x pieces of 512"] 128 "s M (m + n) + 8 m n B, 2 M m n FLOP" "language model: dA and dB over each adapter's rows"
        "lora_gradient_sum" ONE ["m n / 256 x adapters"] 256 "4 m n (pieces + 2) B" "language model: parts of dA and dB, in order"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
};

/// Masks of an adapter's input.
pub const DROPOUT: Operator = Operator {
    name: "dropout",
    room: "lora",
    sources: &["lora_dropout"],
    arguments: &[super::mask::DropoutArgs::LAYOUT],
    constants: &[("dropout_lanes", super::dropout::LANES), ("dropout_block", super::dropout::BLOCK)],
    kernels: kernels! {
        "dropout" EXACT ["M columns / 8 / 256"] 256 "8 M N B, 12 M N where it adds" "tuning: masks of an adapter's input, the CPU's Philox draws"
    },
    checks: check::DROPOUT,
    cases: bench::DROPOUT,
    ..Operator::BARE
};

/// The products by wgmma and TMA.
pub const SM90A: Operator = Operator {
    name: "lora_sm90a",
    room: "lora",
    sources: &["lora_sm90a"],
    arguments: &[super::wgmma::HopperArgs::LAYOUT],
    constants: &[
        ("wgmma_rows", super::wgmma::TILE),
        ("wgmma_columns", super::wgmma::TILE),
        ("wgmma_shared", super::wgmma::SHARED),
    ],
    kernels: kernels! {
        "lora_forward" HOPPER ["M / 128 x out / 128"] 384 "2 (M + out) (in + r) + s M out B, 2 M out (in + r) FLOP" "language model: the same by wgmma and TMA on sm_90, with RALLREC_WGMMA=1; not run on a GPU yet"
        "lora_backward" HOPPER ["M / 128 x in / 128"] 384 "2 (M + in) (out + r) + s M in B, 2 M in (out + r) FLOP" "language model: the gradient of its input likewise"
    },
    checks: check::SM90A,
    cases: bench::SM90A,
    ..Operator::BARE
};

/// Ranks about a vector and a tile.
pub const RANKS: &[usize] = &[1, 4, 8, 16, 40];

/// What a masked value may be off by: one rounding of the product `masked`, one of its sum with
/// what was there.
pub fn masked_tolerance(want: f64, masked: f64) -> f64 {
    1.2e-7 * (want.abs() + masked.abs())
}
