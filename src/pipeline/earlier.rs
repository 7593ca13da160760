//! Rows that another artifact of the same stage holds already.
//!
//! A stage that asks a language model writes beside its rows a hash of what was asked for each. So
//! a run that asks for more rows, for one more sample a row, or for the same rows with settings
//! that do not reach them, takes over what is there and asks only what is new. The hashes are no
//! part of the artifact's content: another question with the same answer ends the cascade.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::artifact::{MANIFEST, Manifest};
use super::rows::{RowFile, read_rows};
use crate::content::{Content, hash_file};
use crate::error::Result;

/// A row of a file, with a name that no other row of the file has.
pub trait Named: Serialize + DeserializeOwned {
    /// The name's type.
    type Name: Clone + Eq + Hash + Serialize + DeserializeOwned;

    /// The name.
    fn name(&self) -> Self::Name;
}

/// Names of the two files.
#[derive(Clone, Copy)]
pub struct AskedFiles {
    /// The rows.
    pub rows: &'static str,
    /// What was asked for each; a note of the artifact.
    pub asked: &'static str,
}

#[derive(Serialize, Deserialize)]
struct Asked<N> {
    row: N,
    asked: Content,
}

/// An open file of rows, and the one with what was asked.
pub struct AskedFile<T: Named> {
    rows: RowFile<T>,
    asked: RowFile<Asked<T::Name>>,
}

impl<T: Named> AskedFile<T> {
    /// Opens or makes the files; returns them with the rows that are already there.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn open(folder: &Path, files: AskedFiles) -> Result<(Self, Vec<T>)> {
        let (rows, there) = RowFile::open(&folder.join(files.rows))?;
        let (asked, _) = RowFile::open(&folder.join(files.asked))?;
        Ok((Self { rows, asked }, there))
    }

    /// Appends a row. What was asked comes first: a question without a row does no harm.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append(&mut self, row: &T, asked: &Content) -> Result<()> {
        self.asked.append(&Asked { row: row.name(), asked: asked.clone() })?;
        self.rows.append(row)
    }

    /// Ends the file of rows in this order; see [`RowFile::sorted_by_key`].
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn sorted_by_key<K: Ord>(self, place: impl Fn(&T) -> K) -> Result<()> {
        self.rows.sorted_by_key(place)
    }
}

/// Rows of other artifacts, by what was asked for them.
pub struct Earlier<T>(HashMap<Content, T>);

impl<T: Named> Earlier<T> {
    /// The rows of these files in the folders of other artifacts. A file that is not there, or that
    /// is damaged, has none: its rows are asked for again.
    pub fn read(folders: &[PathBuf], files: &[AskedFiles]) -> Self {
        let mut found = HashMap::new();
        for (folder, files) in folders.iter().flat_map(|folder| files.iter().map(move |files| (folder, files))) {
            let mut rows: HashMap<T::Name, T> =
                whole_rows::<T>(folder, files.rows).into_iter().map(|row| (row.name(), row)).collect();
            for Asked { row, asked } in whole_rows::<Asked<T::Name>>(folder, files.asked) {
                if let Some(row) = rows.remove(&row) {
                    found.entry(asked).or_insert(row);
                }
            }
        }
        Self(found)
    }

    /// The row that was asked this.
    pub fn get(&self, asked: &Content) -> Option<&T> {
        self.0.get(asked)
    }
}

/// The rows of a file, unless the manifest of a finished artifact says that the file held something
/// else. An unfinished artifact has no manifest; its whole lines count, as they do when it goes on.
fn whole_rows<R: DeserializeOwned>(folder: &Path, file: &str) -> Vec<R> {
    let path = folder.join(file);
    let is_whole = || {
        let Ok(manifest) = std::fs::read(folder.join(MANIFEST)) else { return true };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest) else { return false };
        let known = manifest.files.iter().find(|f| f.name == file);
        known.is_some_and(|known| hash_file(&path).is_ok_and(|hash| hash == known.blake3))
    };
    if path.is_file() && is_whole() { read_rows(&path).unwrap_or_default() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pipeline::artifact::{Origin, Store};
    use crate::pipeline::key::key;

    #[derive(Serialize, Deserialize)]
    struct Row {
        n: u32,
        p: f64,
    }

    impl Named for Row {
        type Name = u32;
        fn name(&self) -> u32 {
            self.n
        }
    }

    const FILES: AskedFiles = AskedFiles { rows: "rows.jsonl", asked: "rows.asked.jsonl" };

    fn origin(settings: u32) -> Origin {
        let content = Content::of(&settings).unwrap();
        let key = key("reason", "", 1, &content, &[]);
        Origin {
            stage: "reason",
            part: "",
            key,
            version: 1,
            settings: content,
            inputs: Vec::new(),
            notes: &[FILES.asked],
        }
    }

    fn question(n: u32) -> Content {
        Content::of(&n).unwrap()
    }

    #[test]
    fn rows_are_found_by_what_was_asked_and_damaged_files_have_none() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let write = |origin: &Origin, n: u32| {
            let (folder, _) = store.begin(origin).unwrap();
            let (mut file, there) = AskedFile::<Row>::open(&folder, FILES).unwrap();
            assert!(there.is_empty());
            file.append(&Row { n: 7, p: f64::from(n) }, &question(n)).unwrap();
        };
        write(&origin(1), 1);
        let finished = store.commit(&origin(1), 1.0).unwrap();
        write(&origin(2), 2);
        let own = origin(3);
        store.begin(&own).unwrap();
        let read = |own: &Origin| Earlier::<Row>::read(&store.others(own), &[FILES]);
        let p = |earlier: &Earlier<Row>, n| earlier.get(&question(n)).map(|row| row.p);
        let earlier = read(&own);
        assert_eq!((p(&earlier, 1), p(&earlier, 2), p(&earlier, 3)), (Some(1.0), Some(2.0), None));
        assert_eq!(p(&read(&origin(2)), 2), None, "an artifact is no other than itself");
        let file = finished.file(FILES.rows);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("1.0", "7.0")).unwrap();
        let earlier = read(&own);
        assert_eq!((p(&earlier, 1), p(&earlier, 2)), (None, Some(2.0)), "the manifest knows what the file held");
    }

    #[test]
    fn the_questions_are_no_part_of_the_content() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let content = |settings: u32| {
            let (folder, _) = store.begin(&origin(settings)).unwrap();
            let (mut file, _) = AskedFile::<Row>::open(&folder, FILES).unwrap();
            file.append(&Row { n: 7, p: 0.5 }, &question(settings)).unwrap();
            store.commit(&origin(settings), 1.0).unwrap().manifest.content
        };
        assert_eq!(content(1), content(2));
    }
}
