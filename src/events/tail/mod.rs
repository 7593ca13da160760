//! Reads `events.jsonl` while it grows, whatever happens to it.
//!
//! A torn last line waits for its rest; a damaged line is counted and skipped; a file that was
//! truncated or replaced is read again from the start; a folder that is gone is a state and not a
//! failure. A very long file is opened by
//! [`quick`]: its rare records and its end are read whole, its plentiful records are sampled, and
//! [`Sampled`] says so.

mod lines;
mod place;
pub mod quick;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::record::{Record, VERSION};
use crate::view::RunView;
use lines::Lines;
use place::Place;

/// A file beyond this many bytes is opened by sampling.
pub const LONG: u64 = 48 << 20;
/// Bytes that one [`Tail::poll`] reads at most, so that a screen stays alive beside it.
pub const PER_POLL: u64 = 4 << 20;

/// How the file stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The folder is there, the file is not (yet).
    #[default]
    Waiting,
    /// It is read.
    Open,
    /// It was there, and now it or its folder is gone; what was read stays.
    Gone,
    /// It cannot be read, with the system's words.
    Unreadable(String),
}

/// What a reader is handed.
#[derive(Debug)]
pub enum Item {
    /// The file was truncated or replaced: forget everything, it begins anew.
    Restarted,
    /// The file is very long; what follows is a sample of its beginning and all of its end.
    Sampled(Sampled),
    /// The next record.
    Record(Record),
}

/// That a file was so long that only a part of its records was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Sampled {
    /// Records in the sampled part.
    pub records: u64,
    /// Of them read.
    pub read: u64,
    /// (kind, records, read) of the kinds that were not read whole.
    pub kinds: Vec<(String, u64, u64)>,
}

/// Counts over the whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Bytes gone through.
    pub bytes: u64,
    /// Whole lines.
    pub lines: u64,
    /// Records handed on.
    pub records: u64,
    /// Lines that are no record: torn by a kill, or damaged.
    pub damaged: u64,
    /// Records with a newer layout version.
    pub newer: u64,
    /// Records of kinds that this program does not know, by kind; of at most 32 kinds.
    pub unknown: BTreeMap<String, u64>,
    /// Times that the file was truncated or replaced.
    pub restarts: u64,
}

/// The outcome of a [`Tail::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polled {
    /// Something was handed on, or the state changed.
    pub changed: bool,
    /// There is more to read at once.
    pub more: bool,
}

/// A file of events that is read while it grows; it may be cut, replaced or removed meanwhile.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    open: Option<Opened>,
    state: State,
    counts: Counts,
    seen: bool,
    long: u64,
}

#[derive(Debug)]
struct Opened {
    file: File,
    place: Place,
    offset: u64,
    lines: Lines,
}

impl Tail {
    /// Follows the file at `path`, which need not be there yet. Nothing is read before the first
    /// [`Tail::poll`].
    pub fn new(path: &Path) -> Self {
        Self::with_limit(path, LONG)
    }

    /// As [`Tail::new`], sampling files beyond `long` bytes; `u64::MAX` reads every file whole.
    pub fn with_limit(path: &Path, long: u64) -> Self {
        let (state, counts) = (State::Waiting, Counts::default());
        Self { path: path.to_path_buf(), open: None, state, counts, seen: false, long }
    }

    /// A first look at a very long file before the first [`Tail::poll`], in a fraction of a second
    /// also from a slow disk: its beginning, its end, and a little from between. `None` for a file
    /// that a poll reads as fast.
    pub fn glance(&self) -> Option<RunView> {
        let bytes = Place::of(&self.path).ok().map(|place| place.bytes).filter(|bytes| *bytes > self.long)?;
        let mut view = RunView::new();
        // What goes wrong here goes wrong again in the poll that follows, which says so.
        quick::glance(&File::open(&self.path).ok()?, bytes, &mut |record| view.apply(&record)).ok()?;
        Some(view)
    }

