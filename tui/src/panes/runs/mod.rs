//! Pane 0: recipes and run folders. From here the engine is driven: each run is a process of its own, which goes on
//! when the dashboard closes or dies; settings are checked by the engine itself.

mod act;
mod catalogue;
mod draw;
mod recipe;

pub use act::{act, agreed, click, hear, set_filter, take_input};
pub use catalogue::{Catalogue, Entry, RecipeEntry, RunEntry, RunState};
pub use draw::{ages_changed, draw};
pub use recipe::{Editor, Setting, parse_annotated};

use std::path::PathBuf;

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
    /// Wait until the run in this folder has ended.
    pub after: Option<PathBuf>,
}

/// News from outside.
#[derive(Debug, Clone)]
pub enum News {
    /// The lists were read.
    Catalogue(Catalogue),
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
    /// Read the lists.
    List,
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
    /// Which line the keys are on.
    pub selected: usize,
    /// Marked for comparing.
    pub marked: Vec<PathBuf>,
    /// A recipe that is open.
    pub editor: Option<Editor>,
    /// The folder that is being asked for is for a queued run.
    pub queue_next: bool,
    /// This is the first time that the dashboard is open.
    pub first_start: bool,
}
