//! Templates over the columns of a table. A column is named as it is called in the file, whatever
//! characters are in its name: `{{ Book-Title }}`, `{{ movie_title:token_seq }}`, `{{ meta.title
//! }}`, `{{ row["Movie Name"] }}`.

use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior};

use super::rating::Missing;
use super::rows::{Rows, advice, position};
use crate::data::sets::fields::{At, text};
use crate::error::{Error, Result};
use crate::sandbox;

/// Longest text that a template may give, in bytes.
const LONGEST_TEXT: usize = 1 << 16;

/// A template, with the columns that it names.
pub struct Template {
    key: &'static str,
    environment: Arc<Environment<'static>>,
    columns: Vec<(String, usize)>,
    /// It only puts columns side by side: no text of it is much longer than the columns.
    plain: bool,
}

impl Template {
    /// The template of `data.table.KEY`.
    ///
    /// # Errors
    /// It is none, or names a column that is not there.
    pub fn new(key: &'static str, source: &str, names: &[String]) -> Result<Self> {
        let place = || format!("data.table.{key}");
        let (written, mut columns) = named(source, names);
        let mut environment = Environment::new();
        // A wrong name is an error and not silence.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(sandbox::FUEL));
        let plain = is_bounded(&written);
        environment.add_template_owned(key, written).map_err(|e| {
            Error::usage(place(), format!("is not a template: {e}")).next("write it like \"{{ title }} ({{ year }})\"")
        })?;
        let template = environment.get_template(key).map_err(|e| Error::failed(place(), e))?;
        for wanted in template.undeclared_variables(false) {
            if columns.iter().any(|(name, _)| *name == wanted) {
                continue;
            }
            let Some(at) = position(names, &wanted) else {
                let there: Vec<&str> = names.iter().take(40).map(String::as_str).collect();
                return Err(Error::usage(
                    place(),
                    format!("there is no column `{wanted}`; the columns are: {}", there.join(", ")),
                )
                .next(advice(names).map_or_else(
                    || "use the names of the file's columns; {{ row[\"a name\"] }} takes any name".to_owned(),
                    |next| format!("{next}: one separator holds for all files of a recipe"),
                )));
            };
            columns.push((wanted, at));
        }
        Ok(Self { key, environment: Arc::new(environment), columns, plain })
    }

    /// What the template says of the current row. A value that is missing is empty.
    ///
    /// # Errors
    /// The template fails, or gives too long a text.
    pub fn render(&self, rows: &Rows, missing: &Missing) -> Result<String> {
        let value = |at: usize| {
            let field = rows.get(at);
            if missing.is(field.trim_ascii()) { String::new() } else { list(&text(field)).join(", ") }
        };
        let fails = |what: &dyn std::fmt::Display| {
            Error::usage(format!("data.table.{}", self.key), format!("fails: {what}"))
                .within(rows.error(String::new()).place().to_owned())
                .next("mend the template")
        };
        let values: std::collections::BTreeMap<String, String> =
            self.columns.iter().map(|(name, at)| (name.clone(), value(*at))).collect();
        let (environment, key) = (Arc::clone(&self.environment), self.key);
        let length = values.values().map(String::len).sum();
        let render = move || environment.get_template(key).and_then(|template| template.render(values));
        let said = if self.plain { render() } else { sandbox::limited(length, render).map_err(|e| fails(&e))? };
        let said = said.map_err(|e| fails(&e))?;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.len() > LONGEST_TEXT {
            return Err(rows
                .error(format!("data.table.{} gives {} bytes", self.key, said.len()))
                .next("make it shorter"));
        }
        Ok(said)
    }
}

/// Whether a template can be seen to write little: columns with filters that never make a text more
/// than a few times as long, and nothing else. Any other one is run with limits.
fn is_bounded(source: &str) -> bool {
    const FILTERS: [&str; 10] =
        ["upper", "lower", "title", "capitalize", "trim", "int", "float", "string", "length", "escape"];
    let mut pieces = source.split("{{");
    let free = |text: &str| !text.contains("{%");
    if !pieces.next().is_some_and(free) {
        return false;
    }
    let filters = std::cell::Cell::new(0);
    pieces.all(|piece| {
        let Some((code, behind)) = piece.split_once("}}") else { return false };
        let mut parts = code.split('|').map(|part| part.trim_matches(|c: char| c == '-' || c.is_whitespace()));
        let column = parts.next().is_some_and(is_plain);
        column
            && free(behind)
            && parts.all(|part| {
                filters.set(filters.get() + 1);
                FILTERS.contains(&part)
            })
            && filters.get() <= 8
    })
}

/// The entries of a list as JSON or Python write it; any other text is the one entry.
pub fn list(text: &str) -> Vec<String> {
    let whole = || vec![text.to_owned()];
    if !(text.starts_with('[') && text.ends_with(']')) {
        return whole();
    }
    let Ok(entries) = crate::data::json::parse::<Vec<serde_json::Value>>(text.as_bytes()) else { return whole() };
    let said = |entry: serde_json::Value| match entry {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        // TMDB's lists of objects: {"id": 18, "name": "Drama"}.
        serde_json::Value::Object(fields) => fields.get("name").and_then(|n| n.as_str()).map(str::to_owned),
        other => Some(other.to_string()),
    };
    entries.into_iter().filter_map(said).collect()
}

