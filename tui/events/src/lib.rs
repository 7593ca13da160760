//! The event stream of a run, `events.jsonl`: one JSON object a line, append-only, versioned.
//!
//! The engine writes [`Record`]s and never knows who reads them; a dashboard, a progress line and a
//! report read them and never call the engine. A reader must skip a torn last line, and must show,
//! not refuse, a record whose `v` is newer or whose `kind` it does not know ([`Event::Unknown`]).

use serde::{Deserialize, Serialize};

/// Version of the record layout. Raised when a field changes its meaning; adding an event or an
/// optional field does not raise it.
pub const VERSION: u32 = 1;

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Layout version, see [`VERSION`].
    pub v: u32,
    /// Milliseconds since the Unix epoch.
    pub t_ms: u64,
    /// The event, its fields beside `v` and `t_ms`.
    #[serde(flatten)]
    pub event: Event,
}

/// The unit that a stage counts, so that rates read naturally ("412 tokens/s").
pub type Unit = String;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A run began (or went on after a stop).
    RunStarted { recipe: String, device: String, program: String, resumed: bool },
    /// A stage began. `cached` stages finish at once.
    StageStarted { stage: String, key: String },
    /// `done` of `total` units of the stage are through.
    StageProgress { stage: String, done: u64, total: u64, unit: Unit },
    /// A stage ended; `cached` says that an earlier artifact was reused.
    StageFinished { stage: String, key: String, cached: bool, seconds: f64, bytes: u64 },
    /// One optimiser step (or the mean of a few) of a training stage.
    TrainStep {
        stage: String,
        epoch: u32,
        step: u64,
        steps: u64,
        loss: f64,
        learning_rate: f64,
        gradient_norm: Option<f64>,
        /// Units (edges, items, tokens) a second.
        rate: Option<f64>,
    },
    /// A named metric of a stage, e.g. `recall@20` on `valid`.
    Metric { stage: String, name: String, split: String, value: f64, epoch: Option<u32>, best: bool },
    /// One prompt was scored by `model` (`zero_shot`, `tuned`, ...).
    SampleScored { stage: String, model: String, row: u64, p: f64, yes_no_mass: f64, label: Option<bool> },
    /// One sampled reasoning answer: its soft score, its hard answer, its length, the start of its text.
    ReasoningSample {
        row: u64,
        sample: u32,
        p: f64,
        answer: Option<bool>,
        tokens: u32,
        finished: bool,
        text: String,
        label: Option<bool>,
        hint: Option<f64>,
    },
    /// The merge of one row, with the reasoning model's share of the weight.
    MergeResult {
        row: u64,
        mean_reasoning: f64,
        var_reasoning: f64,
        mean_tuned: f64,
        var_tuned: f64,
        share_reasoning: f64,
        p: f64,
        label: Option<bool>,
    },
    /// One cell of the merge sweep on the validation rows.
    SweepCell { alpha: f64, epsilon: f64, samples: u32, metric: String, value: f64, chosen: bool },
    /// One row of the final table.
    ResultRow { row: String, split: String, metrics: Vec<(String, f64, f64, f64)> },
    /// Work a second of an operator or a stage.
    Throughput { what: String, rate: f64, unit: Unit },
    /// Memory of the process, bytes.
    Memory { resident: u64, peak: u64 },
    /// Something the user should know, and what to do about it.
    Warning { stage: String, what: String, next: String },
    /// A plain message for the log.
    Log { level: String, text: String },
    /// The run ended: `done`, `failed` or `stopped`, with the reason.
    RunFinished { outcome: String, seconds: f64, message: String },
    /// An event of a newer version; kept so that a reader can show that something was there.
    #[serde(other)]
    Unknown,
}

impl Record {
    /// Reads one line. A torn or foreign line is an error; the caller decides whether it was the last.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_a_round_trip() {
        let record = Record {
            v: VERSION,
            t_ms: 7,
            event: Event::StageProgress { stage: "graph".into(), done: 1, total: 2, unit: "edges".into() },
        };
        let line = serde_json::to_string(&record).expect("serialises");
        assert!(!line.contains('\n'));
        assert_eq!(Record::parse(&line).expect("parses"), record);
    }

    #[test]
    fn an_event_of_a_newer_version_is_kept_as_unknown() {
        let record = Record::parse(r#"{"v":9,"t_ms":1,"kind":"from_the_future","x":3}"#).expect("parses");
        assert_eq!(record.event, Event::Unknown);
    }

    #[test]
    fn a_torn_line_is_an_error() {
        assert!(Record::parse(r#"{"v":1,"t_ms":1,"kind":"sta"#).is_err());
    }
}
