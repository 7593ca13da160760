//! Recipes and runs on disk. What was read of a run is kept and read again only when its folder has
//! changed, so that a list of thousands costs two questions to the file system a run.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rallrec_events::folder::{Word, is_run};
use rallrec_events::metric::METRICS;
use rallrec_events::{Event, Record, RunFolder, StageId};
use serde::Deserialize;

use crate::panes::runs::{Catalogue, RecipeEntry, RunEntry, RunState, Source};

/// Bytes of the end of a file of events that are looked at.
const END: u64 = 16 << 10;
/// Bytes of the beginning.
const BEGINNING: u64 = 2 << 10;
/// Characters of changed settings that are kept of a run.
const CHANGED: usize = 600;
/// A run without a lock file that said something so lately is taken for one at work, on a machine
/// whose locks are not seen here.
pub const FRESH_MS: u64 = 120_000;

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

/// By what a change of a run is noticed: its folder (a file came or went) and its events.
type Stamp = (SystemTime, SystemTime, u64);

/// What is known of a run folder.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// How the events say that it ended.
    outcome: Option<String>,
    /// `outcome` and the rest of the entry have been read.
    read: bool,
    entry: RunEntry,
}

/// The runs that were found, by folder.
#[derive(Debug, Default)]
pub struct Shelf {
    known: HashMap<PathBuf, Known>,
    order: Vec<PathBuf>,
}

fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_millis()).ok()).unwrap_or(0)
}

fn stamp(folder: &Path) -> Option<Stamp> {
    let changed = fs::metadata(folder).ok()?.modified().unwrap_or(UNIX_EPOCH);
    Some(match fs::metadata(folder.join("events.jsonl")) {
        // A pipe has nothing to read, and would keep whoever opens it waiting.
        Ok(events) if events.is_file() => (changed, events.modified().unwrap_or(UNIX_EPOCH), events.len()),
        _ => (changed, UNIX_EPOCH, 0),
    })
}

/// The folders below these by their names alone: where there are very many, they are shown before
/// anything of them has been read. Some of them may be no runs.
pub fn names(roots: &[PathBuf]) -> Vec<RunEntry> {
    let items = roots.iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    let folders = items.filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|item| RunEntry { folder: without_dot(&item.path()), ..RunEntry::default() }).collect()
}

impl Shelf {
    /// Finds the run folders and what has changed of them; what is in them is read by
    /// [`Shelf::read`].
    pub fn find(&mut self, roots: &[PathBuf]) {
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        let mut known_roots = HashSet::new();
        for root in roots {
            let whole = fs::canonicalize(root).unwrap_or_else(|_| root.clone());
            if !known_roots.insert(whole.clone()) {
                continue;
            }
            for item in fs::read_dir(root).into_iter().flatten().flatten() {
                let Ok(kind) = item.file_type() else { continue };
                // Only what is reached over a link can be the same folder as another one.
                let same = match kind.is_symlink() {
                    true => fs::canonicalize(item.path()).unwrap_or_else(|_| item.path()),
                    false if kind.is_dir() => whole.join(item.file_name()),
                    false => continue,
                };
                let folder = without_dot(&item.path());
                if self.look_at(&folder) && seen.insert(same) {
                    order.push(folder);
                }
            }
        }
        let kept: HashSet<&PathBuf> = order.iter().collect();
        self.known.retain(|folder, _| kept.contains(folder));
        self.order = order;
    }

