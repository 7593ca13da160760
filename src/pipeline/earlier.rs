//! Rows that another artifact of the same stage holds already.
//!
//! A stage that asks a language model stores with each answer a hash of all that was asked
//! ([`Content`] of a question). So a run that asks for more rows, for one more sample a row, or for
//! the same rows with settings that do not reach them, takes over what is there and asks only what
//! is new.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::artifact::{MANIFEST, Manifest};
use super::rows::read_rows;
use crate::content::{Content, hash_file};

/// A row that says what was asked for it.
pub trait Asked {
    /// Hash of the question. `None` for a row of a version that did not store it.
    fn asked(&self) -> Option<&Content>;
}

/// Rows by what was asked for them.
pub struct Earlier<T>(HashMap<Content, T>);

impl<T: Asked + DeserializeOwned> Earlier<T> {
    /// The rows in the files of these names in the folders of other artifacts. A file that is not
    /// there, or that is damaged, has none: its rows are asked for again.
    pub fn read(folders: &[PathBuf], files: &[&str]) -> Self {
        let mut rows = HashMap::new();
        for (folder, file) in folders.iter().flat_map(|folder| files.iter().map(move |file| (folder, *file))) {
            if !is_whole(folder, file) {
                continue;
            }
            for row in read_rows::<T>(&folder.join(file)).unwrap_or_default() {
                if let Some(asked) = row.asked().cloned() {
                    rows.entry(asked).or_insert(row);
                }
            }
        }
        Self(rows)
    }

    /// The row that was asked this.
    pub fn get(&self, question: &Content) -> Option<&T> {
        self.0.get(question)
    }
}

/// True unless the manifest of a finished artifact says that the file held something else. An
/// unfinished artifact has no manifest; its whole lines count, as they do when it goes on.
fn is_whole(folder: &Path, file: &str) -> bool {
    let path = folder.join(file);
    if !path.is_file() {
        return false;
    }
    let Ok(manifest) = std::fs::read(folder.join(MANIFEST)) else { return true };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest) else { return false };
    let known = manifest.files.iter().find(|f| f.name == file);
    known.is_some_and(|known| hash_file(&path).is_ok_and(|hash| hash == known.blake3))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::pipeline::artifact::{Origin, Store};
    use crate::pipeline::key::key;
    use crate::pipeline::rows::RowFile;

    #[derive(Serialize, Deserialize)]
    struct Row {
        asked: Option<Content>,
        p: f64,
    }

    impl Asked for Row {
        fn asked(&self) -> Option<&Content> {
            self.asked.as_ref()
        }
    }

    fn origin(settings: u32) -> Origin {
        let content = Content::of(&settings).unwrap();
        let key = key("reason", "", 1, &content, &[]);
        Origin { stage: "reason", part: "", key, version: 1, settings: content, inputs: Vec::new(), notes: &[] }
    }

    #[test]
    fn rows_are_found_by_their_question_and_damaged_files_have_none() {
        let run = tempfile::tempdir().unwrap();
        let store = Store::open(run.path()).unwrap();
        let question = |n: u32| Content::of(&n).unwrap();
        let write = |origin: &Origin, n: u32| {
            let (folder, _) = store.begin(origin).unwrap();
            let (mut file, _) = RowFile::<Row>::open(&folder.join("rows.jsonl")).unwrap();
            file.append(&Row { asked: Some(question(n)), p: f64::from(n) }).unwrap();
            file.append(&Row { asked: None, p: 0.5 }).unwrap();
        };
        write(&origin(1), 1);
        let finished = store.commit(&origin(1), 1.0).unwrap();
        write(&origin(2), 2);
        let own = origin(3);
        store.begin(&own).unwrap();
        let read = || Earlier::<Row>::read(&store.others(&own), &["rows.jsonl", "absent.jsonl"]);
        let p = |earlier: &Earlier<Row>, n| earlier.get(&question(n)).map(|row| row.p);
        let earlier = read();
        assert_eq!((p(&earlier, 1), p(&earlier, 2), p(&earlier, 3)), (Some(1.0), Some(2.0), None));
        assert_eq!(earlier.0.len(), 2, "a row without a question is no answer to one");
        let file = finished.file("rows.jsonl");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("1.0", "7.0")).unwrap();
        let earlier = read();
        assert_eq!((p(&earlier, 1), p(&earlier, 2)), (None, Some(2.0)), "the manifest knows what the file held");
        assert!(Earlier::<Row>::read(&store.others(&origin(2)), &["rows.jsonl"]).get(&question(2)).is_none());
    }
}
