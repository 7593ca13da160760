//! The panes: one file each, its own state beside its drawing. A pane is one value, [`Pane`]; key
//! table, tabs, help, drawing, keys and mouse read the list [`PANES`]. A new pane is a file with
//! its `PANE`, and its lines in this one.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use serde::{Deserialize, Serialize};

use crate::keys::{Action, Bound, Key, Scope};
use crate::message::Effect;
use crate::state::{OpenRun, State};

pub mod alarms;
pub mod kernels;
pub mod log;
pub mod merge;
pub mod pipeline;
pub mod retrieval;
pub mod runs;
pub mod sampling;
pub mod system;
pub mod training;

/// All panes in the order of their tabs.
pub const PANES: [&Pane; 10] = [
    &runs::PANE,
    &pipeline::PANE,
    &training::PANE,
    &sampling::PANE,
    &merge::PANE,
    &retrieval::PANE,
    &kernels::PANE,
    &system::PANE,
    &log::PANE,
    &alarms::PANE,
];

/// A pane; its number is the key that focuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaneId {
    /// Recipes and run folders: from here the engine is driven.
    Runs,
    /// Stages.
    #[default]
    Pipeline,
    /// Curves.
    Training,
    /// Reasoning samples.
    Sampling,
    /// Merge and results.
    Merge,
    /// Embeddings and retrieval.
    Retrieval,
    /// Operators.
    Kernels,
    /// The machine.
    System,
    /// Log lines.
    Log,
    /// What somebody should look at.
    Alarms,
}

/// What the panes keep from one message to the next.
#[derive(Debug, Clone, Default)]
pub struct Views {
    /// Pane 0.
    pub runs: runs::View,
    /// Pane 1.
    pub pipeline: pipeline::View,
    /// Pane 2.
    pub training: training::View,
    /// Pane 3.
    pub sampling: sampling::View,
    /// Pane 4.
    pub merge: merge::View,
    /// Pane 5.
    pub retrieval: retrieval::View,
    /// Pane 6.
    pub kernels: kernels::View,
    /// Pane 7.
    pub system: system::View,
    /// Pane 8.
    pub log: log::View,
    /// Pane 9.
    pub alarms: alarms::View,
}

/// How a pane is drawn, and what it needs for that.
#[derive(Clone, Copy)]
pub enum Draw {
    /// Whatever is open.
    Always(fn(&State, Rect, &mut Buffer)),
    /// A run of which something has been read; without one the frame says what is missing.
    OfRun(fn(&State, &OpenRun, Rect, &mut Buffer)),
}

/// Something inside a pane that takes its keys while it is open.
pub struct Inner {
    /// Under which the key table lists its keys.
    pub scope: Scope,
    /// Is it open?
    pub is_open: fn(&State) -> bool,
    /// Its keys.
    pub keys: &'static [Bound],
}

/// What the wheel does in a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wheel {
    /// As the keys Up and Down.
    Moves,
    /// It zooms around the mouse.
    Zooms,
}

/// A pane as a value.
pub struct Pane {
    /// Which.
    pub id: PaneId,
    /// On its frame, its tab and in the help.
    pub title: &'static str,
    /// On its tab where not all titles fit.
    pub short: &'static str,
    /// The keys that focus it.
    pub key: &'static [Key],
    /// What they show, in words.
    pub about: &'static str,
    /// How it is drawn.
    pub draw: Draw,
    /// What its keys do.
    pub act: fn(&mut State, Action) -> Vec<Effect>,
    /// What a click does; the rectangle is the pane inside its frame.
    pub click: fn(&mut State, Rect, Position),
    /// What the wheel does.
    pub wheel: Wheel,
    /// Its keys.
    pub keys: &'static [Bound],
    /// Something inside it that takes the keys while it is open.
    pub inner: Option<Inner>,
    /// What is asked of the outside when it gets the focus, and every two seconds while it has it.
    pub refresh: fn() -> Vec<Effect>,
}

/// A pane that does nothing: what a new one need not say.
pub const BASE: Pane = Pane {
    id: PaneId::Pipeline,
    title: "",
    short: "",
    key: &[],
    about: "",
    draw: Draw::Always(|_, _, _| {}),
    act: |_, _| Vec::new(),
    click: |_, _, _| {},
    wheel: Wheel::Moves,
    keys: &[],
    inner: None,
    refresh: Vec::new,
};

impl Pane {
    /// Whose keys hold now.
    pub fn scope(&self, state: &State) -> Scope {
        match &self.inner {
            Some(inner) if (inner.is_open)(state) => inner.scope,
            _ => Scope::Pane(self.id),
        }
    }
}

impl PaneId {
    /// In order of their numbers.
    pub const ALL: [PaneId; PANES.len()] = {
        let mut all = [PaneId::Runs; PANES.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = PANES[i].id;
            assert!(all[i] as usize == i, "the list of panes is in the order of their numbers");
            i += 1;
        }
        all
    };

    /// The pane itself.
    pub fn pane(self) -> &'static Pane {
        PANES[self as usize]
    }

    /// The number that focuses it.
    pub fn number(self) -> usize {
        self as usize
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        self.pane().title
    }

    /// The pane `step` places on, round and round.
    pub fn step(self, step: isize) -> Self {
        let n = Self::ALL.len() as isize;
        Self::ALL[(self.number() as isize + step).rem_euclid(n) as usize]
    }
}
