//! What form a file has, by its content: typed columns, JSON, or text with separators; and how such
//! text is written.

use std::io::{BufRead, ErrorKind, Read};
use std::path::Path;

use encoding_rs::{Decoder, Encoding};

use super::columns::{self, Columns};
use super::{AUTO, TableSettings};
use crate::data::delimited::{Dialect, Records, Separator};
use crate::data::json::{self, Objects, is_json};
use crate::data::lines::read_error;
use crate::data::source;
use crate::error::{Error, Result};

/// Longest record of text, in bytes: reviews are long.
const LONGEST: usize = 16 << 20;
/// Bytes of a file that are looked at for quotes that do not close.
const LOOKED_AT: u64 = 8 << 20;

/// What to write for an encoding.
pub const ENCODINGS: &str = "use e.g. \"utf-8\", \"latin1\", \"windows-1252\", \"utf-16\", \"shift_jis\", \"gbk\"";

/// The encoding of this name.
pub fn encoding(name: &str) -> Option<&'static Encoding> {
    Encoding::for_label(name.trim().as_bytes())
}

/// A file, opened as what it is.
pub enum Form {
    Text(Box<Records>),
    Json(Box<Objects>),
    Columns(Box<Columns>),
}

impl Form {
    /// Opens a file.
    pub fn open(path: &Path, table: &TableSettings) -> Result<Self> {
        let (mut reader, meter) = source::open(path)?;
        let begins = head(path, &mut reader)?;
        if let Some(kind) = columns::Kind::of(&begins) {
            return Ok(Self::Columns(Box::new(Columns::open(path, kind)?)));
        }
        if let Some((what, next)) = json::lists(&begins) {
            return Err(Error::input(path.display(), what).next(next));
        }
        if is_json(&begins) {
            return Ok(Self::Json(Box::new(Objects::over(path, reader, meter)?)));
        }
        let mut dialect = table.dialect()?;
        let mut reader = decoded(reader, table);
        if let Some(separator) = separator_line(&head(path, &mut reader)?) {
            dialect.separator = separator;
            skip_line(path, &mut reader)?;
        }
        if table.quote == AUTO && dialect.separator != Separator::One(b',') && !quotes_close(path, table, &dialect)? {
            dialect.quote = None;
        }
        Ok(Self::Text(Box::new(Records::over(path, reader, meter, dialect).up_to(LONGEST))))
    }
}

fn head(path: &Path, reader: &mut Box<dyn BufRead + Send>) -> Result<Vec<u8>> {
    loop {
        match reader.fill_buf() {
            Ok(head) => return Ok(head.to_vec()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(read_error(path, path.display(), &e)),
        }
    }
}

/// The separator that a first line `sep=;` names, as spreadsheets write it.
fn separator_line(head: &[u8]) -> Option<Separator> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let line = head.split(|&b| b == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")).unwrap_or(line);
    let named = line.get(..4).filter(|start| start.eq_ignore_ascii_case(b"sep=")).and_then(|_| line.get(4..))?;
    Separator::parse(std::str::from_utf8(named).ok()?).ok()
}

fn skip_line(path: &Path, reader: &mut Box<dyn BufRead + Send>) -> Result<()> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|e| read_error(path, path.display(), &e))?;
    Ok(())
}

/// Whether the quotes of a file with tabs or several characters between its columns are meant as
/// such: where they do not close, and every line has the same columns without them, they are
/// characters like others.
fn quotes_close(path: &Path, table: &TableSettings, dialect: &Dialect) -> Result<bool> {
    if matches!(dialect.separator, Separator::One(byte) if byte != b'\t') {
        return Ok(true);
    }
    let mut reader = decoded(source::open(path)?.0, table).take(LOOKED_AT);
    let (mut line, mut closed, mut columns, mut alike) = (Vec::new(), true, None, true);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|e| read_error(path, path.display(), &e))?;
        let whole = line.strip_suffix(b"\n");
        if read == 0 || (whole.is_none() && reader.limit() == 0) {
            return Ok(closed || !alike);
        }
        let line = whole.unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || dialect.comment.is_some_and(|mark| line[0] == mark) || separator_line(line).is_some() {
            continue;
        }
        closed &= dialect.quotes_hold(line);
        let count = dialect.separator.count(line);
        alike &= *columns.get_or_insert(count) == count;
    }
}

fn decoded(reader: Box<dyn BufRead + Send>, table: &TableSettings) -> Box<dyn BufRead + Send> {
    match encoding(&table.encoding) {
        None => reader,
        Some(encoding) if encoding == encoding_rs::UTF_8 => reader,
        Some(encoding) => {
            Box::new(Decoded { inner: reader, decoder: encoding.new_decoder(), text: Vec::new(), at: 0, ended: false })
        }
    }
}

/// Text of another encoding as UTF-8. A byte order mark wins over the name.
struct Decoded {
    inner: Box<dyn BufRead + Send>,
    decoder: Decoder,
    text: Vec<u8>,
    at: usize,
    ended: bool,
}

impl BufRead for Decoded {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.at == self.text.len() && !self.ended {
            let chunk = self.inner.fill_buf()?;
            let ended = chunk.is_empty();
            let room = self.decoder.max_utf8_buffer_length(chunk.len()).unwrap_or(chunk.len() * 4 + 16);
            self.text.resize(room, 0);
            let (_, used, written, _) = self.decoder.decode_to_utf8(chunk, &mut self.text, ended);
            self.inner.consume(used);
            self.text.truncate(written);
            (self.at, self.ended) = (0, ended);
        }
        Ok(&self.text[self.at..])
    }

    fn consume(&mut self, used: usize) {
        self.at = (self.at + used).min(self.text.len());
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let text = self.fill_buf()?;
        let count = text.len().min(buffer.len());
        buffer[..count].copy_from_slice(&text[..count]);
        self.consume(count);
        Ok(count)
    }
}
