//! Records of a delimited file (CSV and its relatives), streamed: a field may hold separators, quotes and line breaks;
//! memory stays bounded whatever the file holds.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use super::lines::{LONGEST, read_error};
use super::source::{self, Meter};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Most columns that are accepted.
const MOST_COLUMNS: usize = 4096;

/// How fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Between fields.
    pub separator: u8,
    /// What stands before a quote that does not end the field; `None`: the quote is doubled.
    pub escape: Option<u8>,
}

impl Dialect {
    /// Commas, doubled quotes (RFC 4180).
    pub const CSV: Self = Self { separator: b',', escape: None };

    fn reader(self) -> csv_core::Reader {
        csv_core::ReaderBuilder::new()
            .delimiter(self.separator)
            .escape(self.escape)
            .double_quote(self.escape.is_none())
            .build()
    }

    /// Whether all quotes of a line are closed at its end.
    fn closed(self, line: &[u8]) -> bool {
        let (mut quoted, mut start, mut at) = (false, true, 0);
        while at < line.len() {
            let byte = line[at];
            if quoted {
                if Some(byte) == self.escape {
                    at += 1;
                } else if byte == b'"' {
                    if self.escape.is_none() && line.get(at + 1) == Some(&b'"') {
                        at += 1;
                    } else {
                        quoted = false;
                    }
                }
            } else {
                quoted = start && byte == b'"';
                start = byte == self.separator;
            }
            at += 1;
        }
        !quoted
    }
}

/// Splits lines, each on its own: a quote that never closes ends with its line.
pub struct Splitter {
    dialect: Dialect,
    core: csv_core::Reader,
    fields: Fields,
}

impl Splitter {
    /// For lines of this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, core: dialect.reader(), fields: Fields::default() }
    }

    /// The fields of the line that was split last.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Splits one line; false when a quote is still open at its end.
    pub fn split(&mut self, line: &[u8]) -> bool {
        let fields = &mut self.fields;
        fields.clear();
        self.core.reset();
        let mut input = line;
        loop {
            let (result, read, out, ends) =
                self.core.read_record(input, &mut fields.bytes[fields.used..], &mut fields.ends[fields.count..]);
            input = &input[read..];
            fields.used += out;
            fields.count += ends;
            match result {
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => break,
                csv_core::ReadRecordResult::OutputFull => fields.bytes.resize(2 * fields.bytes.len(), 0),
                csv_core::ReadRecordResult::OutputEndsFull => fields.ends.resize(2 * fields.ends.len(), 0),
                csv_core::ReadRecordResult::InputEmpty => {}
            }
        }
        self.dialect.closed(line)
    }
}

/// The fields of one record, without quotes.
#[derive(Debug, Clone)]
pub struct Fields {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    used: usize,
    count: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self { bytes: vec![0; 256], ends: vec![0; 16], used: 0, count: 0 }
    }
}

impl Fields {
    fn clear(&mut self) {
        (self.used, self.count) = (0, 0);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them; empty where there is none.
    pub fn get(&self, column: usize) -> &[u8] {
        if column >= self.count {
            return &[];
        }
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.bytes[start..self.ends[column]]
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|column| self.get(column))
    }
}

/// A cursor over the records of a file.
pub struct Records {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    meter: Meter,
    core: csv_core::Reader,
    fields: Fields,
    /// Line of the current record's beginning, and of the reading position.
    number: u64,
    line: u64,
    columns: usize,
    longest: usize,
}

