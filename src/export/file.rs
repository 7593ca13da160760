//! Files: written beside their place, and renamed when they are whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Column, Value, Writer, is_there};
use crate::durable::{Pending, Unfinished};
use crate::error::{Error, Result};

/// Where a file will be.
pub struct Place {
    path: PathBuf,
    force: bool,
}

impl Place {
    /// Refuses a place that is taken.
    pub fn new(path: &Path, force: bool) -> Result<Self> {
        if path.exists() && !path.is_file() {
            return Err(Error::usage(path.display(), "is no file that could be replaced").next("give another name"));
        }
        if path.exists() && !force {
            return Err(is_there(path.display()));
        }
        Ok(Self { path: path.to_owned(), force })
    }

    /// A file beside the place.
    pub fn begin(&self) -> Result<Pending> {
        Pending::new(&self.path)
    }

    /// Puts the file in its place.
    pub fn end(&self, file: Pending) -> Result<()> {
        if self.force {
            return file.finish();
        }
        file.finish_new().map_err(|e| match e {
            Unfinished::Taken => is_there(self.path.display()),
            Unfinished::Failed(error) => error,
        })
    }

    /// What the disk says.
    pub fn error(&self, error: &std::io::Error) -> Error {
        Error::io(&self.path, "write the file", error)
    }
}

/// A file of text, compressed where its name says so.
struct Text {
    place: Place,
    out: Out,
}

enum Out {
    Plain(Pending),
    Gzip(GzEncoder<Pending>),
}

impl Text {
    fn new(place: Place) -> Result<Self> {
        let file = place.begin()?;
        let packed = place.path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
        let out = if packed { Out::Gzip(GzEncoder::new(file, Compression::default())) } else { Out::Plain(file) };
        Ok(Self { place, out })
    }

    fn write(&mut self, line: &[u8]) -> Result<()> {
        let done = match &mut self.out {
            Out::Plain(out) => out.write_all(line),
            Out::Gzip(out) => out.write_all(line),
        };
        done.map_err(|e| self.place.error(&e))
    }

    fn finish(self) -> Result<()> {
        let Self { place, out } = self;
        let out = match out {
            Out::Plain(out) => Ok(out),
            Out::Gzip(out) => out.finish(),
        };
        place.end(out.map_err(|e| place.error(&e))?)
    }
}

/// Comma-separated values.
pub struct Csv {
    text: Text,
    csv: csv_core::Writer,
    line: Vec<u8>,
}

impl Csv {
    pub fn new(place: Place, columns: &[Column]) -> Result<Self> {
        let mut csv = Self { text: Text::new(place)?, csv: csv_core::Writer::new(), line: Vec::new() };
        csv.fields(columns.iter().map(|column| column.name.to_owned()))?;
        Ok(csv)
    }

    fn fields(&mut self, fields: impl Iterator<Item = String>) -> Result<()> {
        self.line.clear();
        let mut room = [0; 256];
        for (at, field) in fields.enumerate() {
            if at > 0 {
                let (_, written) = self.csv.delimiter(&mut room);
                self.line.extend_from_slice(&room[..written]);
            }
            let mut rest = field.as_bytes();
            loop {
                let (done, read, written) = self.csv.field(rest, &mut room);
                self.line.extend_from_slice(&room[..written]);
                rest = &rest[read..];
                if done == csv_core::WriteResult::InputEmpty {
                    break;
                }
            }
        }
        let (_, written) = self.csv.terminator(&mut room);
        self.line.extend_from_slice(&room[..written]);
        self.text.write(&self.line)
    }
}

impl Writer for Csv {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        self.fields(values.iter().map(|value| match value.known() {
            Value::None => String::new(),
            Value::Text(text) => text.to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Boolean(so) => so.to_string(),
        }))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.text.finish()
    }
}

/// An object a line.
pub struct JsonLines {
    text: Text,
    names: Vec<&'static str>,
    line: Vec<u8>,
}

impl JsonLines {
    pub fn new(place: Place, columns: &[Column]) -> Result<Self> {
        Ok(Self { text: Text::new(place)?, names: columns.iter().map(|c| c.name).collect(), line: Vec::new() })
    }
}

impl Writer for JsonLines {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        let object: serde_json::Map<String, serde_json::Value> = self
            .names
            .iter()
            .zip(values)
            .map(|(name, value)| {
                let value = match value.known() {
                    Value::None => serde_json::Value::Null,
                    Value::Text(text) => text.into(),
                    Value::Integer(number) => number.into(),
                    Value::Real(number) => number.into(),
                    Value::Boolean(so) => so.into(),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        self.line.clear();
        serde_json::to_writer(&mut self.line, &object).map_err(|e| Error::failed("JSON", e))?;
        self.line.push(b'\n');
        self.text.write(&self.line)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.text.finish()
    }
}
