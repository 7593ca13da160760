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
    /// By first byte, the longest first.
    tokens: HashMap<u8, Vec<(AddedToken, u32)>>,
    controls: HashSet<u32>,
    /// The tokenizer makes control tokens of other spellings too: by its model, or of a text that
    /// only its normalizer turns into such a spelling. Then data is asked about as well.
    pub in_ordinary_words: bool,
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
            let Some(&first) = token.content.as_bytes().first() else { continue };
            if is_control(token) {
                made.controls.insert(id);
                made.in_ordinary_words |= token.normalized && tokenizer.get_normalizer().is_some();
                spellings.push(token.content.clone());
            }
            made.tokens.entry(first).or_default().push((token.clone(), id));
        }
        // What stands for letters that the model does not know is an ordinary part of texts.
        for unknown in tokenizer.get_model().tokenize("\u{10fffd}").unwrap_or_default() {
            made.controls.remove(&unknown.id);
        }
        for tokens in made.tokens.values_mut() {
            tokens.sort_by_key(|(token, id)| (std::cmp::Reverse(token.content.len()), *id));
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

    /// The longest added token at a byte; control tokens only where they are `meant`.
    fn at(&self, text: &str, at: usize, meant: bool) -> Option<&(AddedToken, u32)> {
        let rest = &text.as_bytes()[at..];
        let fits = |(token, id): &&(AddedToken, u32)| {
            rest.starts_with(token.content.as_bytes()) && (meant || !self.controls.contains(id))
        };
        self.tokens.get(rest.first()?)?.iter().find(fits)
    }

    /// Bytes at which a control token is spelled, but for those that lie in `tags`.
    pub fn spelled(&self, text: &str, tags: &[Range<usize>]) -> Vec<usize> {
        let starts = text.as_bytes().iter().enumerate().filter(|(_, byte)| self.tokens.contains_key(byte));
        let spelled = starts.filter(|&(at, _)| {
            let control = |(token, id): &&(AddedToken, u32)| {
                self.controls.contains(id) && text.as_bytes()[at..].starts_with(token.content.as_bytes())
            };
            let Some((token, _)) = self.tokens[&text.as_bytes()[at]].iter().find(control) else { return false };
            !tags.iter().any(|tag| tag.start <= at && at + token.content.len() <= tag.end)
        });
        spelled.map(|(at, _)| at).collect()
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
        whole.split(|_, text| Ok(self.split(&text, words)))?;
        if let Some(normalizer) = tokenizer.get_normalizer() {
            whole.normalize(|text| normalizer.normalize(text))?;
        }
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

    /// The text at its added tokens, as the library takes it apart.
    fn split(&self, whole: &NormalizedString, words: &[usize]) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let text = whole.get();
        let mut out = Vec::new();
        let mut push = |range: Range<usize>, id: Option<u32>| {
            if let Some(piece) = whole.slice(Span::Normalized(range)).filter(|piece| !piece.is_empty()) {
                let value = || piece.get().to_owned();
                let tokens = id.map(|id| vec![Token::new(id, value(), (0, piece.get().len()))]);
                out.push((piece, tokens));
            }
        };
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            let meant = words.binary_search(&at).is_err();
            let Some((token, id)) = self.at(text, at, meant) else {
                at += 1;
                continue;
            };
            let (mut start, mut stop) = (at, at + token.content.len());
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
