//! Llama-type decoders: Llama, Llama-3.1, Qwen2, Qwen3, from Hugging Face folders and GGUF files.

pub mod config;
pub mod train;
pub mod weights;

pub use config::{Config, Family, RopeScaling};
pub use weights::{Layer, Linear, Weights};
