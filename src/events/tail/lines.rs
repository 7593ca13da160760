//! Pieces of a file to whole lines.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::record::LONGEST;

/// What stands before the kind; prepared once, for it is looked for in millions of lines.
static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""kind":""#));
/// What stands before a row's number.
static ROW: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""row":"#));
/// Bytes of a line in which these fields are looked for.
const HEAD: usize = 200;

/// Bytes before the offset that are remembered, to see that the file was not written anew.
const MARK: usize = 48;

/// Holds the line that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// In the middle of a line that is too long.
    skipping: bool,
    mark: Vec<u8>,
}

impl Lines {
    /// Hands on every line that the piece completes, without its end; `None` for one that was too
    /// long.
    pub fn feed(&mut self, piece: &[u8], line: &mut dyn FnMut(Option<&[u8]>)) {
        if piece.len() >= MARK {
            self.mark = piece[piece.len() - MARK..].to_vec();
        } else {
            self.mark.extend_from_slice(piece);
            let extra = self.mark.len().saturating_sub(MARK);
            self.mark.drain(..extra);
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            let part = &piece[start..end];
            start = end + 1;
            if std::mem::take(&mut self.skipping) || self.rest.len() + part.len() > LONGEST {
                self.rest.clear();
                line(None);
            } else if self.rest.is_empty() {
                line(Some(part));
            } else {
                self.rest.extend_from_slice(part);
                line(Some(&self.rest));
                self.rest.clear();
            }
        }
        if !self.skipping {
            self.rest.extend_from_slice(&piece[start..]);
            if self.rest.len() > LONGEST {
                self.rest = Vec::new();
                self.skipping = true;
            }
        }
    }

    pub fn has_rest(&self) -> bool {
        self.skipping || !self.rest.is_empty()
    }

    pub fn mark(&self) -> &[u8] {
        &self.mark
    }
}

/// Finds a field in the head of each line. It stands at the same place in nearly all of them, so it
/// is looked for there first and searched for only where it is not.
#[derive(Debug, Default)]
pub(super) struct FieldPlace(usize);

impl FieldPlace {
    /// The kind of a line as our writer lays it out, without parsing the whole.
    pub fn kind<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let rest = self.behind(&KIND, line)?;
        rest.get(..memchr::memchr(b'"', rest)?)
    }

    /// The row that a line is about, where it says one near its start.
    pub fn row(&mut self, line: &[u8]) -> Option<u64> {
        let digits = self.behind(&ROW, line)?.iter().take(19).take_while(|b| b.is_ascii_digit());
        digits.fold(None, |n, d| Some(n.unwrap_or(0u64).wrapping_mul(10).wrapping_add(u64::from(d - b'0'))))
    }

    fn behind<'a>(&mut self, field: &Finder, line: &'a [u8]) -> Option<&'a [u8]> {
        let here = |at: usize| line.get(at..)?.strip_prefix(field.needle());
        here(self.0).or_else(|| {
            self.0 = field.find(line.get(..HEAD).unwrap_or(line))?;
            here(self.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_where_it_was_and_where_it_was_not() {
        let mut kinds = FieldPlace::default();
        let line = |t: &str| format!("{{\"v\":1,\"t_ms\":{t},\"kind\":\"log\",\"row\":17,\"text\":\"\"}}").into_bytes();
        for t in ["1", "1", "1700000000000", "5"] {
            assert_eq!(kinds.kind(&line(t)), Some(&b"log"[..]));
            assert_eq!(FieldPlace::default().row(&line(t)), Some(17));
        }
        for none in ["", "{}", "{\"kind\":\"torn", "{\"kind\":7,\"row\":\"tuned\"}"] {
            assert_eq!(kinds.kind(none.as_bytes()), None, "{none}");
            assert_eq!(FieldPlace::default().row(none.as_bytes()), None, "{none}");
        }
        // A text that quotes a record has its quotes escaped.
        let quoted = br#"{"text":"\"kind\":\"no\"","kind":"yes"}"#;
        assert_eq!(kinds.kind(quoted), Some(&b"yes"[..]));
    }
}
