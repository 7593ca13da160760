//! How much longer a text can become between its letters and its tokens. Normalizers replace
//! letters by texts, and a row of them multiplies: a tokenizer.json of a kilobyte can ask for all
//! memory. The bound is computed from what they are, before any text is given to them.

use serde::Deserialize;
use serde_json::Value;

/// A normalizer that does more is no normalizer. Published ones do 66 at most (NFKC and a
/// byte-level alphabet).
const MOST: f64 = 512.0;
/// Longest text behind the normalizers, in bytes. The library keeps some 20 bytes for each.
const LONGEST: f64 = (32u32 << 20) as f64;

/// A text of n bytes becomes at most `times * n + plus`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Growth {
    times: f64,
    plus: f64,
}

impl Growth {
    const NONE: Self = Self { times: 1.0, plus: 0.0 };

    const fn times(times: f64) -> Self {
        Self { times, plus: 0.0 }
    }

    fn then(self, next: Self) -> Self {
        Self { times: self.times * next.times, plus: self.plus * next.times + next.plus }
    }

    fn bounded(self, what: &str) -> Result<Self, String> {
        if self.times <= MOST && self.plus <= LONGEST {
            return Ok(self);
        }
        Err(format!("its {what} can make a text {:.3e} times as long; at most {MOST} are read", self.times))
    }

    /// Refuses a text that can become too long.
    pub fn check(&self, bytes: usize) -> Result<(), String> {
        let most = self.times * bytes as f64 + self.plus;
        if most <= LONGEST {
            return Ok(());
        }
        let [most, limit] = [most, LONGEST].map(|bytes| bytes / (1u32 << 20) as f64);
        Err(format!("a text of {bytes} bytes can become {most:.0} MiB in its normalizers; at most {limit} are read"))
    }
}

/// The parts of a tokenizer.json that change a text's length.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// The bound of a tokenizer.json.
///
/// # Errors
/// What multiplies too much. A file that is no JSON is the library's to refuse.
pub(super) fn of_json(tokenizer: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<Parts>(tokenizer) {
        Ok(parts) => parts.growth().map(drop),
        Err(_) => Ok(()),
    }
}

/// The bound of a tokenizer.
///
/// # Errors
/// What multiplies too much.
pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Result<Growth, String> {
    let value = |part: Result<Value, serde_json::Error>| part.map_err(|e| format!("cannot be written: {e}"));
    Parts {
        normalizer: value(serde_json::to_value(tokenizer.get_normalizer()))?,
        pre_tokenizer: value(serde_json::to_value(tokenizer.get_pre_tokenizer()))?,
        decoder: value(serde_json::to_value(tokenizer.get_decoder()))?,
    }
    .growth()
}

impl Parts {
    fn growth(&self) -> Result<Growth, String> {
        part(&self.decoder, Place::Decoder).bounded("decoder")?;
        let normalized = part(&self.normalizer, Place::Normalizer).bounded("normalizer")?;
        normalized.then(part(&self.pre_tokenizer, Place::PreTokenizer)).bounded("normalizer with its pre-tokenizer")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Normalizer,
    PreTokenizer,
    Decoder,
}

fn part(value: &Value, place: Place) -> Growth {
    let length = |key: &str| value.get(key).and_then(Value::as_str).map_or(0, str::len) as f64;
    let list = ["normalizers", "pretokenizers", "decoders"].iter().find_map(|key| value.get(key)?.as_array());
    match value.get("type").and_then(Value::as_str) {
        _ if list.is_some() => list.into_iter().flatten().fold(Growth::NONE, |all, value| all.then(part(value, place))),
        Some("Replace") => replace(value.get("pattern"), length("content")),
        Some("Prepend") => Growth { times: 1.0, plus: length("prepend") },
        // U+0390 has 2 bytes, its decomposition 6; the capital I with a dot has 2 and 3.
        Some("NFC" | "NFD" | "BertNormalizer") => Growth::times(3.0),
        Some("Lowercase") => Growth::times(1.5),
        // U+FDFA has 3 bytes, what it stands for 33.
        Some("NFKC" | "NFKD") => Growth::times(11.0),
        Some("Precompiled") => Growth::times(longest_entry(value)),
        // Two bytes for one, and a space in front; invalid bytes become three.
        Some("ByteLevel" | "ByteFallback") => {
            Growth { times: if place == Place::Decoder { 3.0 } else { 2.0 }, plus: 2.0 }
        }
        Some("Metaspace") => {
            let wide = length("replacement").max(1.0);
            Growth { times: wide, plus: wide }
        }
        _ => Growth::NONE,
    }
}

/// Every occurrence, or every place between two letters, becomes `content` bytes.
fn replace(pattern: Option<&Value>, content: f64) -> Growth {
    let text = pattern.and_then(|p| p.get("String")).and_then(Value::as_str).unwrap_or_default();
    match text.len() {
        0 => Growth { times: 1.0 + content, plus: content },
        length => Growth::times((content / length as f64).max(1.0)),
    }
}

/// The longest text that a compiled table of SentencePiece puts in a letter's place: a table of
/// lookups, its length in front, and texts that end with a zero.
fn longest_entry(value: &Value) -> f64 {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for letter in value.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default().bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    let table = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let texts = bytes.get(4usize.saturating_add(table)..).unwrap_or_default();
    texts.split(|&b| b == 0).map(<[u8]>::len).max().unwrap_or(0).max(1) as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn growth(normalizer: Value) -> Result<Growth, String> {
        Parts { normalizer, pre_tokenizer: Value::Null, decoder: Value::Null }.growth()
    }

    #[test]
    fn published_normalizers_are_within_the_bound() {
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let llama = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, space]});
        assert_eq!(growth(llama), Ok(Growth { times: 3.0, plus: 9.0 }));
        assert_eq!(growth(Value::Null), Ok(Growth::NONE));
        assert_eq!(growth(json!({"type": "NFC"})), Ok(Growth::times(3.0)));
        // A table without lookups, and the texts "abc" and "de".
        let table = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAGFiYwBkZQA="});
        assert_eq!(growth(table), Ok(Growth::times(3.0)));
    }

    #[test]
    fn rows_of_replacements_are_refused_however_they_are_written() {
        let double = |pattern: Value| json!({"type": "Replace", "pattern": pattern, "content": "aa"});
        for pattern in [json!({"String": "a"}), json!({"Regex": "."}), json!({"String": ""})] {
            let row = json!({"type": "Sequence", "normalizers": vec![double(pattern); 31]});
            assert!(growth(row.clone()).unwrap_err().contains("normalizer can make"), "{row}");
            let nested = json!({"type": "Sequence", "normalizers": [row]});
            growth(nested).unwrap_err();
        }
        growth(json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)})).unwrap_err();
        growth(json!({"type": "Prepend", "prepend": "a".repeat(40 << 20)})).unwrap_err();
        let decoder = json!({"type": "Sequence", "decoders": vec![double(json!({"String": "a"})); 31]});
        let parts = Parts { normalizer: Value::Null, pre_tokenizer: Value::Null, decoder };
        assert!(parts.growth().unwrap_err().contains("decoder"));
    }

    #[test]
    fn a_long_text_is_refused_before_it_is_normalised() {
        let growth = growth(json!({"type": "NFKC"})).unwrap();
        growth.check(1 << 20).unwrap();
        assert!(growth.check(4 << 20).unwrap_err().contains("44 MiB"));
    }
}
