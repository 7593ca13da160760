//! Text: what items and prompts say.

pub mod item_text;
