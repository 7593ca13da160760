//! What can be read once, kept in a temporary file so that it can be read again and from any place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use crate::error::{Error, Result};

/// A file that is read from any place, by several readers at once.
#[derive(Debug, Clone)]
pub struct Whole {
    file: Arc<File>,
    length: u64,
}

impl Whole {
    /// A file on the disk.
    pub fn new(file: File) -> Self {
        let length = file.metadata().map_or(0, |m| m.len());
        Self { file: Arc::new(file), length }
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A reader that stands at its beginning.
    pub fn cursor(&self) -> Cursor {
        Cursor { whole: self.clone(), at: 0 }
    }

    /// Whether it begins with these bytes.
    pub fn begins(&self, magic: &[u8]) -> bool {
        let mut head = vec![0; magic.len()];
        self.cursor().read_exact(&mut head).is_ok() && head == magic
    }
}

/// A place in a [`Whole`].
#[derive(Debug, Clone)]
pub struct Cursor {
    whole: Whole,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(&*self.whole.file, buffer, self.at)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(&*self.whole.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.whole.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether a path leads to a pipe or a socket, which can be read once only: `/dev/stdin` behind
/// `|`, a FIFO.
pub fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo() || m.file_type().is_socket())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// All that comes out of a pipe, read once for the whole of the program.
pub fn pipe(path: &Path) -> Result<Whole> {
    static READ: LazyLock<Mutex<HashMap<PathBuf, Whole>>> = LazyLock::new(Mutex::default);
    let mut read = READ.lock().map_err(|_| Error::failed(path.display(), "could not be read"))?;
    if let Some(whole) = read.get(path) {
        return Ok(whole.clone());
    }
    let whole = spool(path, &mut File::open(path).map_err(|e| Error::io(path, "open", &e))?)?;
    read.insert(path.to_owned(), whole.clone());
    Ok(whole)
}

/// All of a reader in a temporary file without a name.
pub fn spool(path: &Path, from: &mut dyn Read) -> Result<Whole> {
    let mut file = tempfile::tempfile().map_err(|e| Error::io(std::env::temp_dir(), "write a file in", &e))?;
    std::io::copy(from, &mut file).map_err(|e| crate::data::lines::read_error(path, path.display(), &e))?;
    Ok(Whole::new(file))
}
