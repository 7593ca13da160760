//! Printing: JSON for programs, tables for people; a closed pipe is not an error.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints text to standard output. A reader that went away (`| head`) ends the output quietly.
pub fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") }) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", "write", &e)),
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let rendered = serde_json::to_string_pretty(value).map_err(|e| Error::failed("json", e))?;
    text(&rendered)
}

/// A plain two-column listing, the first column as wide as it must be.
pub fn listing(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(k, _)| k.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(k, v)| format!("{k:<width$}  {v}\n")).collect()
}
