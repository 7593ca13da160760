//! Flat Parquet files as rows of text, a batch at a time: only the selected columns are decoded.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Once;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescPtr;

use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Rows decoded at a time.
const BATCH: usize = 8192;
/// Longest value, in bytes.
const LONGEST: usize = 1 << 20;

/// Whether a file begins as Parquet does.
pub fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && &magic == b"PAR1"
}

/// A cursor over the rows of a file.
pub struct Columns {
    path: PathBuf,
    file: SerializedFileReader<File>,
    names: Vec<String>,
    selected: Vec<usize>,
    group: usize,
    readers: Vec<ColumnReader>,
    batches: Vec<Batch>,
    /// Rows in the batch, the next of them, rows before the batch, rows of all.
    filled: usize,
    next: usize,
    before: u64,
    total: u64,
}

/// One column's values of a batch, as text.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn get(&self, row: usize) -> &[u8] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..end]
    }
}

impl Columns {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
        let file = guarded(path, || SerializedFileReader::new(file))?;
        let metadata = file.metadata().file_metadata();
        let columns = metadata.schema_descr().columns();
        let names = columns.iter().map(|c| c.path().string().to_lowercase()).collect();
        let total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            file,
            names,
            selected: Vec::new(),
            group: 0,
            readers: Vec::new(),
            batches: Vec::new(),
            filled: 0,
            next: 0,
            before: 0,
            total,
        })
    }

    /// Names of the columns, in lower case; those of nested ones with dots.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn description(&self, column: usize) -> ColumnDescPtr {
        self.file.metadata().file_metadata().schema_descr().column(column)
    }

    /// Reads only these columns from now on. A column of lists gives empty fields.
    pub fn select(&mut self, columns: &[usize]) -> Result<()> {
        self.selected = columns.iter().copied().filter(|&c| self.description(c).max_rep_level() == 0).collect();
        self.selected.sort_unstable();
        self.selected.dedup();
        self.batches = (0..self.names.len()).map(|_| Batch::default()).collect();
        Ok(())
    }

    /// An input error at the current row.
    pub fn error(&self, what: String) -> Error {
        let row = self.before + self.next as u64;
        Error::input(format!("{}: row {}", self.path.display(), row.max(1)), what)
    }

    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        monitor.progress((self.before + self.next as u64).min(self.total), self.total, "rows");
        monitor.check()
    }

    /// One field of the current row; empty where there is none.
    pub fn get(&self, column: usize) -> &[u8] {
        self.batches.get(column).map_or(&[], |batch| batch.get(self.next.saturating_sub(1)))
    }

    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool> {
        while self.next == self.filled {
            self.before += self.filled as u64;
            (self.filled, self.next) = (0, 0);
            if self.readers.is_empty() {
                if self.group == self.file.num_row_groups() || self.selected.is_empty() {
                    return Ok(false);
                }
                self.readers = guarded(&self.path, || {
                    let group = self.file.get_row_group(self.group)?;
                    self.selected.iter().map(|&column| group.get_column_reader(column)).collect()
                })?;
                self.group += 1;
            }
            let mut rows = None;
            for at in 0..self.selected.len() {
                let column = self.selected[at];
                let description = self.description(column);
                let batch = &mut self.batches[column];
                batch.text.clear();
                batch.ends.clear();
                let reader = &mut self.readers[at];
                guarded(&self.path, || decode(reader, &description, batch))?;
                let found = batch.ends.len();
                if *rows.get_or_insert(found) != found {
                    return Err(self.error("its columns have different lengths".into()).next("write the file again"));
                }
            }
            self.filled = rows.unwrap_or(0);
            if self.filled == 0 {
                self.readers.clear();
            }
        }
        self.next += 1;
        Ok(true)
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The library reports most damage; where it panics on a damaged file instead, that is an error too and not the end of
/// the program, nor a message of its own beside ours.
fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
    GUARDED.set(true);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    GUARDED.set(false);
    match read {
        Ok(read) => read.map_err(|e| broken(path, &e)),
        Err(_) => Err(broken(path, &"the file is damaged")),
    }
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::input(path.display(), format!("cannot be read as Parquet: {error}")).next(
        "the file may be cut short, or compressed in a way other than snappy or gzip: write it again, e.g. as CSV",
    )
}