    /// How the file stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A line that is not complete yet lies at the end.
    pub fn has_torn_end(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.lines.has_rest())
    }

    /// Reads what is new, in order, at most [`PER_POLL`] bytes.
    pub fn poll(&mut self, mut sink: impl FnMut(Item)) -> Polled {
        let before = self.state.clone();
        let read = self.read(&mut sink);
        let mut polled = match read {
            Ok(polled) => {
                if self.open.is_some() {
                    self.state = State::Open;
                }
                polled
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.state = if self.seen { State::Gone } else { State::Waiting };
                Polled::default()
            }
            Err(e) => {
                self.state = State::Unreadable(e.to_string());
                Polled::default()
            }
        };
        polled.changed |= self.state != before;
        polled
    }

    fn read(&mut self, sink: &mut dyn FnMut(Item)) -> io::Result<Polled> {
        let place = Place::of(&self.path)?;
        let mut polled = Polled::default();
        let goes_on = match &mut self.open {
            Some(open) => place.same_file(&open.place) && place.bytes >= open.offset && open.unchanged(place.bytes)?,
            None => false,
        };
        if !goes_on {
            if self.open.take().is_some() {
                self.counts = Counts { restarts: self.counts.restarts + 1, ..Counts::default() };
                sink(Item::Restarted);
                polled.changed = true;
            } else if self.seen {
                // It was gone and is back: what it says now may be another run.
                self.counts = Counts { restarts: self.counts.restarts + 1, ..Counts::default() };
                sink(Item::Restarted);
                polled.changed = true;
            }
            let file = File::open(&self.path)?;
            self.seen = true;
            let mut offset = 0;
            if place.bytes > self.long {
                offset = quick::open(&file, place.bytes, &mut self.counts, sink)?;
                polled.changed = true;
            }
            self.open = Some(Opened { file, place: place.clone(), offset, lines: Lines::default() });
        }
        let Some(open) = &mut self.open else { return Ok(polled) };
        let end = place.bytes.min(open.offset.saturating_add(PER_POLL));
        let mut buffer = vec![0u8; usize::try_from(end - open.offset).unwrap_or(0)];
        open.file.seek(SeekFrom::Start(open.offset))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match open.file.read(&mut buffer[filled..]) {
                // Shorter than a moment ago: the next poll sees the truncation.
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        open.offset += filled as u64;
        self.counts.bytes += filled as u64;
        let counts = &mut self.counts;
        open.lines.feed(&buffer[..filled], &mut |line| {
            polled.changed = true;
            if let Some(record) = take(line, counts) {
                sink(Item::Record(record));
            }
        });
        polled.more = open.offset < place.bytes && filled > 0;
        Ok(polled)
    }
}

impl Opened {
    /// The file was not written anew over the same place: the bytes before the offset are those
    /// that were read.
    fn unchanged(&mut self, bytes: u64) -> io::Result<bool> {
        let mark = self.lines.mark();
        if bytes == self.offset || mark.is_empty() {
            return Ok(true);
        }
        let mut found = vec![0u8; mark.len()];
        self.file.seek(SeekFrom::Start(self.offset - mark.len() as u64))?;
        match self.file.read_exact(&mut found) {
            Ok(()) => Ok(found == mark),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A line to a record, counted; `None` for an empty or damaged one.
fn take(line: Option<&[u8]>, counts: &mut Counts) -> Option<Record> {
    counts.lines += 1;
    let Some(line) = line else {
        counts.damaged += 1;
        return None;
    };
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let Ok(record) = Record::parse_bytes(line) else {
        counts.damaged += 1;
        return None;
    };
    counts.records += 1;
    counts.newer += u64::from(record.v > VERSION);
    if record.event == crate::Event::Unknown {
        let kind = String::from_utf8_lossy(lines::FieldPlace::default().kind(line).unwrap_or(b"?"));
        let kind = kind.chars().take(48).collect::<String>();
        let kind = if counts.unknown.len() < 32 || counts.unknown.contains_key(&kind) { kind } else { "...".into() };
        *counts.unknown.entry(kind).or_default() += 1;
    }
    Some(record)
}

#[cfg(test)]
mod tests;
