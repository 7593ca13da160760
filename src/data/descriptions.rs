//! Item descriptions from files, keyed by item id. Rows are never matched by position: a gap cannot
//! shift the rest (defect D3).

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::lines::{self, Lines};
use super::{DataSettings, Dataset, Kind, RawId, synthetic};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Largest JSON object that is read, in bytes after decompression.
const LARGEST: u64 = 1 << 32;

/// Descriptions in the order of [`Dataset::items`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Descriptions {
    /// Per item, cleaned and cut; `None` where there is none.
    pub texts: Vec<Option<String>>,
    /// Items without one.
    pub missing: usize,
    /// Descriptions that were cut at the word limit.
    pub cut: usize,
    /// Descriptions in the file whose id is not in the catalogue.
    pub foreign: usize,
}

/// One line of a descriptions file in JSON lines, as the describe stage writes it. Further keys are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptionRow {
    /// The item's id in the data set; a JSON number is taken as its digits.
    #[serde(deserialize_with = "id")]
    pub item: RawId,
    /// The description.
    pub text: String,
}

/// The descriptions in `file`, else the built-in set's own, else none (all missing). `words`: they
/// are cut after so many; 0 keeps them whole.
///
/// # Errors
/// Those of [`read`].
pub fn load(
    data: &DataSettings,
    file: Option<&Path>,
    words: usize,
    dataset: &Dataset,
    monitor: &dyn Monitor,
) -> Result<Descriptions> {
    let words = (words > 0).then_some(words);
    let found = match file {
        Some(path) => return read(path, dataset, words, monitor),
        None if data.kind == Kind::SYNTHETIC => {
            let (all, latent) = synthetic::generate(&data.synthetic.checked()?);
            all.items.into_iter().map(|item| item.raw).zip(latent.descriptions).collect()
        }
        None => HashMap::new(),
    };
    Ok(match_up(found, dataset, words))
}

/// Reads a file: JSON lines when a `.jsonl` is in the name, else one JSON object; plain or gzip.
///
/// # Errors
/// Not JSON (with line and column), the same id twice, or no id of the catalogue at all.
pub fn read(path: &Path, dataset: &Dataset, words: Option<usize>, monitor: &dyn Monitor) -> Result<Descriptions> {
    let rows = path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains(".jsonl"));
    let found = if rows { read_rows(path, monitor)? } else { read_object(path)? };
    if found.is_empty() {
        return Err(Error::input(path.display(), "holds no descriptions").next("check that this is the right file"));
    }
    let read = match_up(found, dataset, words);
    if read.missing == dataset.items.len() {
        return Err(Error::input(path.display(), format!("none of the ids is in the catalogue of {}", dataset.name))
            .next("the keys must be the data set's own item ids"));
    }
    if read.missing > 0 || read.foreign > 0 {
        monitor.warn(
            &format!(
                "{}: {} of {} items have no description, {} descriptions belong to no item",
                path.display(),
                read.missing,
                dataset.items.len(),
                read.foreign
            ),
            "items without a description fall back to their plain text; the describe stage can write the missing ones",
        );
    }
    Ok(read)
}

/// Line breaks become spaces, runs of white space one space, double quotes go.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let start = clean.len();
        if start > 0 {
            clean.push(' ');
        }
        let before = clean.len();
        clean.extend(word.chars().filter(|&c| !matches!(c, '"' | '\u{201c}' | '\u{201d}')));
        if clean.len() == before {
            clean.truncate(start);
        }
    }
    clean
}

/// The first `words` words, and whether any were left out.
pub fn cut(text: &str, words: usize) -> (&str, bool) {
    let mut ends = text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at);
    match ends.nth(words.saturating_sub(1)) {
        Some(end) => (&text[..end], true),
        None => (text, false),
    }
}

fn match_up(mut found: HashMap<RawId, String>, dataset: &Dataset, words: Option<usize>) -> Descriptions {
    let mut result = Descriptions::default();
    for item in &dataset.items {
        let text = found.remove(&item.raw).map(|text| clean(&text)).filter(|text| !text.is_empty());
        result.missing += usize::from(text.is_none());
        result.texts.push(text.map(|text| match words.map(|words| cut(&text, words)) {
            Some((kept, true)) => {
                result.cut += 1;
                kept.to_owned()
            }
            _ => text,
        }));
    }
    result.foreign = found.len();
    result
}

fn read_object(path: &Path) -> Result<HashMap<RawId, String>> {
    let reader = super::source::open(path)?.0.take(LARGEST);
    let object: Unrepeated =
        serde_json::from_reader(std::io::BufReader::new(reader)).map_err(|e| match e.io_error_kind() {
            Some(kind) => lines::read_error(path, path.display(), &kind.into()),
            None => Error::input(path.display(), format!("is not a JSON object of id and text: {e}"))
                .next("the form is {\"1\": \"text\", ...}; JSON lines need `.jsonl` in the file name"),
        })?;
    Ok(object.0)
}

fn read_rows(path: &Path, monitor: &dyn Monitor) -> Result<HashMap<RawId, String>> {
    let mut lines = Lines::open(path)?;
    let mut found = HashMap::new();
    let mut torn: Option<Error> = None;
    while lines.advance()? {
        // A line that does not parse is forgiven only where a writer was stopped: at the very end.
        if let Some(error) = torn {
            return Err(error);
        }
        match serde_json::from_slice::<DescriptionRow>(lines.line()) {
            Ok(row) => {
                if found.insert(row.item.clone(), row.text).is_some() {
                    return Err(lines
                        .error(format!("item `{}` has a description already", row.item))
                        .next("remove one of the two lines"));
                }
            }
            Err(e) => {
                torn = Some(
                    lines
                        .error(format!("is not a row of item and text: {e}"))
                        .next("the form is {\"item\": \"1\", \"text\": \"...\"}, one a line"),
                );
            }
        }
    }
    if let Some(error) = torn {
        if found.is_empty() {
            return Err(error);
        }
        monitor.warn(
            &format!("{}: the last line is torn and was left out", path.display()),
            "run the describe stage again",
        );
    }
    Ok(found)
}

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<RawId, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    Ok(RawId(match Either::deserialize(from)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}

/// A JSON object in which no key may stand twice.
struct Unrepeated(HashMap<RawId, String>);

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Unrepeated;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of item id and text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unrepeated, A::Error> {
                let mut found = HashMap::new();
                while let Some((id, text)) = map.next_entry::<String, String>()? {
                    if found.contains_key(&RawId(id.clone())) {
                        return Err(A::Error::custom(format!("id `{id}` stands twice")));
                    }
                    found.insert(RawId(id), text);
                }
                Ok(Unrepeated(found))
            }
        }
        from.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_removes_breaks_and_quotes_only() {
        assert_eq!(clean("  A \"fine\"\r\n film,\n\n \" told\u{a0}twice. "), "A fine film, told twice.");
        assert_eq!(clean(" \" \n"), "");
    }

    #[test]
    fn cutting_counts_words() {
        assert_eq!(cut("one two three", 2), ("one two", true));
        assert_eq!(cut("one two", 2), ("one two", false));
        assert_eq!(cut("", 2), ("", false));
    }
}
