//! Pane 0: recipes and run folders. From here the engine is driven: each run is a process of its
//! own, which goes on when the dashboard closes or dies; settings are checked by the engine itself.

mod act;
mod catalogue;
mod draw;
mod list;
mod recipe;

pub use act::{act, agreed, chosen_run, click, hear, select, set_filter, set_run_filter, take_input};
pub use catalogue::{Catalogue, Entry, RecipeEntry, RunEntry, RunState};
pub use draw::{ages_changed, draw};
pub use list::{Choice, Groups, Order, Place, Row, Rows};
pub use recipe::{Editor, Setting, parse_annotated};

use std::path::PathBuf;

use crossterm::event::KeyCode;

use crate::keys::Key::{Char, Code};
use crate::keys::{Action, DOWN, END, ENTER, ESC, HOME, PAGE_DOWN, PAGE_UP, Scope, UP, VIEW, bound};
use crate::message::Effect as MessageEffect;
use crate::panes::{Draw, Inner, Pane, PaneId, Wheel};

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Runs,
    title: "Runs",
    short: "Runs",
    key: &[Char('0')],
    about: "runs and recipes",
    draw: Draw::Always(draw::draw),
    act: act::act,
    click: act::click,
    wheel: Wheel::Moves,
    keys: &[
        bound(UP, Action::Up, "up", ""),
        bound(DOWN, Action::Down, "down", ""),
        bound(PAGE_UP, Action::PageUp, "page up", ""),
        bound(PAGE_DOWN, Action::PageDown, "page down", ""),
        bound(HOME, Action::First, "first entry", ""),
        bound(END, Action::Last, "last entry", ""),
        bound(ENTER, Action::Open, "open: watch a run, edit a recipe", "open"),
        bound(&[Char('s')], Action::Start, "start the recipe in a process of its own (asks)", "start"),
        bound(&[Char('u')], Action::Enqueue, "queue: start when no other run is at work (asks)", "queue"),
        bound(&[Char('r')], Action::Resume, "go on with a stopped or failed run (asks)", "resume"),
        bound(&[Char('e')], Action::Repeat, "repeat a run with changes", "repeat"),
        bound(&[Char('m')], Action::Mark, "mark a run for comparing", ""),
        bound(&[Char('=')], Action::Compare, "compare the marked runs", "compare"),
        bound(&[Char('d'), Code(KeyCode::Delete)], Action::Delete, "delete a run folder, or a queued start (asks)", ""),
        bound(&[Char('/')], Action::Filter, "show only runs with this text", "search"),
        bound(&[Char('o')], Action::Sort, "in order of begin, name, AUC, log loss, time or state", "order"),
        bound(VIEW, Action::NextView, "headings: none, data, model or state", ""),
        bound(&[Char('P')], Action::Pin, "keep a run at the top, or not", ""),
        bound(&[Char('H')], Action::Hide, "hide a run and its curves, or show them again", ""),
        bound(&[Char('a')], Action::ShowHidden, "hidden runs too, or not", ""),
        bound(&[Char('R')], Action::Refresh, "read the lists again", ""),
        bound(ESC, Action::Cancel, "show all", ""),
    ],
    inner: Some(Inner {
        scope: Scope::Recipe,
        is_open: |state| state.panes.runs.editor.is_some(),
        keys: &[
            bound(UP, Action::Up, "previous setting", ""),
            bound(DOWN, Action::Down, "next setting", ""),
            bound(PAGE_UP, Action::PageUp, "page up", ""),
            bound(PAGE_DOWN, Action::PageDown, "page down", ""),
            bound(HOME, Action::First, "first setting", ""),
            bound(END, Action::Last, "last setting", ""),
            bound(ENTER, Action::Open, "change the setting; the engine checks it", "change"),
            bound(&[Char('/')], Action::Filter, "show only settings with this text", "search"),
            bound(&[Char('d'), Code(KeyCode::Delete)], Action::Default, "take a change back", "undo"),
            bound(&[Char('s')], Action::Start, "start with these settings", "start"),
            bound(&[Char('u')], Action::Enqueue, "queue with these settings", "queue"),
            bound(ESC, Action::Cancel, "back to the lists", "back"),
        ],
    }),
    refresh: || vec![MessageEffect::Runs(Effect::List)],
};