    /// Whether there is a run in the folder; what is known of it is forgotten when it has changed.
    fn look_at(&mut self, folder: &Path) -> bool {
        let Some(stamp) = stamp(folder) else { return false };
        if self.known.get(folder).is_some_and(|known| known.stamp == stamp) {
            return true;
        }
        let has_events = stamp.1 != UNIX_EPOCH;
        let is_run = if has_events { folder.join("recipe.toml").is_file() } else { is_run(folder) };
        if !is_run && !RunFolder::new(folder).is_queued() {
            return false;
        }
        // Until its first record has been read.
        let modified_ms = if has_events { ms(stamp.1) } else { ms(stamp.0) };
        let began_ms = modified_ms;
        let state = RunState::Unread;
        let fresh = RunEntry { folder: folder.to_path_buf(), state, began_ms, modified_ms, ..RunEntry::default() };
        // What was shown stays until it has been read again.
        let entry = match self.known.remove(folder) {
            Some(known) => RunEntry { modified_ms, ..known.entry },
            None => fresh,
        };
        self.known.insert(folder.to_path_buf(), Known { stamp, outcome: None, read: false, entry });
        true
    }

    /// Reads at most `count` of the runs that have changed, the latest first, and looks whether
    /// those without an end are still at work; true when there is more to read.
    pub fn read(&mut self, count: usize, now_ms: u64) -> bool {
        let mut unread: Vec<(u64, PathBuf)> =
            self.known.values().filter(|k| !k.read).map(|k| (k.entry.began_ms, k.entry.folder.clone())).collect();
        unread.sort_by(|a, b| b.cmp(a));
        for (_, folder) in unread.iter().take(count) {
            if let Some(known) = self.known.get_mut(folder) {
                known.outcome = tell(&mut known.entry);
                known.read = true;
                known.entry.state = state(folder, known.outcome.as_deref(), known.entry.modified_ms, now_ms);
            }
        }
        for known in self.known.values_mut().filter(|k| k.read && (k.outcome.is_none() || k.entry.state.is_live())) {
            let (modified, outcome) = (known.entry.modified_ms, known.outcome.as_deref());
            known.entry.state = state(&known.entry.folder, outcome, modified, now_ms);
        }
        unread.len() > count
    }

    /// The runs, the one that began last first: the order stays while they work.
    pub fn runs(&self) -> Vec<RunEntry> {
        let mut runs: Vec<RunEntry> =
            self.order.iter().filter_map(|f| Some(self.known.get(f)?.entry.clone())).collect();
        runs.sort_by(|a, b| b.began_ms.cmp(&a.began_ms).then_with(|| a.folder.cmp(&b.folder)));
        runs
    }
}

/// What a run is doing.
fn state(folder: &Path, outcome: Option<&str>, modified_ms: u64, now_ms: u64) -> RunState {
    let run = RunFolder::new(folder);
    if run.is_queued() {
        return RunState::Queued;
    }
    if is_at_work(&run, outcome.is_some(), modified_ms, now_ms) {
        return match run.asked().lasting {
            Some(Word::Pause) => RunState::Paused,
            _ => RunState::Running,
        };
    }
    match outcome {
        Some("done") => RunState::Done,
        Some("stopped") => RunState::Stopped,
        Some(_) => RunState::Failed,
        None => RunState::Killed,
    }
}

/// Whether a process works in the folder: its lock says so. Without a lock file, as in a folder
/// that another program writes, a run that has not ended and said something lately is at work.
pub fn is_at_work(run: &RunFolder, ended: bool, modified_ms: u64, now_ms: u64) -> bool {
    match run.path().join(".lock").exists() {
        true => run.is_alive(),
        false => !ended && now_ms.saturating_sub(modified_ms) < FRESH_MS,
    }
}

/// A part of a plain file; `from` counts from the end where it is negative.
fn part(path: &Path, from: i64, bytes: u64) -> io::Result<(Vec<u8>, bool)> {
    // A pipe would keep whoever opens it waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = if from < 0 { length.saturating_sub(from.unsigned_abs()) } else { from.unsigned_abs() };
    file.seek(SeekFrom::Start(start))?;
    let mut out = Vec::new();
    file.take(bytes).read_to_end(&mut out)?;
    Ok((out, start > 0))
}

/// When the run began: its first record.
fn began(folder: &Path) -> Option<u64> {
    let (bytes, _) = part(&folder.join("events.jsonl"), 0, BEGINNING).ok()?;
    let mut lines = bytes.split(|b| *b == b'\n');
    lines.find_map(|line| Record::parse_bytes(line).ok()).map(|record| record.t_ms)
}