impl Records {
    /// Opens `path`, plain, gzip or an entry of a zip file.
    pub fn open(path: &Path, dialect: Dialect) -> Result<Self> {
        let (reader, meter) = source::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            meter,
            core: dialect.reader(),
            fields: Fields::default(),
            number: 1,
            line: 1,
            columns: 0,
            longest: LONGEST,
        })
    }

    /// Opens `path` and reads its first record as the names of the columns, in lower case and without white space
    /// around them.
    ///
    /// # Errors
    /// An empty file.
    pub fn with_header(path: &Path, dialect: Dialect) -> Result<(Self, Header)> {
        let mut records = Self::open(path, dialect)?;
        if !records.advance()? {
            return Err(Error::input(path.display(), "is empty").next("copy or download it again"));
        }
        let names = records.fields().iter().map(|f| String::from_utf8_lossy(f).trim().to_lowercase()).collect();
        Ok((records, Header { path: path.to_owned(), names }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Line on which the current record begins, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The current record.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// One field of the current record.
    pub fn get(&self, column: usize) -> &[u8] {
        self.fields.get(column)
    }

    /// Whether the current record has as many fields as the first one.
    pub fn is_whole(&self) -> bool {
        self.fields.len() == self.columns
    }

    /// An input error at the current record.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}:{}", self.path.display(), self.number), what)
    }

    /// The error for a record that [`Self::is_whole`] denies.
    pub fn ragged(&self) -> Error {
        let spans = self.line.saturating_sub(self.number);
        let (found, wanted) = (self.fields.len(), self.columns);
        if spans > 1 {
            return self
                .error(format!(
                    "{found} columns instead of {wanted}, on {spans} lines: a quote that opens here never closes"
                ))
                .next("close the quote, or double it inside of a quoted field");
        }
        self.error(format!("{found} columns instead of {wanted}"))
            .next("the line is cut or has a separator inside of a field that is not quoted: mend or remove it")
    }

    /// Says how far the file is read, and hears a stop; call it every few thousand records.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        self.meter.report(monitor)
    }

    /// Moves to the next record; false at the end. Empty lines are no records.
    ///
    /// # Errors
    /// A record longer than [`LONGEST`] bytes (a quote that never closes), too many columns, a NUL byte (UTF-16 or a
    /// binary file), damaged compression.
    pub fn advance(&mut self) -> Result<bool> {
        self.fields.clear();
        let mut begun = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(&self.path, format!("{}:{}", self.path.display(), self.line), &e)),
            };
            if !begun {
                let blank = chunk.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
                if blank > 0 {
                    self.line += chunk[..blank].iter().filter(|&&b| b == b'\n').count() as u64;
                    self.reader.consume(blank);
                    continue;
                }
                if self.line == 1 && (chunk.starts_with(&[0xff, 0xfe]) || chunk.starts_with(&[0xfe, 0xff])) {
                    return Err(Error::input(format!("{}:1", self.path.display()), "the file is UTF-16")
                        .next("convert it to UTF-8, e.g. with iconv"));
                }
                self.number = self.line;
                begun = true;
            }
            let fields = &mut self.fields;
            let (result, read, out, ends) =
                self.core.read_record(chunk, &mut fields.bytes[fields.used..], &mut fields.ends[fields.count..]);
            self.line += memchr::memchr_iter(b'\n', &chunk[..read]).count() as u64;
            self.reader.consume(read);
            fields.used += out;
            fields.count += ends;
            match result {
                csv_core::ReadRecordResult::Record => break,
                csv_core::ReadRecordResult::End => return Ok(false),
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::OutputFull if fields.bytes.len() < self.longest => {
                    let longer = (2 * fields.bytes.len()).min(self.longest);
                    fields.bytes.resize(longer, 0);
                }
                csv_core::ReadRecordResult::OutputFull => {
                    return Err(self
                        .error(format!(
                            "the record is longer than {} bytes: a quote never closes, or there are no line breaks",
                            self.longest
                        ))
                        .next("check that this is the original file, and close the quote that opens on this line"));
                }
                csv_core::ReadRecordResult::OutputEndsFull if fields.ends.len() < MOST_COLUMNS => {
                    fields.ends.resize(2 * fields.ends.len(), 0);
                }
                csv_core::ReadRecordResult::OutputEndsFull => {
                    return Err(self
                        .error(format!("there are more than {MOST_COLUMNS} columns"))
                        .next("check that this is the file you mean, with its line breaks"));
                }
            }
        }
        if memchr::memchr(0, &self.fields.bytes[..self.fields.used]).is_some() {
            return Err(self
                .error("the record holds a NUL byte: this is UTF-16 or not a text file")
                .next("check that it is the original text file, or convert it to UTF-8"));
        }
        if self.columns == 0 {
            self.columns = self.fields.len();
        }
        Ok(true)
    }
}

/// The names of a file's columns.
#[derive(Debug, Clone)]
pub struct Header {
    path: PathBuf,
    names: Vec<String>,
}

impl Header {
    /// All names, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The column of the first of these names that is there; case does not matter.
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|wanted| {
            let wanted = wanted.trim().to_lowercase();
            self.names.iter().position(|name| *name == wanted)
        })
    }

    /// As [`Self::find`], but it must be there.
    ///
    /// # Errors
    /// Names the file, the column, and the columns that there are.
    pub fn need(&self, names: &[&str]) -> Result<usize> {
        self.find(names).ok_or_else(|| {
            let shown: Vec<&str> = self.names.iter().take(40).map(|n| n.get(..60).unwrap_or(n)).collect();
            Error::input(
                format!("{}:1", self.path.display()),
                format!("has no column `{}`; its columns are: {}", names.join("` or `"), shown.join(", ")),
            )
            .next("check the file, its separator and its first line, or name the column in the recipe")
        })
    }
}
