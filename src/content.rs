//! What a value, a file or a folder holds, as a hash: its identity, whatever its name and place.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What something holds, 32 hexadecimal digits of BLAKE3; neither its name nor its place is in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Content(String);

impl Content {
    /// Of a value, as JSON.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_vec(value).map_err(|e| Error::failed("key", e))?;
        let mut hash = Digest::new("value");
        hash.part("json", &json);
        Ok(Self(hash.hex()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of a text, e.g. a fingerprint that was made elsewhere.
    pub fn of_text(text: &str) -> Self {
        let mut hash = Digest::new("text");
        hash.part("text", text.as_bytes());
        Self(hash.hex())
    }

    /// Of named parts, e.g. the files of an artifact.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut hash = Digest::new("parts");
        parts.into_iter().for_each(|(name, content)| hash.part(name, content.as_bytes()));
        Self(hash.hex())
    }

    /// Of a file, or of every file of a folder (not its subfolders) by name.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn of_path(path: &Path) -> Result<Self> {
        let mut hash = Digest::new("path");
        if !path.is_dir() {
            hash.part("file", &fingerprint(path)?);
            return Ok(Self(hash.hex()));
        }
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        below(path, "", &mut files)?;
        files.sort();
        for (label, file) in files {
            hash.part(&label, &fingerprint(&file)?);
        }
        Ok(Self(hash.hex()))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All files below a folder, with their names from there: a table may be a folder of part files.
fn below(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, "read the folder", &e))? {
        let entry = entry.map_err(|e| Error::io(folder, "read the folder", &e))?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let name = if name.is_empty() { own } else { format!("{name}/{own}") };
        // Not through links, of which one may lead back here, and not into folders of runs, which
        // change meanwhile.
        match entry.path() {
            path if entry.file_type().is_ok_and(|t| t.is_dir()) && !path.join("events.jsonl").exists() => {
                below(&path, &name, files)?;
            }
            path if path.is_file() => files.push((name, path)),
            _ => {}
        }
    }
    Ok(())
}

/// A hash of parts. Every part is written with its name and length, so parts cannot run together.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    /// `what` keeps hashes of different kinds apart.
    pub(crate) fn new(what: &str) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.part("what", what.as_bytes());
        digest
    }

    /// Takes one part in.
    pub(crate) fn part(&mut self, name: &str, bytes: &[u8]) {
        for piece in [name.as_bytes(), bytes] {
            self.0.update(&(piece.len() as u64).to_le_bytes());
            self.0.update(piece);
        }
    }

    /// 32 hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        self.0.finalize().to_hex()[..32].to_string()
    }
}

/// Opens a plain file. A pipe in its place would keep whoever opens it waiting for ever.
///
/// # Errors
/// No plain file; those of opening.
pub fn open_plain(path: &Path) -> std::io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    File::open(path)
}

/// The content of a plain file.
///
/// # Errors
/// Those of [`open_plain`] and of reading.
pub fn read_plain(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open_plain(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// BLAKE3 of a whole file, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let err = |e: std::io::Error| Error::io(path, "read the file", &e);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open_plain(path).map_err(err)?).map_err(err)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Size and content of a file. All of it is read, by all threads: a model of which some layers
/// alone were trained on is another model, wherever they stand in the file.
fn fingerprint(path: &Path) -> Result<Vec<u8>> {
    let err = |e: std::io::Error| Error::io(path, "read the file", &e);
    let mut hasher = blake3::Hasher::new();
    let bytes = open_plain(path).and_then(|file| file.metadata()).map_err(err)?.len();
    hasher.update(&bytes.to_le_bytes());
    hasher.update_mmap_rayon(path).map_err(err)?;
    Ok(hasher.finalize().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_what_a_folder_holds_and_not_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for place in [&one, &two] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("ratings.dat"), "1::1::5::0").unwrap();
        }
        let of = |path: &Path| Content::of_path(path).unwrap();
        assert_eq!(of(&one), of(&two));
        assert_eq!(of(&one.join("ratings.dat")), of(&two.join("ratings.dat")));
        std::fs::write(two.join("ratings.dat"), "1::1::4::0").unwrap();
        assert_ne!(of(&one), of(&two));
        std::fs::write(two.join("ratings.dat"), "1::1::5::0").unwrap();
        std::fs::rename(two.join("ratings.dat"), two.join("other.dat")).unwrap();
        assert_ne!(of(&one), of(&two), "a loader finds its files by their names");
        assert!(Content::of_path(&folder.path().join("absent")).is_err());
    }

    /// One byte anywhere in a large file makes it another.
    #[test]
    fn all_of_a_large_file_counts() {
        use std::io::{Seek, SeekFrom, Write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut file = File::create(&path).unwrap();
        file.set_len(80 << 20).unwrap();
        let before = Content::of_path(&path).unwrap();
        file.seek(SeekFrom::Start(20 << 20)).unwrap();
        file.write_all(&[1]).unwrap();
        file.flush().unwrap();
        assert_ne!(Content::of_path(&path).unwrap(), before);
    }
}
