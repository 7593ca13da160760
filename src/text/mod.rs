//! Text in and out of a language model: tokenizer and chat template.

pub mod answer;
pub mod chat;
pub mod hint;
pub mod knowledge;
pub mod prompts;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message, Role};
pub use tokenizer::{TextStream, Tokenizer};
