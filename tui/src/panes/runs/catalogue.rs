//! What there is to choose from.

use std::path::PathBuf;

use super::Source;

/// What a run is doing, as its folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RunState {
    /// Its folder has been found and not been read yet.
    #[default]
    Unread,
    /// A process works in it.
    Running,
    /// A process works in it and was asked to wait.
    Paused,
    /// Waits for another run to end.
    Queued,
    /// Ended well.
    Done,
    /// Stopped on request.
    Stopped,
    /// Ended with an error.
    Failed,
    /// No process, and nothing said how it ended.
    Killed,
}

impl RunState {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Unread => "",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Queued => "queued",
            RunState::Done => "done",
            RunState::Stopped => "stopped",
            RunState::Failed => "failed",
            RunState::Killed => "killed",
        }
    }

    /// A process holds the folder or waits for it.
    pub fn is_live(self) -> bool {
        matches!(self, RunState::Running | RunState::Paused | RunState::Queued)
    }

    /// It can go on where it was.
    pub fn can_resume(self) -> bool {
        matches!(self, RunState::Stopped | RunState::Failed | RunState::Killed)
    }
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeEntry {
    /// Where it comes from.
    pub source: Source,
    /// Name that the recipe gives itself.
    pub name: String,
    /// Its first words.
    pub about: String,
}

/// A run folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunEntry {
    /// The folder.
    pub folder: PathBuf,
    /// What it is doing.
    pub state: RunState,
    /// The latest stage.
    pub stage: String,
    /// When it began, milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// When something happened last, milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// Seconds that the latest process worked.
    pub seconds: f64,
    /// The row that stands for the run, where there are results.
    pub result: String,
    /// Its figures.
    pub metrics: Vec<(String, f64)>,
    /// The data set, in a word.
    pub data: String,
    /// The language model, in a word.
    pub model: String,
    /// Settings that are not at their defaults.
    pub changed: String,
}

impl RunEntry {
    /// A figure of the row that stands for the run.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|m| m.0 == name).map(|m| m.1)
    }
}

/// The lists of pane 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalogue {
    /// Recipes, the demo first.
    pub recipes: Vec<RecipeEntry>,
    /// Runs, the one that began last first.
    pub runs: Vec<RunEntry>,
    /// The folder below which new runs are made.
    pub root: PathBuf,
}

/// A line of the lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Entry<'a> {
    /// A run.
    Run(&'a RunEntry),
    /// A recipe.
    Recipe(&'a RecipeEntry),
}

impl Catalogue {
    /// A folder name below the root that no run has yet, beginning with `name` without the number
    /// that an earlier call gave it.
    pub fn free_folder(&self, name: &str) -> PathBuf {
        let numbered = name.rsplit_once('-').filter(|(stem, n)| {
            n.parse::<u32>().is_ok_and(|n| n > 1) && self.runs.iter().any(|r| r.folder == self.root.join(stem))
        });
        let name = numbered.map_or(name, |(stem, _)| stem);
        let taken = |p: &PathBuf| self.runs.iter().any(|r| r.folder == *p);
        let first = self.root.join(name);
        if !taken(&first) {
            return first;
        }
        (2..).map(|i| self.root.join(format!("{name}-{i}"))).find(|p| !taken(p)).unwrap_or(first)
    }
}
