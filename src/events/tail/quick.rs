//! Opens a very long file in seconds: every line is looked at, few are parsed.
//!
//! Kinds of which there are few (stages, metrics, warnings, tables) are read whole, wherever they
//! stand; so is everything in the last [`END`] bytes. Of a plentiful kind one line in so many is
//! read: lines about a row are chosen by the row, so that all samples of a prompt come or none
//! does, the others by their number.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::lines::FieldPlace;
use super::{Counts, Item, Sampled, take};
use crate::record::{LONGEST, Record};

/// The end of the file is read whole from here.
pub const END: u64 = 4 << 20;
/// Records of one kind that are read before the end, about.
pub const OF_A_KIND: u64 = 20_000;
/// Bytes that one thread looks at in one go.
const PIECE: u64 = 2 << 20;
/// Places at which the file is probed to see how plentiful each kind is.
const PROBES: u64 = 48;
/// Bytes of a probe.
const PROBE: u64 = 32 << 10;
/// Bytes of the beginning that are read for the first look.
const FIRST: u64 = 1 << 20;
/// Lines of one kind that are parsed in a piece at least, whatever the probes said, before they are
/// thinned.
const OF_A_PIECE: u64 = 512;

/// Reads the beginning of `file` by sampling and hands it on in order. Returns the offset (a line's
/// start) from which to read on.
pub(super) fn open(file: &File, bytes: u64, counts: &mut Counts, sink: &mut dyn FnMut(Item)) -> io::Result<u64> {
    let end = line_start(file, bytes.saturating_sub(END), bytes)?;
    let strides = strides(file, end)?;
    let pieces = usize::try_from(end.div_ceil(PIECE)).unwrap_or(usize::MAX);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8)).min(pieces.max(1));
    let (next, given_up) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut all = Tally::default();
    let mut result = Ok(());
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        // A bounded channel: readers that are far ahead wait.
        let (send, receive) = mpsc::sync_channel::<(usize, io::Result<Piece>)>(threads * 2);
        for _ in 0..threads {
            let (send, next, given_up, strides) = (send.clone(), &next, &given_up, &strides);
            scope.spawn(move || {
                let mut buffer = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= pieces || given_up.load(Ordering::Relaxed) {
                        return;
                    }
                    let (from, to) = (at as u64 * PIECE, ((at as u64 + 1) * PIECE).min(end));
                    if send.send((at, read_piece(file, from, to, end, strides, &mut buffer))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let (mut waiting, mut due) = (BTreeMap::new(), 0);
        for (at, piece) in receive {
            waiting.insert(at, piece);
            while let Some(piece) = waiting.remove(&due) {
                due += 1;
                match piece {
                    Ok(piece) => {
                        all.add(piece.tally);
                        records.extend(piece.records);
                    }
                    Err(e) => {
                        given_up.store(true, Ordering::Relaxed);
                        result = Err(e);
                    }
                }
            }
        }
    });
    result?;
    counts.bytes += end;
    counts.lines += all.lines;
    counts.damaged += all.counts.damaged;
    counts.newer += all.counts.newer;
    counts.records += all.counts.records;
    for (kind, n) in all.counts.unknown {
        *counts.unknown.entry(kind).or_default() += n;
    }
    let kinds = all.kinds.into_iter().filter(|(_, (n, read))| read < n).map(|(k, (n, read))| (k, n, read)).collect();
    sink(Item::Sampled(Sampled { records: all.lines, read: all.counts.records, kinds }));
    records.into_iter().for_each(|r| sink(Item::Record(r)));
    Ok(end)
}

/// A few whole stretches of the file, in order: see [`super::Tail::glance`].
pub(super) fn glance(file: &File, bytes: u64, record: &mut dyn FnMut(Record)) -> io::Result<()> {
    let end = bytes.saturating_sub(END);
    let between =
        (1..PROBES).map(|i| end / PROBES * i).filter(|from| (FIRST..end.saturating_sub(PROBE)).contains(from));
    let stretches = [(0, FIRST.min(end))].into_iter().chain(between.map(|from| (from, PROBE))).chain([(end, END)]);
    let mut buffer = Vec::new();
    for (from, length) in stretches {
        read_at(file, from, length, &mut buffer)?;
        // A stretch begins and ends within a line.
        let whole = buffer.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        for line in buffer[..whole].split(|b| *b == b'\n').skip(usize::from(from > 0)) {
            Record::parse_bytes(line).into_iter().for_each(&mut *record);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    lines: u64,
    counts: Counts,
    /// (lines, read) of each kind.
    kinds: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.counts.damaged += other.counts.damaged;
        self.counts.newer += other.counts.newer;
        self.counts.records += other.counts.records;
        for (kind, n) in other.counts.unknown {
            *self.counts.unknown.entry(kind).or_default() += n;
        }
        for (kind, (n, read)) in other.kinds {
            let entry = self.kinds.entry(kind).or_default();
            *entry = (entry.0 + n, entry.1 + read);
        }
    }
}

struct Piece {
    tally: Tally,
    records: Vec<Record>,
}

/// Fills `buffer` with the bytes from `from` on, at most `length`; fewer at the end of the file.
fn read_at(file: &File, from: u64, length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(usize::try_from(length).unwrap_or(0), 0);
    let mut filled = 0;
    while filled < buffer.len() {
        #[cfg(unix)]
        let got = std::os::unix::fs::FileExt::read_at(file, &mut buffer[filled..], from + filled as u64);
        #[cfg(windows)]
        let got = std::os::windows::fs::FileExt::seek_read(file, &mut buffer[filled..], from + filled as u64);
        match got {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// The start of the first line at or after `from`.
fn line_start(file: &File, from: u64, bytes: u64) -> io::Result<u64> {
    if from == 0 {
        return Ok(0);
    }
    let (mut at, mut buffer) = (from - 1, Vec::new());
    while at < bytes {
        read_at(file, at, PROBE.min(bytes - at), &mut buffer)?;
        if buffer.is_empty() {
            break;
        }
        if let Some(end) = memchr::memchr(b'\n', &buffer) {
            return Ok(at + end as u64 + 1);
        }
        at += buffer.len() as u64;
    }
    Ok(bytes)
}

/// One line in how many of each kind is read.
fn strides(file: &File, end: u64) -> io::Result<HashMap<String, u64>> {
    let (mut found, mut looked, mut buffer): (HashMap<String, u64>, u64, _) = (HashMap::new(), 0, Vec::new());
    for probe in 0..PROBES {
        read_at(file, (end / PROBES * probe).min(end), PROBE.min(end), &mut buffer)?;
        looked += buffer.len() as u64;
        let mut kinds = FieldPlace::default();
        for line in buffer.split(|b| *b == b'\n').skip(1) {
            if let Some(kind) = kinds.kind(line) {
                *found.entry(String::from_utf8_lossy(kind).into_owned()).or_default() += 1;
            }
        }
    }
    let scale = end as f64 / looked.max(1) as f64;
    let stride = |n: u64| ((n as f64 * scale / OF_A_KIND as f64).ceil() as u64).max(1);
    Ok(found.into_iter().map(|(kind, n)| (kind, stride(n))).collect())
}

/// The lines that begin in `from..to`.
fn read_piece(
    file: &File,
    from: u64,
    to: u64,
    end: u64,
    strides: &HashMap<String, u64>,
    buffer: &mut Vec<u8>,
) -> io::Result<Piece> {
    let begin = from.saturating_sub(1);
    // The last line may reach beyond: one read more, when it does.
    read_at(file, begin, (to - begin + (64 << 10)).min(end - begin), buffer)?;
    if begin + (buffer.len() as u64) < end && memchr::memchr(b'\n', &buffer[(to - begin) as usize - 1..]).is_none() {
        read_at(file, begin, (to - begin + LONGEST as u64 + 1).min(end - begin), buffer)?;
    }
    let mut piece = Piece { tally: Tally::default(), records: Vec::new() };
    let mut at = 0;
    if from > 0 {
        match memchr::memchr(b'\n', buffer) {
            Some(newline) => at = newline + 1,
            None => return Ok(piece),
        }
    }
    // Twice the fair share of a piece: kinds come in clusters.
    let limit = (2 * OF_A_KIND / end.div_ceil(PIECE).max(1)).max(OF_A_PIECE);
    let mut kinds = FieldPlace::default();
    let mut per_kind: Vec<Kind> = Vec::new();
    while begin + (at as u64) < to {
        let Some(length) = memchr::memchr(b'\n', &buffer[at..]) else {
            piece.tally.lines += 1;
            piece.tally.counts.damaged += 1;
            break;
        };
        let line = &buffer[at..at + length];
        at += length + 1;
        piece.tally.lines += 1;
        let chosen = kinds.kind(line).is_none_or(|name| {
            let known = per_kind.iter().position(|k| k.name.as_bytes() == name);
            let which = known.unwrap_or_else(|| {
                per_kind.push(Kind::new(name, strides, limit));
                per_kind.len() - 1
            });
            per_kind.get_mut(which).is_some_and(|k| k.choose(line))
        });
        if chosen && let Some(record) = take(Some(line), &mut piece.tally.counts) {
            piece.records.push(record);
        }
    }
    for kind in per_kind {
        piece.tally.kinds.insert(kind.name, (kind.seen, kind.read));
    }
    Ok(piece)
}

struct Kind {
    name: String,
    stride: u64,
    seen: u64,
    read: u64,
    limit: u64,
    row: FieldPlace,
}

impl Kind {
    fn new(name: &[u8], strides: &HashMap<String, u64>, limit: u64) -> Self {
        let name = String::from_utf8_lossy(name).into_owned();
        let stride = strides.get(&name).copied().unwrap_or(1);
        Self { name, stride, seen: 0, read: 0, limit, row: FieldPlace::default() }
    }

    fn choose(&mut self, line: &[u8]) -> bool {
        let number = match (self.stride > 1).then(|| self.row.row(line)).flatten() {
            Some(row) => mix(row),
            None => self.seen,
        };
        self.seen += 1;
        // A kind that the probes missed and that fills this piece is thinned as it goes.
        if self.read >= self.limit {
            (self.stride, self.limit) = (self.stride * 2, self.limit + OF_A_PIECE / 2);
        }
        let chosen = number.is_multiple_of(self.stride);
        self.read += u64::from(chosen);
        chosen
    }
}

/// Spreads neighbouring numbers (Stafford's variant 13 of the MurmurHash3 finaliser).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
