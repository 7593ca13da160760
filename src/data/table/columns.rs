//! Parquet and Arrow files as rows of text, a batch at a time: only the selected columns are
//! decoded, and one function turns a value of any type into what a text file would have.

use std::fmt::Display;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Fields, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, Length};

use crate::data::source::{self, Cursor, Whole};
use crate::data::time::{Time, TimeFormat};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Rows decoded at a time.
const BATCH: usize = 8192;
/// Longest value, in bytes.
const LONGEST: usize = 16 << 20;
const NANOS: i128 = 1_000_000_000;

/// The forms of files that have typed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Parquet,
    /// Feather, version 2.
    Arrow,
    ArrowStream,
}

impl Kind {
    /// What the first bytes of a file say.
    pub fn of(head: &[u8]) -> Option<Self> {
        [Self::Parquet, Self::Arrow, Self::ArrowStream].into_iter().find(|kind| head.starts_with(kind.magic()))
    }

    fn magic(self) -> &'static [u8] {
        match self {
            Self::Parquet => b"PAR1",
            Self::Arrow => b"ARROW1",
            Self::ArrowStream => &[0xff, 0xff, 0xff, 0xff],
        }
    }

    fn name(self) -> &'static str {
        if self == Self::Parquet { "Parquet" } else { "Arrow" }
    }
}

impl Length for Whole {
    fn len(&self) -> u64 {
        self.length()
    }
}

impl ChunkReader for Whole {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let mut cursor = self.cursor();
        cursor.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(cursor))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut cursor = self.cursor();
        cursor.seek(SeekFrom::Start(start))?;
        // Not more than is there: a damaged file may claim any length.
        let mut bytes = Vec::with_capacity(length.min(self.length() as usize));
        cursor.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(parquet::errors::ParquetError::EOF(format!("{length} bytes wanted, {} there", bytes.len())));
        }
        Ok(bytes.into())
    }
}

/// A column: how it is called, and the way to it through nested fields.
struct Column {
    name: String,
    way: Vec<usize>,
    kind: DataType,
}

/// A cursor over the rows of a file.
pub struct Columns {
    path: PathBuf,
    whole: Whole,
    kind: Kind,
    columns: Vec<Column>,
    names: Vec<String>,
    batches: Option<Batches>,
    /// Which fields of the file a batch has, in order.
    roots: Vec<usize>,
    selected: Vec<usize>,
    /// The column whose values are read as times.
    time: Option<usize>,
    rows: Vec<Text>,
    times: Vec<Option<Time>>,
    /// Rows in the batch, the next of them, rows before the batch, rows of all (0: not known).
    filled: usize,
    next: usize,
    before: u64,
    total: u64,
}

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, arrow_schema::ArrowError>> + Send>;

/// One column's values of a batch, as text.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Text {
    fn get(&self, row: usize) -> &[u8] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..end]
    }
}

impl Columns {
    /// Opens a file of this kind.
    pub fn open(path: &Path, kind: Kind) -> Result<Self> {
        Self::over(path, source::open_whole(path, kind.magic())?, kind)
    }

    /// Over a file that is open already; `path` names it in messages.
    pub fn over(path: &Path, whole: Whole, kind: Kind) -> Result<Self> {
        let (schema, total) = guarded(path, kind, || schema(&whole, kind))?;
        let mut columns = Vec::new();
        flatten(schema.fields(), "", &mut Vec::new(), &mut columns);
        let names = columns.iter().map(|c| c.name.clone()).collect();
        Ok(Self {
            path: path.to_owned(),
            whole,
            kind,
            rows: columns.iter().map(|_| Text::default()).collect(),
            columns,
            names,
            batches: None,
            roots: Vec::new(),
            selected: Vec::new(),
            time: None,
            times: Vec::new(),
            filled: 0,
            next: 0,
            before: 0,
            total,
        })
    }

