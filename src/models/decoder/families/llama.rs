//! Llama 2, 3, 3.1, SmolLM2, and distillations into them: the plain decoder.

use super::{Family, PLAIN};

pub(super) static FAMILY: Family = Family {
    name: "llama",
    title: "Llama",
    hf_architecture: "LlamaForCausalLM",
    hf_model_type: "llama",
    hf_flags: &["attention_bias", "mlp_bias"],
    gguf: "llama",
    gguf_pairs_rows: true,
    ..PLAIN
};
