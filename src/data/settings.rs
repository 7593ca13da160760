//! The `data` part of a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::core_filter::Core;
use super::set::Kind;
use super::split::{By, SplitSettings};
use super::{source, synthetic, table};
use crate::settings::{Checked, Faults};

/// What becomes of a second rating of the same item by the same user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeats {
    /// Only the first rating in order of time stays.
    #[default]
    Drop,
    /// All rows stay, but a history leaves out the rows of its own target.
    ExcludeTarget,
    /// All rows stay everywhere, so the target and its rating can stand in its own history. This is
    /// the authors' behaviour (defect D6), for comparing only.
    Keep,
}

/// What becomes of damaged rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Damaged {
    /// `skip` for data sets that are published with damaged rows (Book-Crossing, Amazon), `refuse`
    /// for all others.
    #[default]
    Auto,
    /// The first one is an error.
    Refuse,
    /// They are left out and counted; more of them than `data.damaged_limit` are an error.
    Skip,
}

/// Which interactions become samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// `every` where there are times, `last` where there are none.
    #[default]
    Auto,
    /// Every interaction whose user has enough earlier ones. Needs times: in an order that means
    /// nothing, the histories of training samples would hold the targets of test samples.
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
    /// Python's `random.shuffle` of the interactions in the byte order of the item ids, seeded
    /// again for every user: the authors' way, bit for bit. Users with equally many interactions
    /// get the same order of positions; for comparing only.
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

/// Which data, and how samples are made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// Which data set, or which form of data. `table` is any log of ratings whose columns
    /// `data.table` names; `synthetic` is built in and needs no files.
    pub kind: Kind,
    /// Folder or zip file with the raw files, plain or compressed; for `table` also the file of
    /// ratings itself, a pipe (`/dev/stdin`), or an SQLite file. Not used by `synthetic`.
    pub path: PathBuf,
    /// A part of the name of the reviews file, where an Amazon folder holds several. Not set: the
    /// only one.
    pub category: Option<String>,
    /// Fewest earlier interactions that the user of a sample must have. In logs without ratings
    /// nothing is asked of a sample, and one is enough.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_history: usize,
    /// A rating above this is a like. Not set: the data set's own (3 of 5 stars, 4 of 10 for
    /// Book-Crossing, the middle of the scale for `table`).
    pub threshold: Option<f32>,
    /// Drops users and items with too few or too many interactions, or of which too little is
    /// known. The recipes under configs/ have the papers' values.
    pub core: Core,
    /// What a rating of 0 in Book-Crossing ("seen, not rated") becomes.
    pub implicit: Implicit,
    /// Which interactions are targets of samples.
    pub targets: Targets,
    /// The order of a user's interactions where there are no times.
    pub shuffle: Shuffle,
    /// Seed of that order, of the split in time where there are no times, and of what other
    /// splits draw. Not set: the recipe's `seed`. The authors' order, `shuffle = "python"`, has
    /// their seed, 42, whatever stands here.
    pub seed: u64,
    /// What becomes of a second rating of the same item by the same user; `keep` is the authors'
    /// defect D6.
    pub repeats: Repeats,
    /// What becomes of damaged rows: cut ones, ratings off the scale, times that are none; and of
    /// rows without a rating, a user or an item, of which `skip` leaves out any number.
    pub damaged: Damaged,
    /// Largest share of damaged rows that `damaged = "skip"` leaves out.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub damaged_limit: f64,
    /// How rows are dealt out to training, validation and test.
    pub split: SplitSettings,
    /// Which column is what, for kind `table`.
    pub table: table::TableSettings,
    /// Sizes and seed of the built-in set.
    pub synthetic: synthetic::SyntheticSettings,
}

impl Default for DataSettings {
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
            seed: 42,
            repeats: Repeats::default(),
            damaged: Damaged::default(),
            damaged_limit: 0.1,
            split: SplitSettings::default(),
            table: Default::default(),
            synthetic: synthetic::SyntheticSettings::default(),
        }
    }
}

impl DataSettings {
    /// Settings of one kind and folder, all else at its default.
    pub fn new(kind: Kind, path: impl Into<PathBuf>) -> Self {
        Self { kind, path: path.into(), ..Self::default() }
    }

