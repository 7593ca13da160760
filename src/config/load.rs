//! Reading a recipe: TOML file, `--set key=value`, unknown keys refused with the nearest right name.

use std::path::Path;

use toml::{Table, Value};

use super::Recipe;
use crate::error::{Error, Result};

/// Reads the recipe at `path`, changes it by `overrides` (`section.key=value`, values in TOML; a word that is no TOML
/// value is taken as a string), and resolves it.
pub fn load(path: &Path, overrides: &[String]) -> Result<Recipe> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read the recipe", &e))?;
    parse(&text, &path.display().to_string(), overrides)
}

/// As [`load`], from text; `place` names it in errors.
pub fn parse(text: &str, place: &str, overrides: &[String]) -> Result<Recipe> {
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| {
        Error::usage(place, e.to_string().trim_end()).next("mend the recipe's TOML at the line shown")
    })?;
    // The file itself first, so that its errors carry its lines and not a `--set`.
    toml::from_str::<Recipe>(text).map_err(|e| explain(place, &e))?;
    for change in overrides {
        set(&mut table, change)?;
    }
    let recipe = Recipe::deserialize_table(table).map_err(|e| explain(&format!("{place} with --set"), &e))?;
    recipe.resolve().map_err(|e| e.within(place))
}

impl Recipe {
    fn deserialize_table(table: Table) -> Result<Self, toml::de::Error> {
        Value::Table(table).try_into()
    }
}

fn set(table: &mut Table, change: &str) -> Result<()> {
    let bad = |what: &str| Error::usage(format!("--set {change}"), what).next("write --set section.key=value");
    let (key, value) = change.split_once('=').ok_or_else(|| bad("there is no '='"))?;
    let parts: Vec<&str> = key.trim().split('.').collect();
    if parts.iter().any(|p| p.is_empty()) {
        return Err(bad("the key has an empty part"));
    }
    let parsed = format!("v = {}", value.trim()).parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.trim().to_string()));
    let Some((last, sections)) = parts.split_last() else { return Err(bad("the key is empty")) };
    let mut at = table;
    for section in sections {
        let next = at.entry((*section).to_string()).or_insert_with(|| Value::Table(Table::new()));
        at = next.as_table_mut().ok_or_else(|| bad(&format!("'{section}' is a value, not a section")))?;
    }
    at.insert((*last).to_string(), value);
    Ok(())
}

/// Turns serde's message into one with the nearest right name.
fn explain(place: &str, error: &toml::de::Error) -> Error {
    let text = error.to_string();
    let said = Error::usage(place, text.trim_end());
    let quoted = |s: &str| -> Vec<String> { s.split('`').skip(1).step_by(2).map(str::to_string).collect() };
    let unknown = ["unknown field `", "unknown variant `"].iter().find_map(|p| text.find(p));
    let Some(start) = unknown else {
        return said.next("`rallrec run RECIPE --print-recipe` prints every key with its meaning and default");
    };
    let mut names = quoted(&text[start..]).into_iter();
    let Some(wrong) = names.next() else { return said };
    let best = names
        .map(|n| (strsim::damerau_levenshtein(&wrong, &n), n))
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    match best {
        Some((distance, name)) if distance <= wrong.len().max(name.len()).div_ceil(2) => {
            said.next(format!("did you mean '{name}'?"))
        }
        _ => said.next("`rallrec run RECIPE --print-recipe` prints every key with its meaning and default"),
    }
}