/// What a number means.
#[derive(Clone, Copy)]
enum Unit {
    Plain,
    /// Divided by this it is seconds.
    PerSecond(i64),
    Days,
}

fn unit(description: &ColumnDescPtr) -> Unit {
    match (description.logical_type_ref(), description.converted_type()) {
        (Some(LogicalType::Timestamp(t)), _) => Unit::PerSecond(match t.unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        }),
        (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Unit::Days,
        (None, ConvertedType::TIMESTAMP_MILLIS) => Unit::PerSecond(1_000),
        (None, ConvertedType::TIMESTAMP_MICROS) => Unit::PerSecond(1_000_000),
        _ => Unit::Plain,
    }
}

impl Unit {
    fn of(self, value: i64) -> i64 {
        match self {
            Self::Plain => value,
            Self::PerSecond(unit) => value.div_euclid(unit),
            Self::Days => value.saturating_mul(86_400),
        }
    }
}

fn decode(reader: &mut ColumnReader, description: &ColumnDescPtr, batch: &mut Batch) -> parquet::errors::Result<()> {
    let unit = unit(description);
    let optional = description.max_def_level() > 0;
    let most = description.max_def_level();
    macro_rules! read {
        ($reader:expr, $write:expr) => {{
            let mut values = Vec::new();
            let mut levels = Vec::new();
            let definitions = if optional { Some(&mut levels) } else { None };
            let (rows, ..) = $reader.read_records(BATCH, definitions, None, &mut values)?;
            let mut values = values.into_iter();
            for row in 0..rows {
                let there = !optional || levels.get(row) == Some(&most);
                if let Some(value) = if there { values.next() } else { None } {
                    $write(&mut batch.text, value)?;
                }
                batch.ends.push(batch.text.len());
            }
        }};
    }
    type Text<'a> = &'a mut Vec<u8>;
    fn show(text: Text<'_>, value: impl std::fmt::Display) -> parquet::errors::Result<()> {
        use std::io::Write;
        write!(text, "{value}").map_err(|e| parquet::errors::ParquetError::General(e.to_string()))
    }
    fn bytes(text: Text<'_>, value: &ByteArray) -> parquet::errors::Result<()> {
        if value.len() > LONGEST {
            let what = format!("a value has {} bytes, more than {LONGEST}", value.len());
            return Err(parquet::errors::ParquetError::General(what));
        }
        text.extend_from_slice(value.data());
        Ok(())
    }
    match reader {
        ColumnReader::BoolColumnReader(r) => read!(r, |t: Text<'_>, v: bool| show(t, v)),
        ColumnReader::Int32ColumnReader(r) => read!(r, |t: Text<'_>, v: i32| show(t, unit.of(v.into()))),
        ColumnReader::Int64ColumnReader(r) => read!(r, |t: Text<'_>, v: i64| show(t, unit.of(v))),
        ColumnReader::Int96ColumnReader(r) => {
            read!(r, |t: Text<'_>, v: parquet::data_type::Int96| show(t, v.to_seconds()));
        }
        ColumnReader::FloatColumnReader(r) => read!(r, |t: Text<'_>, v: f32| show(t, v)),
        ColumnReader::DoubleColumnReader(r) => read!(r, |t: Text<'_>, v: f64| show(t, v)),
        ColumnReader::ByteArrayColumnReader(r) => read!(r, |t: Text<'_>, v: ByteArray| bytes(t, &v)),
        ColumnReader::FixedLenByteArrayColumnReader(r) => {
            read!(r, |t: Text<'_>, v: parquet::data_type::FixedLenByteArray| bytes(t, &v));
        }
    }
    Ok(())
}
