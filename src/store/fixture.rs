//! A tiny random model with its tokenizer: for tests, and for trying a recipe without a download.
//! Its answers mean nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{ChatTemplate, Described, Format, Loaded, ModelInfo, Tokenizer};
use crate::error::{Error, Result};
use crate::models::decoder::Family;
pub use crate::models::decoder::fixture::{config, weights};
use crate::tensor::Dtype;

/// ChatML.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`: ids 0, 1, 2. `<|bos|>` is 3.
pub const SPECIAL: [&str; 4] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>"];

/// The content of a tokenizer.json: byte-level BPE over the 256 bytes with the merges that make
/// "Yes" and "No" single tokens. With `bos`, its post-processor puts `<|bos|>` in front.
pub fn tokenizer_json(bos: bool) -> Result<String> {
    let mut vocab = serde_json::Map::new();
    for (id, text) in SPECIAL.iter().enumerate() {
        vocab.insert((*text).into(), id.into());
    }
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let add = |vocab: &mut serde_json::Map<String, Value>, text: String| {
        let id = vocab.len();
        vocab.insert(text, id.into());
    };
    for byte in bytes {
        add(&mut vocab, byte.to_string());
    }
    for merged in ["Ye", "Yes", "No"] {
        add(&mut vocab, merged.into());
    }
    let added: Vec<Value> = (SPECIAL.iter().enumerate())
        .map(|(id, text)| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let post = bos.then(|| {
        json!({ "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": SPECIAL[3], "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { SPECIAL[3]: { "id": SPECIAL[3], "ids": [3], "tokens": [SPECIAL[3]] } } })
    });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let value = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": post, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocab, "merges": [["Y", "e"], ["Ye", "s"], ["N", "o"]] },
    });
    serde_json::to_string(&value).map_err(|e| Error::failed("tokenizer", e))
}

/// The settings that belong to [`tokenizer_json`].
pub fn tokenizer_settings() -> Value {
    json!({ "eos_token": SPECIAL[2], "pad_token": SPECIAL[2], "bos_token": SPECIAL[3] })
}

/// A whole model in memory: [`config`], [`weights`], tokenizer without BOS, ChatML.
pub fn model(family: &'static Family, seed: u64, dtype: Dtype) -> Result<Loaded> {
    let config = config(family);
    let weights = weights(&config, seed, dtype)?;
    let tokenizer = Tokenizer::from_json(tokenizer_json(false)?.as_bytes(), &tokenizer_settings())?;
    let chat = ChatTemplate::new(CHAT_TEMPLATE, &tokenizer)?;
    let source = ModelInfo {
        path: PathBuf::from("built-in tiny model"),
        format: Format::Memory,
        files: Vec::new(),
        bytes: 0,
        stored: BTreeMap::new(),
        notes: vec!["random weights: its answers mean nothing".into()],
    };
    Ok(Described::new(config, tokenizer, chat, source)?.with(weights))
}
