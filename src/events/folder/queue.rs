//! Runs that wait for others: a marker in the folder of each says since when and for which, and its
//! lock tells a waiting process from one that was killed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// The folders that it waits for, and those whose folders it waits for, whole paths.
    after: BTreeSet<PathBuf>,
}

/// A place in the queue; it is given up when this is dropped.
#[derive(Debug)]
pub struct Turn {
    folder: PathBuf,
    marker: Marker,
    file: File,
    /// Those that had to be waited for when all were looked at last: where there are thousands of
    /// folders, the others are looked at again only when these have ended.
    busy: BTreeSet<PathBuf>,
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

/// A folder and those directly in it: `path` may be a run, or where runs are.
fn with_those_below(path: &Path) -> impl Iterator<Item = PathBuf> {
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|item| item.path());
    std::iter::once(path.to_path_buf()).chain(below.filter(|p| p.is_dir()).map(|p| whole(&p)))
}

impl RunFolder {
    /// A process waits to start in this folder.
    pub fn is_queued(&self) -> bool {
        waiting(self.path()).is_some()
    }
}

impl Turn {
    /// Takes a place in the queue: `folder` is where the run will be, each of `after` a run to wait
    /// for or a folder whose runs are waited for. `None`: a process waits there already.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn take(folder: &Path, after: &[PathBuf]) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(QUEUED_FILE))?;
        // Whoever lists runs looks at the lock for a moment: only one that stays held is another
        // process that waits.
        let held = (0..5).all(|n| {
            std::thread::sleep(Duration::from_millis(20 * n));
            file.try_lock().is_err()
        });
        if held {
            return Ok(None);
        }
        // After the lock: whoever has looked before this moment came earlier.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let marker = Marker {
            since_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            process: std::process::id(),
            after: after.iter().map(|path| whole(path)).collect(),
        };
        let mut turn = Self { folder: whole(folder), marker, file, busy: BTreeSet::new() };
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

    /// Whether somebody is still before this one, by the locks of the folders. What the runs before
    /// it wait for is waited for too: one of them that leaves the queue must not let this one start
    /// beside the run at work.
    pub fn must_wait(&mut self) -> bool {
        let known = std::mem::take(&mut self.busy);
        if known.is_empty() || !self.look_at(known.into_iter()) {
            let all: Vec<PathBuf> = self.marker.after.iter().flat_map(|path| with_those_below(path)).collect();
            self.look_at(all.into_iter().chain([self.folder.clone()]));
        }
        !self.busy.is_empty()
    }

    /// Adds those of the folders that are busy; true when there is one.
    fn look_at(&mut self, folders: impl Iterator<Item = PathBuf>) -> bool {
        let mut more = BTreeSet::new();
        for folder in folders {
            // The place in the queue first: a run takes its lock before it gives up its place, so
            // that one of the two is seen.
            if let Some(other) = waiting(&folder).filter(|other| self.is_behind(other, &folder)) {
                more.extend(other.after);
                self.busy.insert(folder);
            } else if RunFolder::new(&folder).is_alive() {
                self.busy.insert(folder);
            }
        }
        let known = self.marker.after.len();
        self.marker.after.extend(more);
        if self.marker.after.len() > known {
            // Those behind read it here; where it cannot be written they still wait for this one.
            let _ = self.write();
        }
        !self.busy.is_empty()
    }

    /// The one that waits in `folder` came first. One that has come later waits for this one, not
    /// the other way round.
    fn is_behind(&self, other: &Marker, folder: &PathBuf) -> bool {
        *folder != self.folder && (other.since_ms, folder) < (self.marker.since_ms, &self.folder)
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
        let mut second = Turn::take(&b, std::slice::from_ref(&a)).unwrap().unwrap();
        let mut third = Turn::take(&c, std::slice::from_ref(&b)).unwrap().unwrap();
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
        let mut second = Turn::take(&b, std::slice::from_ref(&a)).unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let mut again = Turn::take(&a, std::slice::from_ref(&b)).unwrap().unwrap();
        assert!(Turn::take(&a, std::slice::from_ref(&b)).unwrap().is_none(), "one place a folder");
        drop(lock);
        assert!(!second.must_wait(), "it came first");
        assert!(again.must_wait());
        drop(second);
        assert!(!again.must_wait());
    }
    /// A queued run once went behind the one run that a dashboard's list had at that moment.
    #[test]
    fn every_run_of_a_folder_is_waited_for_also_one_that_began_later() {
        let root = tempfile::tempdir().unwrap();
        let (_, lock) = at_work(root.path(), "a");
        let b = root.path().join("b");
        let mut turn = Turn::take(&b, &[root.path().to_path_buf()]).unwrap().unwrap();
        assert!(turn.must_wait());
        let (_, other) = at_work(root.path(), "from the command line");
        drop(lock);
        assert!(turn.must_wait(), "another one is at work now");
        drop(other);
        assert!(!turn.must_wait());
    }

    #[test]
    fn of_two_that_wait_for_one_folder_the_first_goes_first() {
        let root = tempfile::tempdir().unwrap();
        let place = [root.path().to_path_buf()];
        let mut first = Turn::take(&root.path().join("z"), &place).unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let mut second = Turn::take(&root.path().join("a"), &place).unwrap().unwrap();
        assert!(!first.must_wait() && second.must_wait());
        // It begins: its lock first, then it gives up its place.
        let (_, lock) = at_work(root.path(), "z");
        drop(first);
        assert!(second.must_wait());
        drop(lock);
        assert!(!second.must_wait());
    }
}
