//! The lock of a run folder: one process at a time works in it.
//!
//! Two things are locked, the file `.lock`, which watchers look at, and the folder itself, so that
//! a second run stays out also when somebody has removed the file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// Files that a run writes into where they stand. A link in their place would lead the writes
/// somewhere else, a pipe would wait for ever.
const WRITTEN: [&str; 4] = [FILE, "events.jsonl", "log.txt", "control"];

const FILE: &str = ".lock";

/// Held as long as it lives.
pub struct Lock {
    _held: [File; 2],
    /// Why there is no lock, where the file system has none.
    missing: Option<io::Error>,
}

impl Lock {
    /// Takes the lock of a run folder.
    ///
    /// # Errors
    /// Another process holds it; a folder that cannot be written; a link or a pipe in place of a
    /// file.
    pub fn take(folder: &Path) -> Result<Self> {
        for name in WRITTEN {
            let path = folder.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(Error::input(path.display(), "is no plain file, and a run writes into it")
                    .next("remove it, or give another folder with --out"));
            }
        }
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io(&path, "write in the run folder", &e))?;
        let whole = File::open(folder).map_err(|e| Error::io(folder, "open the run folder", &e))?;
        let mut missing = None;
        for lock in [&file, &whole] {
            match patiently(lock) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::failed(folder.display(), "another process is working in this run folder")
                        .next("wait for it, stop it, or give another folder with --out"));
                }
                Err(TryLockError::Error(e)) => missing = Some(e),
            }
        }
        Ok(Self { _held: [file, whole], missing })
    }

    /// Why there is no lock, where the file system has none.
    pub fn missing(&self) -> Option<&io::Error> {
        self.missing.as_ref()
    }
}

/// Whoever lists runs looks at the lock for a moment: only one that stays held is another process
/// at work.
fn patiently(lock: &File) -> std::result::Result<(), TryLockError> {
    let mut outcome = lock.try_lock();
    for n in 1..5 {
        if !matches!(outcome, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30 * n));
        outcome = lock.try_lock();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_stays_out_also_when_the_lock_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert!(first.missing().is_none());
        assert!(Lock::take(folder.path()).is_err());
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert!(Lock::take(folder.path()).is_err(), "two runs wrote into one folder");
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    /// A run emptied whatever a link in place of `.lock` led to.
    #[cfg(unix)]
    #[test]
    fn links_and_pipes_in_place_of_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("precious");
        fs::write(&target, "kept").unwrap();
        for name in WRITTEN {
            let run = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(&target, run.path().join(name)).unwrap();
            let error = Lock::take(run.path()).err().unwrap();
            assert!(error.place().contains(name), "{error}");
            fs::remove_file(run.path().join(name)).unwrap();
            fs::create_dir(run.path().join(name)).unwrap();
            assert!(Lock::take(run.path()).is_err());
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }
}
