//! A tiny random model: for tests, and for trying a recipe without a download. Its answers mean nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::loader::{Described, Format, Loaded, ModelInfo};
use super::parts::{LayerPart as L, Part};
use super::{Config, Family, Layer, Linear, Weights, convert};
use crate::error::{Error, Result};
use crate::ops::linear::Weight;
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;
use crate::text::{ChatTemplate, Tokenizer};

/// ChatML.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`: ids 0, 1, 2. `<|bos|>` is 3.
pub const SPECIAL: [&str; 4] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>"];

/// Shape: 2 layers, hidden 32, 4 heads (8 wide; 16 for Qwen3), 2 key and value heads, intermediate 64,
/// vocabulary 264 (bytes, special tokens, "Yes", "No"), context 4,096. Tied, except for Qwen2.
pub fn config(family: Family) -> Config {
    Config {
        family,
        vocab: 264,
        hidden: 32,
        intermediate: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: if family == Family::Qwen3 { 16 } else { 8 },
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        context: 4096,
        tied: family != Family::Qwen2,
        bos: None,
        eos: vec![2],
    }
}

/// Random weights of a configuration, rounded to `dtype`: norms near 1, matrices of standard deviation
/// 1 / sqrt(in), embedding 0.5. The values depend on seed, tensor and shape only.
pub fn weights(config: &Config, seed: u64, dtype: Dtype) -> Result<Weights> {
    let stream = |part: Part, row: usize| {
        let (tensor, layer) = match part {
            Part::Embed => (0, 0),
            Part::Norm => (1, 0),
            Part::Head => (2, 0),
            Part::Layer(i, part) => (3 + part as u32, i as u32),
        };
        // 2^32 draw groups a row are enough for any width.
        Rng::new(seed, Use::Init, tensor, layer).at((row as u64) << 32)
    };
    let matrix = |part: Part| -> Result<Weight> {
        let (rows, cols) = part.shape(config);
        let deviation = if part == Part::Embed { 0.5 } else { 1.0 / (cols as f32).sqrt() };
        let storage = convert::build(rows, cols, dtype, |row, out| {
            let mut rng = stream(part, row);
            out.fill_with(|| deviation * rng.normal());
        })?;
        Weight::new(rows, cols, storage)
    };
    let vector = |part: Part, mean: f32| -> Vec<f32> {
        let (_, cols) = part.shape(config);
        let mut rng = stream(part, 0);
        // Rounded like a stored tensor, so that saving and loading gives the same values.
        let mut values: Vec<f32> = (0..cols).map(|_| mean + 0.1 * rng.normal()).collect();
        let bytes = convert::narrow(&values, dtype);
        convert::widen(&bytes, dtype, &mut values);
        values
    };
    let linear = |i: usize, weight: L, bias: Option<L>| -> Result<Linear> {
        let bias = bias.filter(|_| config.family == Family::Qwen2).map(|b| vector(Part::Layer(i, b), 0.0));
        Ok(Linear { weight: matrix(Part::Layer(i, weight))?, bias })
    };
    let head_norm = |i: usize, n: L| (config.family == Family::Qwen3).then(|| vector(Part::Layer(i, n), 1.0));
    let mut layers = Vec::with_capacity(config.layers);
    for i in 0..config.layers {
        layers.push(Layer {
            attn_norm: vector(Part::Layer(i, L::AttnNorm), 1.0),
            q: linear(i, L::Q, Some(L::QBias))?,
            k: linear(i, L::K, Some(L::KBias))?,
            v: linear(i, L::V, Some(L::VBias))?,
            o: linear(i, L::O, None)?,
            q_norm: head_norm(i, L::QNorm),
            k_norm: head_norm(i, L::KNorm),
            mlp_norm: vector(Part::Layer(i, L::MlpNorm), 1.0),
            gate: linear(i, L::Gate, None)?,
            up: linear(i, L::Up, None)?,
            down: linear(i, L::Down, None)?,
        });
    }
    let head = if config.tied { None } else { Some(matrix(Part::Head)?) };
    Ok(Weights { embed: matrix(Part::Embed)?, layers, norm: vector(Part::Norm, 1.0), head })
}

/// The content of a tokenizer.json: byte-level BPE over the 256 bytes with the merges that make "Yes" and "No"
/// single tokens. With `bos`, its post-processor puts `<|bos|>` in front.
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
pub fn model(family: Family, seed: u64, dtype: Dtype) -> Result<Loaded> {
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
