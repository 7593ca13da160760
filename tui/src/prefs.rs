//! What is remembered from one time to the next, in the user's configuration folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layout::Arrangement;
use crate::panes::PaneId;
use crate::panes::runs::Choice;
use crate::theme::Palette;

/// The remembered settings. Unknown keys of a newer version are ignored, missing ones have their
/// defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prefs {
    /// Arrangement of the panes.
    pub arrangement: Arrangement,
    /// Palette, where the user chose one.
    pub palette: Option<Palette>,
    /// ASCII glyphs.
    pub ascii: bool,
    /// The dashboard has been open before: the demo is not offered again.
    pub seen: bool,
    /// A bell, a notification and the title of the window tell of the end of a run and of alarms.
    pub notify: bool,
    /// Keys with another meaning: the name of a key that the table has, and the key instead of it.
    pub keys: BTreeMap<String, String>,
    /// The table of runs.
    pub runs: Choice,
}

impl Default for Prefs {
    fn default() -> Self {
        Self {
            arrangement: Arrangement::default(),
            palette: None,
            ascii: false,
            seen: false,
            notify: true,
            keys: BTreeMap::new(),
            runs: Choice::default(),
        }
    }
}

/// `$XDG_CONFIG_HOME/rallrec/dashboard.toml`, else `~/.config/rallrec/dashboard.toml`; `None`
/// without a home.
pub fn path(xdg: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    let base = match (xdg.filter(|x| !x.is_empty()), home.filter(|h| !h.is_empty())) {
        (Some(xdg), _) => PathBuf::from(xdg),
        (None, Some(home)) => Path::new(home).join(".config"),
        (None, None) => return None,
    };
    Some(base.join("rallrec").join("dashboard.toml"))
}

impl Prefs {
    /// Reads the file. Absent: the defaults; damaged: the defaults and what is wrong.
    pub fn read(path: &Path) -> (Self, Option<String>) {
        match std::fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => (Self::default(), None),
            Err(e) => (Self::default(), Some(format!("{}: {e}", path.display()))),
            Ok(text) => match toml::from_str::<Self>(&text) {
                Ok(mut prefs) => {
                    if prefs.arrangement.tiles.is_empty() {
                        prefs.arrangement.tiles = Arrangement::default().tiles;
                    }
                    prefs.arrangement.tiles.truncate(PaneId::ALL.len());
                    (prefs, None)
                }
                Err(e) => {
                    let line = e.message().lines().next().unwrap_or_default().to_string();
                    (Self::default(), Some(format!("{}: {line}; the defaults are used", path.display())))
                }
            },
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let part = path.with_extension(format!("part{}", std::process::id()));
        std::fs::write(&part, text)?;
        std::fs::rename(&part, path).inspect_err(|_| {
            // The rename's own error is the one to report.
            let _ = std::fs::remove_file(&part);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/dashboard.toml");
        assert_eq!(Prefs::read(&file), (Prefs::default(), None));
        let mut prefs = Prefs { palette: Some(Palette::Light), ascii: true, seen: true, ..Prefs::default() };
        prefs.arrangement.focus = PaneId::Merge;
        prefs.arrangement.tiles = vec![PaneId::Log, PaneId::Merge];
        prefs.write(&file).unwrap();
        assert_eq!(Prefs::read(&file), (prefs, None));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_file_is_said_and_not_fatal() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dashboard.toml");
        for text in ["ascii = 7", "\u{0}", "[arrangement]\ntiles = [\"nowhere\"]"] {
            std::fs::write(&file, text).unwrap();
            let (prefs, trouble) = Prefs::read(&file);
            assert_eq!(prefs, Prefs::default());
            assert!(trouble.is_some(), "{text}");
        }
        std::fs::write(&file, "new_key = 1\n[arrangement]\ntiles = []").unwrap();
        assert_eq!(Prefs::read(&file), (Prefs::default(), None));
    }

    #[test]
    fn the_place_follows_the_environment() {
        assert_eq!(path(Some("/x"), Some("/h")), Some(PathBuf::from("/x/rallrec/dashboard.toml")));
        assert_eq!(path(Some(""), Some("/h")), Some(PathBuf::from("/h/.config/rallrec/dashboard.toml")));
        assert_eq!(path(None, None), None);
    }
}
