//! Printing a recipe with the meaning of every key, from the same doc comments that developers read.

use schemars::schema_for;
use serde_json::{Map, Value};

use super::Recipe;
use crate::error::{Error, Result};

/// The recipe as TOML, every key with its documentation above it; keys that are not set are shown as comments.
pub fn annotated(recipe: &Recipe) -> Result<String> {
    let failed = |e: serde_json::Error| Error::failed("recipe", e);
    let values = serde_json::to_value(recipe).map_err(failed)?;
    let schema = serde_json::to_value(schema_for!(Recipe)).map_err(failed)?;
    let mut out = String::new();
    if let (Value::Object(values), Some(root)) = (&values, schema.as_object()) {
        section(&mut out, "", values, root, root);
    }
    Ok(out)
}

/// Follows `$ref` and the single-element `allOf`/`anyOf` wrappers that carry one.
fn follow<'a>(schema: &'a Map<String, Value>, root: &'a Map<String, Value>) -> &'a Map<String, Value> {
    let reference = schema.get("$ref").and_then(Value::as_str);
    if let Some(name) = reference.and_then(|r| r.rsplit('/').next()) {
        let found = root.get("$defs").and_then(|d| d.get(name)).and_then(Value::as_object);
        return found.map_or(schema, |f| follow(f, root));
    }
    for wrapper in ["allOf", "anyOf"] {
        let first = schema.get(wrapper).and_then(Value::as_array).and_then(|a| a.first()).and_then(Value::as_object);
        if let Some(inner) = first {
            return follow(inner, root);
        }
    }
    schema
}

fn comment(out: &mut String, text: &str, indent: &str) {
    for paragraph in text.lines() {
        out.push_str(format!("{indent}# {paragraph}").trim_end());
        out.push('\n');
    }
}

/// `a`, `b` or `c` for an enumeration of words.
fn choices(schema: &Map<String, Value>) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        words.extend(list.iter().filter_map(Value::as_str).map(str::to_string));
    }
    for variant in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        words.extend(variant.get("const").and_then(Value::as_str).map(str::to_string));
        let list = variant.get("enum").and_then(Value::as_array).into_iter().flatten();
        words.extend(list.filter_map(Value::as_str).map(str::to_string));
    }
    (!words.is_empty()).then(|| words.join(" | "))
}

fn section(
    out: &mut String,
    path: &str,
    values: &Map<String, Value>,
    schema: &Map<String, Value>,
    root: &Map<String, Value>,
) {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let docs = |name: &str| properties.get(name).and_then(Value::as_object);
    for (name, value) in values.iter().filter(|(_, v)| !v.is_object()) {
        if let Some(doc) = docs(name) {
            let target = follow(doc, root);
            if let Some(text) = doc.get("description").and_then(Value::as_str) {
                comment(out, text, "");
            }
            if let Some(words) = choices(doc).or_else(|| choices(target)) {
                comment(out, &format!("One of: {words}"), "");
            }
        }
        match toml_value(value) {
            Some(text) => out.push_str(&format!("{name} = {text}\n")),
            None => out.push_str(&format!("# {name} =   (not set)\n")),
        }
    }
    for (name, value) in values {
        let Value::Object(inner) = value else { continue };
        let inner_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        out.push('\n');
        let doc = docs(name);
        if let Some(text) = doc.and_then(|d| d.get("description")).and_then(Value::as_str) {
            comment(out, text, "");
        }
        out.push_str(&format!("[{inner_path}]\n"));
        section(out, &inner_path, inner, doc.map_or(&empty, |d| follow(d, root)), root);
    }
}

fn toml_value(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Array(list) => format!("[{}]", list.iter().filter_map(toml_value).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let inner: Vec<_> = map.iter().filter_map(|(k, v)| toml_value(v).map(|v| format!("{k} = {v}"))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Number(n) if n.is_f64() => {
            n.as_f64().map_or_else(|| n.to_string(), |f| toml::Value::Float(f).to_string())
        }
        other => other.to_string(),
    })
}
