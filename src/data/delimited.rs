//! Records of a delimited file (CSV and its relatives), streamed: a field may hold separators,
//! quotes and line breaks; memory stays bounded whatever the file holds.

use std::io::{BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::lines::{LONGEST, read_error};
use super::source::{self, Meter};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Most columns that are accepted.
const MOST_COLUMNS: usize = 1 << 16;
/// What to do about quotes that are none.
const QUOTES: &str = "close the quote, or double it inside of a quoted field; in a table, data.table.quote = \"\" takes \
                      quotes as they are";

/// What stands between fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Separator {
    /// One character.
    One(u8),
    /// Any number of blanks and tabs; those at the ends of a line separate nothing.
    Blanks,
    /// Several characters. Then a record is a line.
    Many(Vec<u8>),
}

impl Separator {
    /// The separator that a recipe writes: one blank stands for any number of them.
    ///
    /// # Errors
    /// It is empty, or has a quote or a line break in it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text.as_bytes() {
            b" " => Ok(Self::Blanks),
            [] => Err("the separator is empty".into()),
            bytes if bytes.iter().any(|b| matches!(b, b'"' | b'\r' | b'\n' | 0)) => {
                Err(format!("`{}` cannot separate fields", text.escape_debug()))
            }
            [byte] if byte.is_ascii() => Ok(Self::One(*byte)),
            bytes => Ok(Self::Many(bytes.to_vec())),
        }
    }

    /// How many separators are in a line.
    pub fn count(&self, line: &[u8]) -> usize {
        match self {
            Self::One(byte) => memchr::memchr_iter(*byte, line).count(),
            Self::Blanks => line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).count().saturating_sub(1),
            Self::Many(bytes) => memchr::memmem::find_iter(line, bytes).count(),
        }
    }

    /// What follows the separator that the line begins with.
    fn after<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::One(byte) => line.strip_prefix(std::slice::from_ref(byte)),
            Self::Blanks => {
                let rest = line.trim_ascii_start();
                (rest.len() < line.len()).then_some(rest)
            }
            Self::Many(bytes) => line.strip_prefix(bytes.as_slice()),
        }
    }
}

/// How fields are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Between fields.
    pub separator: Separator,
    /// Around a field that may hold separators; `None`: nothing does.
    pub quote: Option<u8>,
    /// What stands before a quote that does not end the field; `None`: the quote is doubled.
    pub escape: Option<u8>,
    /// A line that begins with it and has not the columns of the others is a comment.
    pub comment: Option<u8>,
}

impl Dialect {
    /// Commas, doubled quotes (RFC 4180).
    pub const CSV: Self = Self { separator: Separator::One(b','), quote: Some(b'"'), escape: None, comment: None };

    fn reader(&self) -> csv_core::Reader {
        csv_core::ReaderBuilder::new()
            .delimiter(if let Separator::One(byte) = self.separator { byte } else { b',' })
            .quote(self.quote.unwrap_or(b'"'))
            .quoting(self.quote.is_some())
            .escape(self.escape)
            .double_quote(self.escape.is_none())
            .build()
    }

    /// Whether all quotes of a line are closed at its end.
    fn closed(&self, line: &[u8]) -> bool {
        let Some(quote) = self.quote else { return true };
        let (mut quoted, mut start, mut at) = (false, true, 0);
        while at < line.len() {
            let byte = line[at];
            if quoted {
                if Some(byte) == self.escape {
                    at += 1;
                } else if byte == quote {
                    if self.escape.is_none() && line.get(at + 1) == Some(&quote) {
                        at += 1;
                    } else {
                        quoted = false;
                    }
                }
            } else {
                quoted = start && byte == quote;
                start = Separator::One(byte) == self.separator;
            }
            at += 1;
        }
        !quoted
    }

    /// Whether each field of a line that begins with a quote ends with one, and no other quote
    /// stands where a field begins.
    pub fn quotes_hold(&self, line: &[u8]) -> bool {
        let mut rest = line;
        loop {
            let Some((_, after)) = self.field(rest) else { return false };
            match after {
                Some(after) => rest = after,
                None => return true,
            }
        }
    }

