//! Reading and writing of language-model files.

#[path = "models_io/chat.rs"]
mod chat;
#[path = "models_io/common.rs"]
mod common;
#[path = "models_io/gguf.rs"]
mod gguf;
#[path = "models_io/hf.rs"]
mod hf;
#[path = "models_io/peft.rs"]
mod peft;
