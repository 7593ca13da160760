//! Everything that a run says.

use serde::{Deserialize, Serialize};

use crate::parts::{Difference, Gpu, HistoryItem, ItemName, metrics, number};

/// The unit that a stage counts, so that rates read naturally ("412 tokens/s").
pub type Unit = String;

/// What a run reports: one kind of record each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A run began (or went on after a stop).
    RunStarted { recipe: String, device: String, program: String, resumed: bool },
    /// The machine, once after [`Event::RunStarted`]: (name, value) in the order to show them.
    Machine { facts: Vec<(String, String)> },
    /// The stages that this run goes through, in order, once at the beginning.
    Plan { stages: Vec<String> },
    /// A stage began. `cached` stages finish at once.
    StageStarted { stage: String, key: String },
    /// `done` of `total` units of the stage are through.
    StageProgress { stage: String, done: u64, total: u64, unit: Unit },
    /// A stage ended; `cached` says that an earlier artifact was reused.
    StageFinished {
        stage: String,
        key: String,
        cached: bool,
        #[serde(deserialize_with = "number")]
        seconds: f64,
        bytes: u64,
    },
    /// One optimiser step (or the mean of a few) of a training stage.
    TrainStep {
        stage: String,
        epoch: u32,
        step: u64,
        steps: u64,
        #[serde(deserialize_with = "number")]
        loss: f64,
        #[serde(deserialize_with = "number")]
        learning_rate: f64,
        gradient_norm: Option<f64>,
        /// Units (edges, items, tokens) a second.
        rate: Option<f64>,
    },
    /// A named metric of a stage, e.g. `recall@20` on `valid`.
    Metric {
        stage: String,
        name: String,
        split: String,
        #[serde(deserialize_with = "number")]
        value: f64,
        epoch: Option<u32>,
        best: bool,
    },
    /// Mean cosine of an item's own two embeddings and of two different items', while they are
    /// aligned.
    Similarity {
        stage: String,
        epoch: u32,
        #[serde(deserialize_with = "number")]
        positive: f64,
        #[serde(deserialize_with = "number")]
        negative: f64,
    },
    /// Training can go on from here after a kill. `why`: `schedule`, `asked`, `best` or `stop`.
    CheckpointWritten { stage: String, step: u64, seconds: Option<f64>, bytes: Option<u64>, why: String },
    /// One prompt was scored by `model` (`zero_shot`, `tuned`, ...).
    SampleScored {
        stage: String,
        model: String,
        row: u64,
        #[serde(deserialize_with = "number")]
        p: f64,
        #[serde(deserialize_with = "number")]
        yes_no_mass: f64,
        label: Option<bool>,
    },
    /// A piece of the text of one reasoning sample while it is written; one sample is followed at a
    /// time. `start` clears what was shown before.
    TextChunk { row: u64, sample: u32, start: bool, text: String },
    /// One sampled reasoning answer: its soft score, its hard answer, its length, the start of its
    /// text.
    ReasoningSample {
        row: u64,
        sample: u32,
        #[serde(deserialize_with = "number")]
        p: f64,
        answer: Option<bool>,
        tokens: u32,
        finished: bool,
        text: String,
        label: Option<bool>,
        hint: Option<f64>,
        /// `valid` or `test`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<String>,
        /// P(Yes) + P(No) behind `p`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        yes_no_mass: Option<f64>,
    },
    /// What answering a number of prompts cost; `how` is `plain` (one pass) or `reasoning` (S
    /// sampled answers).
    PromptCost {
        how: String,
        prompts: u64,
        #[serde(deserialize_with = "number")]
        seconds: f64,
        tokens: u64,
    },
    /// The merge of one row, with the reasoning model's share of the weight.
    MergeResult {
        row: u64,
        #[serde(deserialize_with = "number")]
        mean_reasoning: f64,
        #[serde(deserialize_with = "number")]
        var_reasoning: f64,
        #[serde(deserialize_with = "number")]
        mean_tuned: f64,
        #[serde(deserialize_with = "number")]
        var_tuned: f64,
        #[serde(deserialize_with = "number")]
        share_reasoning: f64,
        #[serde(deserialize_with = "number")]
        p: f64,
        label: Option<bool>,
    },
    /// One cell of the merge sweep on the validation rows.
    SweepCell {
        #[serde(deserialize_with = "number")]
        alpha: f64,
        #[serde(deserialize_with = "number")]
        epsilon: f64,
        samples: u32,
        metric: String,
        #[serde(deserialize_with = "number")]
        value: f64,
        chosen: bool,
    },
    /// One row of a table at the end; `metrics` are (name, value, low, high).
    ResultRow {
        row: String,
        split: String,
        #[serde(deserialize_with = "metrics")]
        metrics: Vec<(String, f64, f64, f64)>,
        /// Title of the table; `None` before tables were named: the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<String>,
        /// Scored rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// The row that this one is compared with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        /// Against the reference.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        against: Vec<Difference>,
    },
    /// The file with the scatter of the item embeddings is written: a path inside the run folder,
    /// see [`crate::scatter`].
    Scatter { file: String, items: u64, spaces: Vec<String> },
    /// How the history of one row was retrieved and reranked.
    RetrievalExample { row: u64, target: ItemName, label: Option<bool>, embedding: String, history: Vec<HistoryItem> },
    /// What a model read about one row, and the hint that it was given.
    PromptExample {
        row: u64,
        set: String,
        label: Option<bool>,
        target: ItemName,
        /// The turns in words, cut where very long.
        prompt: String,
        /// The sentence of the hint, empty without one.
        hint: String,
    },
    /// Calls of one operator since the last such event.
    Operator {
        operator: String,
        device: String,
        calls: u64,
        /// Inside the operator, all threads counted as one.
        #[serde(deserialize_with = "number")]
        seconds: f64,
        /// Least bytes that the calls had to move.
        #[serde(deserialize_with = "number")]
        bytes: f64,
        /// Floating point operations.
        #[serde(deserialize_with = "number")]
        flops: f64,
        /// Seconds that the calls would take at the measured ceiling of memory or arithmetic,
        /// whichever is longer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling_seconds: Option<f64>,
        /// Shape of the latest call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shape: Option<String>,
    },
    /// What memory and arithmetic units of a device gave when they were measured.
    Ceilings {
        device: String,
        #[serde(deserialize_with = "number")]
        memory_gb_s: f64,
        #[serde(deserialize_with = "number")]
        gflop_s: f64,
    },
    /// Work a second of an operator or a stage.
    Throughput {
        what: String,
        #[serde(deserialize_with = "number")]
        rate: f64,
        unit: Unit,
    },
    /// Memory of the process, bytes.
    Memory { resident: u64, peak: u64 },
    /// The machine at one moment.
    System {
        /// Busy share of each core, 0 to 100.
        cores: Vec<f32>,
        /// Busy share of this process, 0 to 100 for each core it fills.
        process: Option<f32>,
        memory_used: u64,
        memory_total: u64,
        /// Bytes free on the disk of the run folder.
        disk_free: Option<u64>,
        disk_total: Option<u64>,
        /// Bytes of the run folder.
        run_bytes: Option<u64>,
        /// Empty without a GPU, `None` where the driver's library is not there.
        gpus: Option<Vec<Gpu>>,
    },
    /// A word of the control file was read: `pause`, `run`, `checkpoint` or `stop`, and what
    /// follows from it.
    Control { word: String, effect: String },
    /// The stage waits.
    Paused { stage: String },
    /// The stage goes on after `seconds`.
    Resumed {
        stage: String,
        #[serde(deserialize_with = "number")]
        seconds: f64,
    },
    /// Something the user should know, and what to do about it.
    Warning { stage: String, what: String, next: String },
    /// A plain message for the log.
    Log { level: String, text: String },
    /// The run ended: `done`, `failed` or `stopped`, with the reason.
    RunFinished {
        outcome: String,
        #[serde(deserialize_with = "number")]
        seconds: f64,
        message: String,
    },
    /// An event of a newer version; kept so that a reader can show that something was there.
    #[serde(other)]
    Unknown,
}
