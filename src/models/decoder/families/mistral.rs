//! Mistral 7B, Nemo, Ministral: Llama's layer, where version 0.1 sees only the newest 4,096
//! positions.

use super::{Defaults, Family, PLAIN, Windows};

pub(super) static FAMILY: Family = Family {
    name: "mistral",
    title: "Mistral",
    hf_architecture: "MistralForCausalLM",
    hf_model_type: "mistral",
    // llama.cpp's converter writes Mistral as a Llama.
    gguf: "llama",
    gguf_pairs_rows: true,
    windows: Windows::EveryLayer,
    // transformers' MistralConfig: an absent key is not the same as null.
    defaults: Defaults { window: Some(4096), ..Defaults::PLAIN },
    ..PLAIN
};
