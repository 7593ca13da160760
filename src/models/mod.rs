//! The models: LightGCN, taste, the alignment projector, Llama-type language models, LoRA adapters.

pub mod builtin;
pub(crate) mod checkpoint;
pub(crate) mod folder;
pub mod hub;
pub mod inspect;
pub mod lightgcn;
pub mod llama;
pub mod lora;
pub mod peft;
pub mod projector;
pub mod soft_prompt;
pub mod taste;
