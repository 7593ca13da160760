//! What there is to choose from.

use std::path::PathBuf;

use super::Source;

/// What a run is doing, as its folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEntry {
    /// The folder.
    pub folder: PathBuf,
    /// What it is doing.
    pub state: RunState,
    /// The latest stage.
    pub stage: String,
    /// When something happened last, milliseconds since the Unix epoch.
    pub modified_ms: u64,
    /// The merged row's figures, where there are results.
    pub result: String,
}

/// The lists of pane 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// Recipes, the demo first.
    pub recipes: Vec<RecipeEntry>,
    /// Runs, the latest first.
    pub runs: Vec<RunEntry>,
    /// The folder below which new runs are made.
    pub root: PathBuf,
}

/// A line of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A run.
    Run(&'a RunEntry),
    /// A recipe.
    Recipe(&'a RecipeEntry),
}

impl Catalogue {
    /// All lines: runs first, then recipes.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        self.runs.iter().map(Entry::Run).chain(self.recipes.iter().map(Entry::Recipe)).collect()
    }

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

    /// The run that a queued one waits for: the last in the queue, else one that is at work.
    pub fn last_live(&self) -> Option<PathBuf> {
        let live = |queued: bool| {
            self.runs
                .iter()
                .filter(|r| r.state.is_live() && (r.state == RunState::Queued) == queued)
                .max_by_key(|r| r.modified_ms)
        };
        live(true).or_else(|| live(false)).map(|r| r.folder.clone())
    }
}
