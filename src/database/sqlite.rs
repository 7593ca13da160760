//! SQLite files.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Column, Kind, Take};
use crate::error::{Error, Result};

/// How long another program may hold its lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a file for reading, or for writing, where it may be new.
///
/// # Errors
/// It is not there, or is no SQLite file.
pub fn open(path: &Path, writes: bool) -> Result<Connection> {
    if !writes && !path.exists() {
        return Err(Error::input(path.display(), "is not there").next("check data.table.database and data.path"));
    }
    if path.is_dir() {
        return Err(Error::input(path.display(), "is a folder where an SQLite file is expected").next("check the path"));
    }
    let access = if writes {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let failed = |e| error(path, &e);
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // The file is looked at only now: whether it is one at all.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed)?;
    Ok(connection)
}

/// An error of SQLite with what to do about it.
pub fn error(path: &Path, error: &rusqlite::Error) -> Error {
    let place = path.display();
    let said = match error {
        rusqlite::Error::SqliteFailure(_, Some(said)) => said.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::input(place, "is encrypted, or is no SQLite database")
            .next("check the file; write an encrypted one without its encryption"),
        Some(ErrorCode::DatabaseCorrupt) => Error::input(place, format!("is damaged: {said}"))
            .next("restore it from a copy, or save what can be read: sqlite3 FILE .recover"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::failed(place, format!("is locked by another program for more than {} s", PATIENCE.as_secs()))
                .next("end what writes to it and run the same command again, or give a copy of the file")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::input(place, format!("cannot be opened: {said}")).next("check the path and its permissions")
        }
        Some(ErrorCode::ReadOnly) => {
            Error::input(place, format!("cannot be written: {said}")).next("check the permissions of file and folder")
        }
        Some(ErrorCode::DiskFull) => Error::failed(place, format!("cannot be written: {said}"))
            .next("free some disk space and run the same command again"),
        _ => Error::input(place, said).next("check the query"),
    }
}

/// Names of tables and views, for messages.
fn tables(connection: &Connection) -> String {
    let names = || -> rusqlite::Result<Vec<String>> {
        let sql =
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY 1";
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let names = names().unwrap_or_default();
    if names.is_empty() { "none".into() } else { names[..names.len().min(20)].join(", ") }
}

/// Names of the columns of the tables that a query names, for messages.
fn columns(connection: &Connection, sql: &str) -> String {
    let names = || -> rusqlite::Result<Vec<String>> {
        let all = "SELECT m.name, p.name FROM sqlite_schema m JOIN pragma_table_info(m.name) p \
                   WHERE m.type IN ('table', 'view') ORDER BY m.name, p.cid";
        let mut statement = connection.prepare(all)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut found = Vec::new();
        for row in rows {
            let (table, column) = row?;
            if sql.to_lowercase().contains(&table.to_lowercase()) {
                found.push(format!("{table}.{column}"));
            }
        }
        Ok(found)
    };
    let names = names().unwrap_or_default();
    names[..names.len().min(40)].join(", ")
}

/// Hands the rows of a query over.
///
/// # Errors
/// Those of [`super::query`].
pub fn query(path: &Path, sql: &str, take: &mut dyn Take) -> Result<()> {
    let connection = open(path, false)?;
    let mut statement = connection.prepare(sql).map_err(|e| match &e {
        rusqlite::Error::MultipleStatement => {
            Error::input(path.display(), "there is more than one statement in the query").next("write one SELECT")
        }
        _ => {
            let said = error(path, &e);
            let next = match said.what() {
                what if what.starts_with("no such table") => format!("the tables are: {}", tables(&connection)),
                what if what.starts_with("no such column") => format!("the columns are: {}", columns(&connection, sql)),
                _ => return said,
            };
            said.next(next)
        }
    })?;
    if statement.column_count() == 0 || !statement.readonly() {
        return Err(Error::input(path.display(), "the query is no SELECT: it changes something, or has no rows")
            .next("write a SELECT that names the columns for user, item, rating and time"));
    }
    if statement.parameter_count() > 0 {
        return Err(Error::input(path.display(), "the query has parameters (`?`), and nothing says what they are")
            .next("write the values into the query"));
    }
    let names = statement.column_names();
    take.columns(names.map(|name| Column { name: name.to_owned(), kind: Kind::Text }).collect())?;
    let count = statement.column_count();
    let mut written: Vec<Vec<u8>> = vec![Vec::new(); count];
    let mut rows = statement.query([]).map_err(|e| error(path, &e))?;
    while let Some(row) = rows.next().map_err(|e| error(path, &e))? {
        let mut values: Vec<Option<&[u8]>> = Vec::with_capacity(count);
        for (at, buffer) in written.iter_mut().enumerate() {
            values.push(field(row.get_ref(at).map_err(|e| error(path, &e))?, buffer));
        }
        take.row(&values)?;
    }
    Ok(())
}

/// A value as text. Sixteen bytes that are no text are a UUID; other bytes are text where they can
/// be, and else hexadecimal digits.
fn field<'a>(value: ValueRef<'a>, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    buffer.clear();
    // Writing into a vector does not fail.
    match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => drop(write!(buffer, "{number}")),
        ValueRef::Real(number) => drop(write!(buffer, "{number}")),
        ValueRef::Text(text) => return Some(text),
        ValueRef::Blob(bytes) if bytes.len() != 16 && std::str::from_utf8(bytes).is_ok() => return Some(bytes),
        ValueRef::Blob(bytes) => {
            for (at, byte) in bytes.iter().enumerate() {
                let dash = if bytes.len() == 16 && matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                drop(write!(buffer, "{dash}{byte:02x}"));
            }
        }
    }
    Some(buffer)
}
