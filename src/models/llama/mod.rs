//! Llama-type decoders: Llama, Llama-3.1, Qwen2, Qwen3.

pub(crate) mod check;
pub mod config;
pub mod device;
pub mod embedding;
pub mod families;
pub mod fixture;
pub mod forward;
pub mod kv_cache;
pub mod model;
pub mod oracle;
pub(crate) mod parts;
mod projections;
pub(crate) mod soft;
pub mod train;
pub mod weights;

pub use config::Config;
pub use families::Family;
pub use forward::{Part, Pooling};
pub use kv_cache::{Prefix, Sequence};
pub use model::Model;
pub use projections::Arithmetic;
pub use soft::SoftTokens;
pub use weights::{Layer, Linear, Weights};
