//! The `data.split` part of a recipe.

use serde::{Deserialize, Serialize};

use crate::data::Part;
use crate::settings::Faults;

/// What decides which part a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `given` where the data brings its parts (LightGCN's files, `data.table.test`,
    /// `data.table.part`), `time` elsewhere.
    #[default]
    Auto,
    /// All rows in order of time; without times, a seeded random order.
    Time,
    /// Each user's own rows in order of time, by the shares.
    UserTime,
    /// Each user's latest `last` rows are for test, the `last` before them for validation.
    Last,
    /// A seeded draw of rows.
    Chance,
    /// A seeded draw of each user's own rows.
    UserChance,
    /// A seeded draw of items: all rows of an item are in one part, so held-out items are cold.
    Items,
    /// A seeded draw of users: all rows of a user are in one part, so held-out users are new.
    Users,
    /// As the data says: files or a column of their own.
    Given,
}

impl By {
    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Time => "time",
            Self::UserTime => "user_time",
            Self::Last => "last",
            Self::Chance => "chance",
            Self::UserChance => "user_chance",
            Self::Items => "items",
            Self::Users => "users",
            Self::Given => "given",
        }
    }

    /// The order of a user's own rows decides, so they need times.
    pub fn needs_times(self) -> bool {
        matches!(self, Self::UserTime | Self::Last)
    }
}

/// How rows are dealt out to training, validation and test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSettings {
    /// What decides which part a row belongs to.
    pub by: By,
    /// Share of the training part: of samples (`time`), of rows (`chance`, and of each user's own),
    /// of items or users. The test part is what `train` and `valid` leave. Of a user's own rows,
    /// those for validation and test are rounded down.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub train: f64,
    /// Share of the validation part; together with `train` it stays below 1. Not set: 0.1; for
    /// `given`, none but what is given. Of a given split it is a share of each user's training
    /// rows.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub valid: Option<f64>,
    /// Rows of each user in the test part, for `last`, and as many for validation, unless `valid`
    /// is 0. Users with no more rows than that are for training.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub last: u32,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { by: By::Auto, train: 0.8, valid: None, last: 1 }
    }
}

impl SplitSettings {
    /// These shares, all else at its default.
    pub fn shares(train: f64, valid: f64) -> Self {
        Self { train, valid: Some(valid), ..Self::default() }
    }

    /// The rule in force for data that brings its parts or not.
    pub fn rule(&self, brings_parts: bool) -> By {
        match self.by {
            By::Auto if brings_parts => By::Given,
            By::Auto => By::Time,
            by => by,
        }
    }

    /// The share of validation rows in force under a rule.
    pub fn valid(&self, rule: By) -> f64 {
        self.valid.unwrap_or(if rule == By::Given { 0.0 } else { 0.1 })
    }

    /// Whether the part may be empty: validation that nobody asked for.
    pub(in crate::data) fn may_lack(&self, part: Part, rule: By) -> bool {
        part == Part::Valid && self.valid(rule) == 0.0
    }
}

impl SplitSettings {
    /// Refuses shares that leave nothing to test on, under a rule that goes by shares.
    pub fn faults(&self, rule: By) -> Faults {
        let mut faults = Faults::default();
        let (train, valid) = (self.train, self.valid(rule));
        faults.unless(
            matches!(rule, By::Last | By::Given) || train + valid < 1.0,
            "data.split",
            format!("train = {train} and valid = {valid} leave nothing to test on"),
            "choose both together below 1, e.g. 0.8 and 0.1",
        );
        faults
    }
}
