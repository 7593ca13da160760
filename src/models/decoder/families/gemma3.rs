//! Gemma 3, text: Gemma 2 with norms of q and k instead of soft caps, a window in five of six
//! layers, and rope by layer.

use super::{Activation, Defaults, Family, Norms, PLAIN, Windows};

pub(super) static FAMILY: Family = Family {
    name: "gemma3",
    title: "Gemma 3",
    hf_architecture: "Gemma3ForCausalLM",
    hf_model_type: "gemma3_text",
    hf_flags: &["attention_bias"],
    hf_norms_from_one: true,
    gguf: "gemma3",
    norms: Norms::BeforeAndAfter,
    activation: Activation::GeGlu,
    scaled_embeddings: true,
    scales: true,
    qk_norm: true,
    windows: Windows::AllButEvery(6),
    defaults: Defaults {
        head_dim: Some(256),
        window: Some(4096),
        rope_theta: 1_000_000.0,
        local_rope_theta: Some(10_000.0),
        query_scalar: Some(256.0),
        tied: true,
        ..Defaults::PLAIN
    },
    ..PLAIN
};
