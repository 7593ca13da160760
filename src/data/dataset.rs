//! The tables every data set is brought into.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ids::{ItemIdx, RawId, UserIdx};
use super::set::DataSet;

/// A named text field of an item or a user, e.g. `genre` = `Comedy`. Order is the data set's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// `genre`, `author`, `year`, `gender`, `age`, `occupation`, ...
    pub name: String,
    /// The value as shown to a reader.
    pub value: String,
}

/// One catalogue entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Id in the data set.
    pub raw: RawId,
    /// Title as shown in prompts.
    pub title: String,
    /// All genres or categories, the first one first; may be empty.
    pub genres: Vec<String>,
    /// Further fields (author, year, publisher, ...).
    pub fields: Vec<Field>,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Id in the data set.
    pub raw: RawId,
    /// Profile fields; empty where the data set has none.
    pub fields: Vec<Field>,
}

impl User {
    /// The field's value, if there.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|f| f.name == name).map(|f| f.value.as_str())
    }
}

/// One rating.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// Who.
    pub user: UserIdx,
    /// What.
    pub item: ItemIdx,
    /// The rating in the data set's own scale.
    pub rating: f32,
    /// Seconds since the Unix epoch, UTC; 0 where the data has no times. What is finer is told by
    /// the order of the interactions.
    pub time: i64,
}

/// A data set after loading: tables plus interactions sorted by (time, user, item, rating), the
/// time to the finest unit that the file has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// The kind's name: `ml-1m`, `book-crossing`, `table`, `synthetic`, ...
    pub name: String,
    /// What an item is called in prompts: `movie`, `book`.
    pub noun: String,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// False when the data carries no times (then order means nothing).
    pub has_times: bool,
    /// The catalogue.
    pub items: Vec<Item>,
    /// The users.
    pub users: Vec<User>,
    /// All ratings in order.
    pub interactions: Vec<Interaction>,
}

impl Dataset {
    /// What is known of the data set; `None` for one that was made by hand.
    pub fn set(&self) -> Option<&'static DataSet> {
        DataSet::named(&self.name)
    }
}

/// One entry of a user's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rated {
    /// What.
    pub item: ItemIdx,
    /// How much it was liked, in the data set's scale.
    pub rating: f32,
    /// When.
    pub time: i64,
}

/// A click-through sample: will `user` like `item`, given everything before `position` in the
/// user's timeline?
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Who.
    pub user: UserIdx,
    /// The target item.
    pub item: ItemIdx,
    /// The target's rating.
    pub rating: f32,
    /// `rating` passes the data set's threshold.
    pub label: bool,
    /// When the target was rated.
    pub time: i64,
    /// Length of the history: the target stands at this position of the user's timeline.
    pub position: u32,
}

/// Ranges over [`Samples::samples`]: disjoint, in order of time where there are times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Training rows.
    pub train: Range<usize>,
    /// Validation rows: everything is chosen here.
    pub valid: Range<usize>,
    /// Test rows: looked at once.
    pub test: Range<usize>,
}

/// All samples of a data set with the timelines that their histories are slices of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// Per user, oldest first; in a seeded random order where there are no times.
    pub timelines: Vec<Vec<Rated>>,
    /// In order of time (ties: user, item); in a seeded random order where there are no times.
    pub samples: Vec<Sample>,
    /// Train, validation, test.
    pub split: Split,
    /// The few histories that are not a slice of a timeline: the target's own earlier rows are left
    /// out. Sorted by (user, position). Only with repeats = `exclude_target`.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// A history of its own for the sample at `position` of `user`'s timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// Whose sample.
    pub user: UserIdx,
    /// The sample's [`Sample::position`].
    pub position: u32,
    /// The history, oldest first.
    pub history: Vec<Rated>,
}

impl Samples {
    /// Everything the user rated before the sample's target, oldest first.
    pub fn history(&self, sample: &Sample) -> &[Rated] {
        if !self.exceptions.is_empty()
            && let Ok(at) =
                self.exceptions.binary_search_by_key(&(sample.user, sample.position), |e| (e.user, e.position))
        {
            return &self.exceptions[at].history;
        }
        &self.timelines[sample.user.at()][..sample.position as usize]
    }

    /// The samples of one part of the split.
    pub fn part(&self, part: Part) -> &[Sample] {
        &self.samples[self.split.range(part)]
    }
}

/// One part of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What is learnt from.
    Train,
    /// What is chosen by.
    Valid,
    /// What is reported.
    Test,
}

impl Part {
    /// All three in order of time.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// The name in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

impl Split {
    /// The rows of one part.
    pub fn range(&self, part: Part) -> Range<usize> {
        match part {
            Part::Train => self.train.clone(),
            Part::Valid => self.valid.clone(),
            Part::Test => self.test.clone(),
        }
    }
}
