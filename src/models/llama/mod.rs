//! Llama-type decoders: Llama, Llama-3.1, Qwen2, Qwen3, from Hugging Face folders and GGUF files.

mod assemble;
mod check;
pub mod config;
mod convert;
pub mod fixture;
pub(crate) mod gguf;
mod hf;
mod hf_config;
pub mod loader;
mod parts;
pub(crate) mod safetensors;
pub(crate) mod save;
pub mod weights;

pub use config::{Config, Family, RopeScaling};
pub use loader::{Described, Format, LoadOptions, Loaded, ModelInfo, describe, load};
pub use save::save_hf;
pub use weights::{Layer, Linear, Weights};
