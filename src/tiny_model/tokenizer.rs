//! The model's tokenizer: byte-level BPE, learnt from what the lessons say.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use super::TinyModelSettings;
use super::course::spoken;
use super::world::World;
use crate::data::{Item, synthetic};
use crate::error::{Error, Result};
use crate::store::fixture::SPECIAL;
use crate::text::item_text::{Genres, plain_with};

/// Ends a turn.
pub(super) const END: &str = SPECIAL[2];
/// Tokens of their own that are part of an answer's text.
const TAGS: [&str; 2] = ["<think>", "</think>"];
/// Lessons that are read.
const LESSONS: usize = 600;

/// What tokenizer_config.json says.
pub(super) fn settings() -> Value {
    json!({ "eos_token": END, "pad_token": END, "add_bos_token": false })
}

/// Learns the merges; returns the content of tokenizer.json.
pub(super) fn learn(worlds: &[World], settings: &TinyModelSettings) -> Result<String> {
    let fail = |e: tokenizers::Error| Error::failed("tokenizer", format!("cannot be learnt: {e}"));
    let mut texts = Vec::new();
    for i in 0..settings.worlds {
        let plain = |item: &Item, noun: &str| plain_with(item, noun, Genres::All);
        texts.extend(synthetic::corpus(&settings.world(i), &plain));
    }
    for i in 0..LESSONS {
        texts.extend(spoken(worlds, settings.seed, i)?);
    }
    // Tags are tokens of their own, and line breaks stay single: a prompt that ends with two of
    // them then reads the same with and without the answer behind it.
    let pieces = texts.iter().flat_map(|text| text.lines()).filter(|line| !TAGS.contains(line));
    let level = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<BPE, NFC, ByteLevel, ByteLevel, ByteLevel>::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(level))
        .with_post_processor(None)
        .with_decoder(Some(level))
        .build()
        .map_err(fail)?;
    let special = SPECIAL[..3].iter().map(|&t| AddedToken::from(t, true)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(settings.vocab - TAGS.len())
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, pieces).map_err(fail)?;
    tokenizer.add_tokens(TAGS.map(|t| AddedToken::from(t, false))).map_err(fail)?;
    tokenizer.to_string(false).map_err(fail)
}
