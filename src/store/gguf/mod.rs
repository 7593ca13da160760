//! GGUF files, versions 2 and 3: metadata, tensors, and the model inside.

mod blocks;
mod cursor;
mod file;
mod metadata;
mod model;
mod rope;
mod tokenizer;

pub(crate) use metadata::Metadata;
pub(crate) use model::{describe, load};
