//! Qwen3: RMSNorm on each query and key head, no bias.

use super::{Family, Windows};

pub(super) static FAMILY: Family = Family {
    name: "qwen3",
    title: "Qwen3",
    hf_architecture: "Qwen3ForCausalLM",
    hf_model_type: "qwen3",
    hf_flags: &["attention_bias", "use_sliding_window"],
    gguf: "qwen3",
    gguf_pairs_rows: false,
    // The head width is not tied to the hidden size; this is what an absent key means.
    head_dim: Some(128),
    qkv_bias: false,
    qk_norm: true,
    windows: Windows::Never,
    default_window: None,
};
