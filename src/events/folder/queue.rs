//! Runs that wait for others: a marker in the folder of each says since when and for which, and its
//! lock tells a waiting process from one that was killed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::RunFolder;

/// Name of the marker.
pub const QUEUED_FILE: &str = "queued";

/// What a marker says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Marker {
    /// Milliseconds since the Unix epoch: who came first goes first.
    since_ms: u64,
    /// The process that waits.
    process: u32,
    /// The folders that it waits for, whole paths.
    after: BTreeSet<PathBuf>,
}

/// A place in the queue; it is given up when this is dropped.
#[derive(Debug)]
pub struct Turn {
    folder: PathBuf,
    marker: Marker,
    file: File,
}

/// The whole path where there is one, so that it means the same to every process.
fn whole(path: &Path) -> PathBuf {
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}

/// What waits in a folder, where a process still does.
fn waiting(folder: &Path) -> Option<Marker> {
    let path = folder.join(QUEUED_FILE);
    if !fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let file = File::open(&path).ok()?;
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)).then(|| {
        // A marker that cannot be read was written by another version: it is first in the queue.
        fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    })
}

impl RunFolder {
    /// A process waits to start in this folder.
    pub fn is_queued(&self) -> bool {
        waiting(self.path()).is_some()
    }
}

impl Turn {
    /// Takes a place in the queue of `folder`, behind the run in `after`. `None`: a process waits
    /// there already.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn take(folder: &Path, after: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(QUEUED_FILE))?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let marker = Marker {
            since_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            process: std::process::id(),
            after: BTreeSet::from([whole(after)]),
        };
        let mut turn = Self { folder: whole(folder), marker, file };
        turn.write()?;
        Ok(Some(turn))
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.marker).map_err(io::Error::other)?;
        // In place: a file that was renamed over it would not be locked. Markers only grow.
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }

    /// Whether somebody is still before this one. What the runs before it wait for is waited for
    /// too: one of them that leaves the queue must not let this one start beside the run at work.
    pub fn must_wait(&mut self) -> bool {
        let mut busy = false;
        let mut more = BTreeSet::new();
        for folder in self.marker.after.iter().filter(|f| **f != self.folder) {
            if RunFolder::new(folder).is_alive() {
                busy = true;
            }
            // One that has queued behind this one waits for it, not the other way round.
            let before = |other: &Marker| (other.since_ms, folder) < (self.marker.since_ms, &self.folder);
            if let Some(other) = waiting(folder).filter(before) {
                busy = true;
                more.extend(other.after);
            }
        }
        if RunFolder::new(&self.folder).is_alive() {
            busy = true;
        }
        let known = self.marker.after.len();
        self.marker.after.extend(more);
        if self.marker.after.len() > known {
            // Those behind read it here; where it cannot be written they still wait for this one.
            let _ = self.write();
            return true;
        }
        busy
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // It was only a marker; a run that begins says more.
        let _ = fs::remove_file(self.folder.join(QUEUED_FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run folder with a process at work in it, until the lock is dropped.
    fn at_work(root: &Path, name: &str) -> (PathBuf, File) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.join(".lock")).unwrap();
        lock.try_lock().unwrap();
        (folder, lock)
    }

    /// A queued run that was taken out once let the next one start beside the run at work: it had
    /// waited for that one folder alone.
    #[test]
    fn one_that_leaves_the_queue_does_not_let_the_next_one_start() {
        let root = tempfile::tempdir().unwrap();
        let (a, lock) = at_work(root.path(), "a");
        let (b, c) = (root.path().join("b"), root.path().join("c"));
        let mut second = Turn::take(&b, &a).unwrap().unwrap();
        let mut third = Turn::take(&c, &b).unwrap().unwrap();
        assert!(second.must_wait() && third.must_wait() && third.must_wait());
        assert!(RunFolder::new(&b).is_queued() && !RunFolder::new(&a).is_queued());
        drop(second);
        assert!(!RunFolder::new(&b).is_queued());
        assert!(third.must_wait(), "the first is still at work");
        drop(lock);
        assert!(!third.must_wait());
    }

    #[test]
    fn one_that_comes_again_goes_behind_those_that_wait() {
        let root = tempfile::tempdir().unwrap();
        let (a, lock) = at_work(root.path(), "a");
        let b = root.path().join("b");
        let mut second = Turn::take(&b, &a).unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let mut again = Turn::take(&a, &b).unwrap().unwrap();
        assert!(Turn::take(&a, &b).unwrap().is_none(), "one place a folder");
        drop(lock);
        assert!(!second.must_wait(), "it came first");
        assert!(again.must_wait());
        drop(second);
        assert!(!again.must_wait());
    }
}