    /// Names of the columns, in lower case; those of nested fields with dots.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads only these columns from now on, one of them as times where it has such values.
    pub fn select(&mut self, columns: &[usize], time: Option<usize>) -> Result<()> {
        self.selected = columns.to_vec();
        self.selected.sort_unstable();
        self.selected.dedup();
        self.time = time.filter(|&at| self.unit(at).is_some());
        self.roots = self.selected.iter().map(|&at| self.columns[at].way[0]).collect();
        self.roots.dedup();
        let batches = guarded(&self.path, self.kind, || batches(&self.whole, self.kind, &self.roots))?;
        self.batches = Some(batches);
        Ok(())
    }

    /// How many rows there are, where the file says so.
    pub fn total(&self) -> Option<u64> {
        (self.total > 0).then_some(self.total)
    }

    /// In which unit a column has times, if it has.
    pub fn unit(&self, column: usize) -> Option<TimeFormat> {
        match self.columns.get(column)?.kind {
            DataType::Timestamp(TimeUnit::Second, _) => Some(TimeFormat::Seconds),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Some(TimeFormat::Milliseconds),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Some(TimeFormat::Microseconds),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(TimeFormat::Nanoseconds),
            DataType::Date32 | DataType::Date64 => Some(TimeFormat::Iso),
            _ => None,
        }
    }

    /// An input error at the current row.
    pub fn error(&self, what: impl Display) -> Error {
        let row = self.before + self.next as u64;
        Error::input(format!("{}: row {}", self.path.display(), row.max(1)), what)
    }

    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        let done = self.before + self.next as u64;
        monitor.progress(done.min(self.total.max(done)), self.total.max(done), "rows");
        monitor.check()
    }

    /// One field of the current row; empty where there is none.
    pub fn get(&self, column: usize) -> &[u8] {
        self.rows.get(column).map_or(&[], |text| text.get(self.next.saturating_sub(1)))
    }

    /// The time of the current row, where the selected column has times.
    pub fn time(&self) -> Option<Time> {
        self.times.get(self.next.saturating_sub(1)).copied().flatten()
    }

    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool> {
        while self.next == self.filled {
            self.before += self.filled as u64;
            (self.filled, self.next) = (0, 0);
            let Some(batches) = &mut self.batches else { return Ok(false) };
            let Some(batch) = guarded(&self.path, self.kind, || batches.next().transpose())? else { return Ok(false) };
            self.fill(&batch)?;
        }
        self.next += 1;
        Ok(true)
    }

    fn fill(&mut self, batch: &RecordBatch) -> Result<()> {
        for at in self.selected.clone() {
            let column = &self.columns[at];
            let array = reach(batch, &self.roots, &column.way)
                .ok_or_else(|| self.error("its columns differ").next("write the file again"))?;
            let text = &mut self.rows[at];
            text.bytes.clear();
            text.ends.clear();
            if self.time == Some(at) {
                self.times.clear();
                self.times.extend((0..array.len()).map(|row| nanos(&array, row).and_then(Time::of)));
                continue;
            }
            for row in 0..array.len() {
                let start = text.bytes.len();
                let said = write(&array, row, &mut text.bytes);
                let said = said.and_then(|()| {
                    let length = text.bytes.len() - start;
                    if length > LONGEST {
                        Err(format!("a value has {length} bytes, more than {LONGEST}"))
                    } else {
                        Ok(())
                    }
                });
                said.map_err(|what| {
                    Error::input(format!("{}: column `{}`", self.path.display(), column.name), what)
                        .next("write the column as text or numbers")
                })?;
                text.ends.push(text.bytes.len());
            }
        }
        self.filled = batch.num_rows();
        Ok(())
    }
}

fn schema(whole: &Whole, kind: Kind) -> std::result::Result<(SchemaRef, u64), arrow_schema::ArrowError> {
    Ok(match kind {
        Kind::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone())?;
            let rows = builder.metadata().file_metadata().num_rows();
            (builder.schema().clone(), u64::try_from(rows).unwrap_or(0))
        }
        Kind::Arrow => (arrow_ipc::reader::FileReader::try_new(BufReader::new(whole.cursor()), None)?.schema(), 0),
        Kind::ArrowStream => {
            (arrow_ipc::reader::StreamReader::try_new(BufReader::new(whole.cursor()), None)?.schema(), 0)
        }
    })
}

