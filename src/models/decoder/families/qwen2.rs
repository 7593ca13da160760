//! Qwen2 and 2.5: a bias on q, k and v.

use super::{Family, PLAIN};

pub(super) static FAMILY: Family = Family {
    name: "qwen2",
    title: "Qwen2",
    hf_architecture: "Qwen2ForCausalLM",
    hf_model_type: "qwen2",
    // No `attention_bias`: the bias is part of the architecture, and its configurations do not name
    // it.
    hf_flags: &["use_sliding_window"],
    gguf: "qwen2",
    qkv_bias: true,
    ..PLAIN
};
