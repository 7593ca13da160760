//! One cursor over the rows of a table, CSV or Parquet.

use std::path::{Path, PathBuf};

use super::parquet::Columns;
use crate::data::delimited::{Dialect, Records};
use crate::data::sets::fields::At;
use crate::data::source;
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// The rows of a table.
pub enum Rows {
    /// Delimited text.
    Csv(Box<Records>, Vec<String>),
    /// Parquet.
    Parquet(Box<Columns>),
}

/// The file `name` of a folder, which must be there.
pub fn find(folder: &Path, name: &str, key: &str) -> Result<PathBuf> {
    let at =
        if folder.is_file() && !source::is_folder(folder) { folder.to_owned() } else { source::locate(folder, name) };
    if source::exists(&at) {
        return Ok(at);
    }
    let names = source::names(folder).unwrap_or_default();
    let there =
        if names.is_empty() { "nothing".into() } else { names.iter().take(12).cloned().collect::<Vec<_>>().join(", ") };
    Err(Error::input(at.display(), "is not there")
        .next(format!("set data.path and data.table.{key}; the folder holds: {there}")))
}

impl Rows {
    /// Opens a table and reads the names of its columns.
    pub fn open(path: &Path, dialect: Dialect) -> Result<Self> {
        if super::parquet::is_parquet(path) {
            return Ok(Self::Parquet(Box::new(Columns::open(path)?)));
        }
        let (records, header) = Records::with_header(path, dialect)?;
        Ok(Self::Csv(Box::new(records), header.names().to_vec()))
    }

    /// Names of the columns, in lower case.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Csv(_, names) => names,
            Self::Parquet(columns) => columns.names(),
        }
    }

    /// The column that the recipe's key names; it will be read.
    ///
    /// # Errors
    /// There is none; names those that there are.
    pub fn column(&mut self, key: &str, name: &str) -> Result<usize> {
        let wanted = name.trim().to_lowercase();
        match self.names().iter().position(|n| *n == wanted) {
            Some(at) => Ok(at),
            None => {
                let shown: Vec<&str> = self.names().iter().take(40).map(|n| n.get(..60).unwrap_or(n)).collect();
                let shown = shown.join(", ");
                Err(self
                    .error(format!("there is no column `{name}`; the columns are: {shown}"))
                    .next(format!("set data.table.{key} to one of them, or check data.table.separator")))
            }
        }
    }

    /// Reads only these columns from now on; call it once, before the first row. Others are then empty in Parquet files.
    pub fn select(&mut self, columns: &[usize]) -> Result<()> {
        match self {
            Self::Csv(..) => Ok(()),
            Self::Parquet(table) => table.select(columns),
        }
    }

    /// Moves to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool> {
        match self {
            Self::Csv(records, _) => records.advance(),
            Self::Parquet(columns) => columns.advance(),
        }
    }

    /// The error of a row with too many or too few columns.
    pub fn ragged(&self) -> Option<Error> {
        match self {
            Self::Csv(records, _) => (!records.is_whole()).then(|| records.ragged()),
            Self::Parquet(_) => None,
        }
    }

    /// One field of the row; empty where there is none.
    pub fn get(&self, column: usize) -> &[u8] {
        match self {
            Self::Csv(records, _) => records.get(column),
            Self::Parquet(columns) => columns.get(column),
        }
    }

    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        match self {
            Self::Csv(records, _) => records.report(monitor),
            Self::Parquet(columns) => columns.report(monitor),
        }
    }
}

impl At for Rows {
    fn error(&self, what: String) -> Error {
        match self {
            Self::Csv(records, _) => records.error(what),
            Self::Parquet(columns) => columns.error(what),
        }
    }
}