/// The template with a plain name in place of each column that is called otherwise, and these
/// names' columns.
fn named(source: &str, names: &[String]) -> (String, Vec<(String, usize)>) {
    // The longest names first, as one may be the beginning of another.
    let mut odd: Vec<(usize, &String)> =
        names.iter().enumerate().filter(|(_, name)| !name.is_empty() && !is_plain(name)).collect();
    odd.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    let (mut out, mut columns) = (String::with_capacity(source.len()), Vec::new());
    let mut rest = source;
    while let Some(open) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let (before, code) = rest.split_at(open);
        out.push_str(before);
        let close = if code.starts_with("{{") { "}}" } else { "%}" };
        let end = code.find(close).map_or(code.len(), |at| at + close.len());
        rename(&code[..end], &odd, names, &mut out, &mut columns);
        rest = &code[end..];
    }
    out.push_str(rest);
    (out, columns)
}

fn is_plain(name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(word)
}

fn rename(
    code: &str,
    odd: &[(usize, &String)],
    names: &[String],
    out: &mut String,
    columns: &mut Vec<(String, usize)>,
) {
    let lower = code.to_lowercase();
    // Lower case may have another length for a few letters: then only plain names are known.
    let odd = if lower.len() == code.len() { odd } else { &[] };
    let mut take = |at: usize, out: &mut String| {
        let name = format!("column_{}", at + 1);
        out.push_str(&name);
        if !columns.contains(&(name.clone(), at)) {
            columns.push((name, at));
        }
    };
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let begins = !code[..at].ends_with(|c: char| word(c) || c == '.');
        if begins && let Some((column, length)) = keyed(&code[at..], names) {
            take(column, out);
            at += length;
        } else if matches!(c, '"' | '\'') {
            let end = code[at + 1..].find(c).map_or(code.len(), |end| at + end + 2);
            out.push_str(&code[at..end]);
            at = end;
        } else if begins
            && let Some((column, name)) = odd.iter().find(|(_, name)| {
                lower.get(at..).is_some_and(|rest| rest.starts_with(name.as_str()))
                    && !code[at + name.len()..].starts_with(word)
            })
        {
            take(*column, out);
            at += name.len();
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
}

/// `row["name"]` at the beginning of some code: its column and its length.
fn keyed(code: &str, names: &[String]) -> Option<(usize, usize)> {
    let inner = code.strip_prefix("row[")?;
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let name = &inner[1..1 + inner[1..].find(quote)?];
    inner[name.len() + 2..].strip_prefix(']')?;
    Some((position(names, name)?, "row[".len() + name.len() + 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_may_be_called_anything() {
        let names = ["book-title", "book", "movie name", "meta.title", "title:token_seq", "year", "#7", "ünicode", ""];
        let names: Vec<String> = names.map(String::from).to_vec();
        for (template, written) in [
            ("{{ Book-Title }} of {{ Book }}", "{{ column_1 }} of {{ Book }}"),
            ("Movie Name: {{ Movie Name }}", "Movie Name: {{ column_3 }}"),
            (
                "{{ meta.title|upper }}{% if year %} ({{ year }}){% endif %}",
                "{{ column_4|upper }}{% if year %} ({{ year }}){% endif %}",
            ),
            ("{{ title:token_seq }}", "{{ column_5 }}"),
            ("{{ row[\"Book-Title\"] }}{{ row['year'] }}", "{{ column_1 }}{{ column_6 }}"),
            ("{{ \"book-title\" }}{{ #7 }}", "{{ \"book-title\" }}{{ column_7 }}"),
            ("{{ ünicode }}", "{{ ünicode }}"),
            ("{{ book-titles }}{{ x.book-title }}", "{{ book-titles }}{{ x.book-title }}"),
            ("{{ open", "{{ open"),
        ] {
            assert_eq!(named(template, &names).0, written, "{template}");
        }
    }

    #[test]
    fn templates_that_can_grow_run_with_limits() {
        for plain in ["{{ title }}", "{{ title|trim }} ({{- year|int -}})", "", "a }} b"] {
            assert!(is_bounded(plain), "{plain}");
        }
        for other in [
            "{% set x = title %}{{ x }}",
            "{{ title|replace('', 'aaaa') }}",
            "{{ title ~ title }}",
            "{{ '%1000000000d'|format(1) }}",
            "{{ title",
            "{{ title }}{% for i in range(9) %}",
            "{{ title|escape|escape|escape|escape|escape|escape|escape|escape|escape }}",
        ] {
            assert!(!is_bounded(other), "{other}");
        }
    }

    #[test]
    fn lists_are_read_as_json_and_python_write_them() {
        for (text, want) in [
            ("['Drama', \"Tom's\"]", vec!["Drama", "Tom's"]),
            ("[\"Drama\",null,1]", vec!["Drama", "1"]),
            ("[{'id': 18, 'name': 'Drama'}]", vec!["Drama"]),
            ("[]", vec![]),
            ("Drama", vec!["Drama"]),
            ("[REC]", vec!["[REC]"]),
        ] {
            assert_eq!(list(text), want, "{text}");
        }
    }
}