fn batches(whole: &Whole, kind: Kind, roots: &[usize]) -> std::result::Result<Batches, arrow_schema::ArrowError> {
    let reader = || BufReader::new(whole.cursor());
    Ok(match kind {
        Kind::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(whole.clone())?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
            Box::new(builder.with_projection(mask).with_batch_size(BATCH).build()?)
        }
        Kind::Arrow => Box::new(arrow_ipc::reader::FileReader::try_new(reader(), Some(roots.to_vec()))?),
        Kind::ArrowStream => Box::new(arrow_ipc::reader::StreamReader::try_new(reader(), Some(roots.to_vec()))?),
    })
}

/// The columns below some fields: those of structs one by one, everything else as it is.
fn flatten(fields: &Fields, before: &str, way: &mut Vec<usize>, out: &mut Vec<Column>) {
    for (at, field) in fields.iter().enumerate() {
        way.push(at);
        let name = format!("{before}{}", field.name().trim().to_lowercase());
        match field.data_type() {
            DataType::Struct(inner) if !inner.is_empty() => flatten(inner, &format!("{name}."), way, out),
            kind => out.push(Column { name, way: way.clone(), kind: kind.clone() }),
        }
        way.pop();
    }
}

/// The array at the end of a way. What is below a missing struct is missing.
fn reach(batch: &RecordBatch, roots: &[usize], way: &[usize]) -> Option<ArrayRef> {
    let (root, inner) = way.split_first()?;
    let mut array = batch.columns().get(roots.iter().position(|r| r == root)?)?.clone();
    for &at in inner {
        let fields: &StructArray = array.as_struct_opt()?;
        // `flatten` would unite the validity of both; `column` has the inner one alone.
        let (_, columns, nulls) = fields.clone().into_parts();
        let column = columns.get(at)?.clone();
        array = match nulls {
            Some(outer) => {
                let both = arrow_buffer::NullBuffer::union(Some(&outer), column.logical_nulls().as_ref());
                arrow_array::make_array(column.to_data().into_builder().nulls(both).build().ok()?)
            }
            None => column,
        };
    }
    Some(array)
}