    /// The first field of a line, with its quotes, and what follows its separator; `None` where a
    /// quote is not closed right before a separator or the end.
    #[allow(clippy::type_complexity, reason = "a field and the rest of the line")]
    fn field<'a>(&self, line: &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        if let Some(quote) = self.quote
            && line.first() == Some(&quote)
        {
            let mut at = 1;
            while let Some(&byte) = line.get(at) {
                if Some(byte) == self.escape || (byte == quote && line.get(at + 1) == Some(&quote)) {
                    at += 2;
                } else if byte == quote {
                    let (field, rest) = line.split_at(at + 1);
                    return match self.separator.after(rest) {
                        Some(after) => Some((field, Some(after))),
                        None => rest.is_empty().then_some((field, None)),
                    };
                } else {
                    at += 1;
                }
            }
            return None;
        }
        let at = match &self.separator {
            Separator::One(byte) => memchr::memchr(*byte, line),
            Separator::Blanks => line.iter().position(|b| matches!(b, b' ' | b'\t')),
            Separator::Many(bytes) => memchr::memmem::find(line, bytes),
        };
        Some(match at {
            Some(at) => (&line[..at], self.separator.after(&line[at..])),
            None => (line, None),
        })
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
        Self { core: dialect.reader(), dialect, fields: Fields::default() }
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

    fn push(&mut self, field: &[u8]) {
        let end = self.used + field.len();
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        if self.ends.len() == self.count {
            self.ends.resize(2 * self.count.max(8), 0);
        }
        self.bytes[self.used..end].copy_from_slice(field);
        self.ends[self.count] = end;
        (self.used, self.count) = (end, self.count + 1);
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
    dialect: Dialect,
    core: csv_core::Reader,
    fields: Fields,
    /// The line of a record that has several characters between fields.
    text: Vec<u8>,
    /// Line of the current record's beginning, and of the reading position.
    number: u64,
    line: u64,
    columns: usize,
    /// Columns at the end that the first record leaves without a name.
    nameless: usize,
    longest: usize,
}

impl Records {
    /// Opens `path`: plain, compressed or an entry of a zip file.
    pub fn open(path: &Path, dialect: Dialect) -> Result<Self> {
        let (reader, meter) = source::open(path)?;
        Ok(Self::over(path, reader, meter, dialect))
    }

