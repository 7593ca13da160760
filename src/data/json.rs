//! Objects out of a file of JSON: a line an object, an array of objects, objects over several
//! lines, or the list that one object has under a key. What Python writes instead of JSON (`NaN`,
//! `True`, strings in single quotes) is read too.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lines::{Lines, read_error};
use super::source::{self, Meter};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Longest object, in bytes: reviews and product pages are long.
const LONGEST: usize = 16 << 20;

/// Whether a file that begins so holds JSON objects.
pub fn is_json(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let inner = head.strip_prefix(b"[").map_or(head, <[u8]>::trim_ascii_start);
    inner.strip_prefix(b"{").is_some_and(|rest| {
        let rest = rest.trim_ascii_start();
        rest.is_empty() || matches!(rest[0], b'"' | b'\'' | b'}')
    })
}

/// What a file is, and what to do with it, that begins with a list of lists, of texts, or of
/// nothing.
pub fn lists(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let inner = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().strip_prefix(b"[")?;
    match inner.trim_ascii_start().first() {
        Some(b'[' | b'"') => Some((
            "holds JSON lists, and nothing says which entry is what",
            "write an object a row, with names: {\"user\": 1, \"item\": 2, ...}",
        )),
        Some(b']') => Some(("is an empty list of JSON", "check that it is the right file")),
        _ => None,
    }
}

/// A cursor over the objects of a file.
pub struct Objects {
    form: Form,
    path: PathBuf,
}

enum Form {
    /// Each line is an object, so that a damaged one damages no other.
    Lines(Lines),
    /// Objects begin and end anywhere.
    Stream(Box<Stream>),
}

struct Stream {
    /// Whether the objects end with the list that they stand in: the object around it goes on.
    within: bool,
    reader: Box<dyn BufRead + Send>,
    meter: Meter,
    object: Vec<u8>,
    number: u64,
    line: u64,
}

impl Objects {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let (reader, meter) = source::open(path)?;
        Self::over(path, reader, meter)
    }

    /// The objects of what `reader` gives; `path` names it in messages.
    pub fn over(path: &Path, mut reader: Box<dyn BufRead + Send>, meter: Meter) -> Result<Self> {
        let head = loop {
            match reader.fill_buf() {
                Ok(head) => break head,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(path, path.display(), &e)),
            }
        };
        let form = if let Some(before) = list_within(head) {
            let line = 1 + head[..before].iter().filter(|&&b| b == b'\n').count() as u64;
            reader.consume(before);
            Form::Stream(Box::new(Stream { within: true, reader, meter, object: Vec::new(), number: line, line }))
        } else if over_lines(head) {
            Form::Stream(Box::new(Stream { within: false, reader, meter, object: Vec::new(), number: 1, line: 1 }))
        } else {
            Form::Lines(Lines::over(path, reader, meter).up_to(LONGEST))
        };
        Ok(Self { form, path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Line on which the current object begins, from 1.
    pub fn number(&self) -> u64 {
        match &self.form {
            Form::Lines(lines) => lines.number(),
            Form::Stream(stream) => stream.number,
        }
    }

    /// The current object, as it is written.
    pub fn object(&self) -> &[u8] {
        match &self.form {
            Form::Lines(lines) => lines.line(),
            Form::Stream(stream) => &stream.object,
        }
    }

    /// An input error at the current object.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        match self.number() {
            0 => Error::input(self.path.display(), what),
            line => Error::input(format!("{}:{line}", self.path.display()), what),
        }
    }

    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        match &self.form {
            Form::Lines(lines) => lines.report(monitor),
            Form::Stream(stream) => stream.meter.report(monitor),
        }
    }

    /// The current object as a value.
    ///
    /// # Errors
    /// It is damaged, or of another form.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        parse(self.object()).map_err(|e| {
            self.error(format!("is not a line of JSON of the expected form: {e}"))
                .next("the line is damaged or of another release: compare it with the original")
        })
    }

    /// Moves to the next object; false at the end.
    ///
    /// # Errors
    /// An object without end, damaged compression, a file that is no text.
    pub fn advance(&mut self) -> Result<bool> {
        match &mut self.form {
            Form::Lines(lines) => lines.advance(),
            Form::Stream(stream) => stream.advance(&self.path),
        }
    }
}

/// Whether objects do not stand on lines of their own: an array, or an object that goes on behind
/// its first line.
fn over_lines(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if !is_json(head) {
        return false;
    }
    let first = head.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii_end();
    head.starts_with(b"[")
        || matches!(first, b"{")
        || (first.ends_with(b",") && first.len() < head.trim_ascii_end().len())
}

