//! A table of an SQLite file, written in one transaction.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};

use super::{Column, Kind, Name, Value, Writer, is_there};
use crate::database::{quoted, sqlite};
use crate::error::{Error, Result};

/// Stands for the table until it is whole.
const PART: &str = "rallrec.part";

/// A table that is being written.
pub struct Table {
    /// `None` when the transaction is over.
    open: Option<Connection>,
    path: PathBuf,
    name: Name,
    insert: String,
    /// The file was not there before.
    is_new: bool,
}

fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE lower(name) = lower(?1)";
    connection.query_row(sql, [table], |row| row.get(0))
}

impl Table {
    pub fn new(path: &Path, name: &Name, columns: &[Column], force: bool) -> Result<Self> {
        let is_new = !path.exists();
        if let Some(schema) = name.schema.as_ref().filter(|schema| *schema != "main") {
            return Err(Error::usage(path.display(), format!("SQLite has no schema `{schema}`"))
                .next("name the table alone, e.g. FILE.db#recommendations"));
        }
        let open = sqlite::open(path, true)?;
        let marks: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let insert = format!("INSERT INTO {} VALUES ({})", quoted(PART), marks.join(", "));
        let table = Self { open: Some(open), path: path.to_owned(), name: name.clone(), insert, is_new };
        let columns: Vec<String> = columns.iter().map(|c| format!("{} {}", quoted(c.name), kind(c.kind))).collect();
        let begin = format!("CREATE TABLE {} ({})", quoted(PART), columns.join(", "));
        table.run("BEGIN IMMEDIATE")?;
        if !force && table.with(|open| exists(open, &name.table))? {
            return Err(is_there(format!("{}#{name}", path.display())));
        }
        table.run(&begin)?;
        Ok(table)
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let Some(open) = &self.open else { return Err(Error::failed(self.path.display(), "is closed")) };
        work(open).map_err(|e| sqlite::error(&self.path, &e))
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.with(|open| open.execute_batch(sql))
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Integer => "INTEGER",
        Kind::Real => "REAL",
        Kind::Boolean => "BOOLEAN",
    }
}

impl Writer for Table {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        let values = values.iter().map(|value| match value.known() {
            Value::None => ToSqlOutput::Owned(Owned::Null),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Integer(number) => ToSqlOutput::Owned(Owned::Integer(number)),
            Value::Real(number) => ToSqlOutput::Owned(Owned::Real(number)),
            Value::Boolean(so) => ToSqlOutput::Owned(Owned::Integer(so.into())),
        });
        self.with(|open| open.prepare_cached(&self.insert)?.execute(rusqlite::params_from_iter(values)).map(drop))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let name = quoted(&self.name.table);
        self.run(&format!("DROP TABLE IF EXISTS {name}; ALTER TABLE {} RENAME TO {name}; COMMIT", quoted(PART)))?;
        self.open = None;
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Closing takes back what was not committed.
        if self.open.take().is_some() && self.is_new {
            // An empty file is all that may be left of a new one.
            drop(std::fs::remove_file(&self.path));
        }
    }
}
