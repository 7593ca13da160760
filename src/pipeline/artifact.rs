//! The artifact store of a run folder: `artifacts/STAGE-KEY/`, made complete or not at all.
//!
//! A stage works in `STAGE-KEY.part/`. Long stages append rows there and find them again after a kill. When the stage
//! is done, `done.json` is written and the folder is renamed: a folder without `.part` is always whole.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::error::{Error, Result};

/// A finished result of a stage.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Identity; input of later stages' keys.
    pub key: Key,
    /// The folder with its files.
    pub folder: PathBuf,
}

impl Artifact {
    /// A file inside.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `done.json` of a finished artifact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// Stage name.
    pub stage: String,
    /// Full key.
    pub key: Key,
    /// Seconds of work, over all tries.
    pub seconds: f64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// The folder of artifacts.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens (and makes) `run/artifacts`.
    pub fn open(run: &Path) -> Result<Self> {
        let root = run.join("artifacts");
        fs::create_dir_all(&root).map_err(|e| Error::io(&root, "make the folder", &e))?;
        Ok(Self { root })
    }

    fn folder(&self, stage: &str, key: &Key) -> PathBuf {
        self.root.join(format!("{stage}-{}", key.short()))
    }

    /// The finished artifact of this key, if it is there and whole.
    pub fn find(&self, stage: &str, key: &Key) -> Option<(Artifact, Done)> {
        let folder = self.folder(stage, key);
        let done: Done = serde_json::from_slice(&fs::read(folder.join("done.json")).ok()?).ok()?;
        (done.key == *key).then(|| (Artifact { key: key.clone(), folder }, done))
    }

    /// The working folder of an unfinished artifact; made when absent. True when earlier work is in it.
    pub fn begin(&self, stage: &str, key: &Key) -> Result<(PathBuf, bool)> {
        let part = self.folder(stage, key).with_extension("part");
        let resumed = part.is_dir();
        if resumed {
            remove_torn(&part);
        }
        fs::create_dir_all(&part).map_err(|e| Error::io(&part, "make the folder", &e))?;
        Ok((part, resumed))
    }

    /// Marks the working folder as done and gives it its final name.
    pub fn commit(&self, stage: &str, key: &Key, seconds: f64) -> Result<(Artifact, Done)> {
        let folder = self.folder(stage, key);
        let part = folder.with_extension("part");
        let done = Done { stage: stage.into(), key: key.clone(), seconds, bytes: folder_bytes(&part) };
        let json = serde_json::to_vec_pretty(&done).map_err(|e| Error::failed("done.json", e))?;
        let file = part.join("done.json");
        fs::write(&file, json).map_err(|e| Error::io(&file, "write the file", &e))?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "replace the folder", &e))?;
        }
        fs::rename(&part, &folder).map_err(|e| Error::io(&folder, "rename the finished artifact", &e))?;
        Ok((Artifact { key: key.clone(), folder }, done))
    }

    /// Removes a finished artifact, so that its stage runs again.
    pub fn discard(&self, stage: &str, key: &Key) -> Result<()> {
        for folder in [self.folder(stage, key), self.folder(stage, key).with_extension("part")] {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "remove the folder", &e))?;
            }
        }
        Ok(())
    }
}

/// Removes what a killed [`write_atomically`] left in an unfinished artifact.
fn remove_torn(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_torn(&path);
        } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // One that cannot be removed does no harm.
            let _ = fs::remove_file(path);
        }
    }
}

/// Names of files that are being written begin like this (the `tempfile` library's own way).
const TEMPORARY: &str = ".tmp";

/// Bytes of all files below `folder`.
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|e| match e.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&e.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Writes a file whole or not at all: to a temporary name beside it, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io(folder, "write in the folder", &e))?;
    std::io::Write::write_all(&mut file, bytes).map_err(|e| Error::io(path, "write the file", &e))?;
    file.persist(path).map_err(|e| Error::io(path, "write the file", &e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::key::KeyBuilder;

    #[test]
    fn an_artifact_is_found_only_when_it_was_committed() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let key = KeyBuilder::new("graph", 1).finish();
        let (part, resumed) = store.begin("graph", &key).unwrap();
        assert!(!resumed);
        fs::write(part.join("rows"), "half").unwrap();
        fs::write(part.join(".tmpA1b2C3"), "torn").unwrap();
        assert!(store.find("graph", &key).is_none());
        let (part, resumed) = store.begin("graph", &key).unwrap();
        assert!(resumed);
        assert_eq!(fs::read_to_string(part.join("rows")).unwrap(), "half");
        store.commit("graph", &key, 1.0).unwrap();
        let (artifact, done) = store.find("graph", &key).unwrap();
        assert_eq!(done.bytes, 4);
        assert_eq!(fs::read_to_string(artifact.file("rows")).unwrap(), "half");
        store.discard("graph", &key).unwrap();
        assert!(store.find("graph", &key).is_none());
    }
}