    /// The threshold in force.
    pub fn threshold(&self) -> f32 {
        let own = || if self.kind == Kind::TABLE { self.table.threshold() } else { self.kind.set().threshold };
        self.threshold.unwrap_or_else(own)
    }

    /// The fewest earlier interactions in force.
    pub fn min_history(&self) -> usize {
        if self.is_implicit() { 1 } else { self.min_history }
    }

    /// The files that are not there, by the key that names them.
    pub fn missing(&self) -> Faults {
        let set = self.kind.set();
        match (set.ready)(set, self) {
            Ok(()) => Faults::default(),
            Err(e) => Faults::one("path", format!("{} {}", e.place(), e.what()), e.next_step()),
        }
    }

    /// Whether the log tells what was met, and not how it was rated: there are no Yes and No then.
    pub fn is_implicit(&self) -> bool {
        self.kind.set().graph_only || (self.kind == Kind::TABLE && self.table.is_implicit())
    }

    /// What is known to be wrong with the split before a file is read.
    pub fn split_faults(&self) -> Faults {
        let mut faults = Faults::default();
        let (by, set) = (self.split.by, self.kind.set());
        let times = if self.kind == Kind::TABLE { !self.table.time.is_empty() } else { set.has_times };
        faults.unless(
            times || !by.needs_times(),
            "data.split.by",
            format!("\"{}\" goes by the order of a user's rows, and {} has no times", by.name(), self.kind),
            "set it to \"user_chance\", or name a column of times",
        );
        let brings = set.graph_only || (self.kind == Kind::TABLE && self.table.may_bring_parts());
        faults.unless(
            brings || by != By::Given,
            "data.split.by",
            format!("\"given\", but {} does not say which part a row belongs to", self.kind),
            "name files by data.table.test (and data.table.valid) or a column by data.table.part, or leave it out",
        );
        let names = self.kind == Kind::TABLE && self.table.names_parts();
        faults.unless(
            !names || matches!(by, By::Auto | By::Given),
            "data.split.by",
            format!("\"{}\", but data.table names the parts of a given split", by.name()),
            "leave out data.split.by; or data.table.part, data.table.test and data.table.valid",
        );
        if by != By::Auto || !brings {
            faults.extend("", self.split.faults(self.split.rule(false)));
        }
        let dealt = !matches!(by, By::Auto | By::Time);
        faults.unless(
            self.targets != super::Targets::Last || !dealt,
            "data.targets",
            format!("one sample a user is a split of its own, and data.split.by = \"{}\" is another", by.name()),
            "leave out data.targets, or data.split.by",
        );
        faults
    }

    /// Whether there must be a folder or a file.
    fn needs_path(&self) -> bool {
        self.reads_files() && (self.kind != Kind::TABLE || self.table.needs_path())
    }

    /// Whether the kind reads files at all.
    pub fn reads_files(&self) -> bool {
        self.kind != Kind::SYNTHETIC
    }
}

/// For kinds whose loader finds its files itself: is there anything at the path?
pub(super) fn ready_if_there(settings: &DataSettings) -> crate::Result<()> {
    if settings.path.exists() || source::exists(&settings.path) {
        return Ok(());
    }
    Err(crate::Error::input(settings.path.display(), "is not there").next("check data.path"))
}

impl Checked for DataSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let finite = self.threshold.is_none_or(f32::is_finite);
        faults.unless(finite, "threshold", "the value is not a finite number", "leave it out, or set it to e.g. 3");
        faults.unless(
            !self.needs_path() || !self.path.as_os_str().is_empty(),
            "path",
            format!("{} needs the folder with its files", self.kind),
            "set data.path to the folder, or data.kind to \"synthetic\" to go without files",
        );
        let address = self.path.to_str().is_some_and(|path| path.contains("://"));
        faults.unless(
            !address,
            "path",
            "it is an address where a folder or a file is expected",
            "write the address of a database into data.table.database, without a password; fetch other files first",
        );
        if self.kind == Kind::TABLE {
            faults.extend("table", self.table.contradictions());
        }
        faults.extend("core", self.core.contradictions());
        if !self.reads_files() {
            faults.extend("synthetic", self.synthetic.contradictions());
        }
        faults
    }
}
