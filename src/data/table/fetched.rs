//! The rows of a query, in a temporary Arrow file from which they are read as those of any file.
//!
//! A query runs once for as long as its rows are in use: what they are known by and what is made of
//! them is of one state of the database. Only a batch of rows is in memory at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use arrow_array::builder::{BinaryBuilder, Date32Builder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::columns::{Columns, Kind};
use crate::content::Content;
use crate::data::source::Whole;
use crate::database::{self, Address, Column, Take};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Rows and bytes of a batch.
const ROWS: usize = 8192;
const BYTES: usize = 64 << 20;
const DAY: i64 = 86_400;

/// Rows of a query.
pub struct Fetched {
    whole: Whole,
    place: PathBuf,
    content: Content,
}

type Live = HashMap<(Address, String), Weak<Fetched>>;

/// What is in use.
static LIVE: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);

impl Fetched {
    /// The rows of a query: those that are in use already, or what the database says now.
    ///
    /// # Errors
    /// Those of the database.
    pub fn of(address: &Address, sql: &str, monitor: &dyn Monitor) -> Result<Arc<Self>> {
        // Held while a query runs: another reader waits for its rows.
        let mut live = LIVE.lock().map_err(|_| Error::failed(address, "could not be read"))?;
        let key = (address.clone(), sql.to_owned());
        if let Some(rows) = live.get(&key).and_then(Weak::upgrade) {
            return Ok(rows);
        }
        let mut spool = Spool { monitor, open: None, count: 0, sum: [0; 4] };
        database::query(address, sql, &mut spool)?;
        let rows = Arc::new(spool.finish(address)?);
        live.retain(|_, rows| rows.strong_count() > 0);
        live.insert(key, Arc::downgrade(&rows));
        Ok(rows)
    }

    /// What the rows are known by, whatever their order.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// A cursor over the rows.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn open(&self) -> Result<Columns> {
        Columns::over(&self.place, self.whole.clone(), Kind::ArrowStream)
    }
}

/// Takes rows and writes them as they come.
struct Spool<'a> {
    monitor: &'a dyn Monitor,
    open: Option<Open>,
    count: u64,
    /// The sum of a hash of each row: it does not depend on their order, and equal rows count.
    sum: [u64; 4],
}

struct Open {
    columns: Vec<Column>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
    bytes: usize,
    writer: StreamWriter<BufWriter<File>>,
}

enum Builder {
    Text(BinaryBuilder),
    Date(Date32Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(kind: database::Kind) -> Self {
        match kind {
            database::Kind::Text => Self::Text(BinaryBuilder::new()),
            database::Kind::Date => Self::Date(Date32Builder::new()),
            database::Kind::Time => Self::Time(TimestampMicrosecondBuilder::new()),
        }
    }

    fn kind(&self) -> DataType {
        match self {
            Self::Text(_) => DataType::Binary,
            Self::Date(_) => DataType::Date32,
            Self::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    /// Dates that no calendar of ours has (`infinity`, before Christ) are missing.
    fn append(&mut self, value: Option<&[u8]>) {
        let text = || std::str::from_utf8(value?).ok();
        match self {
            Self::Text(builder) => builder.append_option(value),
            Self::Date(builder) => builder.append_option(text().and_then(days)),
            Self::Time(builder) => builder.append_option(text().and_then(micros)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
        }
    }
}

fn seconds(time: DateTime) -> Option<jiff::Timestamp> {
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn days(text: &str) -> Option<i32> {
    let date: Date = text.parse().ok()?;
    i32::try_from(seconds(date.at(0, 0, 0, 0))?.as_second().div_euclid(DAY)).ok()
}

fn micros(text: &str) -> Option<i64> {
    let civil = text.strip_suffix("+00").unwrap_or(text);
    Some(seconds(civil.parse().ok()?)?.as_microsecond())
}

fn unwritten(error: &ArrowError) -> Error {
    Error::failed(std::env::temp_dir().display(), format!("the rows of the query cannot be kept there: {error}"))
        .next("free some disk space, or set TMPDIR to a folder with more")
}

impl Open {
    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| unwritten(&e))?;
        (self.rows, self.bytes) = (0, 0);
        self.writer.write(&batch).map_err(|e| unwritten(&e))
    }
}

impl Take for Spool<'_> {
    fn columns(&mut self, columns: Vec<Column>) -> Result<()> {
        let builders: Vec<Builder> = columns.iter().map(|column| Builder::new(column.kind)).collect();
        let field = |(column, builder): (&Column, &Builder)| Field::new(&column.name, builder.kind(), true);
        let fields: Vec<Field> = columns.iter().zip(&builders).map(field).collect();
        let schema = Arc::new(Schema::new(fields));
        let file = tempfile::tempfile().map_err(|e| Error::io(std::env::temp_dir(), "write a file in", &e))?;
        let writer = StreamWriter::try_new(BufWriter::new(file), &schema).map_err(|e| unwritten(&e))?;
        self.open = Some(Open { columns, schema, builders, rows: 0, bytes: 0, writer });
        Ok(())
    }

    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut hash = blake3::Hasher::new();
        for (builder, value) in open.builders.iter_mut().zip(values) {
            let length = value.map_or(u64::MAX, |bytes| bytes.len() as u64);
            hash.update(&length.to_le_bytes());
            hash.update(value.unwrap_or_default());
            open.bytes += value.map_or(0, <[u8]>::len);
            builder.append(*value);
        }
        for (sum, lane) in self.sum.iter_mut().zip(hash.finalize().as_bytes().chunks_exact(8)) {
            let lane = lane.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
            *sum = sum.wrapping_add(lane);
        }
        self.count += 1;
        open.rows += 1;
        if open.rows == ROWS || open.bytes >= BYTES {
            open.flush()?;
            self.monitor.progress(self.count, self.count, "rows");
            self.monitor.check()?;
        }
        Ok(())
    }
}

impl Spool<'_> {
    fn finish(self, address: &Address) -> Result<Fetched> {
        let Some(mut open) = self.open else {
            return Err(Error::failed(address, "the query told nothing of its columns"));
        };
        open.flush()?;
        let columns: Vec<String> = open.columns.iter().map(|c| format!("{:?} {}", c.kind, c.name)).collect();
        let rows = format!("{} {:016x?}", self.count, self.sum);
        let file = open.writer.into_inner().map_err(|e| unwritten(&e))?;
        let file = file.into_inner().map_err(|e| Error::io(std::env::temp_dir(), "write a file in", e.error()))?;
        Ok(Fetched {
            whole: Whole::new(file),
            place: PathBuf::from(address.to_string()),
            content: Content::of_parts([("columns", columns.join("\n").as_str()), ("rows", &rows)]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_servers_are_read() {
        assert_eq!(micros("1970-01-02 00:00:01.5+00"), Some(86_401_500_000));
        assert_eq!(micros("1970-01-02 00:00:01.5"), Some(86_401_500_000));
        assert_eq!(micros("1969-12-31 23:59:59"), Some(-1_000_000));
        assert_eq!((days("1970-01-03"), days("1969-12-31")), (Some(2), Some(-1)));
        for text in ["infinity", "-infinity", "0044-03-15 BC", ""] {
            assert_eq!((days(text), micros(text)), (None, None), "{text}");
        }
    }
}