/// Nanoseconds since 1970 of a value that is a time.
fn nanos(array: &dyn Array, row: usize) -> Option<i128> {
    if array.is_null(row) {
        return None;
    }
    const DAY: i128 = 86_400 * NANOS;
    Some(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            i128::from(array.as_primitive::<TimestampSecondType>().value(row)) * NANOS
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            i128::from(array.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1_000
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            i128::from(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::Date32 => i128::from(array.as_primitive::<Date32Type>().value(row)) * DAY,
        DataType::Date64 => i128::from(array.as_primitive::<Date64Type>().value(row)) * 1_000_000,
        _ => return None,
    })
}

/// Writes a value as a text file would have it; nothing where it is missing. Lists and maps are
/// written as JSON.
fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    if array.is_null(row) {
        return Ok(());
    }
    macro_rules! number {
        ($type:ty) => {
            show(out, array.as_primitive::<$type>().value(row))
        };
    }
    match array.data_type() {
        DataType::Null => Ok(()),
        DataType::Boolean => show(out, array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => float(out, array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => float(out, array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal32(..) => show(out, array.as_primitive::<Decimal32Type>().value_as_string(row)),
        DataType::Decimal64(..) => show(out, array.as_primitive::<Decimal64Type>().value_as_string(row)),
        DataType::Decimal128(..) => show(out, array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => show(out, array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Utf8 => bytes(out, array.as_string::<i32>().value(row).as_bytes()),
        DataType::LargeUtf8 => bytes(out, array.as_string::<i64>().value(row).as_bytes()),
        DataType::Utf8View => bytes(out, array.as_string_view().value(row).as_bytes()),
        DataType::Binary => bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => fixed(out, array.as_fixed_size_binary().value(row)),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            let time = nanos(array, row).and_then(|nanos| jiff::Timestamp::from_nanosecond(nanos).ok());
            match (time, array.data_type()) {
                (Some(time), DataType::Date32 | DataType::Date64) => {
                    show(out, jiff::tz::TimeZone::UTC.to_datetime(time).date())
                }
                (Some(time), _) => show(out, time),
                (None, _) => Ok(()),
            }
        }
        DataType::Time32(TimeUnit::Second) => number!(Time32SecondType),
        DataType::Time32(_) => number!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => number!(Time64MicrosecondType),
        DataType::Time64(_) => number!(Time64NanosecondType),
        DataType::Duration(TimeUnit::Second) => number!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => number!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => number!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => number!(DurationNanosecondType),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let mut key = Vec::new();
            write(dictionary.keys(), row, &mut key)?;
            let key: usize =
                std::str::from_utf8(&key).ok().and_then(|k| k.parse().ok()).ok_or("its keys are no numbers")?;
            write(dictionary.values(), key, out)
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pairs = (0..entries.len()).map(|at| (text(entries.column(0), at), entries.column(1), at));
            object(pairs.collect(), out)
        }
        DataType::Struct(fields) => {
            let inner = array.as_struct();
            let pairs =
                fields.iter().zip(inner.columns()).map(|(field, column)| (Ok(field.name().clone()), column, row));
            object(pairs.collect(), out)
        }
        other => Err(format!("values of type {other} are not read")),
    }
}

fn show(out: &mut Vec<u8>, value: impl Display) -> std::result::Result<(), String> {
    write!(out, "{value}").map_err(|e| e.to_string())
}

/// A number that is none is missing.
fn float<T: Display + Into<f64> + Copy>(out: &mut Vec<u8>, value: T) -> std::result::Result<(), String> {
    if value.into().is_nan() { Ok(()) } else { show(out, value) }
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) -> std::result::Result<(), String> {
    out.extend_from_slice(value);
    Ok(())
}

/// Sixteen bytes are a UUID; others are text where they can be, and else hexadecimal digits.
fn fixed(out: &mut Vec<u8>, value: &[u8]) -> std::result::Result<(), String> {
    let printable = value.iter().all(|&b| b.is_ascii_graphic() || b == b' ');
    if value.len() != 16 && printable {
        return bytes(out, value);
    }
    for (at, byte) in value.iter().enumerate() {
        if value.len() == 16 && matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        write!(out, "{byte:02x}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn text(array: &dyn Array, row: usize) -> std::result::Result<String, String> {
    let mut out = Vec::new();
    write(array, row, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A value within JSON.
fn json(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    let kind = array.data_type();
    if array.is_null(row) {
        return bytes(out, b"null");
    }
    if kind.is_nested() || kind.is_numeric() && !kind.is_floating() || *kind == DataType::Boolean {
        return write(array, row, out);
    }
    serde_json::to_writer(out, &text(array, row)?).map_err(|e| e.to_string())
}

fn list(array: &dyn Array, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    out.push(b'[');
    for row in 0..array.len() {
        if row > 0 {
            out.push(b',');
        }
        json(array, row, out)?;
    }
    out.push(b']');
    Ok(())
}

type Pair<'a> = (std::result::Result<String, String>, &'a ArrayRef, usize);

fn object(pairs: Vec<Pair<'_>>, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    out.push(b'{');
    for (at, (key, array, row)) in pairs.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &key?).map_err(|e| e.to_string())?;
        out.push(b':');
        json(array, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The library reports most damage; where it panics on a damaged file instead, that is an error too
/// and not the end of the program, nor a message of its own beside ours.
fn guarded<T>(
    path: &Path,
    kind: Kind,
    read: impl FnOnce() -> std::result::Result<T, arrow_schema::ArrowError>,
) -> Result<T> {
    let read = crate::sandbox::quietly(read);
    let broken = |error: &dyn Display| {
        Error::input(path.display(), format!("cannot be read as {}: {error}", kind.name()))
            .next("the file may be cut short, or written in a way that this program does not know: write it again, e.g. as CSV")
    };
    match read {
        Ok(read) => read.map_err(|e| broken(&e)),
        Err(_) => Err(broken(&"the file is damaged")),
    }
}
