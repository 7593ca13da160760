//! The panes: one file each, its own state beside its drawing.

use serde::{Deserialize, Serialize};

pub mod kernels;
pub mod log;
pub mod merge;
pub mod pipeline;
pub mod retrieval;
pub mod runs;
pub mod sampling;
pub mod system;
pub mod training;

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
}

impl PaneId {
    /// In order of their numbers.
    pub const ALL: [PaneId; 9] = [
        PaneId::Runs,
        PaneId::Pipeline,
        PaneId::Training,
        PaneId::Sampling,
        PaneId::Merge,
        PaneId::Retrieval,
        PaneId::Kernels,
        PaneId::System,
        PaneId::Log,
    ];

    /// The number that focuses it.
    pub fn number(self) -> usize {
        self as usize
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            PaneId::Runs => "Runs",
            PaneId::Pipeline => "Pipeline",
            PaneId::Training => "Training",
            PaneId::Sampling => "Sampling",
            PaneId::Merge => "Merge",
            PaneId::Retrieval => "Retrieval",
            PaneId::Kernels => "Kernels",
            PaneId::System => "System",
            PaneId::Log => "Log",
        }
    }

    /// The pane `step` places on, round and round.
    pub fn step(self, step: isize) -> Self {
        let n = Self::ALL.len() as isize;
        Self::ALL[(self.number() as isize + step).rem_euclid(n) as usize]
    }
}
