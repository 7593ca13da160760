//! Files and folders that a recipe names. A relative one in a file is meant from the folder of the
//! file, so that a recipe means the same wherever it is called from; one of `--set` is meant from
//! the working directory, as any other argument. All are whole paths from here on: so the recipe in
//! a run folder finds its files from everywhere.

use std::path::{Path, PathBuf};

use super::tree::{self, Content, Origin, Section};
use crate::settings::{Fault, Value};
use crate::store::{builtin, hub};

/// Keys that hold a file or a folder.
const FILES: [&str; 3] = ["data.path", "describe.file", "prompt.file"];

/// Keys that hold a file, a folder, or the name of a model.
const MODELS: [&str; 3] = ["model.path", "model.reasoning", "model.embedding"];

/// A place as it was written.
#[derive(Debug, Clone)]
pub struct Written {
    key: String,
    /// Relative.
    text: String,
}

/// Makes whole paths of relative ones. `folder` is that of the recipe's file; a recipe that is no
/// file has none, and its paths stay.
///
/// Returns those of the file, as they were written.
pub fn resolve(keys: &mut Section, folder: Option<&Path>) -> Vec<Written> {
    let mut written = Vec::new();
    let experts: Vec<String> = match tree::get(keys, "experts").map(|node| &node.content) {
        Some(Content::Section(experts)) => experts.iter().map(|(name, _)| format!("experts.{name}.file")).collect(),
        _ => Vec::new(),
    };
    let files = FILES.into_iter().map(str::to_owned).chain(experts).map(|key| (key, false));
    for (key, names_model) in files.chain(MODELS.map(|key| (key.to_owned(), true))) {
        let Some(node) = tree::get(keys, &key) else { continue };
        let Content::Leaf(Value::Text(text)) = &node.content else { continue };
        let base = match &node.origin {
            Origin::Set(_) => Some(Path::new("")),
            Origin::Line(_) => folder,
            Origin::Derived => None,
        };
        let Some(base) = base else { continue };
        let relative = !text.trim().is_empty() && !text.contains("://") && Path::new(text).is_relative();
        if !relative || (names_model && !is_path(text, base)) {
            continue;
        }
        let Ok(whole) = std::path::absolute(base.join(text)) else { continue };
        let Some(whole) = whole.to_str().map(str::to_owned) else { continue };
        let mut node = node.clone();
        if matches!(node.origin, Origin::Line(_)) {
            written.push(Written { key: key.clone(), text: text.clone() });
        }
        node.content = Content::Leaf(Value::Text(whole));
        // It stands where the old one stood.
        let _ = tree::put(keys, &key, node, &|_, new| Some(new.clone()));
    }
    written
}

/// Whether a model's key holds a path: something is there, or it is written as one.
fn is_path(text: &str, base: &Path) -> bool {
    if text == builtin::NAME {
        return false;
    }
    let there = |at: PathBuf| at.exists();
    there(base.join(text))
        || text.starts_with("./")
        || text.starts_with("../")
        || (there(PathBuf::from(text)) && !hub::installed().iter().any(|name| name == text))
}

/// What to do about a file that is not there where the recipe means it, and is there from the
/// working directory.
pub fn advise(fault: Fault, written: &[Written]) -> Fault {
    let Some(place) = written.iter().find(|place| place.key == fault.key) else { return fault };
    let here = Path::new(&place.text);
    if !here.exists() {
        return fault;
    }
    let next = match std::path::absolute(here) {
        Ok(whole) => format!(
            "a path in a recipe is meant from the folder of the recipe, and `{}` is there from the working directory: \
             write the path from the recipe, or give --set {}={}",
            place.text,
            place.key,
            whole.display()
        ),
        Err(_) => fault.next,
    };
    Fault { next, ..fault }
}
