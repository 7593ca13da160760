//! Reading a mapped file field by field; no length is believed before it is compared with what is
//! left.

use crate::error::{Error, Result};

/// A position in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    place: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], place: &'a str) -> Self {
        Self { bytes, at: 0, place }
    }

    /// Bytes already read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// An error at the current byte.
    pub(super) fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: byte {}", self.place, self.at), what)
            .next("the file is damaged or cut short; download it again")
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.bad(format!("{count} more bytes are announced, {} are left", self.bytes.len() - self.at)));
        };
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things of at least `smallest` bytes each, all of which must still fit into the
    /// file.
    pub(super) fn count(&mut self, smallest: usize, what: &str) -> Result<usize> {
        let announced = self.u64()?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(announced).ok().filter(|n| n.checked_mul(smallest).is_some_and(|all| all <= left)) {
            Some(n) => Ok(n),
            None => Err(self.bad(format!("{announced} {what} are announced, {left} bytes are left"))),
        }
    }

    pub(super) fn string(&mut self) -> Result<&'a str> {
        let length = self.count(1, "bytes of text")?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|e| self.bad(format!("a text is not UTF-8: {e}")))
    }
}
