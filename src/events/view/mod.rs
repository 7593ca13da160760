//! What panes and reports show: a pure fold over records, in bounded memory.
//!
//! [`RunView::apply`] takes one record after the other; it neither reads a clock nor a file, and no
//! sequence of records makes it panic or grow beyond [`MOST_BYTES`]. Series keep the whole run as
//! buckets of (min, mean, max) and the most recent points exactly; counters run over everything
//! that was seen; lists keep their latest entries.

mod bins;
pub(crate) mod bounded;
mod log;
mod merge;
mod operators;
mod pace;
mod prompts;
mod results;
mod retrieval;
mod run;
mod sampling;
mod series;
mod stages;
mod system;
mod training;

use serde::Serialize;

pub use bins::{Bin, Bins, Histogram, Mean, Reliability};
pub use log::{Line, Log};
pub use merge::{Cell, Merge, MergeRow, Model};
pub use operators::{Ceilings, Operator, Operators, Slice};
pub use pace::{Pace, along, points};
pub use prompts::{Answer, Prompt, Prompts};
pub use results::{Column, Results, Row, Table};
pub use retrieval::{Example, Retrieval};
pub use run::{Control, Outcome, RunInfo};
pub use sampling::{Cost, LiveText, Sampling, Scored};
pub use series::{Bucket, Series};
pub use stages::{Stage, Stages, State, Warned};
pub use system::{Moment, System};
pub use training::{Checkpoint, MetricView, Training, Trainings};

use crate::event::Event;
use crate::record::{Record, VERSION};
use crate::stage::StageId;
use crate::tail::Sampled;
use bounded::Footprint;

/// A view never holds more than this, whatever was applied.
pub const MOST_BYTES: usize = 64 << 20;

/// Everything that is known of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunView {
    /// Who runs what on which machine, since when, and how it ended.
    pub run: RunInfo,
    /// The stages with their states, durations, rates; warnings.
    pub stages: Stages,
    /// Curves of the training stages.
    pub training: Trainings,
    /// Sampled answers in numbers.
    pub sampling: Sampling,
    /// Single prompts to page through.
    pub prompts: Prompts,
    /// The merge.
    pub merge: Merge,
    /// The tables at the end.
    pub results: Results,
    /// Embedding scatter and retrieval examples.
    pub retrieval: Retrieval,
    /// Time and work of operators.
    pub operators: Operators,
    /// The machine.
    pub system: System,
    /// Latest log lines.
    pub log: Log,
    /// Records applied.
    pub records: u64,
    /// Of them with a kind that this program does not know.
    pub unknown: u64,
    /// Of them with a newer layout version.
    pub newer: u64,
    /// Set when a very long file was opened and only a part of its plentiful records was read.
    pub sampled: Option<Sampled>,
}

impl RunView {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The view after one more record.
    pub fn apply(&mut self, record: &Record) {
        let t = record.t_ms;
        self.records += 1;
        self.newer += u64::from(record.v > VERSION);
        self.run.at(t);
        match &record.event {
            Event::Unknown => {
                self.unknown += 1;
                return;
            }
            Event::StageStarted { stage, key } => self.forget_earlier_work(stage, key),
            _ => {}
        }
        self.run.apply(t, &record.event);
        self.stages.apply(t, &record.event);
        self.training.apply(t, &record.event);
        self.sampling.apply(&record.event, &mut self.prompts);
        self.prompts.apply(&record.event);
        self.merge.apply(&record.event);
        self.results.apply(&record.event);
        self.retrieval.apply(&record.event);
        self.operators.apply(t, &record.event);
        self.system.apply(t, self.run.first_ms, &record.event);
        self.log.apply(t, &record.event);
    }

    /// What an earlier process said about a stage is dropped when its work begins anew: with
    /// another key the old numbers belong to other settings, and the last stages say everything
    /// again each time.
    fn forget_earlier_work(&mut self, stage: &str, key: &str) {
        let another = self.stages.get(stage).is_some_and(|s| !s.key.is_empty() && s.key != key);
        if another {
            self.training.forget(stage);
        }
        match StageId::named(stage) {
            Some(StageId::Retrieve) if another => self.retrieval.examples.clear(),
            Some(StageId::Reason) if another => {
                self.sampling.forget();
                self.prompts.forget();
            }
            Some(StageId::Predict) if another => self.sampling.scored.clear(),
            Some(StageId::Merge) => self.merge = Merge::default(),
            Some(StageId::Evaluate) => self.results = Results::default(),
            _ => {}
        }
    }

    /// About how many bytes the view holds.
    pub fn footprint(&self) -> usize {
        size_of::<Self>()
            + self.run.held()
            + self.stages.held()
            + self.training.held()
            + self.sampling.held()
            + self.prompts.held()
            + self.merge.held()
            + self.results.held()
            + self.retrieval.held()
            + self.operators.held()
            + self.system.held()
            + self.log.held()
    }
}
