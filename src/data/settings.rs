//! The `data` part of a recipe.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{core_filter::Core, loaders, synthetic, table};
use crate::error::{Error, Result};

/// The data sets this program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Kind {
    /// MovieLens 1M: `ratings.dat`, `movies.dat`, `users.dat`.
    #[serde(rename = "ml-1m")]
    MovieLens1m,
    /// MovieLens 100K: `u.data`, `u.item`, `u.user`, `u.genre`.
    #[serde(rename = "ml-100k")]
    MovieLens100k,
    /// MovieLens 25M and 32M: `ratings.csv`, `movies.csv`.
    #[serde(rename = "ml-25m", alias = "ml-32m")]
    MovieLensCsv,
    /// Book-Crossing: `BX-Book-Ratings.csv`, `BX-Users.csv`, `BX-Books.csv`.
    #[serde(rename = "book-crossing")]
    BookCrossing,
    /// Amazon reviews of 2014 or 2018: JSON lines, with their `meta_` file.
    #[serde(rename = "amazon")]
    Amazon,
    /// Amazon reviews of 2023: JSON lines, with their `meta_` file.
    #[serde(rename = "amazon-2023")]
    Amazon2023,
    /// Amazon reviews as CSV: `reviews*.csv`, `items*.csv`.
    #[serde(rename = "amazon-csv")]
    AmazonCsv,
    /// LightGCN's split: `train.txt`, `test.txt`; for the graph stages only.
    #[serde(rename = "lightgcn")]
    LightGcn,
    /// Any log of ratings as CSV or Parquet; `data.table` says which column is what.
    #[serde(rename = "table")]
    Table,
    /// The built-in invented set; needs no files.
    #[default]
    #[serde(rename = "synthetic")]
    Synthetic,
}

impl Kind {
    /// All kinds, in the order of the help text.
    pub const ALL: [Self; 10] = [
        Self::MovieLens1m,
        Self::MovieLens100k,
        Self::MovieLensCsv,
        Self::BookCrossing,
        Self::Amazon,
        Self::Amazon2023,
        Self::AmazonCsv,
        Self::LightGcn,
        Self::Table,
        Self::Synthetic,
    ];

    /// The name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::MovieLens1m => "ml-1m",
            Self::MovieLens100k => "ml-100k",
            Self::MovieLensCsv => "ml-25m",
            Self::BookCrossing => "book-crossing",
            Self::Amazon => "amazon",
            Self::Amazon2023 => "amazon-2023",
            Self::AmazonCsv => "amazon-csv",
            Self::LightGcn => "lightgcn",
            Self::Table => "table",
            Self::Synthetic => "synthetic",
        }
    }

    /// A rating above this is a "like": 3 of 5 stars, 4 of 10 for Book-Crossing.
    pub fn threshold(self) -> f32 {
        match self {
            Self::Table => table::THRESHOLD,
            kind => loaders::find(kind).map_or(synthetic::THRESHOLD, loaders::Loader::threshold),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let same = if name == "ml-32m" { "ml-25m" } else { name };
        Self::ALL.into_iter().find(|kind| kind.name() == same).ok_or_else(|| {
            let near = Self::ALL
                .into_iter()
                .max_by(|a, b| strsim::jaro(a.name(), name).total_cmp(&strsim::jaro(b.name(), name)));
            let names: Vec<_> = Self::ALL.iter().map(|k| k.name()).collect();
            Error::usage("data kind", format!("there is no data set kind `{name}`")).next(format!(
                "use one of {}{}",
                names.join(", "),
                near.map(|k| format!("; did you mean `{k}`?")).unwrap_or_default()
            ))
        })
    }
}

/// What becomes of a second rating of the same item by the same user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeats {
    /// Only the first rating in order of time stays.
    #[default]
    Drop,
    /// All rows stay, but a history leaves out the rows of its own target.
    ExcludeTarget,
    /// All rows stay everywhere, so the target and its rating can stand in its own history. This is the authors'
    /// behaviour (defect D6), for comparing only.
    Keep,
}

/// Which interactions become samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// `every` where there are times, `last` where there are none.
    #[default]
    Auto,
    /// Every interaction whose user has enough earlier ones. Needs times: in an order that means nothing, the
    /// histories of training samples would hold the targets of test samples.
    Every,
    /// One a user: the last one.
    Last,
}

/// The order of a user's interactions where there are no times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shuffle {
    /// A seeded draw of its own for every user.
    #[default]
    PerUser,
    /// Python's `random.shuffle` of the interactions in the byte order of the item ids, seeded again for every user: the
    /// authors' way, bit for bit. Users with equally many interactions get the same order of positions; for
    /// comparing only.
    Python,
}

/// What becomes of ratings of 0 in Book-Crossing, which mean "seen, not rated".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Implicit {
    /// They stay, as dislikes (the papers' way).
    #[default]
    Dislike,
    /// They are dropped before everything else.
    Drop,
}

