//! A file whose columns are asked for by their names: what is no log of ratings, but stands in the
//! same forms.

use std::path::Path;

use super::TableSettings;
use super::files::{File, Role};
use super::rows::{Rows, position};
use crate::data::sets::fields::{At, decoded};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// A file of text with separators, JSON, Parquet or Arrow, row by row.
pub struct Named {
    rows: Rows,
}

impl Named {
    /// Opens the file as what it is.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no table.
    pub fn open(path: &Path, monitor: &dyn Monitor) -> Result<Self> {
        let file = File::at(path.to_owned(), Vec::new());
        Ok(Self { rows: Rows::open(&file, &TableSettings::default(), Role::Users, monitor)? })
    }

    /// Names of the columns, in lower case.
    pub fn names(&self) -> &[String] {
        self.rows.names()
    }

    /// The column of this name; a type behind a colon may be left out.
    pub fn column(&self, name: &str) -> Option<usize> {
        position(self.rows.names(), name)
    }

    /// Reads only these columns from now on; call it once, before the first row.
    ///
    /// # Errors
    /// A column of a type that cannot be told as text.
    pub fn select(&mut self, columns: &[usize]) -> Result<()> {
        self.rows.select(columns, None)
    }

    /// Moves to the next row; false at the end.
    ///
    /// # Errors
    /// A damaged row, with its line.
    pub fn advance(&mut self) -> Result<bool> {
        Ok(self.rows.advance()? && self.rows.parse().map(|()| true)?)
    }

    /// A field of the row as text; empty where there is none.
    pub fn get(&self, column: usize) -> String {
        decoded(self.rows.get(column)).trim().to_owned()
    }

    /// What is wrong with the row, with file and line.
    pub fn error(&self, what: String) -> Error {
        At::error(&self.rows, what)
    }

    /// Says how far the file is read, and hears a stop.
    ///
    /// # Errors
    /// The stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        self.rows.report(monitor)
    }
}
