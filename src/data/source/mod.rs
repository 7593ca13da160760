//! Where the bytes of a file come from: the file itself, a compressed stream, a pipe, or an entry
//! of a zip file. A path may lead into a zip file as if that were a folder:
//! `ml-32m.zip/ml-32m/ratings.csv`.

mod archive;
mod foreign;
mod spool;
mod unpack;

use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use spool::{Cursor, Whole, is_pipe};
pub use unpack::EXPANSION;

use crate::error::{Error, Result};
use crate::monitor::Monitor;

const BUFFER: usize = 1 << 18;

/// What may be added to a name for a compressed file.
const PACKED: [&str; 6] = ["gz", "zst", "bz2", "xz", "lz4", "zip"];

/// How many bytes of a file, as it lies on the disk, are read.
#[derive(Debug, Clone)]
pub struct Meter {
    read: Arc<AtomicU64>,
    total: u64,
}

impl Meter {
    fn new(total: u64) -> Self {
        Self { read: Arc::default(), total }
    }

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

/// `folder/name`, or with `.gz` and the like added when only that is there. `folder` may be a zip
/// file: then its entry of that name, whatever folder inside the archive it lies in. A folder with
/// neither file but with one zip file is taken for that zip file. Where there is nothing, the plain
/// name.
pub fn locate(folder: &Path, name: &str) -> PathBuf {
    locate_any(folder, &[name])
}

/// As [`locate`], the first of several names that is there; where there is none, the first name.
pub fn locate_any(folder: &Path, names: &[&str]) -> PathBuf {
    let plain = folder.join(names.first().copied().unwrap_or_default());
    for name in names {
        if let Some(found) = find(folder, name) {
            return found;
        }
    }
    plain
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let packed = || PACKED.iter().map(|end| format!("{name}.{end}"));
    if archive::of(&folder.join(name)).is_some() {
        // The shortest path; `same_named` knows of the others.
        let best = |wanted: &str| same_named(folder, wanted).into_iter().min_by_key(String::len);
        return best(name).or_else(|| packed().find_map(|name| best(&name))).map(|found| folder.join(found));
    }
    let there = std::iter::once(name.to_owned()).chain(packed()).map(|name| folder.join(name)).find(|p| p.exists());
    there.or_else(|| archive::only(folder).and_then(|archive| find(&archive, name)))
}

/// The entries of a zip file that are called `name`, in whatever folder of it. Empty for a folder
/// on the disk.
pub fn same_named(folder: &Path, name: &str) -> Vec<String> {
    if folder.is_dir() {
        return archive::only(folder).map(|archive| same_named(&archive, name)).unwrap_or_default();
    }
    let name = name.replace('\\', "/");
    let ends =
        |entry: &String| *entry == name || entry.strip_suffix(&*name).is_some_and(|before| before.ends_with('/'));
    names(folder).unwrap_or_default().into_iter().filter(ends).collect()
}

/// True for a file, and for an entry of a zip file.
pub fn exists(path: &Path) -> bool {
    path.exists() || archive::of(path).is_some_and(|(archive, entry)| archive::holds(&archive, &entry))
}

/// True for a folder, for a zip file, and for a folder in a zip file.
pub fn is_folder(path: &Path) -> bool {
    path.is_dir()
        || archive::is_zip(path)
        || archive::of(path).is_some_and(|(archive, inside)| archive::has_below(&archive, &inside))
}

/// The file on the disk that holds what a path leads to: a zip file for its entries.
pub fn on_disk(path: &Path) -> PathBuf {
    archive::of(path).map_or_else(|| path.to_owned(), |(archive, _)| archive)
}

/// Names of the files in a folder or a zip file, in order; in a zip file with their inner folders.
/// Names that begin with a dot are left out: what systems put beside the files of users.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = if folder.is_dir() {
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "list", &e))?;
        entries.flatten().filter(|e| e.path().is_file()).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    } else {
        archive::names(folder)?
    };
    names.retain(|name| !hidden(name));
    names.sort();
    Ok(names)
}

/// Names of all files below a folder, with the folders on the way to them, in order.
pub fn names_below(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return names(folder);
    }
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let at = folder.join(&below);
        for entry in std::fs::read_dir(&at).map_err(|e| Error::io(&at, "list", &e))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            match entry.path() {
                path if path.is_dir() && !hidden(&name) => open.push(name),
                path if path.is_file() && !hidden(&name) => found.push(name),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// Opens a file for reading, through the decompressor that its first bytes call for (its name does
/// not matter).
///
/// # Errors
/// Nothing is there, it is a folder, or a file of a form that cannot be read: the message names the
/// form.
pub fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Meter)> {
    if let Some((archive, entry)) = archive::of(path) {
        return archive::open(path, &archive, &entry);
    }
    if is_pipe(path) {
        let whole = spool::pipe(path)?;
        let meter = Meter::new(whole.length());
        let counted = Counted { inner: whole.cursor(), read: meter.read.clone() };
        return Ok((unpack::unpack(path, counted, meter.total)?, meter));
    }
    if archive::is_zip(path) {
        let entry = archive::single(path)?;
        return archive::open(path, path, &entry);
    }
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Error::input(path.display(), "is a folder where a file is expected").next("check the path"));
    }
    let meter = Meter::new(file.metadata().map_or(0, |m| m.len()));
    let counted = Counted { inner: file, read: meter.read.clone() };
    Ok((unpack::unpack(path, counted, meter.total)?, meter))
}

/// Opens a file that must be read from its end, or from any other place: what is compressed is
/// unpacked into a temporary file.
pub fn open_whole(path: &Path, magic: &[u8]) -> Result<Whole> {
    if path.is_file() && !is_pipe(path) {
        let whole = Whole::new(File::open(path).map_err(|e| Error::io(path, "open", &e))?);
        if whole.begins(magic) {
            return Ok(whole);
        }
    }
    spool::spool(path, &mut open(path)?.0)
}
