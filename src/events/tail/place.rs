//! Which file a path leads to at the moment.

use std::io;
use std::path::Path;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub bytes: u64,
    #[cfg(unix)]
    id: (u64, u64),
}

impl Place {
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        if meta.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
        }
        Ok(Self {
            bytes: meta.len(),
            #[cfg(unix)]
            id: {
                use std::os::unix::fs::MetadataExt;
                (meta.dev(), meta.ino())
            },
        })
    }

    /// Elsewhere than on Unix a replaced file shows by its content only.
    pub fn same_file(&self, other: &Self) -> bool {
        #[cfg(unix)]
        {
            self.id == other.id
        }
        #[cfg(not(unix))]
        {
            let _ = other;
            true
        }
    }
}
