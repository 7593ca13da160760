//! Text for and from language models: item texts, prompts, ratings in words, the hint, answers.

pub mod answer;
pub mod hint;
pub mod item_text;
pub mod prompts;
pub mod ratings;
