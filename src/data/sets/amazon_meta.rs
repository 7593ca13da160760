//! Amazon's product data: `meta_*.json` lines of 2014 (Python literals), 2018 and 2023 (JSON). Only
//! products that were reviewed are kept.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::amazon::LONGEST;
use super::fields::{shown, unescaped};
use super::{About, LeftOut, Names};
use crate::data::lines::Lines;
use crate::error::Result;
use crate::monitor::Monitor;

/// A line. Further keys are ignored.
#[derive(Deserialize)]
struct Product {
    asin: Option<String>,
    parent_asin: Option<String>,
    title: Option<String>,
    #[serde(default)]
    category: Value,
    #[serde(default)]
    categories: Value,
}

/// What is said of each of `reviewed`, by its place. Damaged lines are left out and counted.
pub fn read(path: &Path, reviewed: &Names, monitor: &dyn Monitor) -> Result<Vec<About>> {
    let mut lines = Lines::open(path)?.up_to(LONGEST);
    let mut items = vec![About::default(); reviewed.len()];
    let (mut left_out, mut kept) = (LeftOut::default(), 0usize);
    while lines.advance()? {
        let line = lines.line();
        let parsed = if line.starts_with(b"{'") {
            serde_json::from_slice::<Product>(&json(line))
        } else {
            serde_json::from_slice(line)
        };
        match parsed {
            Ok(product) => {
                kept += 1;
                let id = product.parent_asin.as_deref().or(product.asin.as_deref()).unwrap_or_default();
                if let Some(at) = reviewed.get(id.as_bytes()) {
                    let title = unescaped(product.title.as_deref().unwrap_or_default().trim());
                    let genre = genre(&product.category).or_else(|| genre(&product.categories));
                    items[at as usize] = About { title, genres: genre.into_iter().collect(), fields: Vec::new() };
                }
            }
            Err(e) => left_out.note(
                lines
                    .error(format!("is not a product's line: {e}: {}", shown(lines.line())))
                    .next("compare it with the original meta_ file; damaged lines are left out"),
            ),
        }
        if lines.number().is_multiple_of(8192) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(kept, path, monitor)?;
    Ok(items)
}

/// The third level of the category where there are exactly three.
fn genre(levels: &Value) -> Option<String> {
    let levels = match levels.as_array()?.as_slice() {
        [Value::Array(first), ..] => first.as_slice(),
        levels => levels,
    };
    match levels {
        [_, _, Value::String(third)] if !third.trim().is_empty() => Some(unescaped(third.trim())),
        _ => None,
    }
}

/// A line of Python literals as JSON: quotes, escapes, `True`, `False` and `None` differ.
fn json(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + 16);
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            quote @ (b'\'' | b'"') => at = string(line, at + 1, quote, &mut out),
            b'T' | b'F' | b'N' => {
                let word = |w: &[u8]| line[at..].starts_with(w);
                let (skip, with): (usize, &[u8]) = if word(b"True") {
                    (4, b"true")
                } else if word(b"False") {
                    (5, b"false")
                } else if word(b"None") {
                    (4, b"null")
                } else {
                    (1, &line[at..=at])
                };
                out.extend_from_slice(with);
                at += skip;
            }
            b'u' if matches!(line.get(at + 1), Some(b'\'' | b'"')) => at += 1,
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// One string from behind its opening quote; returns the place behind the closing one.
fn string(line: &[u8], mut at: usize, quote: u8, out: &mut Vec<u8>) -> usize {
    out.push(b'"');
    while let Some(&byte) = line.get(at) {
        at += 1;
        match byte {
            _ if byte == quote => break,
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => {
                let escaped = line.get(at).copied().unwrap_or(b'\\');
                at += 1;
                match escaped {
                    b'\'' => out.push(b'\''),
                    // \xe9 is the character U+00E9.
                    b'x' => out.extend_from_slice(b"\\u00"),
                    b'"' | b'\\' | b'n' | b'r' | b't' | b'u' | b'b' | b'f' => out.extend_from_slice(&[b'\\', escaped]),
                    other => out.extend_from_slice(&[b'\\', b'\\', other]),
                }
            }
            byte if byte < 0x20 => out.push(b' '),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_literals_become_json() {
        let line = br#"{'asin': 'A1', 'title': "Tom's \"x\" \xe9", 'rank': {'Books': 6}, 'a': u'it\'s "so"', 'b': [True, False, None], 'c': 'a\zb'}"#;
        let value: Value = serde_json::from_slice(&json(line)).unwrap();
        assert_eq!(value["title"], "Tom's \"x\" é");
        assert_eq!(value["a"], "it's \"so\"");
        assert_eq!(value["b"], serde_json::json!([true, false, null]));
        assert_eq!(value["c"], "a\\zb");
        for cut in 0..line.len() {
            let _ = json(&line[..cut]);
        }
    }

    #[test]
    fn the_genre_is_the_third_of_three_levels() {
        let of = |text: &str| genre(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"["Movies & TV", "Genre", "Sci-Fi &amp; Fantasy"]"#).as_deref(), Some("Sci-Fi & Fantasy"));
        assert_eq!(of(r#"[["Movies & TV", "Movies", "Drama"], ["x"]]"#).as_deref(), Some("Drama"));
        for none in ["[]", "[\"a\", \"b\"]", "[\"a\", \"b\", \"c\", \"d\"]", "null", "[[]]", "[1, 2, 3]"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
