//! A summary of a model for people and programs; reads headers only.

use std::path::Path;

use serde::Serialize;

use super::{Described, ModelInfo, describe};
use crate::error::Result;
use crate::models::decoder::Config;

/// What is worth knowing before using a model.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Files, stored types, notes.
    pub source: ModelInfo,
    /// Shape and constants.
    pub config: Config,
    /// Number of parameters; a tied head counts once.
    pub parameters: u64,
    /// Tokenizer.
    pub tokenizer: TokenizerFacts,
    /// What it takes to run it.
    pub memory: Memory,
}

/// Facts about the tokenizer and the chat template.
#[derive(Debug, Clone, Serialize)]
pub struct TokenizerFacts {
    /// Tokens of the tokenizer (the model's vocabulary may be padded).
    pub tokens: usize,
    /// Id of the answer "Yes"; absent when it is not one token.
    pub yes: Option<u32>,
    /// Id of the answer "No"; absent when it is not one token.
    pub no: Option<u32>,
    /// The BOS put in front of texts, if any.
    pub bos: Option<String>,
    /// The tokens that end a generation.
    pub eos: Vec<String>,
    /// The model brings a chat template.
    pub chat_template: bool,
    /// What the template writes behind an answer; absent when the template fails on a plain
    /// conversation.
    pub after_answer: Option<String>,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights as bf16 or f16.
    pub weights_16_bit: u64,
    /// Weights as f32.
    pub weights_32_bit: u64,
    /// Keys and values of one token in f32.
    pub kv_per_token: u64,
    /// Keys and values of the whole context in f32.
    pub kv_full_context: u64,
}

/// Summarises a folder or a `.gguf` file.
pub fn inspect(path: &Path) -> Result<Summary> {
    describe(path).map(|described| summarise(&described))
}

/// Summarises a model whose headers are read.
pub fn summarise(model: &Described) -> Summary {
    let c = &model.config;
    let parameters = c.parameters();
    let kv_per_token = 2 * 4 * c.layers as u64 * c.kv_width() as u64;
    let text = |id: u32| model.tokenizer.token(id).unwrap_or_else(|| id.to_string());
    Summary {
        source: model.source.clone(),
        config: c.clone(),
        parameters,
        tokenizer: TokenizerFacts {
            tokens: model.tokenizer.size(),
            yes: model.tokenizer.single_token("Yes").ok(),
            no: model.tokenizer.single_token("No").ok(),
            bos: c.bos.map(text),
            eos: c.eos.iter().map(|&id| text(id)).collect(),
            chat_template: !model.chat.is_fallback(),
            after_answer: model.chat.after_answer().ok(),
        },
        memory: Memory {
            weights_16_bit: parameters * 2,
            weights_32_bit: parameters * 4,
            kv_per_token,
            kv_full_context: kv_per_token.saturating_mul(c.context as u64),
        },
    }
}
