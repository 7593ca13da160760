//! A table of a PostgreSQL database, written in one transaction.

use std::io::Write;

use postgres::Client;

use super::{Column, Kind, Name, Value, Writer, is_there};
use crate::database::{Address, postgres as server, quoted};
use crate::error::{Error, Result};

/// Bytes of rows that are sent at a time.
const BYTES: usize = 1 << 20;

/// A table that is being written.
pub struct Table {
    client: Client,
    address: Address,
    name: Name,
    force: bool,
    /// Stands for the table until it is whole.
    part: String,
    rows: Vec<u8>,
}

impl Table {
    pub fn new(address: &Address, url: &str, name: &Name, columns: &[Column], force: bool) -> Result<Self> {
        let mut client = server::connect(url)?;
        let failed = |e: postgres::Error| server::error(address, &e);
        client.batch_execute("BEGIN").map_err(failed)?;
        if !force && exists(&mut client, name).map_err(failed)? {
            return Err(is_there(format!("{address}#{name}")));
        }
        let part = name.sql(&format!("rallrec_part_{}", std::process::id()));
        let fields: Vec<String> = columns.iter().map(|c| format!("{} {}", quoted(c.name), kind(c.kind))).collect();
        let mut sql = format!("CREATE TABLE {part} ({})", fields.join(", "));
        for column in columns {
            let about = column.about.replace('\'', "''");
            sql.push_str(&format!("; COMMENT ON COLUMN {part}.{} IS '{about}'", quoted(column.name)));
        }
        client.batch_execute(&sql).map_err(failed)?;
        Ok(Self { client, address: address.clone(), name: name.clone(), force, part, rows: Vec::new() })
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let failed = |e: postgres::Error| server::error(&self.address, &e);
        let mut copy = self.client.copy_in(&format!("COPY {} FROM STDIN", self.part)).map_err(failed)?;
        copy.write_all(&self.rows).map_err(|e| {
            Error::failed(&self.address, format!("the rows cannot be sent: {e}")).next("check the server")
        })?;
        copy.finish().map_err(failed)?;
        self.rows.clear();
        Ok(())
    }
}

fn exists(client: &mut Client, name: &Name) -> Result<bool, postgres::Error> {
    client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name.sql(&name.table)])?.try_get(0)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "bigint",
        Kind::Real => "double precision",
        Kind::Boolean => "boolean",
    }
}

impl Writer for Table {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.rows.push(b'\t');
            }
            match value.known() {
                Value::None => self.rows.extend_from_slice(b"\\N"),
                Value::Text(text) => escape(text, &mut self.rows),
                // Writing into a vector does not fail.
                Value::Integer(number) => drop(write!(self.rows, "{number}")),
                Value::Real(number) => drop(write!(self.rows, "{number}")),
                Value::Boolean(so) => drop(write!(self.rows, "{so}")),
            }
        }
        self.rows.push(b'\n');
        if self.rows.len() >= BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        let Self { mut client, address, name, force, part, .. } = *self;
        let failed = |e: postgres::Error| server::error(&address, &e);
        let drop = if force { format!("DROP TABLE IF EXISTS {}; ", name.sql(&name.table)) } else { String::new() };
        let rename = format!("ALTER TABLE {part} RENAME TO {}", quoted(&name.table));
        client.batch_execute(&format!("{drop}{rename}; COMMIT")).map_err(failed)
    }
}

/// A text as COPY wants it. PostgreSQL's texts cannot hold the character 0.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0 => {}
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copy_reads_as_something_else_is_escaped() {
        let mut out = Vec::new();
        escape("a\\N\tb\r\nc\0é", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\\\N\\tb\\r\\ncé");
    }
}
