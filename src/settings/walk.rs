//! Settings against their schema.

use super::fault::join;
use super::{Faults, Kind, Schema, Value};

/// What to do where no nearer advice is at hand.
const PRINT: &str = "`rallrec run RECIPE --print-recipe` prints every key with its meaning and range";

/// All values that the schema does not allow: unknown keys, wrong types and words, numbers out of
/// range.
pub fn walk(value: &Value, schema: &Schema<'_>) -> Faults {
    let mut faults = Faults::default();
    at(value, schema, "", &mut faults);
    faults
}

fn at(value: &Value, schema: &Schema<'_>, path: &str, faults: &mut Faults) {
    let kind = schema.kind();
    if *value == Value::Missing {
        let next = format!("set it to {}", wanted(&kind));
        faults.unless(schema.is_nullable(), path, "the value is not a finite number", next);
        return;
    }
    let shown = value.shown();
    let wrong = |what: String| (what, format!("set it to {}", wanted(&kind)));
    let found = match (&kind, value) {
        (Kind::Section, Value::Section(keys)) => return section(keys, schema, path, faults),
        (Kind::Bool, Value::Bool(_)) => return,
        (Kind::Integer(_), Value::Integer(i)) if *i > i128::from(i64::MAX) => wrong(format!("{shown} is too large")),
        (Kind::Integer(range), Value::Integer(i)) if range.holds(*i as f64) => return,
        (Kind::Float { .. }, Value::Float(f)) if !f.is_finite() => wrong(format!("{shown} is not a finite number")),
        (Kind::Float { range, single }, Value::Integer(_) | Value::Float(_)) => {
            let exact = if let Value::Integer(i) = value { *i as f64 } else { float(value) };
            // What 32 bits make of it is what counts: a number can become 0 or infinite.
            let kept = if *single { f64::from(exact as f32) } else { exact };
            if range.holds(kept) || (range.holds(exact) && kept.is_finite() && kept != 0.0) {
                return;
            }
            wrong(format!("{shown} is out of range"))
        }
        (Kind::Integer(_), Value::Integer(_)) => wrong(format!("{shown} is out of range")),
        (Kind::Text { or_list: true, .. }, Value::List(entries)) if !entries.is_empty() => {
            return list(entries, schema, path, faults);
        }
        (Kind::Text { least, .. }, Value::Text(text)) if text.trim().chars().count() as u64 >= *least => return,
        (Kind::Text { .. }, Value::Text(_)) => wrong("it is empty".into()),
        (Kind::Words(words), Value::Text(word)) => {
            if words.contains(word) {
                return;
            }
            let next = match nearest(word, words.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'? Choose one of: {}", words.join(", ")),
                None => format!("choose one of: {}", words.join(", ")),
            };
            (format!("there is no '{word}'"), next)
        }
        (Kind::List { least, most, unique }, Value::List(entries)) => {
            let again = entries.iter().enumerate().find(|(n, e)| entries[..*n].contains(e));
            match (again, entries.len() as u64) {
                (_, 0) if *least > 0 => wrong("the list is empty".into()),
                (_, n) if n < *least || n > *most => wrong(format!("the list has {n} entries")),
                (Some((_, entry)), _) if *unique => {
                    (format!("{} stands there twice", entry.shown()), "name it once".into())
                }
                _ => return list(entries, schema, path, faults),
            }
        }
        _ => wrong(format!("{shown} is of the wrong type")),
    };
    faults.unless(false, path, found.0, found.1);
}

fn float(value: &Value) -> f64 {
    if let Value::Float(f) = value { *f } else { f64::NAN }
}

/// The faults of a list's entries are reported of the list, once each.
fn list(entries: &[Value], schema: &Schema<'_>, path: &str, faults: &mut Faults) {
    for (n, entry) in entries.iter().enumerate() {
        let mut own = Faults::default();
        at(entry, &schema.entry(n), "", &mut own);
        for fault in own {
            let next = fault.next.replace("set it to", "set each entry to");
            faults.unless(false, path, format!("entry {}: {}", n + 1, fault.what), next);
        }
    }
}

fn section(keys: &[(String, Value)], schema: &Schema<'_>, path: &str, faults: &mut Faults) {
    for (name, value) in keys {
        let full = join(path, name);
        match schema.key(name) {
            Some(key) => at(value, &key, &full, faults),
            None => {
                let deeper = || below(schema, "").into_iter().find(|key| key.rsplit('.').next() == Some(name));
                let near = nearest(name, schema.names()).map(str::to_owned).or_else(deeper);
                let next = near.map_or(PRINT.into(), |near| format!("did you mean '{}'?", join(path, &near)));
                let what = if matches!(value, Value::Section(_)) { "section" } else { "key" };
                faults.unless(false, &full, format!("there is no such {what}"), next);
            }
        }
    }
}

/// All keys below a section that are no sections themselves.
fn below(schema: &Schema<'_>, path: &str) -> Vec<String> {
    let keys = schema.names().filter_map(|name| Some((join(path, name), schema.key(name)?)));
    keys.flat_map(|(path, key)| if key.kind() == Kind::Section { below(&key, &path) } else { vec![path] }).collect()
}

/// What a key may be set to, in words.
fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Section => "a section with keys".into(),
        Kind::Bool => "true or false".into(),
        Kind::Integer(range) => format!("a whole number, {range}"),
        Kind::Float { range, .. } if range.is_open() => "a finite number".into(),
        Kind::Float { range, .. } => format!("a number, {range}"),
        Kind::Text { or_list: true, .. } => "a text in quotes, or a list of texts that are not empty".into(),
        Kind::Text { least: 0, .. } => "a text in quotes".into(),
        Kind::Text { .. } => "a text in quotes that is not empty".into(),
        Kind::Words(words) => format!("one of: {}", words.join(", ")),
        Kind::List { least, most, .. } if least == most => format!("a list of {least} entries"),
        Kind::List { least: 0, .. } => "a list".into(),
        Kind::List { least, .. } => format!("a list of at least {least}"),
    }
}

/// The nearest of some names, unless all are far off.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)))
        .filter(|(distance, name)| *distance <= wrong.len().max(name.len()).div_ceil(2))
        .map(|(_, name)| name)
}
