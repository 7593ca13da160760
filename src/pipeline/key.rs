//! Keys of artifacts: a hash of everything that a stage's result depends on.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The identity of an artifact, 32 hexadecimal digits of BLAKE3. Equal keys mean equal content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The first 12 digits, as used in folder names.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects what a stage depends on. Every part is written with its name and length, so parts cannot run together.
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// Begins the key of `stage`. Raise `version` when the stage's code changes what it writes.
    pub fn new(stage: &str, version: u32) -> Self {
        let mut builder = Self(blake3::Hasher::new());
        builder.part("stage", stage.as_bytes());
        builder.part("version", &version.to_le_bytes());
        builder
    }

    fn part(&mut self, name: &str, bytes: &[u8]) {
        for piece in [name.as_bytes(), bytes] {
            self.0.update(&(piece.len() as u64).to_le_bytes());
            self.0.update(piece);
        }
    }

    /// Settings, as canonical JSON.
    pub fn settings(mut self, name: &str, settings: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_vec(settings).map_err(|e| Error::failed("key", format!("{name}: {e}")))?;
        self.part(name, &json);
        Ok(self)
    }

    /// The key of an input artifact.
    pub fn input(mut self, name: &str, key: &Key) -> Self {
        self.part(name, key.0.as_bytes());
        self
    }

    /// A file, or every file of a folder (not its subfolders), by name and content. Of a file beyond 64 MB, the size
    /// and three probes of a megabyte stand for the content.
    pub fn path(mut self, name: &str, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        if path.is_dir() {
            for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, "read the folder", &e))? {
                let entry = entry.map_err(|e| Error::io(path, "read the folder", &e))?.path();
                if entry.is_file() {
                    files.push(entry);
                }
            }
            files.sort();
        } else {
            files.push(path.to_path_buf());
        }
        for file in files {
            let label = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            self.part(&format!("{name}/{label}"), &fingerprint(&file)?);
        }
        Ok(self)
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        Key(self.0.finalize().to_hex()[..32].to_string())
    }
}

fn fingerprint(path: &Path) -> Result<Vec<u8>> {
    const WHOLE: u64 = 64 << 20;
    const PROBE: u64 = 1 << 20;
    let err = |e: std::io::Error| Error::io(path, "read the file", &e);
    let mut file = File::open(path).map_err(err)?;
    let length = file.metadata().map_err(err)?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    if length <= WHOLE {
        hasher.update_reader(&mut file).map_err(err)?;
    } else {
        for start in [0, length / 2, length - PROBE] {
            file.seek(SeekFrom::Start(start)).map_err(err)?;
            hasher.update_reader(Read::by_ref(&mut file).take(PROBE)).map_err(err)?;
        }
    }
    Ok(hasher.finalize().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_every_part_and_on_nothing_else() {
        let key = |s: &str, n: u32| KeyBuilder::new("graph", 1).settings(s, &n).unwrap().finish();
        assert_eq!(key("a", 1), key("a", 1));
        assert_ne!(key("a", 1), key("a", 2));
        assert_ne!(key("a", 1), key("b", 1));
        let chained = KeyBuilder::new("align", 1).input("graph", &key("a", 1)).finish();
        assert_ne!(chained, KeyBuilder::new("align", 1).input("graph", &key("a", 2)).finish());
    }

    #[test]
    fn a_changed_file_changes_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ratings.dat");
        std::fs::write(&file, "1::1::5::0").unwrap();
        let before = KeyBuilder::new("data", 1).path("raw", folder.path()).unwrap().finish();
        std::fs::write(&file, "1::1::4::0").unwrap();
        assert_ne!(before, KeyBuilder::new("data", 1).path("raw", folder.path()).unwrap().finish());
        assert!(KeyBuilder::new("data", 1).path("raw", &folder.path().join("absent")).is_err());
    }
}
