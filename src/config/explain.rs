//! What one key of a recipe means, from the schema that the check and `--print-recipe` read.

use std::fmt::Write as _;

use rallrec_events::StageId;

use super::{Recipe, presets, print, renamed};
use crate::error::{Error, Result};
use crate::settings::{Kind, Schema, nearest, schema_of};

/// The first stage that sees a key, or the keys of a section; `None` where no result depends on it.
/// Of several lines the longest that fits counts. `keys_test.rs` holds the table to what is done
/// again.
const FIRST: &[(&str, Option<StageId>)] = &[
    ("name", None),
    ("seeds", None),
    ("threads", None),
    ("device", None),
    ("seed", Some(StageId::Data)),
    ("paper", Some(StageId::Embed)),
    ("faithful", Some(StageId::Data)),
    ("data", Some(StageId::Data)),
    ("data.path", None),
    ("data.table.database", None),
    ("data.table.query", None),
    ("data.table.item_query", None),
    ("data.table.user_query", None),
    ("rows", Some(StageId::Collab)),
    ("model", Some(StageId::Describe)),
    ("model.reasoning", Some(StageId::Reason)),
    ("model.embedding", Some(StageId::Embed)),
    ("describe", Some(StageId::Describe)),
    ("embed", Some(StageId::Embed)),
    ("graph", Some(StageId::Graph)),
    ("recommend", Some(StageId::Graph)),
    ("recommend.candidates", None),
    ("recommend.model_seconds", None),
    ("align", Some(StageId::Align)),
    ("retrieve", Some(StageId::Retrieve)),
    ("retrieve.embedding", Some(StageId::Embed)),
    ("prompt", Some(StageId::Prompts)),
    ("prompt.date", Some(StageId::Describe)),
    ("prompt.control_tokens_in_data", Some(StageId::Describe)),
    ("collab", Some(StageId::Collab)),
    ("soft", Some(StageId::Tune)),
    ("soft.source", Some(StageId::Prompts)),
    ("soft.items", Some(StageId::Prompts)),
    ("soft.user", Some(StageId::Prompts)),
    ("tune", Some(StageId::Tune)),
    ("tune.templates", Some(StageId::Retrieve)),
    ("tune.targets_per_history", Some(StageId::Collab)),
    ("tune.select_on_test", Some(StageId::Collab)),
    ("tune.valid_rows", Some(StageId::Collab)),
    ("tune.lora.checkpoint_seconds", None),
    ("predict", Some(StageId::Predict)),
    ("predict.ablation_rows", Some(StageId::Retrieve)),
    ("predict.renderings", Some(StageId::Retrieve)),
    ("predict.more_histories", Some(StageId::Retrieve)),
    ("predict.score", Some(StageId::Tune)),
    ("predict.yes", Some(StageId::Tune)),
    ("predict.no", Some(StageId::Tune)),
    ("experts", Some(StageId::Predict)),
    ("reason", Some(StageId::Reason)),
    ("merge", Some(StageId::Merge)),
    ("evaluate", Some(StageId::Evaluate)),
];

/// The first stage that sees a key; `None` where no result depends on it.
pub fn first_stage(key: &str) -> Option<StageId> {
    let fits = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    FIRST.iter().filter(|(prefix, _)| fits(prefix)).max_by_key(|(prefix, _)| prefix.len()).and_then(|(_, stage)| *stage)
}

/// What a key or a section of a recipe means: type, range, default, and what depends on it.
///
/// # Errors
/// There is no such key; names those that are near.
pub fn explain(key: &str) -> Result<String> {
    let failed = |e: serde_json::Error| Error::failed("recipe", e);
    let key = key.trim().trim_start_matches("--set").trim();
    let key = key.split_once('=').map_or(key, |(key, _)| key.trim()).trim_matches(['[', ']']);
    let whole = schema_of::<Recipe>().map_err(failed)?;
    let mut at = Schema::root(&whole);
    for name in key.split('.') {
        match at.key(name) {
            Some(next) => at = next,
            None => return Err(unknown(key)),
        }
    }
    let mut out = String::new();
    if matches!(at.kind(), Kind::Section) {
        let _ = writeln!(out, "[{key}]\n\n{}\n", at.description().unwrap_or_default().trim());
        for name in at.names() {
            let Some(child) = at.key(name) else { continue };
            let first = first_sentence(child.description().unwrap_or_default());
            let _ = writeln!(out, "{key}.{name}: {first}");
        }
        return Ok(out);
    }
    let _ = writeln!(out, "{key}: {}\n\n{}\n", kind(&at), print::meaning(&at).trim());
    for preset in ["paper", "faithful"] {
        let sets = presets::sets(preset)?;
        if key == preset {
            out.push_str("It sets:\n");
            sets.iter().for_each(|(key, value)| out.push_str(&format!("  {key} = {value}\n")));
            out.push('\n');
        } else if let Some((_, value)) = sets.iter().find(|(set, _)| set == key) {
            let _ = writeln!(out, "`{preset} = true` sets it to {value}, unless the recipe has the key.\n");
        }
    }
    match first_stage(key) {
        None => out.push_str("No result depends on it: a change does nothing again.\n"),
        Some(stage) => {
            let later: Vec<&str> = StageId::ALL.iter().filter(|s| **s > stage).map(|s| s.name()).collect();
            let _ =
                writeln!(out, "A change does again: {stage}, and of the later stages those whose input it changes.");
            if !later.is_empty() {
                let _ = writeln!(out, "Later stages: {}.", later.join(", "));
            }
        }
    }
    Ok(out)
}

