//! Control tokens, and texts in which data must not become one.
//!
//! A title may spell an end of turn. Tokenizers look for such spellings in the whole text before
//! they do anything else. So the text is taken apart here: at control tokens where they are meant,
//! and at other added tokens. What is left goes through the tokenizer's own normalizer, cut and
//! model, with its place in the whole text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tokenizers::normalizer::Range as Span;
use tokenizers::{
    AddedToken, Encoding, Model as _, NormalizedString, Normalizer as _, OffsetType, PreTokenizedString,
    PreTokenizer as _, Token,
};

/// The added tokens of a tokenizer.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// All of them as they are written.
    all: Spellings,
    /// Looked for in the text as it is.
    plain: Spellings,
    /// Looked for behind the normalizer, as it writes them.
    normalised: Spellings,
    controls: HashSet<u32>,
    /// The tokenizer makes control tokens of other spellings too: by its model, or of a text that
    /// only its normalizer turns into such a spelling. Then data is asked about as well.
    pub in_ordinary_words: bool,
}

/// Added tokens by the first byte of their spelling, the longest first.
#[derive(Debug, Default)]
struct Spellings(HashMap<u8, Vec<(String, AddedToken, u32)>>);

impl Spellings {
    fn add(&mut self, spelling: String, token: &AddedToken, id: u32) {
        let Some(&first) = spelling.as_bytes().first() else { return };
        self.0.entry(first).or_default().push((spelling, token.clone(), id));
    }

    fn sort(&mut self) {
        for tokens in self.0.values_mut() {
            tokens.sort_by_key(|(spelling, _, id)| (std::cmp::Reverse(spelling.len()), *id));
        }
    }

    /// Those that begin at a byte, the longest first.
    fn at<'a>(&'a self, text: &'a str, at: usize) -> impl Iterator<Item = &'a (String, AddedToken, u32)> {
        let rest = &text.as_bytes()[at..];
        let tokens = rest.first().and_then(|first| self.0.get(first)).map_or(&[][..], Vec::as_slice);
        tokens.iter().filter(move |(spelling, ..)| rest.starts_with(spelling.as_bytes()))
    }
}

/// Ends of turns and their like are marked as special; tags such as `<think>` often are not, but
/// are written in brackets. Runs of spaces and other parts of ordinary text are neither.
fn is_control(token: &AddedToken) -> bool {
    let within = |open, close| token.content.starts_with(open) && token.content.ends_with(close);
    let bracketed = token.content.chars().count() > 2 && (within('<', '>') || within('[', ']'));
    token.special || bracketed && !token.content.contains(char::is_whitespace)
}

