//! Attention: the names and kernels.

use crate::ops::registry::{Operator, TYPES, kernels};

const HEADS: &[&str] = &["64", "128"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "attention",
    room: "attention",
    sources: &["attention", "attention_backward"],
    arguments: &[],
    kernels: kernels! {
        "attention_f32" HEADS ["query tiles x heads"] 64 "8 M H D + 8 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, f32"
        "attention_bf16" HEADS ["query tiles x heads"] 128 "4 M H D + 4 keys kv D B, 4 pairs H D FLOP" "language model: causal attention of a ragged batch, bf16"
        "attention_delta" TYPES ["M H / 4"] 128 "2 s M H D B, 2 M H D FLOP" "language model: dO . O of every row and head"
        "attention_by_query_f32" HEADS ["query tiles x heads"] 64 "12 M H D + 8 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, f32"
        "attention_by_query_bf16" HEADS ["query tiles x heads"] 128 "8 M H D + 4 keys kv D B, 6 pairs H D FLOP" "language model: gradient of the queries, bf16"
        "attention_by_key_f32" HEADS ["key tiles x kv heads"] 64 "8 M H D + 16 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, f32"
        "attention_by_key_bf16" HEADS ["key tiles x kv heads"] 128 "4 M H D + 12 keys kv D B, 8 pairs H D FLOP" "language model: gradients of keys and values, bf16"
    },
    checks: &[],
    cases: &[],
};

/// A decode step, whose samples share a prompt.
pub const DECODE: Operator = Operator {
    name: "attention_decode",
    room: "attention",
    sources: &["attention_decode"],
    arguments: &[],
    kernels: kernels! {
        "decode_attention_f32" HEADS ["spans of 256 keys x kv heads"] 64 "8 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, the prompt's keys read once for all samples, f32"
        "decode_attention_bf16" HEADS ["spans of 256 keys x kv heads"] 128 "4 kv D (P + sum T) B, 4 S H D (P + T) FLOP" "language model: a decode step, bf16"
        "decode_attention_merge" TYPES ["S H / 4"] 128 "4 parts H (D + 2) B" "language model: joins a sample's spans in their order"
    },
    checks: &[],
    cases: &[],
};