/// Where the list of objects begins that a file's one object has under a key, as many services
/// write their answers: `{"count": 2, "data": [{..}, {..}]}`. `None` where lines may be objects
/// that have a list of objects each.
fn list_within(head: &[u8]) -> Option<usize> {
    /// What such keys are called. They count where the object's end is too far away to be seen.
    const KEYS: [&[u8]; 14] = [
        b"data",
        b"items",
        b"results",
        b"rows",
        b"records",
        b"values",
        b"ratings",
        b"reviews",
        b"events",
        b"interactions",
        b"orders",
        b"users",
        b"movies",
        b"products",
    ];
    let start = head.len() - head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().len();
    if head.get(start) != Some(&b'{') {
        return None;
    }
    let mut open: Vec<u8> = Vec::new();
    let mut text: &[u8] = b"";
    let mut list: Option<(usize, &[u8])> = None;
    let mut at = start;
    while let Some(&byte) = head.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let begin = at;
                while head.get(at).is_some_and(|&b| b != b'"') {
                    at += 1 + usize::from(head[at] == b'\\');
                }
                (text, at) = (&head[begin..at.min(head.len())], at + 1);
            }
            b'[' => {
                if open == b"{" && list.is_none() && head[at..].trim_ascii_start().starts_with(b"{") {
                    list = Some((at, text));
                }
                open.push(byte);
            }
            b'{' => open.push(byte),
            b'}' | b']' => {
                open.pop();
                if open.is_empty() {
                    let alone = head[at..].trim_ascii_start().is_empty();
                    return list.filter(|_| alone).map(|(begin, _)| begin);
                }
            }
            _ => {}
        }
    }
    list.filter(|(_, key)| KEYS.contains(&&*key.to_ascii_lowercase())).map(|(begin, _)| begin)
}

impl Stream {
    fn advance(&mut self, path: &Path) -> Result<bool> {
        self.object.clear();
        // What closes the string that is open, whether the next byte is escaped, how many braces
        // are open.
        let (mut quote, mut escaped, mut depth) = (None, false, 0usize);
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(path, format!("{}:{}", path.display(), self.line), &e)),
            };
            if chunk.is_empty() {
                return if depth == 0 {
                    Ok(false)
                } else {
                    Err(Error::input(
                        format!("{}:{}", path.display(), self.number),
                        "an object opens here and never closes",
                    )
                    .next("the file is cut short: write it again"))
                };
            }
            let mut used = 0;
            for &byte in chunk {
                used += 1;
                self.line += u64::from(byte == b'\n');
                if depth > 0 {
                    self.object.push(byte);
                }
                if let Some(open) = quote {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        _ if byte == open => quote = None,
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' | b'\'' if depth > 0 => quote = Some(byte),
                    b'{' => {
                        if depth == 0 {
                            self.number = self.line;
                            self.object.push(byte);
                        }
                        depth += 1;
                    }
                    b'}' if depth > 0 => {
                        depth -= 1;
                        if depth == 0 {
                            self.reader.consume(used);
                            return Ok(true);
                        }
                    }
                    // The rest of the object around the list has no rows.
                    b']' if depth == 0 && self.within => {
                        self.reader.consume(used);
                        self.reader = Box::new(std::io::empty());
                        return Ok(false);
                    }
                    _ => {}
                }
            }
            self.reader.consume(used);
            if self.object.len() > LONGEST {
                let what = format!("an object is longer than {LONGEST} bytes: a brace or a quote never closes");
                return Err(Error::input(format!("{}:{}", path.display(), self.number), what)
                    .next("check that this is the original file"));
            }
        }
    }
}

/// Reads JSON; what is none is taken as a Python literal, and of a key that is there twice the last
/// value is taken.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| {
        let value = serde_json::from_slice::<Value>(text).or_else(|_| serde_json::from_slice(&literal(text)));
        value.and_then(serde_json::from_value).map_err(|_| error)
    })
}