/// Reads what the table shows of a run; returns how it ended.
fn tell(entry: &mut RunEntry) -> Option<String> {
    let folder = RunFolder::new(&entry.folder);
    entry.began_ms = began(&entry.folder).unwrap_or(entry.began_ms);
    let (mut outcome, mut stage, mut latest, mut seconds) = (None, None, None, None);
    let (bytes, cut) = part(&folder.events(), -(END as i64), 2 * END).unwrap_or_default();
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').skip(usize::from(cut)).collect();
    // From the end: most runs have said there how they ended.
    for record in lines.iter().rev().filter_map(|line| Record::parse_bytes(line).ok()) {
        latest = latest.or(Some(record.t_ms));
        match record.event {
            Event::RunStarted { .. } => break,
            Event::RunFinished { outcome: word, seconds: took, .. } if outcome.is_none() => {
                (outcome, seconds) = (Some(word), Some(took));
            }
            Event::StageStarted { stage: s, .. }
            | Event::StageProgress { stage: s, .. }
            | Event::StageFinished { stage: s, .. }
            | Event::TrainStep { stage: s, .. }
            | Event::SampleScored { stage: s, .. } => stage = stage.or(Some(s)),
            Event::ReasoningSample { .. } => stage = stage.or_else(|| Some(StageId::Reason.into())),
            _ => {}
        }
        // What it ended in is of interest only when it did not end well.
        if outcome.as_deref() == Some("done") || (outcome.is_some() && stage.is_some()) {
            break;
        }
    }
    entry.modified_ms = latest.unwrap_or(entry.modified_ms);
    entry.stage = stage.unwrap_or_default();
    entry.seconds = seconds.unwrap_or_else(|| entry.modified_ms.saturating_sub(entry.began_ms) as f64 / 1e3);
    (entry.result, entry.metrics) = result(&folder);
    (entry.data, entry.model, entry.changed) = recipe_words(&folder);
    outcome
}

/// The parts of a table in `results.json` that a list shows.
#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}
#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    metrics: HashMap<String, Option<Figure>>,
}
#[derive(Deserialize)]
struct Figure {
    value: Option<f64>,
}

/// The row of the main table that stands for the run, and its figures. The main table is the first
/// one: what comes after it is not read.
fn result(folder: &RunFolder) -> (String, Vec<(String, f64)>) {
    const TABLE: &[u8] = b"\"table\":";
    let (bytes, _) = part(&folder.path().join("results.json"), 0, 16 << 20).unwrap_or_default();
    let start = bytes.windows(TABLE.len()).position(|part| part == TABLE).map(|at| at + TABLE.len());
    let table = start.map(|start| Rows::deserialize(&mut serde_json::Deserializer::from_slice(&bytes[start..])));
    let rows = table.and_then(Result::ok).map_or(Vec::new(), |table| table.rows);
    let Some(row) = rows.iter().find(|r| r.name == "merged").or(rows.last()) else { return Default::default() };
    let value = |name: &str| row.metrics.get(name)?.as_ref()?.value;
    let metrics = METRICS.iter().filter_map(|m| Some((m.name.to_string(), value(m.name)?))).collect();
    (row.name.clone(), metrics)
}

