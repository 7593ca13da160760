//! Append-only row files of long stages: one JSON object a line, written row by row. A kill loses
//! at most the row that was being written, a power cut the rows of some seconds; what it left
//! behind the last whole row is cut off when the file is opened again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::{self, Appending};
use crate::error::{Error, Result};

/// An open row file.
pub struct RowFile<T> {
    file: Appending,
    row: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> RowFile<T> {
    /// Opens or makes the file; returns it with the rows that are already there.
    pub fn open(path: &Path) -> Result<(Self, Vec<T>)> {
        let (rows, whole, _) = if path.exists() { read_whole_lines(path)? } else { (Vec::new(), 0, None) };
        Ok((Self { file: Appending::open(path, whole)?, row: PhantomData }, rows))
    }

    /// Makes the file without the rows that a stopped call has left in it.
    pub fn anew(path: &Path) -> Result<Self> {
        if path.exists() {
            std::fs::remove_file(path).map_err(|e| Error::io(path, "start the file again", &e))?;
        }
        Self::open(path).map(|(file, _)| file)
    }

    /// Appends one row and hands it to the operating system.
    pub fn append(&mut self, row: &T) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|e| Error::failed(self.file.path().display(), e))?;
        line.push(b'\n');
        self.file.append(&line)
    }

    /// Ends the file with its rows in this order. So its content is the same whether or not the
    /// work was interrupted, and whichever rows were taken over from elsewhere.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn sorted_by_key<K: Ord>(self, place: impl Fn(&T) -> K) -> Result<()> {
        let mut rows: Vec<T> = read_rows(self.file.path())?;
        if rows.is_sorted_by_key(&place) {
            return Ok(());
        }
        rows.sort_by_key(&place);
        let mut text = Vec::new();
        for row in &rows {
            serde_json::to_writer(&mut text, row).map_err(|e| Error::failed(self.file.path().display(), e))?;
            text.push(b'\n');
        }
        durable::write(self.file.path(), &text)
    }
}

/// Reads all rows; a torn last line is left out, any other bad line is an error.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    match read_whole_lines(path)? {
        (rows, _, None) => Ok(rows),
        (_, _, Some(bad)) => Err(bad),
    }
}

/// The rows up to the first line that is none, their bytes, and what is wrong with that line unless
/// it is the torn last one. A power cut may leave blocks of zeros in a file.
type Lines<T> = (Vec<T>, u64, Option<Error>);

fn read_whole_lines<T: DeserializeOwned>(path: &Path) -> Result<Lines<T>> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io(path, "open the file", &e))?);
    let (mut rows, mut whole, mut line) = (Vec::new(), 0u64, Vec::new());
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line).map_err(|e| Error::io(path, "read the file", &e))?;
        if n == 0 || line.last() != Some(&b'\n') {
            return Ok((rows, whole, None));
        }
        match serde_json::from_slice(&line) {
            Ok(row) => rows.push(row),
            Err(e) => {
                let bad = Error::input(format!("{}, line {}", path.display(), rows.len() + 1), e)
                    .next("delete the file: the stage writes it again");
                return Ok((rows, whole, Some(bad)));
            }
        }
        whole += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_row_is_cut_off_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let (mut file, rows) = RowFile::<u32>::open(&path).unwrap();
        assert!(rows.is_empty());
        for i in [1, 22, 333] {
            file.append(&i).unwrap();
        }
        drop(file);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (mut file, rows) = RowFile::<u32>::open(&path).unwrap();
            assert_eq!(rows, [1, 22, 333][..rows.len()]);
            file.append(&7).unwrap();
            drop(file);
            assert_eq!(read_rows::<u32>(&path).unwrap().last(), Some(&7));
        }
    }

    /// A power cut may leave a file that is as long as it was, with zeros in the place of rows.
    #[test]
    fn rows_behind_a_damaged_one_are_done_again_and_a_finished_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, b"1\n22\n\0\0\0\n4\n").unwrap();
        assert!(read_rows::<u32>(&path).unwrap_err().place().contains("line 3"));
        let (mut file, rows) = RowFile::<u32>::open(&path).unwrap();
        assert_eq!(rows, [1, 22]);
        file.append(&5).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n22\n5\n");
    }

    #[test]
    fn a_file_ends_in_the_order_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let go = |rows: [u32; 3]| {
            let _ = std::fs::remove_file(&path);
            let (mut file, _) = RowFile::<u32>::open(&path).unwrap();
            rows.iter().for_each(|row| file.append(row).unwrap());
            file.sorted_by_key(|&row| row).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        assert_eq!(go([22, 1, 333]), "1\n22\n333\n");
        assert_eq!(go([22, 1, 333]), go([1, 22, 333]));
    }
}
