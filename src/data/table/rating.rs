//! Ratings as tables write them.

use std::collections::HashMap;

use super::TableSettings;
use crate::data::sets::fields::decimal;

/// The words of a recipe, each with its rating.
///
/// # Errors
/// An entry that is not of the form `word = number`.
pub fn words(entries: &[String]) -> Result<HashMap<String, f32>, String> {
    let mut words = HashMap::new();
    for entry in entries {
        let parts =
            entry.rsplit_once('=').and_then(|(word, number)| Some((word.trim(), decimal(number.trim().as_bytes())?)));
        let Some((word, rating)) = parts else { return Err(format!("`{entry}` is not of the form `word = number`")) };
        words.insert(word.to_lowercase(), rating);
    }
    Ok(words)
}

/// Fields that say that nothing is known.
pub struct Missing {
    /// In lower case.
    words: Vec<Vec<u8>>,
    /// Whether one begins with this letter.
    begins: [bool; 256],
}

impl Missing {
    /// As the recipe names them.
    pub fn new(words: &[String]) -> Self {
        let words: Vec<Vec<u8>> = words.iter().map(|w| w.trim().to_lowercase().into_bytes()).collect();
        let mut begins = [false; 256];
        for first in words.iter().filter_map(|word| word.first()) {
            begins[usize::from(*first)] = true;
            begins[usize::from(first.to_ascii_uppercase())] = true;
        }
        Self { words, begins }
    }

    /// Whether a field, white space around it taken off, is one of them.
    pub fn is(&self, field: &[u8]) -> bool {
        match field.first() {
            None => true,
            Some(&first) => {
                self.begins[usize::from(first)] && self.words.iter().any(|word| word.eq_ignore_ascii_case(field))
            }
        }
    }
}

/// Reads ratings.
pub struct Reader {
    words: HashMap<String, f32>,
    scale: (f32, f32),
}

impl Reader {
    /// As the recipe says.
    pub fn new(table: &TableSettings) -> Self {
        Self { words: words(&table.rating_words).unwrap_or_default(), scale: table.scale }
    }

    /// The rating that a field writes, if it lies on the scale: a number with a point or a comma, a
    /// share of the upper end (`80%`, `4/5`), stars, `true` and `false` as 1 and 0, or a word of
    /// the recipe.
    pub fn read(&self, field: &[u8]) -> Option<f32> {
        let on_scale = |rating: &f32| (self.scale.0..=self.scale.1).contains(rating);
        decimal(field).or_else(|| self.written(std::str::from_utf8(field).ok()?)).filter(on_scale)
    }

    #[cold]
    fn written(&self, field: &str) -> Option<f32> {
        let lower = field.to_lowercase();
        if let Some(&rating) = self.words.get(&lower) {
            return Some(rating);
        }
        match lower.as_str() {
            "true" | "yes" => return Some(1.0),
            "false" | "no" => return Some(0.0),
            _ => {}
        }
        Some(match Written::of(field)? {
            Written::Number(number) | Written::Stars(number) => number as f32,
            Written::Share(part, whole) => (part / whole * f64::from(self.scale.1)) as f32,
        })
    }
}

/// A rating as people and programs write one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Written {
    /// With a point or a comma; `3½`; `4 stars`.
    Number(f64),
    /// A part of a whole: `80%`, `4/5`, `4 out of 5`.
    Share(f64, f64),
    /// `★★★½`.
    Stars(f64),
}

impl Written {
    /// What a text writes.
    pub fn of(text: &str) -> Option<Self> {
        if let Some(plain) = number(text) {
            return Some(Self::Number(plain));
        }
        if let Some(percent) = text.strip_suffix('%') {
            return Some(Self::Share(number(percent)?, 100.0));
        }
        if let Some(stars) = text.chars().map(star).sum::<Option<f64>>().filter(|_| !text.is_empty()) {
            return Some(Self::Stars(stars));
        }
        if let Some(whole) = text.strip_suffix('½') {
            return Some(Self::Number(number(whole)? + 0.5));
        }
        let lower = text.to_lowercase();
        let bare = ["stars", "star"].iter().find_map(|word| lower.strip_suffix(word)).unwrap_or(&lower);
        match bare.split_once('/').or_else(|| bare.split_once(" out of ")).or_else(|| bare.split_once(" of ")) {
            Some((part, whole)) => Some(Self::Share(number(part)?, number(whole).filter(|&n| n > 0.0)?)),
            None => number(bare).map(Self::Number),
        }
    }
}

/// A number with a point, or with a comma in its place.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let comma = text.matches(',').count() == 1 && !text.contains('.');
    let parsed = if comma { text.replace(',', ".").parse() } else { text.parse() };
    parsed.ok().filter(|n: &f64| n.is_finite())
}

/// What a sign of a row of stars counts; `None` for any other.
fn star(c: char) -> Option<f64> {
    match c {
        '★' | '⭐' | '🌟' | '*' => Some(1.0),
        '½' => Some(0.5),
        // Also what asks for the coloured form of the sign before it.
        '☆' | '\u{fe0f}' => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_are_read_as_they_are_written() {
        let table = |scale, words: &[&str]| TableSettings {
            scale,
            rating_words: words.iter().map(|w| (*w).into()).collect(),
            ..TableSettings::default()
        };
        let five = Reader::new(&table((0.0, 5.0), &["Like = 5", "so = so = 2.5"]));
        for (text, rating) in [
            ("4", Some(4.0)),
            ("4.5", Some(4.5)),
            ("4,5", Some(4.5)),
            ("true", Some(1.0)),
            ("False", Some(0.0)),
            ("like", Some(5.0)),
            ("So = So", Some(2.5)),
            ("80%", Some(4.0)),
            ("8/10", Some(4.0)),
            ("★★★½", Some(3.5)),
            ("★★★☆☆", Some(3.0)),
            ("⭐️⭐️⭐️⭐️", Some(4.0)),
            ("***", Some(3.0)),
            ("½", Some(0.5)),
            ("3½", Some(3.5)),
            ("4 stars", Some(4.0)),
            ("1 Star", Some(1.0)),
            ("4.5 out of 5 stars", Some(4.5)),
            ("7 of 10", Some(3.5)),
            ("4 of", None),
            ("stars", None),
            ("5½", None),
            ("1,234.5", None),
            ("6", None),
            ("-1", None),
            ("dislike", None),
            ("4/0", None),
        ] {
            assert_eq!(five.read(text.as_bytes()), rating, "{text}");
        }
        assert_eq!(Reader::new(&table((0.0, 100.0), &[])).read(b"80 %"), Some(80.0));
        assert!(words(&["x".into()]).is_err() && words(&["x = y".into()]).is_err());
    }

    #[test]
    fn words_for_nothing_are_the_recipes() {
        let missing = Missing::new(&TableSettings::default().missing);
        for field in ["", "nan", "NaN", "NULL", "None", "<NA>", "\\N"] {
            assert!(missing.is(field.as_bytes()), "{field}");
        }
        for field in ["nancy", "0", "nul", "N"] {
            assert!(!missing.is(field.as_bytes()), "{field}");
        }
        assert!(!Missing::new(&[]).is(b"nan") && Missing::new(&[]).is(b""));
    }
}
