//! Recipes and runs on disk.

use std::fs;
use std::path::{Path, PathBuf};

use rallrec_events::RunFolder;
use rallrec_events::folder::runs_below;
use rallrec_events::metric::{METRICS, Shown};

use super::engine;
use crate::panes::runs::{Catalogue, RecipeEntry, RunEntry, RunState, Source};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Folders with recipes.
    pub recipes: Vec<PathBuf>,
    /// Folders with run folders; the first one takes new runs.
    pub runs: Vec<PathBuf>,
}

impl Places {
    /// The usual places: `configs` and `recipes` here, the user's own recipes beside the remembered
    /// layout, `runs`.
    pub fn usual(prefs: Option<&Path>) -> Self {
        let mut recipes = vec![PathBuf::from("configs"), PathBuf::from("recipes"), PathBuf::from(".")];
        recipes.extend(prefs.and_then(Path::parent).map(|p| p.join("recipes")));
        Self { recipes, runs: vec![PathBuf::from("runs")] }
    }

    /// Looks beside this run folder too.
    pub fn add(&mut self, folder: &Path) {
        let parent = match folder.parent() {
            Some(p) if p.as_os_str().is_empty() => PathBuf::from("."),
            Some(p) => p.to_path_buf(),
            None => return,
        };
        if !self.runs.contains(&parent) {
            self.runs.push(parent);
        }
    }
}

/// Reads the lists.
pub fn read(places: &Places) -> Catalogue {
    let mut runs: Vec<RunEntry> = Vec::new();
    for root in &places.runs {
        for entry in runs_of(root) {
            let same = |r: &RunEntry| fs::canonicalize(&r.folder).ok() == fs::canonicalize(&entry.folder).ok();
            if !runs.iter().any(same) {
                runs.push(entry);
            }
        }
    }
    runs.sort_by(|a, b| b.state.is_live().cmp(&a.state.is_live()).then(b.modified_ms.cmp(&a.modified_ms)));
    let root = places.runs.first().cloned().unwrap_or_else(|| PathBuf::from("runs"));
    Catalogue { recipes: recipes(&places.recipes), runs, root }
}

fn runs_of(root: &Path) -> Vec<RunEntry> {
    let mut out: Vec<RunEntry> = runs_below(root)
        .into_iter()
        .filter(|s| s.path != root)
        .map(|s| {
            let folder = RunFolder::new(&s.path);
            let state = match (engine::is_queued(&s.path), s.alive, s.outcome.as_deref()) {
                (true, _, _) => RunState::Queued,
                (_, true, _) if folder.asked().lasting == Some(rallrec_events::folder::Word::Pause) => RunState::Paused,
                (_, true, _) => RunState::Running,
                (_, _, Some("done")) => RunState::Done,
                (_, _, Some("stopped")) => RunState::Stopped,
                (_, _, Some(_)) => RunState::Failed,
                (_, _, None) => RunState::Killed,
            };
            let result = if state == RunState::Done { result(&folder) } else { String::new() };
            RunEntry {
                folder: without_dot(&s.path),
                state,
                stage: s.stage.unwrap_or_default(),
                modified_ms: s.modified_ms,
                result,
            }
        })
        .collect();
    // A run that has never begun has no recipe in its folder yet.
    let waiting = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    for folder in waiting.filter(|p| engine::is_queued(p)).map(|p| without_dot(&p)) {
        if !out.iter().any(|r| r.folder == folder) {
            let modified = fs::metadata(folder.join(engine::QUEUED)).and_then(|m| m.modified()).ok();
            let modified_ms = modified
                .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
                .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
            out.push(RunEntry {
                folder,
                state: RunState::Queued,
                stage: String::new(),
                modified_ms,
                result: String::new(),
            });
        }
    }
    out
}

/// `./run` as users write it, and as an opened run is called: `run`.
fn without_dot(path: &Path) -> PathBuf {
    path.strip_prefix(".").ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(path).to_path_buf()
}

/// The last row of the main table in a few words.
fn result(folder: &RunFolder) -> String {
    let Ok(Some(results)) = folder.results() else { return String::new() };
    let rows = results["tables"][0]["table"]["rows"].as_array().cloned().unwrap_or_default();
    let Some(row) = rows.iter().find(|r| r["name"] == "merged").or(rows.last()) else { return String::new() };
    let metric = |name: &str| row["metrics"][name]["value"].as_f64();
    let mut out = row["name"].as_str().unwrap_or_default().to_string();
    for m in METRICS.iter().filter(|m| m.shown == Shown::Always) {
        if let Some(value) = metric(m.name) {
            out.push_str(&format!("  {} {value:.3}", m.title));
        }
    }
    out
}

fn recipes(folders: &[PathBuf]) -> Vec<RecipeEntry> {
    let about = "the whole method on built-in data and model, about a minute".to_string();
    let mut out = vec![RecipeEntry { source: Source::Demo, name: "demo".into(), about }];
    for folder in folders {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .collect();
        files.sort();
        out.extend(files.into_iter().filter_map(|path| recipe(&path)));
    }
    out
}

/// A TOML file is a recipe when it names itself and sets nothing else at the top that a recipe does
/// not have.
fn recipe(path: &Path) -> Option<RecipeEntry> {
    let text = fs::read_to_string(path).ok().filter(|t| t.len() < 1 << 20)?;
    let table: toml::Table = text.parse().ok()?;
    let looks = ["data", "rows", "model", "graph", "tune", "embed", "retrieve", "reason"];
    if !looks.iter().any(|k| table.get(*k).is_some_and(toml::Value::is_table)) {
        return None;
    }
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    let name = table.get("name").and_then(toml::Value::as_str).map_or(stem, str::to_string);
    let about: Vec<&str> =
        text.lines().take_while(|l| l.starts_with('#')).map(|l| l.trim_start_matches('#').trim()).collect();
    Some(RecipeEntry { source: Source::File(without_dot(path)), name, about: about.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list once looked for the rows beside the table's title, where `results.json` has none.
    #[test]
    fn the_list_shows_the_result_of_a_finished_run() {
        let place = tempfile::tempdir().unwrap();
        let row = |name: &str, auc: f64| serde_json::json!({"name": name, "metrics": {"auc": {"value": auc}, "log_loss": {"value": 0.625}}});
        let table = serde_json::json!({"rows": [row("global mean", 0.5), row("merged", 0.75)]});
        let results = serde_json::json!({"tables": [{"title": "Test rows", "table": table}]});
        fs::write(place.path().join("results.json"), results.to_string()).unwrap();
        assert_eq!(result(&RunFolder::new(place.path())), "merged  AUC 0.750  log loss 0.625");
    }
}
