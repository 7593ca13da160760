//! Text for and from language models: tokenizers, chat templates, item texts, prompts, facts in words, the hint,
//! answers.

pub mod answer;
pub mod chat;
pub(crate) mod gguf_tokenizer;
pub mod hint;
pub mod item_text;
pub mod knowledge;
pub mod prompts;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message, Role};
pub use tokenizer::{TextStream, Tokenizer};
