//! One file a data set, each a [`Loader`] in one table. Where a data set has complete tables of items and users, a
//! loader reads them into [`Tables`] and feeds the ratings through [`Ratings`]; where it has not, ids are met in a
//! [`Log`]. Both give sorting, duplicate reports and checks of ids for free.

mod amazon;
mod amazon_csv;
mod amazon_meta;
mod book_crossing;
pub mod fields;
mod lightgcn;
mod log;
mod movielens_100k;
mod movielens_1m;
mod movielens_csv;
mod tables;

use std::path::Path;

pub use log::{About, LeftOut, Log, Names, Nature};
pub use tables::{Ids, Ratings, RepeatCount, Row, Tables, Unique, repeats as repeat_count, sort};

use super::source;
use super::{Dataset, Kind, Settings};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Reads one kind of data set from a folder or a zip file.
pub trait Loader: Sync {
    /// The kind it reads.
    fn kind(&self) -> Kind;
    /// The files it needs, each plain or with `.gz` added.
    fn files(&self) -> &'static [&'static str];
    /// A rating above this is a like.
    fn threshold(&self) -> f32;
    /// Reads the folder that the settings name.
    fn load(&self, settings: &Settings, monitor: &dyn Monitor) -> Result<Dataset>;
}

static LOADERS: [&dyn Loader; 8] = [
    &movielens_1m::MovieLens1m,
    &movielens_100k::MovieLens100k,
    &movielens_csv::MovieLensCsv,
    &book_crossing::BookCrossing,
    &amazon::Amazon,
    &amazon::Amazon2023,
    &amazon_csv::AmazonCsv,
    &lightgcn::LightGcn,
];

/// The loader of a kind; `None` for the built-in set, which has no files.
pub fn find(kind: Kind) -> Option<&'static dyn Loader> {
    LOADERS.iter().copied().find(|loader| loader.kind() == kind)
}

/// Refuses a folder that lacks one of the loader's files, naming all that are missing.
fn require(loader: &dyn Loader, folder: &Path) -> Result<()> {
    if !source::is_folder(folder) {
        return Err(Error::input(folder.display(), "is neither a folder nor a zip file")
            .next(format!("give the folder or the zip file that holds {}", loader.files().join(", "))));
    }
    let missing: Vec<_> =
        loader.files().iter().copied().filter(|name| !source::exists(&source::locate(folder, name))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::input(folder.display(), format!("{} is missing for {}", missing.join(", "), loader.kind()))
        .next(format!("unpack the data set here: {} (plain or .gz)", loader.files().join(", "))))
}
