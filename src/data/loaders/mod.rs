//! One file a data set, each a [`Loader`] in one table. A loader reads catalogue and profiles into [`Tables`], feeds
//! the ratings through [`Ratings`], and gets sorting, duplicate reports and checks of ids for free.

pub mod fields;
mod movielens_100k;
mod movielens_1m;
mod tables;

use std::path::Path;

pub use tables::{Ids, Ratings, RepeatCount, Row, Tables, Unique, repeats as repeat_count, sort};

use super::{Dataset, Kind};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Reads one kind of data set from a folder.
pub trait Loader: Sync {
    /// The kind it reads.
    fn kind(&self) -> Kind;
    /// The files it needs, each plain or with `.gz` added.
    fn files(&self) -> &'static [&'static str];
    /// A rating above this is a like.
    fn threshold(&self) -> f32;
    /// Reads the folder.
    fn load(&self, folder: &Path, monitor: &dyn Monitor) -> Result<Dataset>;
}

static LOADERS: [&dyn Loader; 2] = [&movielens_1m::MovieLens1m, &movielens_100k::MovieLens100k];

/// The loader of a kind; `None` for the built-in set, which has no files.
pub fn find(kind: Kind) -> Option<&'static dyn Loader> {
    LOADERS.iter().copied().find(|loader| loader.kind() == kind)
}

/// Refuses a folder that lacks one of the loader's files, naming all that are missing.
fn require(loader: &dyn Loader, folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Err(Error::input(folder.display(), "is not a folder")
            .next(format!("give the folder that holds {}", loader.files().join(", "))));
    }
    let missing: Vec<_> =
        loader.files().iter().copied().filter(|name| !super::lines::locate(folder, name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::input(folder.display(), format!("{} is missing for {}", missing.join(", "), loader.kind()))
        .next(format!("unpack the data set here: {} (plain or .gz)", loader.files().join(", "))))
}
