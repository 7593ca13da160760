//! The models: LightGCN, the alignment projector, Llama-type language models, LoRA adapters.

pub(crate) mod checkpoint;
pub mod lightgcn;
pub mod llama;
pub mod lora;
pub mod projector;
pub mod soft_prompt;
