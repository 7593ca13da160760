//! Folders that appear whole or not at all.

use std::fs;
use std::path::Path;

use crate::durable;
use crate::error::{Error, Result};

/// Names of the temporary folders.
const TEMPORARY: [&str; 2] = [".rallrec-", ".tmp"];

/// Removes what a killed [`write_atomically`] left in `parent`. Only for a caller who knows that
/// nobody else is at work there.
pub(crate) fn remove_stale(parent: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(parent).map_err(|e| Error::io(parent, "list", &e))?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY[0]) && name.ends_with(TEMPORARY[1]) && path.is_dir() {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, "remove what an earlier try left", &e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Lets `fill` write into a temporary folder beside `target`, then renames it. An existing `target`
/// is refused unless it is an empty folder; on any error nothing is left.
pub(crate) fn write_atomically(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.exists(),
    };
    if occupied {
        return Err(Error::input(target.display(), "is already there").next("remove it or choose another name"));
    }
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create the folder", &e))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]);
    #[cfg(unix)]
    {
        // The usual mode less the umask; the default of a temporary folder shuts everybody else
        // out.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    let temporary = builder.tempdir_in(parent).map_err(|e| Error::io(parent, "create a temporary folder", &e))?;
    fill(temporary.path())?;
    for entry in fs::read_dir(temporary.path()).map_err(|e| Error::io(target, "list", &e))?.flatten() {
        durable::sync_file(&entry.path())?;
    }
    durable::sync_folder(temporary.path())?;
    durable::rename(temporary.path(), target)?;
    // It is no longer under its temporary name: there is nothing to remove.
    let _ = temporary.keep();
    Ok(())
}

/// Writes a small file of the folder.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Error::io(path, "write", &e))
}

/// Reads a JSON file; `None` when it is not there.
pub(crate) fn read_json(path: &Path) -> Result<Option<serde_json::Value>> {
    let text = match crate::content::read_plain(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "read", &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::input(format!("{}:{}", path.display(), e.line()), format!("not valid JSON: {e}"))
            .next("download it again; it may be cut short")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let target = base.path().join("a/b");
        let error = write_atomically(&target, |folder| {
            write_file(&folder.join("x"), "half")?;
            Err(Error::failed("test", "stopped in the middle"))
        });
        assert!(error.is_err());
        assert_eq!(fs::read_dir(base.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn an_occupied_target_is_refused_and_an_empty_one_used() {
        let base = tempfile::tempdir().unwrap();
        let target = base.path().join("m");
        fs::create_dir(&target).unwrap();
        write_atomically(&target, |folder| write_file(&folder.join("x"), "1")).unwrap();
        assert_eq!(fs::read_to_string(target.join("x")).unwrap(), "1");
        let again = write_atomically(&target, |folder| write_file(&folder.join("x"), "2")).unwrap_err();
        assert!(again.to_string().contains("already there"), "{again}");
        assert_eq!(fs::read_to_string(target.join("x")).unwrap(), "1");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }
}
