//! Gemma 2: norms before and after attention and MLP, GEGLU, scaled embeddings, soft caps, a window
//! in every other layer.

use super::{Activation, Defaults, Family, Norms, PLAIN, Windows};

pub(super) static FAMILY: Family = Family {
    name: "gemma2",
    title: "Gemma 2",
    hf_architecture: "Gemma2ForCausalLM",
    hf_model_type: "gemma2",
    hf_flags: &["attention_bias"],
    hf_norms_from_one: true,
    gguf: "gemma2",
    norms: Norms::BeforeAndAfter,
    activation: Activation::GeGlu,
    scaled_embeddings: true,
    scales: true,
    windows: Windows::AllButEvery(2),
    defaults: Defaults {
        head_dim: Some(256),
        window: Some(4096),
        query_scalar: Some(256.0),
        score_cap: Some(50.0),
        logit_cap: Some(30.0),
        tied: true,
        ..Defaults::PLAIN
    },
    ..PLAIN
};
