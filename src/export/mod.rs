//! Tables out of the program, row by row: CSV, JSON lines, Parquet, a table of a database. A table
//! is there whole or not at all: a writer that is dropped before [`Writer::finish`] leaves nothing.

mod file;
mod parquet;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::database::{self, Address};
use crate::error::{Error, Result};

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, ids among them.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A number of 64 bits.
    Real,
    /// True or false.
    Boolean,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What it says, in a line.
    pub about: &'static str,
}

impl Column {
    /// A column.
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, about }
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nothing is known; a number that is none becomes this.
    None,
    /// Of a [`Kind::Text`].
    Text(&'a str),
    /// Of a [`Kind::Integer`].
    Integer(i64),
    /// Of a [`Kind::Real`].
    Real(f64),
    /// Of a [`Kind::Boolean`].
    Boolean(bool),
}

impl Value<'_> {
    /// A number of 32 bits with the digits that it is written with, and no others.
    pub fn single(number: f32) -> Self {
        Value::Real(number.to_string().parse().unwrap_or(f64::from(number)))
    }

    /// A value where there is one.
    pub fn or_none(value: Option<Self>) -> Self {
        value.unwrap_or(Self::None)
    }

    /// Numbers that are none are missing.
    fn known(self) -> Self {
        match self {
            Value::Real(number) if !number.is_finite() => Value::None,
            value => value,
        }
    }
}

