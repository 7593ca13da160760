//! Files and folders that are whole and on the disk, or not there at all.
//!
//! A file is written under a temporary name beside its place, flushed to the disk, and renamed;
//! then its folder is flushed, which holds the name. So neither a kill nor a power cut leaves half
//! a file, or a name without the bytes behind it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Names of files and folders that are being written begin like this (`tempfile`'s own way for
/// files, the model store's for folders).
const TEMPORARY: [&str; 2] = [".tmp", ".rallrec-"];

/// A file under way; dropped before [`Pending::finish`], nothing of it stays.
pub struct Pending {
    file: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

/// Why a file did not get its name.
pub enum Unfinished {
    /// Another one has it, and was to stay.
    Taken,
    /// The disk is full or fails.
    Failed(Error),
}

impl Pending {
    /// Begins the file at `path`, whose folder is there.
    ///
    /// # Errors
    /// A folder that cannot be written in.
    pub fn new(path: &Path) -> Result<Self> {
        let folder = folder_of(path);
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            // The usual mode less the umask; that of a temporary file shuts everybody else out.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(|e| Error::io(folder, "write in the folder", &e))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), path: path.to_owned() })
    }

    /// Gives the file its name, when its bytes are on the disk. A file that has the name is
    /// replaced.
    ///
    /// # Errors
    /// A disk that is full or fails.
    pub fn finish(self) -> Result<()> {
        let place = self.path.clone();
        self.take_name(true).map_err(|e| match e {
            Unfinished::Failed(e) => e,
            Unfinished::Taken => Error::failed(place.display(), "the name is taken"),
        })
    }

    /// The same, and a file that has the name stays.
    ///
    /// # Errors
    /// The name is taken, a disk that is full or fails.
    pub fn finish_new(self) -> std::result::Result<(), Unfinished> {
        self.take_name(false)
    }

    fn take_name(self, replace: bool) -> std::result::Result<(), Unfinished> {
        let Self { file, path } = self;
        let failed = |e: &io::Error| Unfinished::Failed(Error::io(&path, "write the file", e));
        let file = file.into_inner().map_err(|e| failed(e.error()))?;
        file.as_file().sync_all().map_err(|e| failed(&e))?;
        if replace {
            // Dropped after an error, the temporary file is removed.
            let (_, temporary) = file.into_parts();
            fs::rename(&temporary, &path).map_err(|e| failed(&e))?;
            let _ = temporary.keep();
        } else {
            match file.persist_noclobber(&path) {
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => return Err(Unfinished::Taken),
                Err(e) => return Err(failed(&e.error)),
                Ok(_) => {}
            }
        }
        sync_folder(folder_of(&path)).map_err(Unfinished::Failed)
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// A folder that cannot be written in, a disk that is full or fails.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Pending::new(path)?;
    file.write_all(bytes).map_err(|e| Error::io(path, "write the file", &e))?;
    file.finish()
}

/// Gives a file that another library wrote the usual mode less the umask.
///
/// # Errors
/// A folder that cannot be written in.
pub fn usual_mode(path: &Path) -> Result<()> {
    let pending = Pending::new(path)?;
    let mode = pending.file.get_ref().as_file().metadata().map(|found| found.permissions());
    mode.and_then(|mode| fs::set_permissions(path, mode)).map_err(|e| Error::io(path, "set the mode of the file", &e))
}

/// Renames a file or folder, and flushes the folder that holds both names.
///
/// # Errors
/// A name that cannot be taken.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io(to, "rename what is finished", &e))?;
    sync_folder(folder_of(to))
}

/// Flushes a file's bytes to the disk.
///
/// # Errors
/// A file that cannot be read, a disk that fails.
pub fn sync_file(path: &Path) -> Result<()> {
    let flush = || File::open(path)?.sync_all();
    flush().map_err(|e| Error::io(path, "flush the file to the disk", &e))
}

/// Flushes the names in a folder to the disk.
///
/// # Errors
/// A folder that cannot be read, a disk that fails. A file system that cannot flush folders is no
/// error: there is nothing that could be done.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let flush = || File::open(folder)?.sync_all();
    match flush() {
        Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(Error::io(folder, "flush the folder to the disk", &e))
        }
        _ => Ok(()),
    }
}

