//! The tiny language model inside the program, for the demo: it speaks of the invented catalogue
//! and of nothing else. `rallrec tiny-model` makes it.

use super::hf::embedded::{Files, load as load_files};
use super::{LoadOptions, Loaded};
use crate::error::Result;

/// Its name where a model's path is asked for.
pub const NAME: &str = "builtin";

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tiny-model/", $name))
    };
}

const FILES: Files<'static> = Files {
    config: file!("config.json"),
    tokenizer: file!("tokenizer.json"),
    tokenizer_config: file!("tokenizer_config.json"),
    chat_template: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tiny-model/chat_template.jinja")),
    weights: file!("model.safetensors"),
};

/// Loads it, as stored (bf16) or in the type asked for.
///
/// # Errors
/// Only where the program was built from damaged files.
pub fn load(options: &LoadOptions) -> Result<Loaded> {
    load_files(NAME, &FILES, options)
}

/// BLAKE3 of all of its files: another model gives another value.
pub fn fingerprint() -> String {
    let mut hash = blake3::Hasher::new();
    let Files { config, tokenizer, tokenizer_config, chat_template, weights } = FILES;
    for file in [config, tokenizer, tokenizer_config, chat_template.as_bytes(), weights] {
        hash.update(&(file.len() as u64).to_le_bytes()).update(file);
    }
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;
