//! What two recipes differ by.

use serde_json::Value;

use super::Recipe;
use crate::error::{Error, Result};

/// Keys whose values differ, each with its value in `other`, as JSON.
///
/// # Errors
/// None; recipes can be written as JSON.
pub fn differing(one: &Recipe, other: &Recipe) -> Result<Vec<(String, String)>> {
    let values = |recipe: &Recipe| serde_json::to_value(recipe).map_err(|e| Error::failed("recipe", e));
    let mut found = Vec::new();
    walk(&values(one)?, &values(other)?, "", &mut found);
    Ok(found)
}

fn walk(one: &Value, other: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => {
            for (name, value) in one {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(value, other.get(name).unwrap_or(&Value::Null), &path, found);
            }
        }
        _ if one != other => found.push((path.to_owned(), other.to_string())),
        _ => {}
    }
}