impl Controls {
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let mut made = Self::default();
        let mut spellings = Vec::new();
        for (&id, token) in &tokenizer.get_added_tokens_decoder() {
            made.all.add(token.content.clone(), token, id);
            if is_control(token) {
                made.controls.insert(id);
                made.in_ordinary_words |= token.normalized && tokenizer.get_normalizer().is_some();
                spellings.push(token.content.clone());
            }
            if !token.normalized {
                made.plain.add(token.content.clone(), token, id);
                continue;
            }
            let mut written = NormalizedString::from(token.content.as_str());
            let normalizer = tokenizer.get_normalizer();
            let written = match normalizer.map_or(Ok(()), |n| n.normalize(&mut written)) {
                Ok(()) => written.get().to_owned(),
                Err(_) => token.content.clone(),
            };
            made.normalised.add(written, token, id);
        }
        [&mut made.all, &mut made.plain, &mut made.normalised].into_iter().for_each(Spellings::sort);
        // What stands for letters that the model does not know is an ordinary part of texts.
        for unknown in tokenizer.get_model().tokenize("\u{10fffd}").unwrap_or_default() {
            made.controls.remove(&unknown.id);
        }
        made.in_ordinary_words = made.in_ordinary_words
            || spellings.iter().any(|text| {
                let alone = made.pieces(tokenizer, text, &[0], false);
                alone.is_ok_and(|ids| ids.get_ids().iter().any(|id| made.controls.contains(id)))
            });
        made
    }

    /// One of these is a control token.
    pub fn any(&self, ids: &[u32]) -> bool {
        ids.iter().any(|id| self.controls.contains(id))
    }

    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.controls.iter().copied()
    }

    /// Bytes at which a control token is spelled, but for those that lie in `tags`.
    pub fn spelled(&self, text: &str, tags: &[Range<usize>]) -> Vec<usize> {
        let spells = |at: usize| {
            let mut controls = self.all.at(text, at).filter(|(_, _, id)| self.controls.contains(id));
            controls.any(|(_, token, _)| !tags.iter().any(|t| t.start <= at && at + token.content.len() <= t.end))
        };
        (0..text.len()).filter(|&at| spells(at)).collect()
    }

    /// Tokens of a text in which no control token begins at the bytes `words`.
    pub fn encode(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
        words: &[usize],
    ) -> tokenizers::Result<Encoding> {
        self.pieces(tokenizer, text, words, true)
    }

    fn pieces(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
        words: &[usize],
        guarded: bool,
    ) -> tokenizers::Result<Encoding> {
        let mut whole = PreTokenizedString::from(text);
        whole.split(|_, text| Ok(self.split(&self.plain, &text, words)))?;
        whole.split(|_, mut text| {
            if let Some(normalizer) = tokenizer.get_normalizer() {
                normalizer.normalize(&mut text)?;
            }
            Ok(self.split(&self.normalised, &text, words))
        })?;
        if let Some(cut) = tokenizer.get_pre_tokenizer() {
            cut.pre_tokenize(&mut whole)?;
        }
        let model = tokenizer.get_model();
        whole.tokenize(|text| {
            let tokens = model.tokenize(text.get())?;
            if !guarded || !tokens.iter().any(|token| self.controls.contains(&token.id)) {
                return Ok(tokens);
            }
            // The model knows the spelling as one of its words: letter by letter it does not.
            let mut out = Vec::with_capacity(tokens.len());
            for token in tokens {
                if !self.controls.contains(&token.id) {
                    out.push(token);
                    continue;
                }
                let (from, to) = token.offsets;
                let Some(part) = text.get().get(from..to) else { continue };
                for (at, letter) in part.char_indices() {
                    let place = (from + at, from + at + letter.len_utf8());
                    let letters = model.tokenize(letter.encode_utf8(&mut [0; 4]))?;
                    let plain = letters.into_iter().filter(|token| !self.controls.contains(&token.id));
                    out.extend(plain.map(|token| Token { offsets: place, ..token }));
                }
            }
            Ok(out)
        })?;
        whole.into_encoding(None, 0, OffsetType::Byte)
    }

    /// The text at added tokens, as the library takes it apart. A control token is one only where
    /// the original text spells it, and not as data.
    fn split(
        &self,
        spellings: &Spellings,
        whole: &NormalizedString,
        words: &[usize],
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let text = whole.get();
        let mut out = Vec::new();
        let mut push = |range: Range<usize>, id: Option<u32>| {
            if let Some(piece) = whole.slice(Span::Normalized(range)).filter(|piece| !piece.is_empty()) {
                let value = || piece.get().to_owned();
                let tokens = id.map(|id| vec![Token::new(id, value(), (0, piece.get().len()))]);
                out.push((piece, tokens));
            }
        };
        let meant = |at: usize, (spelling, token, id): &&(String, AddedToken, u32)| {
            if !self.controls.contains(id) {
                return true;
            }
            let piece = whole.slice(Span::Normalized(at..at + spelling.len()));
            piece.is_some_and(|piece| {
                let (original, start) = (piece.get_original(), piece.offsets_original().0);
                let data = original.find(token.content.as_str()).map(|skipped| words.binary_search(&(start + skipped)));
                data.is_some_and(|data| data.is_err())
            })
        };
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            let Some((spelling, token, id)) = spellings.at(text, at).find(|token| meant(at, token)) else {
                at += 1;
                continue;
            };
            let (mut start, mut stop) = (at, at + spelling.len());
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            at = stop;
            if token.single_word && (text[..start].ends_with(letter) || text[stop..].starts_with(letter)) {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(from);
            }
            if token.rstrip {
                stop += text[stop..].len() - text[stop..].trim_start().len();
                at = stop;
            }
            push(from..start, None);
            push(start..stop, Some(*id));
            from = stop;
        }
        push(from..text.len(), None);
        out
    }
}