/// The first sentence of a description, on one line: its lines are cut wherever they were full.
fn first_sentence(description: &str) -> String {
    let first = description.trim().split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.find(". ").map_or(line.len(), |at| at + 1);
    line[..end].to_owned()
}

fn kind(key: &Schema<'_>) -> &'static str {
    match key.kind() {
        Kind::Section => "a section",
        Kind::Bool => "true or false",
        Kind::Integer(_) => "a whole number",
        Kind::Float { .. } => "a number",
        Kind::Text { or_list: true, .. } => "a text, or a list of texts",
        Kind::Text { .. } => "a text",
        Kind::Words(_) => "a word",
        Kind::List { .. } => "a list",
    }
}

/// Every key and section, with its whole path.
pub fn keys() -> Result<Vec<String>> {
    fn below(path: &str, schema: &Schema<'_>, out: &mut Vec<String>) {
        for name in schema.names() {
            let Some(key) = schema.key(name) else { continue };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if matches!(key.kind(), Kind::Section) {
                below(&path, &key, out);
            }
            out.push(path);
        }
    }
    let whole = schema_of::<Recipe>().map_err(|e| Error::failed("recipe", e))?;
    let mut all = Vec::new();
    below("", &Schema::root(&whole), &mut all);
    Ok(all)
}

fn unknown(key: &str) -> Error {
    let error = Error::usage(key, "is no key of a recipe");
    if let Some(now) = renamed::now(key) {
        return error.next(format!("it is called `{now}` now: rallrec explain {now}"));
    }
    let all = keys().unwrap_or_default();
    // A key by its last name alone, else what is written nearly so.
    let last = key.rsplit('.').next().unwrap_or(key);
    let mut near: Vec<&str> = all.iter().map(String::as_str).filter(|k| k.rsplit('.').next() == Some(last)).collect();
    if near.is_empty() {
        near.extend(nearest(key, all.iter().map(String::as_str)));
        let by_name = nearest(last, all.iter().map(|k| k.rsplit('.').next().unwrap_or(k)));
        let same = |k: &&String| by_name.is_some_and(|name| k.rsplit('.').next() == Some(name));
        near.extend(all.iter().filter(same).map(String::as_str));
    }
    let mut seen = std::collections::BTreeSet::new();
    near.retain(|key| seen.insert(*key));
    near.truncate(5);
    if near.is_empty() {
        return error.next("`rallrec run RECIPE --print-recipe` prints every key");
    }
    error.next(format!("near names: {}", near.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_with_its_type_and_what_depends_on_it() {
        for key in keys().unwrap() {
            let text = explain(&key).unwrap();
            assert!(text.contains(&key) && text.lines().count() >= 3, "{key}: {text}");
        }
        let text = explain("retrieve.k").unwrap();
        for wanted in ["a whole number", "Range:", "Default:", "does again: retrieve"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(explain("tune.lora").unwrap().contains("tune.lora.rank: "));
        for line in explain("data.split").unwrap().lines().skip(4).chain(explain("data.table").unwrap().lines().skip(4))
        {
            assert!(line.ends_with(['.', '`', ')', ':']), "cut in the middle: {line}");
        }
        assert!(explain("threads").unwrap().contains("No result depends on it"));
        assert_eq!(explain("retrieve.k=7").unwrap(), text);
        let text = explain("paper").unwrap();
        assert!(text.contains("  retrieve.rule = \"paper\"\n") && text.contains("  align.tau = 1.0\n"), "{text}");
        let text = explain("faithful").unwrap();
        assert!(text.contains("  predict.score = \"double_softmax\"\n"), "{text}");
        assert!(explain("retrieve.pca").unwrap().contains("`paper = true` sets it to 0, unless"));
        assert!(explain("merge.tuned_mean").unwrap().contains("`faithful = true` sets it to \"first\", unless"));
    }

    #[test]
    fn a_wrong_name_leads_to_near_ones() {
        for (wrong, wanted) in [
            ("retrieve.kk", "retrieve.k"),
            ("checkpoint_seconds", "tune.lora.checkpoint_seconds"),
            ("tune.learning_rate", "tune.lora.learning_rate"),
            ("tunee.lora.rank", "tune.lora.rank"),
            ("facts.taste", "collab.fold_in"),
        ] {
            let error = explain(wrong).unwrap_err();
            assert!(error.next_step().contains(wanted), "{wrong}: {error}");
        }
    }
}
