//! Where the bytes of a file come from: the file itself, a gzip stream, or an entry of a zip file. A path may lead into
//! a zip file as if that were a folder: `ml-32m.zip/ml-32m/ratings.csv`.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder};

use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// A compressed file may unpack to so many times its size (text comes to 3 to 20 times), and to a little in any case.
pub const EXPANSION: u64 = 200;
/// Bytes that may always be unpacked, however small the packed file is.
const ALWAYS: u64 = 16 << 20;
const BUFFER: usize = 1 << 18;

/// How many bytes of a file, as it lies on the disk, are read.
#[derive(Debug, Clone)]
pub struct Meter {
    read: Arc<AtomicU64>,
    total: u64,
}

impl Meter {
    /// Says how far the file is read, and hears a stop.
    pub fn report(&self, monitor: &dyn Monitor) -> Result<()> {
        monitor.progress(self.read.load(Ordering::Relaxed).min(self.total), self.total, "bytes");
        monitor.check()
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// `folder/name`, or with `.gz` added when only that is there. `folder` may be a zip file: then its entry of that
/// name, whatever folder inside the archive it lies in. A folder with neither file but with one zip file is taken for
/// that zip file. Where there is nothing, the plain name.
pub fn locate(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(name);
    let packed = format!("{name}.gz");
    if let Some((archive, _)) = archive_of(&plain) {
        let Ok(names) = names(folder) else { return plain };
        let ends = |n: &String, wanted: &str| n.rsplit('/').next() == Some(wanted);
        // The shortest path, so that what macOS adds (`__MACOSX/...`) is not taken.
        let best = |wanted: &str| names.iter().filter(|n| ends(n, wanted)).min_by_key(|n| n.len());
        return best(name).or_else(|| best(&packed)).map_or(plain, |found| archive.join(found));
    }
    let packed = folder.join(packed);
    if plain.exists() {
        return plain;
    }
    if packed.exists() {
        return packed;
    }
    match only_zip(folder) {
        Some(archive) => locate(&archive, name),
        None => plain,
    }
}

/// The zip file of a folder, where there is one and no other.
fn only_zip(folder: &Path) -> Option<PathBuf> {
    let mut found = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_file() && is_zip(p));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// True for a file, and for an entry of a zip file.
pub fn exists(path: &Path) -> bool {
    path.exists() || archive_of(path).is_some_and(|(archive, entry)| find(&archive, &entry).is_ok())
}

/// True for a folder and for a zip file.
pub fn is_folder(path: &Path) -> bool {
    path.is_dir() || (path.is_file() && is_zip(path))
}

/// Names of the files in a folder or a zip file, in order; in a zip file with their inner folders.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = if folder.is_dir() {
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "list", &e))?;
        entries.flatten().filter(|e| e.path().is_file()).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    } else {
        let archive = archive(folder)?;
        let sound = |n: &String| !n.ends_with('/') && !n.starts_with("__MACOSX");
        archive.file_names().flatten().map(|n| n.into_owned()).filter(sound).collect()
    };
    names.sort();
    Ok(names)
}

/// Opens a file for reading, through the decompressor that its first bytes call for (its name does not matter).
pub fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Meter)> {
    if let Some((archive, entry)) = archive_of(path) {
        return open_entry(path, &archive, &entry);
    }
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Error::input(path.display(), "is a folder where a file is expected").next("check the path"));
    }
    let total = file.metadata().map_or(0, |m| m.len());
    let meter = Meter { read: Arc::default(), total };
    let counted = Counted { inner: file, read: meter.read.clone() };
    unpack(path, counted, total, meter)
}

/// The zip file that `path` leads into, and the name inside it.
fn archive_of(path: &Path) -> Option<(PathBuf, String)> {
    let archive = path.ancestors().skip(1).find(|p| p.is_file())?;
    let inside = path.strip_prefix(archive).ok()?.to_str()?.replace('\\', "/");
    is_zip(archive).then(|| (archive.to_owned(), inside))
}

