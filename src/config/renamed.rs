//! Keys of earlier versions. They work for one version more, and say what they are called now.

use super::tree::{self, Clash, Content, Node, Section};
use crate::eval::rows;
use crate::settings::{Faults, Value};

/// A key, or a whole section, of an earlier version.
struct Old {
    path: &'static str,
    now: Now,
}

/// What became of it.
enum Now {
    /// It has another name; with a value that says nothing, a value under the new name wins over
    /// it.
    Called(&'static str, Option<i128>),
    /// It never did anything; why.
    Gone(&'static str),
}

const fn renamed(path: &'static str, now: &'static str) -> Old {
    Old { path, now: Now::Called(now, None) }
}

/// The name that a key or a section of an earlier version has now.
pub fn now(path: &str) -> Option<&'static str> {
    OLD.iter().find(|old| old.path == path).and_then(|old| match old.now {
        Now::Called(now, _) => Some(now),
        Now::Gone(_) => None,
    })
}

/// Keys stand in front of the sections that they are in.
const OLD: [Old; 13] = [
    renamed("facts.knowledge", "collab.wording"),
    renamed("facts.taste", "collab.fold_in"),
    renamed("facts", "collab"),
    renamed("data.descriptions", "describe.file"),
    renamed("data.description_words", "describe.words"),
    Old { path: "describe.max_words", now: Now::Called("describe.words", Some(0)) },
    renamed("data.shuffle_seed", "data.seed"),
    renamed("data.table.damaged", "data.damaged"),
    renamed("prompt.knowledge", "prompt.placement"),
    renamed("tune.renderings", "tune.templates"),
    Old { path: "prompt.history", now: Now::Gone("retrieve.k says how many items a prompt shows") },
    Old { path: "prompt.order", now: Now::Gone("it follows from retrieve.template") },
    Old { path: "merge.window", now: Now::Gone("nothing reads it") },
];

/// Gives every value of an earlier version its name of today, with a line for each.
fn rename_values(keys: &mut Section, lines: &mut Vec<String>) {
    const PATH: &str = "evaluate.reference";
    let keep = |_: &Node, new: &Node| Some(new.clone());
    let Some(mut node) = tree::take(keys, PATH) else { return };
    if let Content::Leaf(Value::Text(name)) = &mut node.content {
        let now = rows::current(name).to_owned();
        if now != *name {
            lines.push(format!("recipe: {PATH} = \"{name}\" is now \"{now}\""));
            *name = now;
        }
    }
    // It goes back to where it was taken from, so nothing can stand in its way.
    let _ = tree::put(keys, PATH, node, &keep);
}

/// Gives every old key its name of today. Returns a line for each; a key that stands there under
/// both names is a fault.
pub fn rename(keys: &mut Section, faults: &mut Faults) -> Vec<String> {
    let mut lines = Vec::new();
    for Old { path, now } in &OLD {
        // The section of a key that moved elsewhere may hold more than it.
        let Some(node) = tree::take(keys, path) else { continue };
        match now {
            Now::Gone(why) => lines.push(format!("recipe: '{path}' does nothing and may be left out: {why}")),
            Now::Called(name, neutral) => {
                lines.push(format!("recipe: '{path}' is now '{name}'"));
                let neutral = neutral.map(|n| Content::Leaf(Value::Integer(n)));
                let choose = |there: &Node, new: &Node| {
                    let says_nothing = |node: &Node| neutral.as_ref() == Some(&node.content);
                    let same = there.content == new.content;
                    match (same || says_nothing(new), says_nothing(there)) {
                        (true, _) => Some(there.clone()),
                        (false, true) => Some(new.clone()),
                        (false, false) => None,
                    }
                };
                match tree::put(keys, name, node, &choose) {
                    Ok(()) => {}
                    Err(Clash::Both(key)) => {
                        let what = format!("it stands there a second time, as '{path}', with another value");
                        faults.unless(false, &key, what, format!("remove '{path}': it is the old name"));
                    }
                    Err(Clash::NoSection(section)) => {
                        let what = format!("'{section}' is a value, not a section");
                        faults.unless(false, &section, what, format!("write [{section}]"));
                    }
                }
            }
        }
    }
    rename_values(keys, &mut lines);
    lines
}

#[cfg(test)]
pub(super) fn old_paths() -> Vec<&'static str> {
    OLD.iter().map(|old| old.path).collect()
}
