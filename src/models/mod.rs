//! The models: LightGCN, the alignment projector, Llama-type language models, LoRA adapters.

pub(crate) mod folder;
pub mod llama;
pub mod lora;
