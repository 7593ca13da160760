//! What a run folder holds beside its events, and the list of runs below a folder.
//!
//! ```text
//! recipe.toml     the resolved recipe
//! events.jsonl    what happened, append-only
//! log.txt         the same for people
//! control         words from a watcher: pause, run, checkpoint, stop
//! .lock           held by the process that works in the folder
//! queued          held by a process that waits to work in it, behind other runs
//! artifacts/      results of the stages, STAGE-KEY; STAGE-KEY.part while unfinished
//! scatter.json    item embeddings in two dimensions
//! results.json    the final tables; results.md the same for people
//! ```

mod artifacts;
mod control;
mod list;
mod queue;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use artifacts::{ArtifactInfo, bytes_of};
pub use control::{CONTROL_FILE, Requests, Word};
pub use list::{RunSummary, is_run, runs_below};
pub use queue::{QUEUED_FILE, Turn};

/// Layout of `results.json`.
pub const RESULTS_VERSION: u32 = 1;

/// Longest file of a run folder that is read whole. Parsed, a file takes some ten times its bytes.
pub const LONGEST: u64 = 64 << 20;

/// The content of a plain file of a run folder. A pipe in its place would keep whoever opens it
/// waiting for ever, and a file without end would take all memory.
///
/// # Errors
/// No plain file, or one of more than [`LONGEST`] bytes; those of reading.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(wrong("it is no plain file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong(format!("it has {} bytes, and no run writes more than {LONGEST}", about.len())));
    }
    Ok(bytes)
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Names the folder; it need not be there.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last part, for titles.
    pub fn name(&self) -> String {
        let shown = self.path.file_name().unwrap_or(self.path.as_os_str());
        shown.to_string_lossy().into_owned()
    }

    /// `events.jsonl`.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// The folder is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The resolved recipe as text.
    ///
    /// # Errors
    /// The file is not there or cannot be read.
    pub fn recipe_text(&self) -> io::Result<String> {
        String::from_utf8(read_plain(&self.path.join("recipe.toml"))?).map_err(io::Error::other)
    }

    /// `results.json`; `None` when the run has not come to its end.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or has another layout.
    pub fn results(&self) -> io::Result<Option<serde_json::Value>> {
        let results = self.json("results.json")?;
        match results.as_ref().and_then(|r| r.get("version")).and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(RESULTS_VERSION) => {
                let what = format!("it has layout {version}, and this program reads layout {RESULTS_VERSION}");
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
            _ => Ok(results),
        }
    }

    /// A JSON file of the folder; `None` when it is not there.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn json(&self, file: impl AsRef<Path>) -> io::Result<Option<serde_json::Value>> {
        match read_plain(&self.path.join(file)) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a process works in the folder at the moment: its lock is held. A process that was
    /// killed holds none.
    pub fn is_alive(&self) -> bool {
        let path = self.path.join(".lock");
        if !fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            return false;
        }
        let Ok(lock) = File::open(path) else { return false };
        // A shared lock, and for a moment only: it does not stop other watchers.
        matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
    }

    /// Deletes the run with all its artifacts.
    ///
    /// # Errors
    /// It does not look like a run folder, a process works in it, or the system refuses.
    pub fn delete(&self) -> io::Result<()> {
        if !is_run(&self.path) {
            let what = format!(
                "{} is not a run folder: there is no recipe.toml with artifacts/ or events.jsonl in it",
                self.path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if self.is_alive() {
            let what = format!("a process is working in {}: stop it first", self.path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
        }
        fs::remove_dir_all(&self.path)
    }
}

#[cfg(test)]
mod tests;
