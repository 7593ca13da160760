//! Lines of a plain, gzip or zip file, streamed: memory stays bounded whatever the file holds.

use std::io::{BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::source::{self, Meter};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

pub use super::source::{exists, locate};

/// Longest line that is accepted, in bytes. Real lines stay far below; a longer one means a wrong
/// file.
pub const LONGEST: usize = 1 << 20;

/// Most lines of a file: far beyond any rating file that fits in memory.
const MOST_LINES: u64 = 500_000_000;

/// Turns a read error into one that tells a damaged download from a failing disk.
pub fn read_error(path: &Path, place: impl std::fmt::Display, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::input(place, "the compressed file ends too early")
            .next("the file is truncated: copy or download it again"),
        ErrorKind::FileTooLarge => {
            let times = source::EXPANSION;
            Error::input(place, format!("the compressed file unpacks to more than {times} times its size"))
                .next("no text does: this is not the original file; download it again, or unpack it and look")
        }
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            Error::input(place, format!("the compressed data is damaged: {error}")).next("copy or download it again")
        }
        _ => Error::io(path, "read", error),
    }
}

/// Reads the whole of a small file, at most `limit` bytes after decompression.
pub fn read_all(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source::open(path)?.0.take(limit + 1).read_to_end(&mut bytes).map_err(|e| read_error(path, path.display(), &e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::input(path.display(), format!("holds more than {limit} bytes"))
            .next("check that this is the file you mean, or split it"));
    }
    Ok(bytes)
}

/// A cursor over the non-empty lines of a file.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    meter: Meter,
    line: Vec<u8>,
    number: u64,
    most: u64,
    longest: usize,
}

impl Lines {
    /// Opens `path`, plain, gzip or an entry of a zip file.
    pub fn open(path: &Path) -> Result<Self> {
        let (reader, meter) = source::open(path)?;
        Ok(Self::over(path, reader, meter))
    }

    /// The lines of what `reader` gives; `path` names it in messages.
    pub fn over(path: &Path, reader: Box<dyn BufRead + Send>, meter: Meter) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            meter,
            line: Vec::with_capacity(256),
            number: 0,
            most: MOST_LINES,
            longest: LONGEST,
        }
    }

    /// Accepts lines of up to `bytes` instead of [`LONGEST`].
    #[must_use]
    pub fn up_to(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Says how far the file is read, and hears a stop; call it every few thousand lines.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        self.meter.report(monitor)
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
    /// A line longer than [`LONGEST`], a NUL byte (UTF-16 or a binary file), or damaged
    /// compression.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            self.number += 1;
            if self.number > self.most {
                return Err(Error::input(self.path.display(), format!("holds more than {} lines", self.most))
                    .next("check that this is the file you mean, or take a part of it"));
            }
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
            let end = memchr::memchr(b'\n', chunk);
            let used = end.unwrap_or(chunk.len());
            if self.line.len() + used > self.longest {
                return Err(self
                    .error(format!("the line is longer than {} bytes", self.longest))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn packed(path: &Path, bytes: &[u8], times: usize) {
        let mut out = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::best());
        (0..times).for_each(|_| out.write_all(bytes).unwrap());
        out.finish().unwrap();
    }

    fn all(lines: &mut Lines) -> Result<u64> {
        let mut count = 0;
        while lines.advance()? {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_file_that_unpacks_to_far_more_than_text_can_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings.dat.gz");
        // Many short lines, nothing but line breaks, and one endless line: all three without using
        // memory for it.
        for (bomb, says) in [(&b"1::1::5::1\n"[..], "200 times"), (b"\n", "200 times"), (b"1", "longer than")] {
            packed(&path, &bomb.repeat(1 << 16), (64 << 20) / (bomb.len() << 16));
            let size = std::fs::metadata(&path).unwrap().len();
            assert!(size < 1 << 18, "{size} bytes make no bomb");
            let error = all(&mut Lines::open(&path).unwrap()).unwrap_err();
            assert!(error.what().contains(says) && error.place().contains("ratings.dat.gz:"), "{error}");
            assert_eq!(error.exit_code(), 2);
            assert!(!error.next_step().is_empty());
        }
        let error = read_all(&path, 1 << 32).unwrap_err();
        assert!(error.what().contains("200 times"), "{error}");
        // A small file may be as regular as it likes.
        packed(&path, b"1::1::5::1\n", 1000);
        assert_eq!(all(&mut Lines::open(&path).unwrap()).unwrap(), 1000);
    }

    #[test]
    fn the_number_of_lines_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings.dat");
        std::fs::write(&path, "1\n\n2\n").unwrap();
        let with = |most| all(&mut Lines { most, ..Lines::open(&path).unwrap() });
        assert_eq!(with(4).unwrap(), 2);
        let error = with(2).unwrap_err();
        assert!(error.what().contains("more than 2 lines") && error.place().ends_with("ratings.dat"), "{error}");
    }
}
