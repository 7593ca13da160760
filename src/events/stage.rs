//! The stages of a run: their names in events and on the command line, and what is the same about
//! each in every run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageId {
    /// Raw files to data set and samples.
    Data,
    /// Descriptions of items.
    Describe,
    /// Texts to vectors.
    Embed,
    /// LightGCN.
    Graph,
    /// Text embeddings mapped into the space of LightGCN's.
    Align,
    /// What ratings and graph say of a row by themselves.
    Collab,
    /// Which items of a history a prompt shows.
    Retrieve,
    /// What the language model reads.
    Prompts,
    /// LoRA.
    Tune,
    /// P(Yes) of every row.
    Predict,
    /// Sampled chains of thought and the answers behind them.
    Reason,
    /// The consistency-based merge.
    Merge,
    /// The tables.
    Evaluate,
}

/// What becomes of a wish for a checkpoint while the stage is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoints {
    /// One is written after the running step.
    Asked,
    /// The state is kept at the end of every epoch.
    EveryEpoch,
    /// The state is kept every few seconds.
    EveryFewSeconds,
    /// Every finished row is stored.
    Rows,
    /// The stage is short.
    None,
}

/// What is the same in every run.
struct About {
    id: StageId,
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    trains: bool,
    checkpoints: Checkpoints,
}

const fn about(
    id: StageId,
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    trains: bool,
    checkpoints: Checkpoints,
) -> About {
    About { id, name, title, unit, trains, checkpoints }
}

/// In the order of a run, and of [`StageId`].
const ABOUT: [About; 13] = {
    use Checkpoints::{Asked, EveryEpoch, EveryFewSeconds, None, Rows};
    use StageId::*;
    [
        about(Data, "data", "Data", "steps", false, None),
        about(Describe, "describe", "Descriptions", "items", false, Rows),
        about(Embed, "embed", "Text embeddings", "tokens", false, Rows),
        about(Graph, "graph", "LightGCN", "edges", true, EveryEpoch),
        about(Align, "align", "Alignment", "items", true, EveryFewSeconds),
        about(Collab, "collab", "Causal features", "rows", false, None),
        about(Retrieve, "retrieve", "Retrieval", "prompts", false, None),
        about(Prompts, "prompts", "Prompts", "prompts", false, None),
        about(Tune, "tune", "LoRA tuning", "tokens", true, Asked),
        about(Predict, "predict", "Predictions", "prompts", false, Rows),
        about(Reason, "reason", "Reasoning", "answers", false, Rows),
        about(Merge, "merge", "Merge", "cells", false, None),
        about(Evaluate, "evaluate", "Tables", "rows", false, None),
    ]
};

impl StageId {
    /// In the order of a run.
    pub const ALL: [StageId; ABOUT.len()] = {
        let mut all = [StageId::Data; ABOUT.len()];
        let mut at = 0;
        while at < ABOUT.len() {
            // The table is indexed by the enum.
            assert!(ABOUT[at].id as usize == at);
            all[at] = ABOUT[at].id;
            at += 1;
        }
        all
    };

    const fn about(self) -> &'static About {
        &ABOUT[self as usize]
    }

    /// The name in events, in folder names and on the command line.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// The name in headings.
    pub const fn title(self) -> &'static str {
        self.about().title
    }

    /// What is counted when its speed is given, e.g. `tokens` for tokens/s.
    pub const fn unit(self) -> &'static str {
        self.about().unit
    }

    /// Whether it trains a model, and so has curves.
    pub const fn trains(self) -> bool {
        self.about().trains
    }

    /// What becomes of a wish for a checkpoint.
    pub const fn checkpoints(self) -> Checkpoints {
        self.about().checkpoints
    }

    /// The answer to a wish for a checkpoint, in words.
    pub fn at_checkpoint(self) -> String {
        match self.checkpoints() {
            Checkpoints::Asked => "written after the running step".into(),
            Checkpoints::EveryEpoch => "the state is kept at the end of every epoch, of this one too".into(),
            Checkpoints::EveryFewSeconds => "nothing to do: the state is kept every few seconds".into(),
            Checkpoints::Rows => "nothing to do: every finished row is stored already".into(),
            Checkpoints::None => format!("{self} is short and keeps no state of its own"),
        }
    }

    /// The stage of a name; `None` for one that this program does not know.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// All names in order, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<StageId> for String {
    fn from(stage: StageId) -> Self {
        stage.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_stage_and_are_written_as_in_events() {
        for (n, stage) in StageId::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, n);
            assert_eq!(StageId::named(stage.name()), Some(stage));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
            assert!(!stage.title().is_empty() && !stage.unit().is_empty());
            assert_eq!(stage.trains(), matches!(stage, StageId::Graph | StageId::Align | StageId::Tune));
        }
        assert_eq!(StageId::named("nowhere"), None);
        assert_eq!(format!("{:<10}|", StageId::Tune), "tune      |");
        assert!(StageId::Merge.at_checkpoint().starts_with("merge is short"));
    }
}
