//! What the papers' authors do with each data set, and which switches lead from correct to
//! faithful.

use std::path::PathBuf;

use super::Core;
use super::set::Kind;
use super::settings::{DataSettings, Repeats, Shuffle};
use super::split::SplitSettings;

/// One step from correct to faithful.
#[derive(Clone, Copy)]
pub struct Switch {
    /// The key and its faithful value, as in a recipe.
    pub key: &'static str,
    /// What it changes and why it is not the default.
    pub why: &'static str,
    /// Sets it.
    pub apply: fn(&mut DataSettings),
}

pub(super) const REPEATS: Switch = Switch {
    key: "data.repeats = \"keep\"",
    why: "D6: a second rating of an item stays, so a target can stand in its own history",
    apply: |s| s.repeats = Repeats::Keep,
};

pub(super) const PYTHON: Switch = Switch {
    key: "data.shuffle = \"python\"",
    why: "the order is drawn with one seed for each user anew, so users with equally many ratings share it",
    apply: |s| s.shuffle = Shuffle::Python,
};

pub(super) const NO_VALIDATION: Switch = Switch {
    key: "data.split = { train = 0.9, valid = 0 }",
    why: "D7: there is no validation part, so choices are made on test rows",
    apply: |s| s.split = SplitSettings { by: s.split.by, ..SplitSettings::shares(0.9, 0.0) },
};

/// "More than 10 and at most 200" of a user, at least 10 of an item.
pub(super) const BOUNDS: Core = Core { user_min: 11, user_max: 200, item_min: 10, ..Core::OFF };

impl DataSettings {
    /// The authors' filters and samples for a data set, defects apart: what `rallrec data inspect`
    /// and the recipes under configs/ use. Where the authors have none of their own, the defaults.
    pub fn method(kind: Kind, path: impl Into<PathBuf>) -> Self {
        (kind.set().method)(Self::new(kind, path))
    }

    /// What turns these settings into the authors', in this order. Not all of it can be had in a
    /// run: everything is chosen on validation rows, so `faithful = true` in a recipe leaves the
    /// split as it is.
    pub fn switches(&self) -> &'static [Switch] {
        self.kind.set().switches
    }

    /// Turns the switches that a run can have.
    pub fn make_faithful(&mut self) {
        for switch in self.switches().iter().filter(|s| s.key != NO_VALIDATION.key) {
            (switch.apply)(self);
        }
    }
}