/// Reads a file. What is none, e.g. a pipe, keeps nobody waiting.
///
/// # Errors
/// Nothing is there, it is no file, it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return fs::read(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
}

/// Refuses a link or a pipe in the place of a file or folder that is written into: it would lead
/// the writes somewhere else, or wait for ever.
///
/// # Errors
/// Something is there that is neither a file nor a folder.
pub fn is_own(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            Err(Error::input(path.display(), "is a link or a pipe, and would be written into")
                .next("remove it and run the same command again"))
        }
        _ => Ok(()),
    }
}

/// Makes a folder, and those on the way to it that are not there; their names are on the disk then.
///
/// # Errors
/// A folder that cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && fs::symlink_metadata(f).is_err()).collect();
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, "make the folder", &e))?;
    missing.iter().rev().try_for_each(|made| sync_folder(folder_of(made)))
}

/// What a power cut takes of a file that is appended to is younger than this.
pub const SYNCED: Duration = Duration::from_secs(10);

/// A file that grows at its end. A kill loses nothing that was appended, a power cut what is
/// younger than [`SYNCED`].
pub struct Appending {
    file: File,
    path: PathBuf,
    synced: Instant,
}

impl Appending {
    /// Opens or makes the file, and keeps its first `length` bytes.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(path: &Path, length: u64) -> Result<Self> {
        is_own(path)?;
        let error = |e: io::Error| Error::io(path, "open for appending", &e);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(error)?;
        if file.metadata().map_err(error)?.len() != length {
            file.set_len(length).map_err(error)?;
        }
        sync_folder(folder_of(path))?;
        Ok(Self { file, path: path.to_owned(), synced: Instant::now() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// A disk that is full or fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, "append a row", &e))?;
        if self.synced.elapsed() >= SYNCED {
            self.file.sync_data().map_err(|e| Error::io(&self.path, "flush the file to the disk", &e))?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what a killed write left below `folder`. One that cannot be removed does no harm.
pub fn remove_torn(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let torn = TEMPORARY.iter().any(|begin| name.to_string_lossy().starts_with(begin));
        match entry.file_type().is_ok_and(|t| t.is_dir()) {
            true if torn => drop(fs::remove_dir_all(path)),
            true => remove_torn(&path),
            false if torn => drop(fs::remove_file(path)),
            false => {}
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let mut pending = Pending::new(&path).unwrap();
        pending.write_all(b"half").unwrap();
        drop(pending);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&path, b"old").unwrap();
        let mut pending = Pending::new(&path).unwrap();
        pending.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        pending.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(matches!(Pending::new(&path).unwrap().finish_new(), Err(Unfinished::Taken)));
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_growing_file_goes_on_where_it_was_kept_and_never_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/rows");
        make_folder(path.parent().unwrap()).unwrap();
        Appending::open(&path, 0).unwrap().append(b"whole|torn").unwrap();
        Appending::open(&path, 6).unwrap().append(b"more").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole|more");
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(Appending::open(&link, 0).is_err());
            assert_eq!(fs::read(&path).unwrap(), b"whole|more");
        }
    }

    /// Results and recipes were readable for their owner alone, whatever the umask said.
    #[cfg(unix)]
    #[test]
    fn files_have_the_usual_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        write(&folder.path().join("ours"), b"x").unwrap();
        fs::write(folder.path().join("plain"), b"x").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[test]
    fn what_a_kill_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["adapter", ".rallrec-x.tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in [".tmpA1b2C3", "adapter/.tmpX", "adapter/weights", "rows.jsonl", ".rallrec-x.tmp/half"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_torn(folder.path());
        assert!(folder.path().join("adapter/weights").exists() && folder.path().join("rows.jsonl").exists());
        for name in ["adapter/.tmpX", ".tmpA1b2C3", ".rallrec-x.tmp"] {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
    }
}