fn is_zip(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && &magic == b"PK\x03\x04"
}

fn archive(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| {
        Error::input(path.display(), format!("is not a sound zip file: {e}"))
            .next("the download may be cut short: fetch it again")
    })
}

/// Where an entry's data lies.
struct Entry {
    start: u64,
    packed: u64,
    size: u64,
    crc: u32,
    deflated: bool,
}

fn find(path: &Path, entry: &str) -> Result<Entry> {
    let place = || format!("{}/{entry}", path.display());
    let mut archive = archive(path)?;
    let bad = |e: &dyn std::fmt::Display| {
        Error::input(place(), format!("cannot be read from the zip file: {e}")).next("check the name, or unpack it")
    };
    let index = archive.index_for_name(entry).ok_or_else(|| bad(&"there is no such entry"))?;
    let found = archive.by_index_raw(index).map_err(|e| bad(&e))?;
    let deflated = match found.compression() {
        zip::CompressionMethod::Stored => false,
        zip::CompressionMethod::Deflated => true,
        other => return Err(bad(&format!("compression {other} is not supported"))),
    };
    if found.encrypted() {
        return Err(bad(&"it is encrypted"));
    }
    let start = found.data_start().ok_or_else(|| bad(&"its data cannot be found"))?;
    Ok(Entry { start, packed: found.compressed_size(), size: found.size(), crc: found.crc32(), deflated })
}

fn open_entry(path: &Path, archive: &Path, entry: &str) -> Result<(Box<dyn BufRead + Send>, Meter)> {
    let found = find(archive, entry)?;
    let mut file = File::open(archive).map_err(|e| Error::io(archive, "open", &e))?;
    file.seek(SeekFrom::Start(found.start)).map_err(|e| Error::io(archive, "read", &e))?;
    let meter = Meter { read: Arc::default(), total: found.packed };
    let counted = Counted { inner: file.take(found.packed), read: meter.read.clone() };
    let raw: Box<dyn Read + Send> = if found.deflated {
        Box::new(DeflateDecoder::new(BufReader::with_capacity(BUFFER, counted)))
    } else {
        Box::new(counted)
    };
    let checked = Checked { inner: raw, crc: flate2::Crc::new(), left: found.size, wanted: found.crc };
    unpack(path, checked, found.packed, meter)
}

/// A zip entry's data against its size and checksum.
struct Checked {
    inner: Box<dyn Read + Send>,
    crc: flate2::Crc,
    left: u64,
    wanted: u32,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if self.crc.sum() != self.wanted {
                return Err(std::io::Error::new(ErrorKind::InvalidData, "the checksum does not fit"));
            }
        }
        let too_long = || std::io::Error::new(ErrorKind::InvalidData, "it is longer than the archive says");
        self.left = self.left.checked_sub(count as u64).ok_or_else(too_long)?;
        self.crc.update(&buffer[..count]);
        Ok(count)
    }
}

fn unpack(
    path: &Path,
    inner: impl Read + Send + 'static,
    packed: u64,
    meter: Meter,
) -> Result<(Box<dyn BufRead + Send>, Meter)> {
    let left = packed.saturating_mul(EXPANSION).max(ALWAYS);
    let mut plain = BufReader::with_capacity(BUFFER, inner);
    let first = plain.fill_buf().map_err(|e| super::lines::read_error(path, path.display(), &e))?;
    if first.starts_with(&[0x1f, 0x8b]) {
        let bounded = Bounded { inner: MultiGzDecoder::new(plain), left };
        return Ok((Box::new(BufReader::with_capacity(BUFFER, bounded)), meter));
    }
    Ok((Box::new(BufReader::with_capacity(BUFFER, Bounded { inner: plain, left })), meter))
}

/// Ends with an error where a compressed file unpacks to far more than such a file can hold.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(ErrorKind::FileTooLarge.into()),
        }
        Ok(count)
    }
}
