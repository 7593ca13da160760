//! A tokenizer rebuilt from the metadata of a GGUF file.

use std::collections::{BTreeMap, HashSet};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper};

use super::Metadata;
use crate::error::Result;
use crate::store::Tokenizer;

/// `tokenizer.ggml.token_type`: marks that steer the model, and pieces that are never split.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How a text is cut before merging.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// GPT-2's rule.
    Gpt2,
    /// Each digit alone, then GPT-2's rule.
    Digits,
    /// Llama 3: up to three digits; whole words in the vocabulary are taken before any merge.
    Llama3,
    /// Qwen 2: each digit alone, after NFC normalisation.
    Qwen2,
}

/// Llama 3's and Qwen 2's rule, which differ in how many digits go together.
fn word_pattern(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

fn cut(meta: &Metadata, notes: &mut Vec<String>) -> Result<Cut> {
    const KEY: &str = "tokenizer.ggml.pre";
    match meta.text(KEY)? {
        Some("smollm") => Ok(Cut::Digits),
        Some("gpt-2" | "gpt2") => Ok(Cut::Gpt2),
        Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Cut::Llama3),
        Some("qwen2" | "deepseek-r1-qwen") => Ok(Cut::Qwen2),
        None | Some("default") => {
            notes.push(format!("{KEY} does not say how texts are cut: GPT-2's rule is taken, which may be wrong"));
            Ok(Cut::Gpt2)
        }
        Some(other) => Err(meta
            .bad(KEY, format!("the pre-tokenizer {other} is not supported"))
            .next("use the model's Hugging Face folder with its tokenizer.json")),
    }
}

fn id(meta: &Metadata, key: &str) -> Result<Option<u32>> {
    // -1 as an unsigned number stands for "none" in some files.
    match meta.count(key)? {
        None => Ok(None),
        Some(n) if n == u32::MAX as usize => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| meta.bad(key, format!("{n} is not a token id"))),
    }
}

/// Tokens that end a generation: the named ones, and the end-of-turn marks of the known chat
/// formats.
pub(crate) fn end_tokens(meta: &Metadata) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        found.extend(id(meta, key)?);
    }
    let tokens = meta.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let types = meta.ints("tokenizer.ggml.token_type")?.unwrap_or_default();
    for (i, (token, &kind)) in tokens.iter().zip(types).enumerate() {
        if kind == CONTROL && matches!(token.as_str(), "<|eot_id|>" | "<|im_end|>") {
            found.extend(u32::try_from(i));
        }
    }
    let mut seen = HashSet::new();
    found.retain(|&id| seen.insert(id));
    Ok(found)
}

/// Builds the tokenizer; `notes` gets what a user should know.
pub(crate) fn build(meta: &Metadata, notes: &mut Vec<String>) -> Result<Tokenizer> {
    const MODEL: &str = "tokenizer.ggml.model";
    match meta.text(MODEL)? {
        Some("gpt2") => {}
        Some(other) => {
            return Err(meta
                .bad(MODEL, format!("tokenizers of type {other} are not supported"))
                .next("use the model's Hugging Face folder with its tokenizer.json"));
        }
        None => return Err(meta.bad(MODEL, "is missing: the file has no tokenizer")),
    }
    let cut = cut(meta, notes)?;
    let need = |key: &str| meta.texts(key)?.ok_or_else(|| meta.bad(key, "is missing"));
    let tokens = need("tokenizer.ggml.tokens")?;
    let mut vocab = Vocab::default();
    for (i, token) in tokens.iter().enumerate() {
        let id = u32::try_from(i).map_err(|_| meta.bad("tokenizer.ggml.tokens", "too many tokens"))?;
        if vocab.insert(token.clone(), id).is_some() {
            return Err(meta.bad("tokenizer.ggml.tokens", format!("the token {token:?} comes twice")));
        }
    }
    let mut merges = Vec::new();
    for (i, merge) in need("tokenizer.ggml.merges")?.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ').filter(|(l, r)| !l.is_empty() && !r.is_empty()) else {
            return Err(meta.bad("tokenizer.ggml.merges", format!("merge {i} is {merge:?}, not two tokens")));
        };
        // The library takes it for granted that the merged token is no longer than the longest one.
        let merged = format!("{left}{right}");
        if [left, right, &merged].iter().any(|t| !vocab.contains_key(*t)) {
            return Err(meta.bad("tokenizer.ggml.merges", format!("merge {i}, {merge:?}, is not of the vocabulary")));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(cut == Cut::Llama3)
        .build()
        .map_err(|e| meta.bad("tokenizer.ggml.merges", e))?;

    let mut inner = tokenizers::Tokenizer::new(model);
    let broken = |e: tokenizers::Error| meta.bad("tokenizer.ggml.pre", e);
    let split = |digits: &str| -> Result<PreTokenizerWrapper> {
        let pattern = SplitPattern::Regex(word_pattern(digits));
        Ok(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(broken)?.into())
    };
    let bytes = |use_regex: bool| ByteLevel::new(false, true, use_regex).into();
    inner.with_pre_tokenizer(Some(Sequence::new(match cut {
        Cut::Gpt2 => vec![bytes(true)],
        Cut::Digits => vec![Digits::new(true).into(), bytes(true)],
        Cut::Llama3 => vec![split(r"\p{N}{1,3}")?, bytes(false)],
        Cut::Qwen2 => vec![split(r"\p{N}")?, bytes(false)],
    })));
    if cut == Cut::Qwen2 {
        inner.with_normalizer(Some(NormalizerWrapper::from(NFC))).map_err(broken)?;
    }
    inner.with_post_processor(None::<PostProcessorWrapper>);
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));

    const TYPES: &str = "tokenizer.ggml.token_type";
    let types = meta.ints(TYPES)?.ok_or_else(|| meta.bad(TYPES, "is missing"))?;
    if types.len() != tokens.len() {
        return Err(meta.bad(TYPES, format!("{} types for {} tokens", types.len(), tokens.len())));
    }
    let of = |kind: i64, special: bool| -> Vec<AddedToken> {
        let chosen = tokens.iter().zip(types).filter(|(t, k)| **k == kind && !t.is_empty());
        chosen.map(|(t, _)| AddedToken::from(t.clone(), special).normalized(false)).collect()
    };
    inner.add_special_tokens(of(CONTROL, true)).map_err(|e| meta.bad(TYPES, e))?;
    inner.add_tokens(of(USER_DEFINED, false)).map_err(|e| meta.bad(TYPES, e))?;

    let mut special = BTreeMap::new();
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        let Some(id) = id(meta, key)? else { continue };
        match tokens.get(id as usize) {
            Some(text) => special.insert(name, text.clone()),
            None => return Err(meta.bad(key, format!("the id {id} is outside the vocabulary of {}", tokens.len()))),
        };
    }
    // Where the file does not say, llama.cpp adds a BOS for Llama 3 only.
    let add_bos = meta.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(cut == Cut::Llama3);
    Tokenizer::new(inner, special, add_bos)
}