/// A text of JSON that may be missing or a number, as text. For `#[serde(deserialize_with)]`.
pub fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = String;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a number")
        }
        fn visit_str<E>(self, text: &str) -> std::result::Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_u64<E>(self, number: u64) -> std::result::Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_i64<E>(self, number: i64) -> std::result::Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_f64<E>(self, number: f64) -> std::result::Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_unit<E>(self) -> std::result::Result<String, E> {
            Ok(String::new())
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// A number of JSON that may be missing or a text, as programs write it that keep numbers as text.
/// For `#[serde(deserialize_with)]`.
pub fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<f64>, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Option<f64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Option<f64>, E> {
            let text = text.trim();
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            match (text, number) {
                ("", _) => Ok(None),
                (_, None) => Err(E::custom(format!("`{text}` is not a number"))),
                (_, number) => Ok(number),
            }
        }
        fn visit_u64<E>(self, number: u64) -> std::result::Result<Option<f64>, E> {
            Ok(Some(number as f64))
        }
        fn visit_i64<E>(self, number: i64) -> std::result::Result<Option<f64>, E> {
            Ok(Some(number as f64))
        }
        fn visit_f64<E>(self, number: f64) -> std::result::Result<Option<f64>, E> {
            Ok(Some(number))
        }
        fn visit_unit<E>(self) -> std::result::Result<Option<f64>, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// Python literals as JSON: quotes, escapes, `True`, `False`, `None`, `NaN` and `Infinity` differ.
pub fn literal(line: &[u8]) -> Vec<u8> {
    const WORDS: [(&[u8], &[u8]); 7] = [
        (b"True", b"true"),
        (b"False", b"false"),
        (b"None", b"null"),
        (b"NaN", b"null"),
        (b"nan", b"null"),
        (b"-Infinity", b"null"),
        (b"Infinity", b"null"),
    ];
    let mut out = Vec::with_capacity(line.len() + 16);
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            quote @ (b'\'' | b'"') => at = string(line, at + 1, quote, &mut out),
            b'u' if matches!(line.get(at + 1), Some(b'\'' | b'"')) => at += 1,
            byte => match WORDS.iter().find(|(word, _)| line[at..].starts_with(word)) {
                Some((word, with)) => {
                    out.extend_from_slice(with);
                    at += word.len();
                }
                None => {
                    out.push(byte);
                    at += 1;
                }
            },
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
                    b'"' | b'\\' | b'/' | b'n' | b'r' | b't' | b'u' | b'b' | b'f' => {
                        out.extend_from_slice(&[b'\\', escaped]);
                    }
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
        let line = br#"{'asin': 'A1', 'title': "Tom's \"x\" \xe9", 'rank': {'Books': 6}, 'a': u'it\'s "so"', 'b': [True, False, None], 'c': 'a\zb', 'd': NaN, 'e': -Infinity}"#;
        let value: Value = parse(line).unwrap();
        assert_eq!(value["title"], "Tom's \"x\" é");
        assert_eq!(value["a"], "it's \"so\"");
        assert_eq!(value["b"], serde_json::json!([true, false, null]));
        assert_eq!(value["c"], "a\\zb");
        assert_eq!((&value["d"], &value["e"]), (&Value::Null, &Value::Null));
        for cut in 0..line.len() {
            let _ = literal(&line[..cut]);
        }
    }

    #[test]
    fn objects_are_found_however_they_are_laid_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        for (text, numbers) in [
            ("{\"a\": 1}\n\n{\"a\": \"}\"}\n", [1, 3]),
            ("[{\"a\": 1},\n{\"a\": \"}\"}]\n", [1, 2]),
            ("[{\"a\": 1}, {\"a\": \"}\"}]", [1, 1]),
            ("{\n  \"a\": 1\n}\n{\n  \"a\": \"}\"\n}", [1, 4]),
            ("\u{feff}[\n {'a': 1},\n {'a': '}'}\n]", [2, 3]),
            (
                "{\"n\": [2], \"o\": {\"p\": [{}]}, \"x\\\"\": [{\"a\": 1},\n {\"a\": \"}\"}], \"next\": [{\"a\": 3}]}\n",
                [1, 2],
            ),
            ("{\n \"data\": [\n  {\"a\": 1},\n  {\"a\": \"}\"}\n ]}", [3, 4]),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut objects = Objects::open(&path).unwrap();
            let mut seen = Vec::new();
            while objects.advance().unwrap() {
                seen.push((objects.number(), objects.parse::<Value>().unwrap()["a"].clone()));
            }
            assert_eq!(seen, [(numbers[0], 1.into()), (numbers[1], "}".into())], "{text}");
        }
        // The end of a long list is not seen: its key decides. Lines with lists are rows
        // themselves.
        let long = "{\"a\": 7}, ".repeat(40_000);
        for (text, count) in [
            (format!("{{\"rows\": [{long}{{\"a\": 7}}]}}"), 40_001),
            (format!("{{\"sessions\": [{long}{{\"a\": 7}}]}}\n{{\"sessions\": []}}\n"), 2),
            ("{\"data\": [{\"a\": 7}]}\n{\"data\": [{\"a\": 7}]}\n{\"data\": []}".into(), 3),
        ] {
            std::fs::write(&path, &text).unwrap();
            let mut objects = Objects::open(&path).unwrap();
            let mut seen = 0;
            while objects.advance().unwrap() {
                seen += 1;
            }
            assert_eq!(seen, count, "{}", &text[..40]);
        }
        std::fs::write(&path, "[{\"a\": 1}, {\"a\": 2").unwrap();
        let mut objects = Objects::open(&path).unwrap();
        assert!(objects.advance().unwrap());
        assert!(objects.advance().unwrap_err().what().contains("never closes"));
    }
}