/// What a recipe says of a run: data and model in a word each, and the settings that are not at
/// their defaults, as the comments of a resolved recipe tell them. Read line by line: a parsed
/// recipe costs more than everything else of the list.
fn recipe_words(folder: &RunFolder) -> (String, String, String) {
    let Ok((bytes, _)) = part(&folder.path().join("recipe.toml"), 0, 1 << 20) else { return Default::default() };
    let text = String::from_utf8_lossy(&bytes);
    let (mut section, mut kind, mut path, mut model) = ("", "", "", "");
    let (mut default, mut changed) = (None, String::new());
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            default = comment.rsplit_once("Default: ").map(|(_, value)| value.trim_end_matches('.')).or(default);
        } else if let Some(name) = line.strip_prefix('[').filter(|l| l.ends_with(']') && !l.contains(',')) {
            (section, default) = (name.trim_end_matches(']'), None);
        } else if let Some((key, written)) = line.split_once('=') {
            let (key, written) = (key.trim(), written.trim());
            let value = written.trim_matches('"');
            match (section, key) {
                ("data", "kind") => kind = value,
                ("data", "path") => path = value,
                ("model", "path") => model = value,
                // The columns beside it say these; a list over several lines is not compared.
                ("", "name") => {}
                _ if changed.len() < CHANGED && written != "[" && default.is_some_and(|d| differs(d, written)) => {
                    let comma = if changed.is_empty() { "" } else { ", " };
                    let dot = if section.is_empty() { "" } else { "." };
                    changed.push_str(&format!("{comma}{section}{dot}{key}={value}"));
                }
                _ => {}
            }
            default = None;
        }
    }
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
    (if kind.is_empty() { last(path) } else { kind.to_string() }, last(model), changed)
}

/// Whether two values are unlike; numbers may be written in several ways.
fn differs(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a != b,
        _ => a != b,
    }
}

/// `./run` as users write it, and as an opened run is called: `run`.
fn without_dot(path: &Path) -> PathBuf {
    path.strip_prefix(".").ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(path).to_path_buf()
}

/// Reads the lists whole; the dashboard itself does it piece by piece.
pub fn read(places: &Places) -> Catalogue {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let mut shelf = Shelf::default();
    shelf.find(&places.runs);
    while shelf.read(usize::MAX, now_ms) {}
    catalogue(places, &shelf, &recipes(&places.recipes))
}

/// The lists as they are shown.
pub fn catalogue(places: &Places, shelf: &Shelf, recipes: &[RecipeEntry]) -> Catalogue {
    let root = places.runs.first().cloned().unwrap_or_else(|| PathBuf::from("runs"));
    Catalogue { recipes: recipes.to_vec(), runs: shelf.runs(), root }
}

