//! Attention: its names, its kernels, what it is checked on and measured with.

mod bench;
mod check;

use super::Heads;
use super::kernel::tile_rows;
use crate::ops::registry::{Operator, TYPES, kernels, largest};
use half::bf16;

const HEADS: &[&str] = &["64", "128"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "attention",
    room: "attention",
    sources: &["attention", "attention_backward"],
    arguments: &[super::kernel::AttentionArgs::LAYOUT, super::gradient::AttentionBackwardArgs::LAYOUT],
    constants: &[
        ("attention_rows_f32", tile_rows::<f32>()),
        ("attention_shared_f32_64", super::kernel::shared::<f32>(false)),
        ("attention_shared_f32_128", super::kernel::shared::<f32>(true)),
        ("attention_rows_bf16", tile_rows::<bf16>()),
        ("attention_shared_bf16_64", super::kernel::shared::<bf16>(false)),
        ("attention_shared_bf16_128", super::kernel::shared::<bf16>(true)),
        ("attention_backward_rows_f32", tile_rows::<f32>()),
        ("attention_backward_shared_f32_64", super::gradient::shared::<f32>(false)),
        ("attention_backward_shared_f32_128", super::gradient::shared::<f32>(true)),
        ("attention_backward_rows_bf16", tile_rows::<bf16>()),
        ("attention_backward_shared_bf16_64", super::gradient::shared::<bf16>(false)),
        ("attention_backward_shared_bf16_128", super::gradient::shared::<bf16>(true)),
    ],
    kernels: kernels! {
        "attention_f32" HEADS ["query tiles x heads"] 64 "8 M H D + 8 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, f32"
        "attention_bf16" HEADS ["query tiles x heads"] 128 "4 M H D + 4 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, bf16"
        "attention_delta" TYPES ["M H / 4"] 128 "2 s M H D B, 2 M H D FLOP" "language model: dO . O of every row and head"
        "attention_by_query_f32" HEADS ["query tiles x heads"] 64 "12 M H D + 8 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, f32"
        "attention_by_query_bf16" HEADS ["query tiles x heads"] 128 "8 M H D + 4 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, bf16"
        "attention_by_key_f32" HEADS ["key tiles x kv heads"] 64 "8 M H D + 16 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, f32"
        "attention_by_key_bf16" HEADS ["key tiles x kv heads"] 128 "4 M H D + 12 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, bf16"
    },
    checks: check::CASES,
    cases: bench::CASES,
    counted: bench::COUNTED,
};

/// A decode step, whose samples share a prompt.
pub const DECODE: Operator = Operator {
    name: "attention_decode",
    room: "attention",
    sources: &["attention_decode"],
    arguments: &[super::decode::DecodeArgs::LAYOUT, super::decode::DecodeMergeArgs::LAYOUT],
    constants: &[("attention_part_rows", super::decode::PART_ROWS)],
    kernels: kernels! {
        "decode_attention_f32" HEADS ["spans of 256 keys x kv heads"] 64 "8 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, the prompt's keys read once for all samples, f32"
        "decode_attention_bf16" HEADS ["spans of 256 keys x kv heads"] 128 "4 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, bf16"
        "decode_attention_merge" TYPES ["S H / 4"] 128 "4 parts H (D + 2) B" "language model: joins a sample's spans in their order"
    },
    checks: check::DECODE,
    cases: bench::DECODE,
    ..Operator::BARE
};

/// Widths of heads, some that no tile divides.
pub const DIMS: &[usize] = &[8, 16, 24, 40, 64, 72, 128];

/// What a score is at most, before the scale of `1 / sqrt(dim)`; scores are f32 sums of terms up to
/// this.
pub fn score_bound(q: &[f64], k: &[f64], dim: usize) -> f64 {
    largest(q) * largest(k) * (dim as f64).sqrt()
}

/// What a value of the result may be off by. What scores are off by shows in the weights; bf16
/// rounds weights and result to 8 bits. Values are of the order of 4.
pub fn tolerance(narrow: bool, score: f64) -> f64 {
    4.0 * if narrow { 2e-2 + 2e-6 * score } else { 2e-6 * (1.0 + score) }
}

/// What a log-sum-exp may be off by.
pub fn lse_tolerance(want: f64, score: f64) -> f64 {
    2e-6 * (1.0 + want.abs() + score)
}

/// What a value of dQ, dK and dV may be off by. A probability is off by what its score is off by,
/// in bf16 also by its own rounding, which the difference to the mean does not cancel. A gradient
/// sums as many terms as there are `rows`.
pub fn gradient_tolerance(narrow: bool, heads: Heads, rows: usize, [q, k, v, by_out]: [&[f64]; 4]) -> [f64; 3] {
    let score = score_bound(q, k, heads.dim);
    let unit = if narrow { 1e-2 + 2e-6 * score } else { 2e-6 * (1.0 + score) };
    let terms = 4.0 + ((heads.group() * rows) as f64).sqrt();
    let dot = score_bound(by_out, v, heads.dim);
    [dot * largest(k), dot * largest(q), largest(by_out)].map(|size| unit * terms * size + 1e-30)
}
