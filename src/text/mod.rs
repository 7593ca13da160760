//! Text in and out of a language model: tokenizer and chat template.

pub mod chat;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message, Role};
pub use tokenizer::{TextStream, Tokenizer};
