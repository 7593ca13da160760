//! The models: LightGCN, the alignment projector, decoders of language models, LoRA adapters.

pub(crate) mod checkpoint;
pub mod decoder;
pub mod lightgcn;
pub mod lora;
pub mod projector;
pub mod soft_prompt;