/// Shares of the samples, in order of time; test is the rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fractions {
    /// Training share, above 0 and below 1. Default 0.8; the count is rounded down.
    pub train: f64,
    /// Validation share, 0 or more; train and valid together stay below 1. Default 0.1; rounded down.
    pub valid: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Self { train: 0.8, valid: 0.1 }
    }
}

/// Which data, and how samples are made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `ml-1m`, `ml-100k`, `ml-25m` (also for 32M), `book-crossing`, `amazon` (2014, 2018), `amazon-2023`, `amazon-csv`,
    /// `lightgcn`, `table` or `synthetic`. Default `synthetic`.
    pub kind: Kind,
    /// Folder or zip file with the raw files, plain or gzip-compressed. Not used by `synthetic`.
    pub path: PathBuf,
    /// A part of the name of the reviews file, where an Amazon folder holds several. Default: the only one.
    pub category: Option<String>,
    /// Fewest earlier interactions a sample's user must have, 1 or more. Default 5.
    pub min_history: usize,
    /// A rating above this is a like. Default: the data set's own (3 of 5 stars, 4 of 10 for Book-Crossing; the middle of
    /// the scale for `table`).
    pub threshold: Option<f32>,
    /// Drops users and items with too few or too many interactions, or of which too little is known. Default: nothing is
    /// dropped; the recipes under configs/ have the papers' values.
    pub core: Core,
    /// Ratings of 0 in Book-Crossing: `dislike` or `drop`. Default `dislike`.
    pub implicit: Implicit,
    /// Which interactions are targets: `auto`, `every` or `last` (of each user). Default `auto`.
    pub targets: Targets,
    /// The order of a user's interactions where there are no times: `per_user` or `python` (the authors').
    /// Default `per_user`.
    pub shuffle: Shuffle,
    /// Seed of that order and of the split, where there are no times. Default 42.
    pub shuffle_seed: u64,
    /// `drop`, `exclude_target` or `keep` (the authors' defect D6). Default `drop`.
    pub repeats: Repeats,
    /// Shares of train and validation. Default 0.8 and 0.1.
    pub split: Fractions,
    /// A file with item descriptions: a JSON object `{"id": "text"}` or JSON lines `{"item": "id", "text": "..."}`,
    /// plain or gzip-compressed. Default none (`synthetic` brings its own).
    pub descriptions: Option<PathBuf>,
    /// Descriptions are cut after this many words, 1 or more. Default: not cut.
    pub description_words: Option<usize>,
    /// Which column is what, for kind `table`.
    pub table: table::Settings,
    /// Sizes and seed of the built-in set.
    pub synthetic: synthetic::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            path: PathBuf::new(),
            category: None,
            min_history: 5,
            threshold: None,
            core: Core::default(),
            implicit: Implicit::default(),
            targets: Targets::default(),
            shuffle: Shuffle::default(),
            shuffle_seed: 42,
            repeats: Repeats::default(),
            split: Fractions::default(),
            descriptions: None,
            description_words: None,
            table: Default::default(),
            synthetic: synthetic::Settings::default(),
        }
    }
}

impl Settings {
    /// Settings of one kind and folder, all else at its default.
    pub fn new(kind: Kind, path: impl Into<PathBuf>) -> Self {
        Self { kind, path: path.into(), ..Self::default() }
    }

    /// The threshold in force.
    pub fn threshold(&self) -> f32 {
        let own = || if self.kind == Kind::Table { self.table.threshold() } else { self.kind.threshold() };
        self.threshold.unwrap_or_else(own)
    }

    /// Refuses values outside the documented ranges.
    pub fn check(&self) -> Result<()> {
        let Fractions { train, valid } = self.split;
        if !(train > 0.0 && train < 1.0 && valid >= 0.0 && train + valid < 1.0) {
            return Err(Error::usage(
                "data.split",
                format!("train = {train} and valid = {valid} leave no sound split"),
            )
            .next("choose train above 0, valid 0 or more, and both together below 1, e.g. 0.8 and 0.1"));
        }
        if self.min_history == 0 {
            return Err(Error::usage("data.min_history", "a sample needs at least one earlier interaction")
                .next("set it to 1 or more; 5 is the default"));
        }
        if self.threshold.is_some_and(|t| !t.is_finite()) {
            return Err(Error::usage("data.threshold", "not a finite number").next("leave it out, or set it to e.g. 3"));
        }
        if self.description_words == Some(0) {
            return Err(Error::usage("data.description_words", "0 words would leave nothing")
                .next("leave it out, or set it to 1 or more"));
        }
        if self.kind != Kind::Synthetic && self.path.as_os_str().is_empty() {
            return Err(Error::usage("data.path", format!("{} needs the folder with its files", self.kind))
                .next("set data.path to the folder, or data.kind to \"synthetic\" to go without files"));
        }
        if self.kind == Kind::Table {
            self.table.check()?;
        }
        self.core.check()?;
        self.synthetic.check()
    }
}
