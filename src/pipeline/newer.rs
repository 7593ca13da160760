//! What the raw data of a finished run has by now that the run does not know. A run serves from its
//! own artifacts; that there is more is said, and how to take it in.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::stage::Made;
use super::stages::data::tables_settings;
use crate::config::Recipe;
use crate::data::{self, DataSettings, Dataset, Kind};
use crate::error::Result;
use crate::monitor::Monitor;

/// Files of more bytes together are not read to count their rows.
const COUNTED: u64 = 128 << 20;

/// How the raw data differs from what a run was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    run: PathBuf,
    data: PathBuf,
    /// Ratings that are new and those that are gone; `None` where they were not counted.
    rows: Option<(usize, usize)>,
}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (data, recipe) = (self.data.display(), self.run.join("recipe.toml"));
        match self.rows {
            Some((new, 0)) => write!(f, "{data} has {new} ratings that are not in this run")?,
            Some((0, gone)) => write!(f, "{data} no longer has {gone} ratings of this run")?,
            Some((new, gone)) => {
                write!(f, "{data} has {new} ratings that are not in this run, and no longer has {gone} of its own")?;
            }
            None => write!(f, "{data} has changed since this run read it")?,
        }
        write!(
            f,
            "; what follows is of the run as it is\n  next: take the data in: rallrec run {} --out {}; or add \
             --with-new-ratings, which fits nothing",
            recipe.display(),
            self.run.display()
        )
    }
}

/// Looks whether the files behind a run's tables have changed; `None` where they have not, where
/// they cannot be read, and where the tables are of queries, which would have to be run for it.
///
/// # Errors
/// A stop that was asked for; damaged tables.
pub fn look(run: &Path, recipe: &Recipe, tables: &Made<Dataset>, monitor: &dyn Monitor) -> Result<Option<Newer>> {
    let settings = &recipe.data;
    let known = tables.artifact().manifest.input("raw");
    let queried = settings.kind == Kind::TABLE && settings.table.queries();
    if known.is_none() || queried || !touched(&settings.path, tables.artifact().manifest.made_ms) {
        return Ok(None);
    }
    // Whatever stands in the way of a look stands in no way of the run.
    let Ok(content) = data::content(settings, monitor) else { return Ok(None) };
    if known == Some(&content) {
        return Ok(None);
    }
    let mut rows = None;
    if bytes(&settings.path) <= COUNTED {
        match now(recipe, monitor) {
            Ok(found) => rows = Some(difference(tables.get()?, &found)),
            Err(_) => monitor.check()?,
        }
        if rows == Some((0, 0)) {
            return Ok(None);
        }
    }
    Ok(Some(Newer { run: run.to_owned(), data: settings.path.clone(), rows }))
}

/// The raw data as it is now, read and filtered as the run did.
///
/// # Errors
/// Files that cannot be read; a stop that was asked for.
pub fn now(recipe: &Recipe, monitor: &dyn Monitor) -> Result<Dataset> {
    let (own, settings) = (tables_settings(recipe), &recipe.data);
    data::open(&DataSettings { path: settings.path.clone(), table: settings.table.clone(), ..own }, monitor)
}

/// All files at or in a place, those of its folders too.
fn files(at: &Path) -> Vec<fs::Metadata> {
    let Ok(found) = fs::metadata(at) else { return Vec::new() };
    if !found.is_dir() {
        return vec![found];
    }
    let mut all = vec![found];
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&entry.path())),
            _ => all.extend(fs::metadata(entry.path())),
        }
    }
    all
}

fn bytes(at: &Path) -> u64 {
    files(at).iter().filter(|file| file.is_file()).map(fs::Metadata::len).sum()
}

/// Whether anything was written there after a time, milliseconds since 1970. A file that was moved
/// or copied there with its old time counts.
fn touched(at: &Path, since: u64) -> bool {
    files(at).iter().any(|file| {
        let written = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let written = written.map_or(0, |time| time.as_millis() as u64);
        #[cfg(unix)]
        let written = {
            use std::os::unix::fs::MetadataExt;
            let changed = file.ctime().max(0) as u64 * 1000 + file.ctime_nsec().max(0) as u64 / 1_000_000;
            written.max(changed)
        };
        written >= since
    })
}

/// Ratings of `now` that `then` has not, and the other way round.
pub fn difference(then: &Dataset, now: &Dataset) -> (usize, usize) {
    let mut count: HashMap<(&str, &str, i64, u32), i64> = HashMap::with_capacity(now.interactions.len());
    for (dataset, one) in [(now, 1), (then, -1)] {
        for row in &dataset.interactions {
            let user = dataset.users[row.user.at()].raw.0.as_str();
            let item = dataset.items[row.item.at()].raw.0.as_str();
            *count.entry((user, item, row.time, row.rating.to_bits())).or_default() += one;
        }
    }
    count.values().fold((0, 0), |(new, gone), n| (new + (*n).max(0) as usize, gone + (-*n).max(0) as usize))
}
