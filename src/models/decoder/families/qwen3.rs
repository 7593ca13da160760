//! Qwen3: RMSNorm on each query and key head, no bias.

use super::{Defaults, Family, PLAIN};

pub(super) static FAMILY: Family = Family {
    name: "qwen3",
    title: "Qwen3",
    hf_architecture: "Qwen3ForCausalLM",
    hf_model_type: "qwen3",
    hf_flags: &["attention_bias", "use_sliding_window"],
    gguf: "qwen3",
    qk_norm: true,
    // The head width is not tied to the hidden size; this is what an absent key means.
    defaults: Defaults { head_dim: Some(128), ..Defaults::PLAIN },
    ..PLAIN
};
