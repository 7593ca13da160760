//! Llama-type decoders: Llama, Llama-3.1, Qwen2, Qwen3, from Hugging Face folders and GGUF files.

mod assemble;
mod check;
pub mod config;
mod convert;
pub mod device;
pub(crate) mod embedded;
pub mod embedding;
pub mod fixture;
pub mod forward;
pub(crate) mod gguf;
mod hf;
mod hf_config;
pub mod kv_cache;
pub mod loader;
pub mod model;
pub mod oracle;
mod parts;
mod projections;
pub(crate) mod safetensors;
pub(crate) mod save;
pub(crate) mod soft;
pub mod train;
pub mod weights;

pub use config::{Config, Family};
pub use forward::{Part, Pooling};
pub use kv_cache::{Prefix, Sequence};
pub use loader::{Described, Format, LoadOptions, Loaded, ModelInfo, describe, load};
pub use model::Model;
pub use projections::Arithmetic;
pub use save::save_hf;
pub use soft::SoftTokens;
pub use weights::{Layer, Linear, Weights};
