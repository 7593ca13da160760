//! Entries of zip files.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{BUFFER, Counted, Meter, spool, unpack};
use crate::error::{Error, Result};

/// The zip file that `path` leads into, and the name inside it.
pub fn of(path: &Path) -> Option<(PathBuf, String)> {
    let archive = path.ancestors().skip(1).find(|p| p.is_file())?;
    let inside = path.strip_prefix(archive).ok()?.to_str()?.replace('\\', "/");
    is_zip(archive).then(|| (archive.to_owned(), inside))
}

/// Whether a file begins as a zip file does. A pipe is not looked at: what is read of it is gone.
pub fn is_zip(path: &Path) -> bool {
    let mut magic = [0; 4];
    !spool::is_pipe(path)
        && path.is_file()
        && File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok()
        && &magic == b"PK\x03\x04"
}

/// The zip file of a folder, where there is one and no other.
pub fn only(folder: &Path) -> Option<PathBuf> {
    let mut found = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).filter(|p| is_zip(p));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn archive(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| {
        Error::input(path.display(), format!("is not a sound zip file: {e}"))
            .next("the download may be cut short: fetch it again")
    })
}

/// The name of an entry as a path below the archive, whatever system wrote it.
fn plain(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_owned()
}

/// Names of the files, with `/` between the folders, as they are found by [`open`]; those below a
/// folder of the archive where the path leads into one.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let (file, below) = match of(path) {
        Some((archive, inside)) => (archive, format!("{inside}/")),
        None => (path.to_owned(), String::new()),
    };
    let found = archive(&file)?;
    let names = found.file_names().flatten().map(|name| plain(&name)).filter(|name| !name.ends_with('/'));
    Ok(names.filter_map(|name| name.strip_prefix(&below).map(str::to_owned)).collect())
}

/// Whether there is such an entry.
pub fn holds(archive: &Path, entry: &str) -> bool {
    names(archive).is_ok_and(|names| names.iter().any(|name| name == entry))
}

/// Whether there are entries below this folder of the archive.
pub fn has_below(archive: &Path, folder: &str) -> bool {
    let below = format!("{folder}/");
    names(archive).is_ok_and(|names| names.iter().any(|name| name.starts_with(&below)))
}

/// The one entry of a zip file that stands where a file is expected.
pub fn single(path: &Path) -> Result<String> {
    let all: Vec<String> = names(path)?.into_iter().filter(|name| !super::hidden(name)).collect();
    if all.iter().any(|name| name == "[Content_Types].xml") {
        return Err(super::foreign::office(path));
    }
    match all.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::input(path.display(), "is an empty zip file").next("check the path")),
        many => {
            let shown: Vec<&str> = many.iter().take(8).map(String::as_str).collect();
            Err(Error::input(path.display(), format!("is a zip file of several files: {}", shown.join(", ")))
                .next("name the zip file as the folder (data.path) and one of them as the file, or unpack it"))
        }
    }
}

/// Where an entry's data lies.
struct Entry {
    start: u64,
    packed: u64,
    size: u64,
    crc: u32,
    method: u16,
}

fn find(path: &Path, entry: &str) -> Result<Entry> {
    let bad = |what: String| Error::input(format!("{}/{entry}", path.display()), what);
    let mut archive = archive(path)?;
    let same = |name: &str| plain(name) == entry;
    let index = (0..archive.len())
        .find(|&at| archive.name_for_index(at).is_some_and(|name| name.is_ok_and(|name| same(&name))));
    let index = index.ok_or_else(|| bad("there is no such entry in the zip file".into()).next("check the name"))?;
    let found = archive.by_index_raw(index).map_err(|e| {
        bad(format!("cannot be read from the zip file: {e}")).next("unpack the archive with a program that can")
    })?;
    if found.encrypted() {
        return Err(bad("is encrypted".into()).next("unpack the archive with its password, and name the folder"));
    }
    let start = found.data_start().ok_or_else(|| bad("its data cannot be found".into()).next("unpack the archive"))?;
    #[allow(deprecated, reason = "the number tells methods that the library was built without")]
    let method = found.compression().to_u16();
    Ok(Entry { start, packed: found.compressed_size(), size: found.size(), crc: found.crc32(), method })
}

/// Opens an entry.
pub fn open(path: &Path, archive: &Path, entry: &str) -> Result<(Box<dyn BufRead + Send>, Meter)> {
    let found = find(archive, entry)?;
    let mut file = File::open(archive).map_err(|e| Error::io(archive, "open", &e))?;
    file.seek(SeekFrom::Start(found.start)).map_err(|e| Error::io(archive, "read", &e))?;
    let meter = Meter::new(found.packed);
    let counted = Counted { inner: file.take(found.packed), read: meter.read.clone() };
    let raw = BufReader::with_capacity(BUFFER, counted);
    let inner = unpack::zipped(found.method, raw, found.size).map_err(|e| {
        Error::input(format!("{}/{entry}", archive.display()), e)
            .next("unpack the archive with a program that can, and name the folder")
    })?;
    let checked = Checked { inner, crc: flate2::Crc::new(), left: found.size, wanted: found.crc };
    Ok((unpack::unpack(path, checked, found.packed)?, meter))
}

/// An entry's data against its size and checksum.
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
