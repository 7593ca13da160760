//! The tables every data set is brought into.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ids::{ItemIdx, RawId, UserIdx};

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
    /// Seconds since the Unix epoch, UTC; 0 where the data has no times.
    pub time: i64,
}

/// A data set after loading: tables plus interactions sorted by (time, user, item), stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// `ml-1m`, `ml-100k`, `synthetic`, ...
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

/// A click-through sample: will `user` like `item`, given everything before `position` in the user's timeline?
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

/// Ranges over [`Samples::samples`]: disjoint, in order of time.
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
    /// Per user, oldest first.
    pub timelines: Vec<Vec<Rated>>,
    /// In order of time (ties: user, item).
    pub samples: Vec<Sample>,
    /// Train, validation, test.
    pub split: Split,
}

impl Samples {
    /// Everything the user rated before the sample's target, oldest first.
    pub fn history(&self, sample: &Sample) -> &[Rated] {
        &self.timelines[sample.user.at()][..sample.position as usize]
    }
}
