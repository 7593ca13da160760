//! Keys that stand for many: `paper` and `faithful`. What is written in the recipe, or by `--set`,
//! wins over both.

use super::tree::{self, Content, Node, Origin, Section};
use super::{Recipe, differing};
use crate::error::{Error, Result};
use crate::settings::Value;

/// What `paper = true` sets: a key, and its value in TOML. These are the places where the text of
/// RALLRec+ differs from our defaults; the number is that of its equation.
pub const PAPER: [(&str, &str); 14] = [
    // 3: the title's embedding beside the description's.
    ("embed.source", "\"title_description\""),
    // 5: no temperature, and all items in the sum.
    ("align.tau", "1.0"),
    ("align.batch", "0"),
    // 7: each row of each block by its own norm, whole, compared by the inner product.
    ("retrieve.scale", "\"unit_rows\""),
    ("retrieve.pca", "0"),
    ("retrieve.similarity", "\"inner_product\""),
    // 8.
    ("retrieve.rule", "\"paper\""),
    ("retrieve.gamma", "0.6666666666666666"),
    ("retrieve.beta", "1.0"),
    // The retrieved list, and the same list re-ordered by time.
    ("tune.templates", "[\"high\", \"sequential\"]"),
    ("reason.certainty.wording", "\"might\""),
    // 10.
    ("merge.sweep.alpha", "[0.1, 0.2, 0.3, 0.4, 0.5]"),
    ("merge.sweep.epsilon", "[1e-2, 1e-3, 1e-4, 1e-5, 1e-6]"),
    ("merge.sweep.metric", "\"log_loss\""),
];

/// Gives the keys of `paper` their values where nobody wrote them. A line for each that somebody
/// wrote otherwise.
pub fn fill_paper(keys: &mut Section, place: &str) -> Vec<String> {
    let on = |node: &Node| node.content == Content::Leaf(Value::Bool(true));
    if !tree::get(keys, "paper").is_some_and(on) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for (key, value) in PAPER {
        let content = tree::read_value(value, &Origin::Derived);
        match tree::get(keys, key) {
            Some(written) if !same(&written.content, &content) => lines.push(stays("paper", key, written, place)),
            Some(_) => {}
            None => {
                let node = Node { content, origin: Origin::Derived };
                // A value that stands where a section is wanted is reported by the check of types.
                drop(tree::put(keys, key, node, &|there, _| Some(there.clone())));
            }
        }
    }
    lines
}

/// Numbers are compared as numbers: `1` is `1.0`.
fn same(a: &Content, b: &Content) -> bool {
    fn values(a: &Value, b: &Value) -> bool {
        let number = |v: &Value| match v {
            Value::Integer(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        };
        match (a, b) {
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| values(a, b)),
            _ => a == b || number(a).zip(number(b)).is_some_and(|(a, b)| a == b),
        }
    }
    match (a, b) {
        (Content::Leaf(a), Content::Leaf(b)) => values(a, b),
        _ => a == b,
    }
}

fn stays(preset: &str, key: &str, written: &Node, place: &str) -> String {
    let by = match &written.origin {
        Origin::Line(line) => format!("{place}:{line}"),
        Origin::Set(change) => format!("--set {}", crate::database::without_password(change)),
        Origin::Derived => place.to_owned(),
    };
    format!("recipe: '{key}' stays as {by} has it: it wins over `{preset} = true`")
}

/// Turns the authors' defects on where `faithful` asks for it, but for the keys that somebody
/// wrote. A line for each of these that says otherwise.
///
/// # Errors
/// None of a recipe that has been read.
pub fn apply_faithful(recipe: Recipe, keys: &Section, place: &str) -> Result<(Recipe, Vec<String>)> {
    if !recipe.faithful {
        return Ok((recipe, Vec::new()));
    }
    let values = |recipe: &Recipe| serde_json::to_value(recipe).map_err(|e| Error::failed("recipe", e));
    let (own, mut theirs) = (values(&recipe)?, values(&recipe.faithfully())?);
    let mut lines = Vec::new();
    keep_written(&own, &mut theirs, "", keys, &mut |key, written| lines.push(stays("faithful", key, written, place)));
    let recipe = serde_json::from_value(theirs).map_err(|e| Error::failed("recipe", e))?;
    Ok((recipe, lines))
}

/// Puts the recipe's own values back under keys that somebody wrote.
fn keep_written(
    own: &serde_json::Value,
    theirs: &mut serde_json::Value,
    path: &str,
    keys: &Section,
    kept: &mut dyn FnMut(&str, &Node),
) {
    if let (Some(own), Some(sections)) = (own.as_object(), theirs.as_object_mut()) {
        for (name, value) in own {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(theirs) = sections.get_mut(name) {
                keep_written(value, theirs, &path, keys, kept);
            }
        }
    } else if own != theirs
        && let Some(written) = tree::get(keys, path).filter(|node| node.origin != Origin::Derived)
    {
        kept(path, written);
        theirs.clone_from(own);
    }
}

/// What a preset sets: keys with their values in TOML. Of `faithful` those of a data set whose ids
/// are rows.
///
/// # Errors
/// None; the recipe can be written as JSON.
pub fn sets(preset: &str) -> Result<Vec<(String, String)>> {
    match preset {
        "paper" => Ok(PAPER.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        "faithful" => {
            let mut plain = Recipe::default();
            plain.data.kind = crate::data::Kind::ML_1M;
            let theirs = Recipe { faithful: true, ..plain.clone() }.faithfully();
            let mut found = differing(&plain, &theirs)?;
            found.retain(|(key, _)| key != "faithful");
            Ok(found)
        }
        _ => Ok(Vec::new()),
    }
}
