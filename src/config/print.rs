//! Printing a recipe with the meaning and the range of every key, from the same schema that the
//! check reads.

use super::{Recipe, streams};
use crate::error::{Error, Result};
use crate::settings::{Kind, Schema, Value, schema_of};

/// The recipe as TOML, every key with its meaning, range and default above it; keys that are not
/// set are shown as comments. A seed that is the recipe's own is shown as not set, so that a change
/// of `seed` reaches it.
pub fn annotated(recipe: &Recipe) -> Result<String> {
    let failed = |e: serde_json::Error| Error::failed("recipe", e);
    let values = Value::from(serde_json::to_value(recipe).map_err(failed)?);
    let schema = schema_of::<Recipe>().map_err(failed)?;
    let mut printer = Printer { out: String::new(), recipe: &values };
    printer.section("", &values, &Schema::root(&schema));
    Ok(printer.out)
}

struct Printer<'a> {
    out: String,
    recipe: &'a Value,
}

impl Printer<'_> {
    fn section(&mut self, path: &str, values: &Value, schema: &Schema<'_>) {
        let Value::Section(keys) = values else { return };
        let full = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, value) in keys.iter().filter(|(_, v)| !matches!(v, Value::Section(_))) {
            let Some(key) = schema.key(name) else { continue };
            self.meaning(&key);
            let path = full(name);
            let own = streams::default_of(&path, self.recipe).is_none_or(|default| default != *value);
            match toml(value, &key).filter(|_| own) {
                Some(text) => self.out.push_str(&format!("{name} = {text}\n")),
                None => self.out.push_str(&format!("# {name} =   (not set)\n")),
            }
        }
        for (name, value) in keys.iter().filter(|(_, v)| matches!(v, Value::Section(_))) {
            let Some(key) = schema.key(name) else { continue };
            let path = full(name);
            self.out.push('\n');
            self.comment(key.description().unwrap_or_default());
            self.out.push_str(&format!("[{path}]\n"));
            self.section(&path, value, &key);
        }
    }

    fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.out.push_str(format!("# {line}").trim_end());
            self.out.push('\n');
        }
    }

    fn meaning(&mut self, key: &Schema<'_>) {
        self.comment(&meaning(key));
    }
}

/// Lines of what a key means: its documentation, then words, range and default.
pub fn meaning(key: &Schema<'_>) -> String {
    let mut lines = vec![key.description().unwrap_or_default().to_owned()];
    let kind = key.kind();
    let entries = if matches!(kind, Kind::List { .. }) { Some(key.entry(0).kind()) } else { None };
    match (&kind, &entries) {
        (Kind::Words(words), _) => lines.push(format!("One of: {}", words.join(" | "))),
        (_, Some(Kind::Words(words))) => lines.push(format!("Entries: {}.", words.join(", "))),
        _ => {}
    }
    let mut said = Vec::new();
    match (&kind, &entries) {
        (Kind::Integer(range) | Kind::Float { range, .. }, _) if !range.is_open() => {
            said.push(format!("Range: {range}."));
        }
        (Kind::Text { least: 1.., .. }, _) => said.push("Not empty.".into()),
        (_, Some(Kind::Integer(range) | Kind::Float { range, .. })) if !range.is_open() => {
            said.push(format!("Entries: {range}."));
        }
        _ => {}
    }
    if let Kind::List { least: 1.., .. } = kind {
        said.push("Not empty.".into());
    }
    let default = key.default().map(|v| Value::from(v.clone())).and_then(|v| toml(&v, key));
    if let Some(default) = default.filter(|d| d != "\"\"") {
        said.push(format!("Default: {default}."));
    }
    lines.push(said.join(" "));
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

fn toml(value: &Value, schema: &Schema<'_>) -> Option<String> {
    Some(match value {
        Value::Missing => return None,
        Value::List(entries) => {
            let entries = entries.iter().enumerate().filter_map(|(n, e)| toml(e, &schema.entry(n)));
            format!("[{}]", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Section(keys) => {
            let keys = keys.iter().filter_map(|(k, v)| Some(format!("{k} = {}", toml(v, &schema.key(k)?)?)));
            format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
        }
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Integer(i) => i.to_string(),
        Value::Float(f) => match schema.kind() {
            // The shortest number that 32 bits read as this one: 0.005, not 0.004999999888241291.
            Kind::Float { single: true, .. } => {
                toml::Value::Float((*f as f32).to_string().parse().unwrap_or(*f)).to_string()
            }
            _ => toml::Value::Float(*f).to_string(),
        },
    })
}
