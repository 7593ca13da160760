//! The header, and where every tensor lies.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::blocks::Type;
use super::cursor::Cursor;
use super::metadata::Metadata;
use crate::error::{Error, Result};
use crate::store::safetensors::map;

/// One tensor.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// First byte in the file.
    pub(super) start: usize,
    /// Bytes.
    pub(super) len: usize,
    /// Lengths, the fastest-running one first: a matrix has (cols, rows).
    pub(super) dims: Vec<usize>,
    pub(super) kind: Type,
}

impl Entry {
    /// Its bytes in the file.
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// A mapped GGUF file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) map: Arc<Mmap>,
    pub(super) metadata: Metadata,
    pub(super) tensors: BTreeMap<String, Entry>,
}

impl File {
    /// Maps a file and checks every announced length and place.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let map = map(path)?;
        let (metadata, tensors) = parse(&map, &path.display().to_string())?;
        Ok(Self { path: path.to_owned(), map, metadata, tensors })
    }
}

/// Lets go of the pages of bytes that were read: else those of which there is a copy would be in
/// this process's memory twice. Whoever reads them again has them read again from the file.
pub(super) fn let_go(map: &Mmap, bytes: Range<usize>) {
    // SAFETY: the mapping is of a file and is never written, so that pages which are read again
    // have the same bytes.
    #[cfg(unix)]
    let _a_hint = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
    #[cfg(not(unix))]
    let _ = (map, bytes);
}

/// Reads the header out of the bytes of a whole file.
pub(super) fn parse(bytes: &[u8], place: &str) -> Result<(Metadata, BTreeMap<String, Entry>)> {
    let mut cursor = Cursor::new(bytes, place);
    if cursor.take(4).ok() != Some(b"GGUF") {
        return Err(Error::input(place, "is not a GGUF file").next("give a model in GGUF, version 2 or 3"));
    }
    match cursor.u32()? {
        2 | 3 => {}
        other if other.swap_bytes() == 3 || other.swap_bytes() == 2 => {
            return Err(Error::input(place, "is a big-endian GGUF file").next("use a little-endian one"));
        }
        other => {
            return Err(Error::input(place, format!("GGUF version {other} is not supported")).next("convert it anew"));
        }
    }
    // A tensor has at least a name length, a rank, a type and an offset; a pair a key length, a
    // type, a byte.
    let tensor_count = cursor.count(24, "tensors")?;
    let pair_count = cursor.count(13, "metadata pairs")?;
    let metadata = Metadata::read(&mut cursor, pair_count, place)?;
    let alignment = metadata.count("general.alignment")?.unwrap_or(32);
    if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
        return Err(metadata.bad("general.alignment", format!("{alignment} is no sound alignment")));
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let name = cursor.string()?;
        let (dims, kind, offset) = tensor(&mut cursor)
            .map_err(|e| Error::input(e.place(), format!("tensor {name}: {}", e.what())).next(e.next_step()))?;
        let bad = |what: String| cursor.bad(format!("tensor {name}: {what}"));
        let row = dims.first().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block()) {
            return Err(bad(format!("rows of {row} values are no whole {} blocks", kind.name())));
        }
        let count =
            dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| bad("its size overflows".into()))?;
        let len = (count / kind.block()).checked_mul(kind.bytes()).ok_or_else(|| bad("its size overflows".into()))?;
        let start = usize::try_from(offset).map_err(|_| bad(format!("its place {offset} overflows")))?;
        if !start.is_multiple_of(alignment) {
            return Err(bad(format!("its place {start} is not aligned to {alignment}")));
        }
        if tensors.insert(name.to_owned(), Entry { start, len, dims, kind }).is_some() {
            return Err(cursor.bad(format!("tensor {name} comes twice")));
        }
    }
    let base = cursor.at().next_multiple_of(alignment);
    let mut order: Vec<(&String, &mut Entry)> = tensors.iter_mut().collect();
    order.sort_by_key(|(_, entry)| entry.start);
    let mut behind = 0;
    for (name, entry) in order {
        let damaged = |what: String| {
            Error::input(format!("{place}: tensor {name}"), what)
                .next("the file is damaged or cut short; download it again")
        };
        if entry.start < behind {
            return Err(damaged("it overlaps the one before".into()));
        }
        behind = entry.start.checked_add(entry.len).ok_or_else(|| damaged("its end overflows".into()))?;
        if base.checked_add(behind).is_none_or(|end| end > bytes.len()) {
            return Err(damaged(format!("its {} bytes end behind the end of the file", entry.len)));
        }
        entry.start += base;
    }
    Ok((metadata, tensors))
}

fn tensor(cursor: &mut Cursor) -> Result<(Vec<usize>, Type, u64)> {
    let rank = cursor.u32()?;
    if rank > 4 {
        return Err(cursor.bad(format!("{rank} dimensions")));
    }
    let mut dims = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let length = cursor.u64()?;
        let fits = usize::try_from(length).ok().filter(|&n| n > 0);
        dims.push(fits.ok_or_else(|| cursor.bad(format!("a dimension of length {length}")))?);
    }
    let id = cursor.u32()?;
    let kind = Type::from_id(id).ok_or_else(|| {
        let at = cursor.bad("").place().to_owned();
        Error::input(at, format!("values of type {} are not supported", super::blocks::any_name(id)))
            .next(format!("use a file with {} tensors only", Type::names()))
    })?;
    Ok((dims, kind, cursor.u64()?))
}
