//! The model store and the file formats of models: Hugging Face folders, GGUF, safetensors, PEFT
//! adapters, tokenizers, chat templates. It makes configurations and weights of [`crate::models`];
//! the models know nothing of files.

mod assemble;
pub mod builtin;
pub mod chat;
pub mod fixture;
pub(crate) mod folder;
pub(crate) mod gguf;
pub(crate) mod hf;
pub mod hub;
pub mod inspect;
pub mod loader;
pub mod peft;
pub(crate) mod safetensors;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message, Role};
pub use hf::save_hf;
pub use loader::{Described, Format, LoadOptions, Loaded, ModelInfo, describe, load};
pub use tokenizer::{TextStream, Tokenizer};