    /// The records of what `reader` gives; `path` names it in messages.
    pub fn over(path: &Path, reader: Box<dyn BufRead + Send>, meter: Meter, dialect: Dialect) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            meter,
            core: dialect.reader(),
            dialect,
            fields: Fields::default(),
            text: Vec::new(),
            number: 1,
            line: 1,
            columns: 0,
            nameless: 0,
            longest: LONGEST,
        }
    }

    /// Accepts records of up to `bytes` instead of [`LONGEST`].
    #[must_use]
    pub fn up_to(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Opens `path` and reads its first record as the names of the columns, in lower case and
    /// without white space around them.
    ///
    /// # Errors
    /// An empty file.
    pub fn with_header(path: &Path, dialect: Dialect) -> Result<(Self, Header)> {
        let mut records = Self::open(path, dialect)?;
        if !records.advance()? {
            return Err(Error::input(path.display(), "is empty").next("copy or download it again"));
        }
        let names = records.names();
        Ok((records, Header { path: path.to_owned(), names }))
    }

    /// The current record as the names of columns.
    pub fn names(&mut self) -> Vec<String> {
        let names: Vec<String> = self.fields.iter().map(|f| String::from_utf8_lossy(f).trim().to_lowercase()).collect();
        self.nameless = names.iter().rev().take_while(|name| name.is_empty()).count();
        names
    }

    /// Takes the next record as the first one.
    pub fn forget(&mut self) {
        self.columns = 0;
    }

    /// Records have so many fields from now on.
    pub fn expect(&mut self, columns: usize) {
        (self.columns, self.nameless) = (columns, 0);
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

    /// Whether the current record has as many fields as the first one. Empty ones at the end do not
    /// count: some programs write a separator there, in some lines or in all.
    pub fn is_whole(&self) -> bool {
        let found = self.fields.len();
        found == self.columns
            || (found > self.columns && (self.columns..found).all(|at| self.fields.get(at).trim_ascii().is_empty()))
            || (found < self.columns && found + self.nameless >= self.columns)
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
                .next(QUOTES);
        }
        self.error(format!("{found} columns instead of {wanted}"))
            .next("the line is cut or has a separator inside of a field that is not quoted: mend or remove it")
    }

    /// Says how far the file is read, and hears a stop; call it every few thousand records.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        self.meter.report(monitor)
    }

    /// Moves to the next record; false at the end. Empty lines and comments are no records.
    ///
    /// # Errors
    /// A record longer than [`LONGEST`] bytes (a quote that never closes), a quoted field that
    /// holds what looks like records, too many columns, a NUL byte (UTF-16 or a binary file),
    /// damaged compression.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            let there = match self.dialect.separator {
                Separator::One(_) => self.record()?,
                _ => self.split_line()?,
            };
            if !there {
                return Ok(false);
            }
            if self.is_comment() || self.is_blank() {
                continue;
            }
            if memchr::memchr(0, &self.fields.bytes[..self.fields.used]).is_some() {
                return Err(self
                    .error("the record holds a NUL byte: this is UTF-16 or not a text file")
                    .next("check that it is the original text file, or convert it to UTF-8"));
            }
            if self.columns == 0 {
                self.columns = self.fields.len();
            }
            if self.line - self.number > 1 && self.is_whole() && self.swallows() {
                return Err(self
                    .error(format!(
                        "a quote that opens here closes {} lines below, and what is between looks like rows",
                        self.line - self.number - 1
                    ))
                    .next(QUOTES));
            }
            return Ok(true);
        }
    }

    /// A line of blanks where rows have several columns; also the mark that DOS put behind a text.
    fn is_blank(&self) -> bool {
        self.columns != 1
            && self.fields.len() == 1
            && self.fields.get(0).iter().all(|&byte| byte.is_ascii_whitespace() || byte == 0x1a)
    }

    fn is_comment(&self) -> bool {
        let Some(mark) = self.dialect.comment else { return false };
        self.fields.get(0).first() == Some(&mark)
            && (if self.columns == 0 { self.fields.len() == 1 } else { self.fields.len() != self.columns })
    }

    /// Whether a field of the record holds whole lines that have as many separators as a row.
    fn swallows(&self) -> bool {
        let wanted = self.columns.saturating_sub(1);
        wanted > 0
            && self.fields.iter().any(|field| {
                let mut lines: Vec<&[u8]> = field.split(|&b| b == b'\n').skip(1).collect();
                // The last one may be cut by the quote.
                let last = lines.pop();
                let like = |line: &&[u8]| self.dialect.separator.count(line) == wanted;
                let few = if wanted > 2 { 1 } else { 3 };
                (lines.len() >= few && lines.iter().all(&like))
                    || (lines.is_empty() && wanted > 2 && last.is_some_and(|line| like(&line)))
            })
    }

    /// Reads a line and splits it, for separators that `csv-core` does not know.
    fn split_line(&mut self) -> Result<bool> {
        loop {
            self.fields.clear();
            self.text.clear();
            self.number = self.line;
            let read = self.reader.by_ref().take(self.longest as u64 + 1).read_until(b'\n', &mut self.text);
            let read =
                read.map_err(|e| read_error(&self.path, format!("{}:{}", self.path.display(), self.line), &e))?;
            if read == 0 {
                return Ok(false);
            }
            if read > self.longest {
                return Err(self
                    .error(format!("the line is longer than {} bytes", self.longest))
                    .next("check that this is the original file with its line breaks"));
            }
            let mut line = self.text.as_slice();
            if self.line == 1 {
                if is_wide(line) {
                    return Err(self.wide());
                }
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            self.line += 1;
            line = line.strip_suffix(b"\n").unwrap_or(line);
            line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.dialect.separator == Separator::Blanks {
                line = line.trim_ascii();
            }
            if line.is_empty() {
                continue;
            }
            let mut rest = Some(line);
            while let Some(line) = rest {
                let (field, after) = self.dialect.field(line).unwrap_or((line, None));
                match self.dialect.quote.filter(|quote| field.len() > 1 && field.starts_with(&[*quote])) {
                    Some(quote) => self.fields.push(&unquoted(&field[1..field.len() - 1], quote, self.dialect.escape)),
                    None => self.fields.push(field),
                }
                rest = after;
            }
            return Ok(true);
        }
    }

    fn wide(&self) -> Error {
        Error::input(format!("{}:1", self.path.display()), "the file is UTF-16")
            .next("convert it to UTF-8, e.g. with iconv; for kind \"table\", data.table.encoding = \"utf-16\" reads it")
    }

    /// Reads a record; a field may hold line breaks.
    fn record(&mut self) -> Result<bool> {
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
                if self.line == 1 && is_wide(chunk) {
                    return Err(self.wide());
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
        Ok(true)
    }
}

/// Whether a file begins with the byte order mark of UTF-16.
fn is_wide(head: &[u8]) -> bool {
    head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff])
}

/// A quoted field without its quotes.
fn unquoted(field: &[u8], quote: u8, escape: Option<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if Some(byte) == escape || (escape.is_none() && byte == quote && bytes.peek() == Some(&quote)) {
            out.extend(bytes.next());
        } else {
            out.push(byte);
        }
    }
    out
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
