//! Amazon's product data: `meta_*.json` lines of 2014 (Python literals), 2018 and 2023 (JSON). Only
//! products that were reviewed are kept.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::fields::{shown, unescaped};
use super::{About, LeftOut, Names};
use crate::data::DataSettings;
use crate::data::json::{self, Objects};
use crate::error::Result;
use crate::monitor::Monitor;

/// A line. Further keys are ignored.
#[derive(Deserialize)]
struct Product {
    #[serde(default, deserialize_with = "json::text")]
    asin: String,
    #[serde(default, deserialize_with = "json::text")]
    parent_asin: String,
    #[serde(default, deserialize_with = "json::text")]
    title: String,
    #[serde(default)]
    category: Value,
    #[serde(default)]
    categories: Value,
}

/// What is said of each of `reviewed`, by its place. Damaged lines are left out and counted.
pub fn read(path: &Path, settings: &DataSettings, reviewed: &Names, monitor: &dyn Monitor) -> Result<Vec<About>> {
    let mut lines = Objects::open(path)?;
    let mut items = vec![About::default(); reviewed.len()];
    let mut left_out = LeftOut::new(settings, true);
    while lines.advance()? {
        let product = json::parse::<Product>(lines.object()).map_err(|e| {
            lines
                .error(format!("is not a product's line: {e}: {}", shown(lines.object())))
                .next("compare it with the original meta_ file; damaged lines are left out")
        });
        left_out.take(product.map(|product| {
            let id = if product.parent_asin.is_empty() { &product.asin } else { &product.parent_asin };
            if let Some(at) = reviewed.get(id.as_bytes()) {
                let genre = genre(&product.category).or_else(|| genre(&product.categories));
                let about = &mut items[at as usize];
                // A product may stand there twice: what the first line knows stays.
                if about.title.is_empty() {
                    about.title = title(&product.title);
                }
                if about.genres.is_empty() {
                    about.genres = genre.into_iter().collect();
                }
            }
        }))?;
        if left_out.kept().is_multiple_of(8192) {
            lines.report(monitor)?;
        }
    }
    left_out.tell(path, monitor)?;
    Ok(items)
}

/// The title of a product's page; a script of the page is none.
fn title(text: &str) -> String {
    let text = unescaped(text.trim());
    let script =
        text.contains("getTime()") || text.contains("<script") || text.starts_with("var ") && text.contains('=');
    if script { String::new() } else { text }
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

#[cfg(test)]
mod tests {
    use super::*;

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
