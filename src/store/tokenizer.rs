//! Text to token ids and back.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, tokenizer::DecodeStream,
};

use super::folder::read_json;
use crate::error::{Error, Result};

/// Names of the special tokens that `tokenizer_config.json` may state and chat templates may use.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// A model's tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Put in front of a text on request; `None` when this model's tokenizer adds none.
    bos: Option<u32>,
    eos: Option<u32>,
    special: BTreeMap<&'static str, String>,
    size: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens, bos {:?}, eos {:?})", self.size, self.bos, self.eos)
    }
}

impl Tokenizer {
    /// From `tokenizer.json` with `tokenizer_config.json` and `special_tokens_map.json` (where
    /// there) of a folder.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(|e| Error::io(&path, "read the tokenizer", &e))?;
        let mut settings = Value::Null;
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            let Some(found) = read_json(&path)? else { continue };
            match (&mut settings, found) {
                (Value::Object(all), Value::Object(more)) => all.extend(more.into_iter().filter(|(_, v)| !v.is_null())),
                (settings, found) => *settings = found,
            }
        }
        Self::from_json(&text, &settings).map_err(|e| e.within(path.display()))
    }

    /// From the content of `tokenizer.json`; `settings` is the content of `tokenizer_config.json`
    /// or null.
    ///
    /// The tokenizer puts a BOS in front if its post-processor does, unless the settings state
    /// `add_bos_token`.
    pub fn from_json(tokenizer: &[u8], settings: &Value) -> Result<Self> {
        let bad = |what: String| Error::input("tokenizer", what).next("use the model's own tokenizer.json");
        // The library panics on some files that are well-formed and make no sense (merges of
        // unknown tokens).
        let inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(tokenizer))
            .map_err(|_| bad("makes no sense: its parts contradict each other".into()))?
            .map_err(|e| bad(format!("cannot be understood: {e}")))?;
        let mut special = BTreeMap::new();
        for name in SPECIAL {
            // A plain string, or an object with the string in `content`.
            let value = settings.get(name).and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
            if let Some(text) = value {
                special.insert(name, text.to_owned());
            }
        }
        let mut made = Self::new(inner, special, false)?;
        made.bos = match settings.get("add_bos_token").and_then(Value::as_bool) {
            Some(true) => made.special_id("bos_token"),
            Some(false) => None,
            None => made.probe_bos()?,
        };
        Ok(made)
    }

    /// From its parts.
    pub(super) fn new(
        mut inner: tokenizers::Tokenizer,
        special: BTreeMap<&'static str, String>,
        add_bos: bool,
    ) -> Result<Self> {
        // Texts are never cut or filled up behind the caller's back.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::input("tokenizer", e))?;
        let size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        if size == 0 {
            return Err(Error::input("tokenizer", "the vocabulary is empty").next("use the model's own tokenizer"));
        }
        let mut made = Self { inner, bos: None, eos: None, special, size };
        made.eos = made.special_id("eos_token");
        made.bos = if add_bos { made.special_id("bos_token") } else { None };
        Ok(made)
    }

    fn special_id(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(self.special.get(name)?)
    }

    /// The token that the post-processor puts in front, if it does.
    fn probe_bos(&self) -> Result<Option<u32>> {
        let encode = |special| self.inner.encode_fast("a", special).map_err(|e| Error::input("tokenizer", e));
        let (with, without) = (encode(true)?, encode(false)?);
        let (with, without) = (with.get_ids(), without.get_ids());
        Ok(match (with.first(), without.first()) {
            (Some(&first), Some(&plain)) if first != plain => Some(first),
            _ => None,
        })
    }

    /// Token ids of a text. Special tokens written in the text are recognised. With `add_bos`, the
    /// model's BOS goes in front if the model has one and the text does not already begin with it.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| {
            Error::failed("tokenizer", format!("cannot encode a text of {} bytes: {e}", text.len()))
                .next("check that the tokenizer belongs to the model")
        })?;
        let ids = encoding.get_ids();
        let mut out = Vec::with_capacity(ids.len() + 1);
        if let Some(bos) = self.bos.filter(|&bos| add_bos && ids.first() != Some(&bos)) {
            out.push(bos);
        }
        out.extend_from_slice(ids);
        Ok(out)
    }

    /// As [`Self::encode`], with tokens of other making put between: each of `between` is (byte,
    /// id), in order of bytes, and goes before the first token that begins at that byte or later.
    /// The text's own tokens stay as they are.
    pub fn encode_between(&self, text: &str, add_bos: bool, between: &[(usize, u32)]) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, false).map_err(|e| {
            Error::failed("tokenizer", format!("cannot encode a text of {} bytes: {e}", text.len()))
                .next("check that the tokenizer belongs to the model")
        })?;
        let ids = encoding.get_ids();
        let mut out = Vec::with_capacity(ids.len() + between.len() + 1);
        if let Some(bos) = self.bos.filter(|&bos| add_bos && ids.first() != Some(&bos)) {
            out.push(bos);
        }
        let mut left = between.iter().peekable();
        for (&id, &(from, _)) in ids.iter().zip(encoding.get_offsets()) {
            while let Some(&(_, other)) = left.next_if(|(at, _)| *at <= from) {
                out.push(other);
            }
            out.push(id);
        }
        out.extend(left.map(|&(_, other)| other));
        Ok(out)
    }

    /// Text of token ids. Bytes that are no UTF-8 become U+FFFD; unknown ids are left out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|e| Error::failed("tokenizer", format!("cannot decode: {e}")))
    }

    /// Decodes token by token, for display while a text is generated.
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream(self.inner.decode_stream(skip_special))
    }

    /// The id of a text that must be exactly one token, such as an answer whose logit is read.
    pub fn single_token(&self, text: &str) -> Result<u32> {
        match self.encode(text, false)?.as_slice() {
            &[id] => Ok(id),
            ids => {
                let pieces: Vec<_> = ids.iter().map(|&id| self.token(id).unwrap_or_else(|| id.to_string())).collect();
                Err(Error::input("tokenizer", format!("{text:?} is not one token; it splits into {pieces:?}"))
                    .next("choose an answer word that is one token of this model"))
            }
        }
    }

    /// The BOS that [`Self::encode`] adds, if this model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokenizer's own end token. Models often name more: see `Config::eos`.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The text of `bos_token`, `eos_token`, `pad_token` or `unk_token`, if the model names it.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.special.get(name).map(String::as_str)
    }

    /// All named special tokens.
    pub fn specials(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.special.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// The id of a token given as it stands in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.size
    }

    /// As `tokenizer.json`.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::failed("tokenizer", e))
    }
}

/// A running decoder; see [`Tokenizer::stream`].
pub struct TextStream<'a>(
    DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
);

impl TextStream<'_> {
    /// The text that this token completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let text = self.0.step(id).map_err(|e| Error::failed("tokenizer", format!("cannot decode: {e}")))?;
        Ok(text.unwrap_or_default())
    }
}
