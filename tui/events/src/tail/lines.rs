//! Pieces of a file to whole lines.

/// A longer line is no record of ours; it is skipped and counted.
pub(super) const LONGEST: usize = 1 << 20;
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
    /// Hands on every line that the piece completes, without its end; `None` for one that was too long.
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

/// The kind of a line as our writer lays it out, without parsing the whole.
pub(super) fn kind(line: &[u8]) -> Option<&str> {
    let head = &line[..line.len().min(160)];
    let from = memchr::memmem::find(head, br#""kind":""#)? + 8;
    let end = from + memchr::memchr(b'"', &line[from..])?;
    std::str::from_utf8(&line[from..end]).ok()
}