/// Takes a table row by row.
pub trait Writer {
    /// Writes a row: a value a column, in their order.
    ///
    /// # Errors
    /// What the disk or the database says.
    fn row(&mut self, values: &[Value<'_>]) -> Result<()>;

    /// Puts the table in its place.
    ///
    /// # Errors
    /// What the disk or the database says; nothing is changed then.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Where a table goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, in the form that its name ends with.
    File(PathBuf, Form),
    /// A table of a database.
    Table(Address, Name),
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Commas between the columns, their names in the first line.
    Csv,
    /// An object a line.
    JsonLines,
    /// Columns with types.
    Parquet,
}

/// The name of a table, with its schema where one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    schema: Option<String>,
    table: String,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, text),
        };
        let sound = |name: &str| !name.is_empty() && !name.contains('\0');
        (sound(table) && schema.is_none_or(sound))
            .then(|| Self { schema: schema.map(str::to_owned), table: table.to_owned() })
    }

    /// As SQL has it, with another name of the table where one is given.
    #[cfg(feature = "postgres")]
    fn sql(&self, table: &str) -> String {
        let table = database::quoted(table);
        self.schema.as_ref().map_or_else(|| table.clone(), |schema| format!("{}.{table}", database::quoted(schema)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.schema.iter().try_for_each(|schema| write!(f, "{schema}."))?;
        f.write_str(&self.table)
    }
}

/// What a target may be.
pub const TARGETS: &str = "FILE.csv, FILE.jsonl or FILE.parquet (the first two also with .gz behind), \
                           FILE.db#TABLE (SQLite), or postgresql://HOST/DATABASE#TABLE";

impl Target {
    /// Reads what stands behind `--to`.
    ///
    /// # Errors
    /// A form that is not written; a password in an address.
    pub fn parse(text: &str) -> Result<Self> {
        if database::is_postgres(text) || text.contains('#') {
            let (address, name) = text.rsplit_once('#').unwrap_or((text, ""));
            let address = Address::parse(address, Path::new(""))?;
            let name = Name::parse(name).ok_or_else(|| {
                Error::usage("--to", format!("{} names no table", database::without_password(text)))
                    .next(format!("write the table behind a #, e.g. {address}#recommendations"))
            })?;
            return Ok(Self::Table(address, name));
        }
        let lower = text.to_lowercase();
        let bare = lower.strip_suffix(".gz").unwrap_or(&lower);
        let form = match bare.rsplit_once('.').map(|(_, end)| end) {
            Some("csv") => Form::Csv,
            Some("jsonl" | "ndjson") => Form::JsonLines,
            Some("parquet") if bare == lower => Form::Parquet,
            _ => {
                return Err(Error::usage("--to", format!("`{text}` does not say in which form to write"))
                    .next(format!("give {TARGETS}")));
            }
        };
        Ok(Self::File(text.into(), form))
    }

    /// Begins a table. One that is there already stays as it is until the new one is finished, and
    /// is replaced only where `force` says so.
    ///
    /// # Errors
    /// It is there and `force` does not say so; what the disk or the database says.
    pub fn open(&self, columns: &[Column], force: bool) -> Result<Box<dyn Writer>> {
        Ok(match self {
            Self::File(path, form) => {
                let place = file::Place::new(path, force)?;
                match form {
                    Form::Csv => Box::new(file::Csv::new(place, columns)?),
                    Form::JsonLines => Box::new(file::JsonLines::new(place, columns)?),
                    Form::Parquet => Box::new(parquet::Parquet::new(place, columns)?),
                }
            }
            #[cfg(feature = "sqlite")]
            Self::Table(Address::Sqlite(path), name) => Box::new(sqlite::Table::new(path, name, columns, force)?),
            #[cfg(feature = "postgres")]
            Self::Table(address @ Address::Postgres(url), name) => {
                Box::new(postgres::Table::new(address, url, name, columns, force)?)
            }
            #[cfg(not(all(feature = "postgres", feature = "sqlite")))]
            Self::Table(address, _) => return Err(address.no_client()),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => path.display().fmt(f),
            Self::Table(address, name) => write!(f, "{address}#{name}"),
        }
    }
}

/// The error for a table that would be lost.
fn is_there(place: impl fmt::Display) -> Error {
    Error::usage(place, "is there already").next("give another name, or --force to replace it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("user", Kind::Text, "who"),
        Column::new("rank", Kind::Integer, "place"),
        Column::new("score", Kind::Real, "how much"),
        Column::new("cold", Kind::Boolean, "whether it is new"),
    ];

    fn write(target: &Target, force: bool) -> Result<()> {
        let mut writer = target.open(&COLUMNS, force)?;
        for user in ["ann", "\"b\", c\n\t\\", ""] {
            writer.row(&[Value::Text(user), Value::Integer(-7), Value::single(0.1), Value::Boolean(true)])?;
        }
        writer.row(&[Value::Text("dan"), Value::None, Value::Real(f64::NAN), Value::None])?;
        writer.finish()
    }

    /// All that lies in a folder.
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn targets_are_told_by_their_names() {
        for (text, form) in [
            ("a.csv", Form::Csv),
            ("a.CSV.gz", Form::Csv),
            ("b/a.jsonl", Form::JsonLines),
            ("a.parquet", Form::Parquet),
        ] {
            assert_eq!(Target::parse(text).unwrap(), Target::File(text.into(), form));
        }
        for text in ["shop.db#public.best", "postgresql://db/shop#best"] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        for text in ["a.xlsx", "a", "a.parquet.gz", "shop.db#", "postgresql://db/shop", "postgresql://a:secret@db/s#t"]
        {
            let said = Target::parse(text).unwrap_err().to_string();
            assert!(said.contains("next: ") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn files_are_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        for (name, whole) in [
            (
                "a.csv",
                "user,rank,score,cold\nann,-7,0.1,true\n\"\"\"b\"\", c\n\t\\\",-7,0.1,true\n,-7,0.1,true\ndan,,,\n",
            ),
            (
                "a.jsonl",
                "{\"user\":\"ann\",\"rank\":-7,\"score\":0.1,\"cold\":true}\n\
                 {\"user\":\"\\\"b\\\", c\\n\\t\\\\\",\"rank\":-7,\"score\":0.1,\"cold\":true}\n\
                 {\"user\":\"\",\"rank\":-7,\"score\":0.1,\"cold\":true}\n\
                 {\"user\":\"dan\",\"rank\":null,\"score\":null,\"cold\":null}\n",
            ),
        ] {
            let path = folder.path().join(name);
            let target = Target::parse(path.to_str().unwrap()).unwrap();
            let mut dropped = target.open(&COLUMNS, false).unwrap();
            dropped.row(&[Value::None; 4]).unwrap();
            assert!(!path.exists());
            drop(dropped);
            assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
            write(&target, false).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
            let said = write(&target, false).unwrap_err().to_string();
            assert!(said.contains("--force"), "{said}");
            write(&target, true).unwrap();
            assert_eq!(names(folder.path()), [name]);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn compressed_files_hold_the_same() {
        use std::io::Read;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.csv", "a.csv.gz"] {
            write(&Target::parse(at(name).to_str().unwrap()).unwrap(), false).unwrap();
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(at("a.csv.gz")).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, std::fs::read_to_string(at("a.csv")).unwrap());
    }

    #[test]
    fn parquet_has_types_and_missing_values() {
        use arrow_array::Array;
        use arrow_array::cast::AsArray;
        use arrow_array::types::{Float64Type, Int64Type};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&Target::parse(path.to_str().unwrap()).unwrap(), false).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let mut reader = ::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert!(reader.next().is_none());
        assert_eq!(batch.num_rows(), 4);
        assert_eq!(batch.column(0).as_string::<i32>().value(1), "\"b\", c\n\t\\");
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), -7);
        assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 0.1f64.to_bits());
        assert!(batch.column(3).as_boolean().value(0) && (1..4).all(|at| batch.column(at).is_null(3)));
        assert_eq!(names(folder.path()), ["a.parquet"]);
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_table_of_sqlite_replaces_the_old_one_or_leaves_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let target = Target::parse(&format!("{}#be\"st", path.display())).unwrap();
        type Found = (Option<String>, Option<i64>, Option<f64>, Option<bool>);
        let rows = || -> Vec<Found> {
            let open = rusqlite::Connection::open(&path).unwrap();
            let mut all = open.prepare("SELECT * FROM \"be\"\"st\" ORDER BY rowid").unwrap();
            let found = all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))).unwrap();
            found.map(Result::unwrap).collect()
        };
        drop(target.open(&COLUMNS, false).unwrap());
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
        write(&target, false).unwrap();
        let found = rows();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1].0.as_deref(), Some("\"b\", c\n\t\\"));
        assert_eq!(found[3], (Some("dan".into()), None, None, None));
        assert!(write(&target, false).unwrap_err().to_string().contains("--force"));
        let mut dropped = target.open(&COLUMNS, true).unwrap();
        dropped.row(&[Value::None; 4]).unwrap();
        drop(dropped);
        assert_eq!(rows(), found);
        write(&target, true).unwrap();
        assert_eq!(rows(), found);
        assert_eq!(names(folder.path()), ["shop.db"]);
    }
}
