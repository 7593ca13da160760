//! The runs below a folder.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::RunFolder;
use crate::event::Event;
use crate::record::Record;
use crate::stage::StageId;

/// Bytes of the end of `events.jsonl` that are looked at for the outcome.
const END: u64 = 16 << 10;

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Folder name.
    pub name: String,
    /// Folder.
    pub path: std::path::PathBuf,
    /// Milliseconds since the Unix epoch of the latest event, or of the recipe.
    pub modified_ms: u64,
    /// A process works in it.
    pub alive: bool,
    /// `done`, `failed`, `stopped`; `None` while it runs, or when it was killed.
    pub outcome: Option<String>,
    /// The latest stage that the end of the events names.
    pub stage: Option<String>,
    /// Bytes of `events.jsonl`.
    pub event_bytes: u64,
    /// The final tables are there.
    pub has_results: bool,
}

/// Whether a folder looks like one of a run.
pub fn is_run(folder: &Path) -> bool {
    folder.join("recipe.toml").is_file() && (folder.join("artifacts").is_dir() || folder.join("events.jsonl").is_file())
}

/// The runs directly below `root`, or `root` itself when it is one; latest first. A folder that
/// cannot be read holds none.
pub fn runs_below(root: &Path) -> Vec<RunSummary> {
    if is_run(root) {
        return vec![RunFolder::new(root).summary()];
    }
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let folders = entries.flatten().map(|e| e.path()).filter(|p| is_run(p));
    let mut out: Vec<_> = folders.map(|p| RunFolder::new(&p).summary()).collect();
    out.sort_by(|a, b| b.modified_ms.cmp(&a.modified_ms).then_with(|| a.name.cmp(&b.name)));
    out
}

impl RunFolder {
    /// What a list shows of the run; cheap: the end of the events alone is read.
    pub fn summary(&self) -> RunSummary {
        let modified = |file: &Path| {
            let time = fs::metadata(file).and_then(|m| m.modified()).ok()?;
            Some(time.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
        };
        let events = self.events();
        let (mut outcome, mut stage, mut latest) = (None, None, None);
        for record in last_records(&events) {
            latest = Some(record.t_ms);
            match record.event {
                Event::RunStarted { .. } => (outcome, stage) = (None, None),
                Event::RunFinished { outcome: word, .. } => outcome = Some(word),
                Event::StageStarted { stage: s, .. }
                | Event::StageProgress { stage: s, .. }
                | Event::StageFinished { stage: s, .. }
                | Event::TrainStep { stage: s, .. }
                | Event::SampleScored { stage: s, .. } => stage = Some(s),
                Event::ReasoningSample { .. } => stage = Some(StageId::Reason.into()),
                _ => {}
            }
        }
        let alive = self.is_alive();
        RunSummary {
            name: self.name(),
            path: self.path().to_path_buf(),
            modified_ms: latest.or(modified(&events)).or(modified(&self.path().join("recipe.toml"))).unwrap_or(0),
            alive,
            outcome: if alive { None } else { outcome },
            stage,
            event_bytes: fs::metadata(&events).map_or(0, |m| m.len()),
            has_results: self.path().join("results.json").is_file(),
        }
    }
}

/// The records in the last bytes of a file of events.
fn last_records(path: &Path) -> Vec<Record> {
    use std::io::{Read, Seek, SeekFrom};
    // A pipe would keep whoever opens it waiting for ever.
    if !fs::metadata(path).is_ok_and(|m| m.is_file()) {
        return Vec::new();
    }
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = fs::File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(END);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(2 * END).read_to_end(&mut bytes)?;
        Ok((bytes, from > 0))
    };
    let Ok((bytes, cut)) = read() else { return Vec::new() };
    bytes.split(|b| *b == b'\n').skip(usize::from(cut)).filter_map(|l| Record::parse_bytes(l).ok()).collect()
}
