//! Text to token ids and back.

mod growth;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, tokenizer::DecodeStream,
};

use super::chat::Rendered;
use super::folder::read_json;
use crate::error::{Error, Result};
use crate::sandbox;
use growth::Growth;
use words::Controls;

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
    controls: Arc<Controls>,
    /// How much longer a text may become on its way to tokens.
    growth: Growth,
    notes: Vec<String>,
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
        let text = crate::content::read_plain(&path).map_err(|e| Error::io(&path, "read the tokenizer", &e))?;
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
        // Before anything runs: reading the file normalises its added tokens already.
        growth::of_json(tokenizer).map_err(bad)?;
        // The library panics on some files that are well-formed and make no sense (merges of
        // unknown tokens).
        let mut inner = sandbox::quietly(|| tokenizers::Tokenizer::from_bytes(tokenizer))
            .map_err(|panic| bad(format!("makes no sense: its parts contradict each other ({panic})")))?
            .map_err(|e| bad(format!("cannot be understood: {e}")))?;
        let mut notes = Vec::new();
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && let Some(dropout) = bpe.dropout
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
            notes.push(format!(
                "the tokenizer's dropout of {dropout} is for training tokenizers: it is not used, so a text has the \
                 same tokens each time"
            ));
        }
        let mut special = BTreeMap::new();
        for name in SPECIAL {
            // A plain string, or an object with the string in `content`.
            let value = settings.get(name).and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
            if let Some(text) = value {
                special.insert(name, text.to_owned());
            }
        }
        let mut made = Self::new(inner, special, false)?;
        made.notes = notes;
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
        let own = inner.get_vocab(false);
        let mut ids: Vec<u32> = own.values().copied().collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            let mut tokens: Vec<&String> = own.iter().filter(|(_, id)| **id == twice[0]).map(|(t, _)| t).collect();
            tokens.sort_unstable();
            let what = format!("{} tokens have the id {}, among them {:?}", tokens.len(), twice[0], &tokens[..2]);
            return Err(Error::input("tokenizer", what).next("use the model's own tokenizer"));
        }
        let growth = growth::of(&inner).map_err(|what| Error::input("tokenizer", what))?;
        let controls = Arc::new(Controls::of(&inner));
        let mut made = Self { inner, bos: None, eos: None, special, size, controls, growth, notes: Vec::new() };
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
    ///
    /// # Errors
    /// A text that cannot be encoded, or that becomes too long on its way.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        self.bounded(text)?;
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

    /// Ids of a text in which data stays words (see [`Rendered::words`]), with tokens of other
    /// making put between: each of `between` is (byte, id), in order of bytes, and goes before the
    /// first token that begins at that byte or later. The text's own tokens stay as they are.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_rendered(&self, rendered: &Rendered, add_bos: bool, between: &[(usize, u32)]) -> Result<Vec<u32>> {
        let text = rendered.text.as_str();
        let apart = rendered.hidden || !rendered.words.is_empty();
        if between.is_empty() && !apart {
            return self.encode(text, add_bos);
        }
        self.bounded(text)?;
        let encoding = match apart {
            true => self.controls.encode(&self.inner, text, &rendered.words),
            false => self.inner.encode(text, false),
        };
        let encoding = encoding.map_err(|e| {
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

    /// Ids of a text that is data: no control token but a BOS comes of it.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_data(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        let (words, hidden) = (self.spelled(text, &[]), self.hides(text));
        self.encode_rendered(&Rendered { text: text.into(), words, hidden }, add_bos, &[])
    }

    /// Control tokens come of the text though it need not spell one: some models know them as
    /// words, and some normalizers turn other letters into their spelling.
    pub fn hides(&self, text: &str) -> bool {
        self.controls.in_ordinary_words
            && self.growth.check(text.len()).is_ok()
            && self.inner.encode_fast(text, false).is_ok_and(|e| self.controls.any(e.get_ids()))
    }

    /// Bytes at which a text spells a control token, but for those spelled by `tags` alone.
    pub fn spelled(&self, text: &str, tags: &[Range<usize>]) -> Vec<usize> {
        self.controls.spelled(text, tags)
    }

    /// Ids of the tokens that steer a model: ends of turns, tags and their like.
    pub fn controls(&self) -> impl Iterator<Item = u32> {
        self.controls.ids()
    }

    /// What a user should know of this tokenizer.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn bounded(&self, text: &str) -> Result<()> {
        self.growth.check(text.len()).map_err(|what| {
            Error::input("tokenizer", what).next("use a shorter text, or the model's own tokenizer.json")
        })
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
