//! What the papers' authors do with each data set, and which switches lead from correct to faithful.

use std::path::PathBuf;

use super::settings::{Fractions, Kind, Repeats, Settings, Shuffle, Targets};
use super::{Core, Known};

/// One step from correct to faithful.
#[derive(Clone, Copy)]
pub struct Switch {
    /// The key and its faithful value, as in a recipe.
    pub key: &'static str,
    /// What it changes and why it is not the default.
    pub why: &'static str,
    /// Sets it.
    pub apply: fn(&mut Settings),
}

const REPEATS: Switch = Switch {
    key: "data.repeats = \"keep\"",
    why: "D6: a second rating of an item stays, so a target can stand in its own history",
    apply: |s| s.repeats = Repeats::Keep,
};

const PYTHON: Switch = Switch {
    key: "data.shuffle = \"python\"",
    why: "the order is drawn with one seed for each user anew, so users with equally many ratings share it",
    apply: |s| s.shuffle = Shuffle::Python,
};

const NO_VALIDATION: Switch = Switch {
    key: "data.split = { train = 0.9, valid = 0 }",
    why: "D7: there is no validation part, so choices are made on test rows",
    apply: |s| s.split = Fractions { train: 0.9, valid: 0.0 },
};

impl Settings {
    /// The authors' filters and samples for a data set, defects apart: what `rallrec data inspect` and the recipes under
    /// configs/ use. Where the authors have none of their own, the defaults.
    pub fn method(kind: Kind, path: impl Into<PathBuf>) -> Self {
        let settings = Self::new(kind, path);
        let bounds = Core { user_min: 11, user_max: 200, item_min: 10, ..Core::default() };
        match kind {
            // "More than 10 and at most 200" of a user, 10 to 200 of an item, then the 5,000 most frequent items; items
            // without a category of three levels are dropped.
            Kind::Amazon | Kind::Amazon2023 => {
                let core = Core { known: Known::TitleAndGenre, item_max: 200, top_items: 5000, ..bounds };
                Self { core, ..settings }
            }
            // The same, but products of this form have no category.
            Kind::AmazonCsv => {
                Self { core: Core { known: Known::Title, item_max: 200, top_items: 5000, ..bounds }, ..settings }
            }
            // The bounds choose the items; all their ratings come back, of users with at least 5.
            Kind::BookCrossing => Self {
                core: Core { known: Known::Title, known_after: true, items_only: true, last_user_min: 5, ..bounds },
                min_history: 4,
                targets: Targets::Last,
                ..settings
            },
            _ => settings,
        }
    }

    /// What turns these settings into the authors', in this order. Not all of it can be had in a run: everything is
    /// chosen on validation rows, so `faithful = true` in a recipe leaves the split as it is.
    pub fn switches(&self) -> Vec<Switch> {
        match self.kind {
            Kind::BookCrossing => vec![REPEATS, PYTHON, NO_VALIDATION],
            Kind::LightGcn => Vec::new(),
            _ => vec![REPEATS],
        }
    }

    /// Turns the switches that a run can have.
    pub fn make_faithful(&mut self) {
        for switch in self.switches().into_iter().filter(|s| s.key != NO_VALIDATION.key) {
            (switch.apply)(self);
        }
    }
}
