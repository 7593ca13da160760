//! Llama-type decoders: Llama, Llama-3.1, Qwen2, Qwen3, Mistral, Gemma 2 and 3.

pub mod activation;
pub(crate) mod angles;
pub mod cache;
pub(crate) mod check;
pub mod config;
pub mod families;
pub mod fixture;
pub mod layer;
pub mod model;
pub mod oracle;
pub(crate) mod parts;
pub(crate) mod pass;
pub mod placed;
pub(crate) mod soft;
#[cfg(test)]
mod tests;
pub mod train;
pub mod weights;

pub use cache::Cache;
pub use config::Config;
pub use families::Family;
pub use model::Model;
pub use pass::{Texts, Wanted};
pub use placed::Arithmetic;
pub use soft::SoftTokens;
pub use weights::{Layer, Linear, Weights};