/// Where settings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in demo.
    Demo,
    /// A recipe file.
    File(PathBuf),
    /// The resolved recipe of a run folder.
    Run(PathBuf),
}

impl Source {
    /// Its name in headings.
    pub fn name(&self) -> String {
        match self {
            Source::Demo => "the demo".into(),
            Source::File(path) => path.display().to_string(),
            Source::Run(folder) => format!("{} again", folder.display()),
        }
    }
}

/// How a run is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What to run.
    pub source: Source,
    /// Changed settings, `key=value`.
    pub sets: Vec<String>,
    /// The run folder.
    pub out: PathBuf,
    /// Wait until no other run is at work, nor queued before.
    pub queued: bool,
}

/// News from outside.
#[derive(Debug, Clone)]
pub enum News {
    /// The lists were read.
    Catalogue(Catalogue),
    /// Something has changed that the lists show.
    Changed,
    /// The engine has read a recipe with these changes, or refused it.
    Recipe {
        /// Which.
        source: Source,
        /// With which changes.
        sets: Vec<String>,
        /// The annotated recipe, or the engine's error.
        outcome: Result<Vec<Setting>, String>,
    },
    /// A run was started, or could not be.
    Started {
        /// Its folder.
        out: PathBuf,
        /// It waits for another one.
        queued: bool,
        /// The error.
        outcome: Result<(), String>,
    },
    /// A text to read.
    Text {
        /// Heading.
        title: String,
        /// Lines, or why there are none.
        outcome: Result<Vec<String>, String>,
    },
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the lists, when that has not been done lately.
    List,
    /// Read the lists now.
    ListNow,
    /// Let the engine read a recipe with changes.
    Load {
        /// Which.
        source: Source,
        /// With which changes.
        sets: Vec<String>,
    },
    /// Start a run in a process of its own.
    Start(Start),
    /// Delete a run folder.
    Delete(PathBuf),
    /// Take a waiting run out of the queue.
    Unqueue(PathBuf),
    /// Compare the results of runs.
    Compare(Vec<PathBuf>),
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What there is.
    pub catalogue: Catalogue,
    /// The lists have been read.
    pub listed: bool,
    /// The lines of the table.
    pub rows: Rows,
    /// Which line the keys are on.
    pub selected: usize,
    /// Order, headings, pinned and hidden runs.
    pub choice: Choice,
    /// Only lines with this text.
    pub filter: String,
    /// Hidden runs too.
    pub all: bool,
    /// Runs at work or queued.
    pub live: usize,
    /// Marked for comparing.
    pub marked: Vec<PathBuf>,
    /// A recipe that is open.
    pub editor: Option<Editor>,
    /// The folder that is being asked for is for a queued run.
    pub queue_next: bool,
    /// This is the first time that the dashboard is open.
    pub first_start: bool,
}

impl View {
    /// Makes the lines anew; the keys stay on the same one.
    pub fn arrange(&mut self) {
        let before = self.rows.place(&self.catalogue, self.selected);
        self.arrange_at(before);
    }

    /// Makes the lines anew, with the keys on the one at `place`.
    fn arrange_at(&mut self, place: Option<Place>) {
        self.rows = Rows::new(&self.catalogue, &self.choice, &self.filter, self.all);
        let found = place.and_then(|place| self.rows.find(&self.catalogue, &place));
        self.selected = found.unwrap_or_else(|| self.selected.min(self.rows.rows.len().saturating_sub(1)));
        if matches!(self.rows.rows.get(self.selected), Some(Row::Heading(_))) {
            self.selected += 1;
        }
    }
}