/// The recipes in these folders, the demo first.
pub fn recipes(folders: &[PathBuf]) -> Vec<RecipeEntry> {
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
    let (bytes, _) = part(path, 0, 1 << 20).ok()?;
    let text = String::from_utf8(bytes).ok()?;
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

    fn run(root: &Path, name: &str, end: &str) -> PathBuf {
        let folder = root.join(name);
        fs::create_dir_all(folder.join("artifacts")).unwrap();
        let recipe = "# Default: \"run\".\nname = \"x\"\n# Default: 42.\nseed = 7\n[data]\nkind = \"tiny\"\n[model]\n\
                      path = \"a/b\"\n# Range: 0 to 1. Default: 0.0001.\nrate = 1e-4\n# Default: \"f32\".\nkept = \"bf16\"\n";
        fs::write(folder.join("recipe.toml"), recipe).unwrap();
        let line = |t: u64, rest: &str| format!("{{\"v\":1,\"t_ms\":{t},{rest}}}\n");
        let began = line(1_000, r#""kind":"log","level":"info","text":"begun""#);
        fs::write(folder.join("events.jsonl"), began + &line(9_000, end)).unwrap();
        fs::write(folder.join(".lock"), "").unwrap();
        folder
    }

    const DONE: &str = r#""kind":"run_finished","outcome":"done","seconds":8.0,"message":"""#;

    fn listed(shelf: &mut Shelf, root: &Path, now_ms: u64) -> Vec<RunEntry> {
        shelf.find(&[root.to_path_buf()]);
        while shelf.read(100, now_ms) {}
        shelf.runs()
    }

    /// The list once looked for the rows beside the table's title, where `results.json` has none.
    #[test]
    fn the_list_shows_the_result_of_a_finished_run() {
        let place = tempfile::tempdir().unwrap();
        let folder = run(place.path(), "r", DONE);
        let row = |name: &str, auc: f64| serde_json::json!({"name": name, "metrics": {"auc": {"value": auc}, "log_loss": {"value": 0.625}}});
        let table = serde_json::json!({"rows": [row("global mean", 0.5), row("merged", 0.75)]});
        let results = serde_json::json!({"tables": [{"title": "Test rows", "table": table}]});
        fs::write(folder.join("results.json"), results.to_string()).unwrap();
        let runs = listed(&mut Shelf::default(), place.path(), 10_000);
        let [entry] = runs.as_slice() else { panic!("{runs:?}") };
        assert_eq!((entry.state, entry.result.as_str(), entry.seconds), (RunState::Done, "merged", 8.0));
        assert_eq!(entry.metrics, [("auc".to_string(), 0.75), ("log_loss".to_string(), 0.625)]);
        assert_eq!((entry.data.as_str(), entry.model.as_str()), ("tiny", "b"));
        assert_eq!(entry.changed, "seed=7, model.kept=bf16");
    }

    #[test]
    fn a_run_is_read_again_only_when_it_has_changed() {
        let place = tempfile::tempdir().unwrap();
        let folder = run(place.path(), "r", DONE);
        let mut shelf = Shelf::default();
        assert_eq!(listed(&mut shelf, place.path(), 0)[0].state, RunState::Done);
        shelf.find(&[place.path().to_path_buf()]);
        assert!(shelf.known.values().all(|k| k.read), "nothing has changed");
        let failed = DONE.replace("done", "failed");
        run(place.path(), "r", &failed);
        assert_eq!(listed(&mut shelf, place.path(), 0)[0].state, RunState::Failed);
        fs::remove_dir_all(folder).unwrap();
        assert!(listed(&mut shelf, place.path(), 0).is_empty());
    }

    /// A run whose lock file is missing was once killed in the list and running when it was opened.
    #[test]
    fn a_run_without_a_lock_is_at_work_while_it_says_something() {
        let place = tempfile::tempdir().unwrap();
        let folder = run(place.path(), "r", r#""kind":"log","level":"info","text":"x""#);
        assert_eq!(
            listed(&mut Shelf::default(), place.path(), 9_500)[0].state,
            RunState::Killed,
            "a lock nobody holds"
        );
        fs::remove_file(folder.join(".lock")).unwrap();
        assert_eq!(listed(&mut Shelf::default(), place.path(), 9_500)[0].state, RunState::Running);
        let later = 9_500 + FRESH_MS;
        assert_eq!(listed(&mut Shelf::default(), place.path(), later)[0].state, RunState::Killed);
    }

    #[test]
    fn a_folder_is_listed_once_however_it_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let folder = run(place.path(), "r", DONE);
        std::os::unix::fs::symlink(&folder, place.path().join("link")).unwrap();
        let mut shelf = Shelf::default();
        shelf.find(&[place.path().to_path_buf(), place.path().join("r/..")]);
        assert_eq!(shelf.runs().len(), 1);
    }

    /// Ten thousand folders once took 21 seconds to the first name, and a core for half a minute.
    #[test]
    fn many_runs_are_found_quickly_and_cost_little_after() {
        let place = tempfile::tempdir().unwrap();
        for i in 0..2_000 {
            run(place.path(), &format!("run-{i}"), DONE);
        }
        let mut shelf = Shelf::default();
        let timed = |what: &mut dyn FnMut()| {
            let since = std::time::Instant::now();
            what();
            since.elapsed()
        };
        let roots = [place.path().to_path_buf()];
        assert_eq!(names(&roots).len(), 2_000, "their names alone need no look at them");
        let first = timed(&mut || shelf.find(&roots));
        assert_eq!(shelf.runs().len(), 2_000);
        // A fifth of ten thousand, with room for a busy machine.
        assert!(first.as_millis() < 1_000, "{first:?}");
        while shelf.read(500, 0) {}
        let again = timed(&mut || {
            shelf.find(&roots);
            shelf.read(500, 0);
        });
        assert!(again < first.max(std::time::Duration::from_millis(100)), "{again:?} {first:?}");
    }
}
