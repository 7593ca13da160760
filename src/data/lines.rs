//! Lines of a plain or gzip-compressed file, streamed: memory stays bounded whatever the file holds.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Longest line that is accepted, in bytes. Real lines stay far below; a longer one means a wrong file.
pub const LONGEST: usize = 1 << 20;

/// `dir/name`, or `dir/name.gz` when only that is there. Where neither is, the plain name.
pub fn locate(dir: &Path, name: &str) -> PathBuf {
    let plain = dir.join(name);
    let packed = dir.join(format!("{name}.gz"));
    if !plain.exists() && packed.exists() { packed } else { plain }
}

/// Opens a file for reading, through the decompressor when its first bytes say gzip (the name does not matter).
pub fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Error::input(path.display(), "is a folder where a file is expected").next("check the path"));
    }
    let mut plain = BufReader::with_capacity(1 << 16, file);
    let packed = plain.fill_buf().map_err(|e| Error::io(path, "read", &e))?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(plain))) } else { Box::new(plain) })
}

/// Turns a read error into one that tells a damaged download from a failing disk.
pub fn read_error(path: &Path, place: impl std::fmt::Display, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::input(place, "the compressed file ends too early")
            .next("the file is truncated: copy or download it again"),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            Error::input(place, format!("the compressed data is damaged: {error}")).next("copy or download it again")
        }
        _ => Error::io(path, "read", error),
    }
}

/// Reads the whole of a small file, at most `limit` bytes after decompression.
pub fn read_all(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(|e| read_error(path, path.display(), &e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::input(path.display(), format!("holds more than {limit} bytes"))
            .next("check that this is the file you mean, or split it"));
    }
    Ok(bytes)
}

/// A cursor over the non-empty lines of a file.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens `path`, plain or gzip.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), reader: open(path)?, line: Vec::with_capacity(256), number: 0 })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the current line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// `file:line` of the current line.
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.number)
    }

    /// An input error at the current line.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::input(self.place(), what)
    }

    /// The current line, without its line break.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Moves to the next line that is not empty; false at the end.
    ///
    /// # Errors
    /// A line longer than [`LONGEST`], a NUL byte (UTF-16 or a binary file), or damaged compression.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            self.number += 1;
            if !self.fill()? {
                return Ok(false);
            }
            if self.number == 1 {
                if self.line.starts_with(&[0xff, 0xfe]) || self.line.starts_with(&[0xfe, 0xff]) {
                    return Err(self
                        .error("the file is UTF-16")
                        .next("convert it to UTF-8 or ISO-8859-1, e.g. with iconv"));
                }
                if self.line.starts_with(&[0xef, 0xbb, 0xbf]) {
                    self.line.drain(..3);
                }
            }
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
            if self.line.contains(&0) {
                return Err(self
                    .error("the line holds a NUL byte: this is UTF-16 or not a text file")
                    .next("check that it is the original text file"));
            }
            if !self.line.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Collects one line into the buffer; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(&self.path, self.place(), &e)),
            };
            if chunk.is_empty() {
                return Ok(!self.line.is_empty());
            }
            let end = chunk.iter().position(|&b| b == b'\n');
            let used = end.unwrap_or(chunk.len());
            if self.line.len() + used > LONGEST {
                return Err(self
                    .error(format!("the line is longer than {LONGEST} bytes"))
                    .next("check that this is the original file with its line breaks"));
            }
            self.line.extend_from_slice(&chunk[..used]);
            self.reader.consume(used + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
