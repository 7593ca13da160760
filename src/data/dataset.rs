//! The tables every data set is brought into.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ids::{ItemIdx, RawId, UserIdx};
use super::set::DataSet;
use super::split::By;

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
    /// The part of the split, where the data says it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
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

    /// Whether every row says which part of the split it belongs to.
    pub fn brings_parts(&self) -> bool {
        self.interactions.first().is_some_and(|row| row.part.is_some())
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

/// A click-through sample: will `user` like `item`, given the user's [history](Samples::history)?
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
    /// The target stands at this position of the user's timeline.
    pub position: u32,
}

/// Ranges over [`Samples::samples`]: disjoint, by the split in time each after the one before.
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
    /// Per user, oldest first; in a seeded random order where there are no times. Where histories
    /// hold training rows alone, these come first, then those of validation, then those of test.
    pub timelines: Vec<Vec<Rated>>,
    /// Part by part in order of time (ties: user, item); in a seeded random order where there are
    /// no times.
    pub samples: Vec<Sample>,
    /// Train, validation, test.
    pub split: Split,
    /// The few histories that are not a slice of a timeline: the target's own earlier rows are left
    /// out. Sorted by (user, position). Only with repeats = `exclude_target`.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
    /// How rows were dealt out; `None` for the split by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dealt: Option<Dealt>,
}

/// How a split that is not one moment of time deals out the rows of each timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealt {
    /// The rule.
    pub by: By,
    /// Histories of held-out rows are the user's training rows, and not what came before.
    pub frozen: bool,
    /// For each user, where in the timeline the training rows end, and where those of validation
    /// do; the rest is test.
    pub ends: Vec<[u32; 2]>,
}

impl Dealt {
    /// The rows of a part in a timeline of `rows` rows.
    pub fn range(&self, user: UserIdx, part: Part, rows: usize) -> Range<usize> {
        let [train, valid] = self.ends.get(user.at()).map_or([0, 0], |ends| ends.map(|end| end as usize));
        match part {
            Part::Train => 0..train,
            Part::Valid => train..valid,
            Part::Test => valid..rows,
        }
    }
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
    /// What may be known of the user when the sample is asked about, oldest first: everything rated
    /// before the target; for held-out rows of splits that freeze histories, the training rows.
    pub fn history(&self, sample: &Sample) -> &[Rated] {
        if !self.exceptions.is_empty()
            && let Ok(at) =
                self.exceptions.binary_search_by_key(&(sample.user, sample.position), |e| (e.user, e.position))
        {
            return &self.exceptions[at].history;
        }
        let timeline = &self.timelines[sample.user.at()];
        let end = (sample.position as usize).min(self.frozen(sample.user).unwrap_or(usize::MAX));
        &timeline[..end]
    }

    /// Where the histories of the user's held-out rows end, in splits that freeze them.
    fn frozen(&self, user: UserIdx) -> Option<usize> {
        let dealt = self.dealt.as_ref().filter(|dealt| dealt.frozen)?;
        dealt.ends.get(user.at()).map(|ends| ends[0] as usize)
    }

    /// What rows of other users may be shown of a user: the timeline; where rows are dealt out, its
    /// training rows.
    pub fn shown_to_others(&self, user: UserIdx) -> &[Rated] {
        let timeline = self.timelines.get(user.at()).map_or(&[][..], Vec::as_slice);
        match &self.dealt {
            Some(dealt) => &timeline[dealt.range(user, Part::Train, timeline.len())],
            None => timeline,
        }
    }

    /// All rows of a user, oldest first.
    pub fn of_user(&self, user: UserIdx) -> Vec<Rated> {
        let mut rows = self.timelines.get(user.at()).cloned().unwrap_or_default();
        // Stable: the order within a second, and where there are no times, stays.
        rows.sort_by_key(|row| row.time);
        rows
    }

    /// The samples of one part of the split.
    pub fn part(&self, part: Part) -> &[Sample] {
        &self.samples[self.split.range(part)]
    }
}

/// One part of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// The part that a word of a data set means, whatever its case.
    pub fn of_word(word: &str) -> Option<Self> {
        match word.to_lowercase().as_str() {
            "train" | "training" | "tr" => Some(Self::Train),
            "valid" | "validation" | "val" | "dev" | "va" => Some(Self::Valid),
            "test" | "testing" | "te" => Some(Self::Test),
            _ => None,
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
