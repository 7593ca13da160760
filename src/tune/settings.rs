//! What a recipe may set of tuning.

use serde::{Deserialize, Serialize};

use crate::models::lora::Target;
use crate::settings::{Checked, Schedule};

/// Fine-tuning settings. The defaults are the authors' (rank 8, alpha 16, dropout 0.05 on query and
/// value, AdamW at 5e-4 with linear decay, clip 1, early stop after 5 evaluations, seed 42), except
/// for the batch, which is sized for a CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank of the adapter.
    #[schemars(range(min = 1, max = 65_536))]
    pub rank: usize,
    /// The adapter's product is multiplied by `alpha / rank`.
    #[schemars(range(max = 1_000_000.0), extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Probability of dropping an element of an adapter's input.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Linear layers that get an adapter.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub targets: Vec<Target>,
    /// Layers below this one, counted from 0, are left as they are: a higher number is faster and
    /// learns less.
    #[schemars(range(max = 10_000))]
    pub first_layer: usize,
    /// Highest learning rate.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Steps in which the learning rate rises from 0 to its highest value.
    #[schemars(range(max = 1_000_000_000))]
    pub warmup_steps: u64,
    /// How the learning rate falls after the warm-up.
    pub schedule: Schedule,
    /// AdamW's decoupled weight decay.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// AdamW's epsilon.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Largest norm of the whole gradient; a longer gradient is shortened to it. 0 means no limit.
    #[schemars(range(min = 0.0, max = 1_000_000_000.0))]
    pub clip: f64,
    /// Groups of a step of the optimiser. A group is a history with its targets.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch: usize,
    /// Tokens that are computed at a time. More takes more memory and is faster; the result changes
    /// by rounding only. A longer group is computed whole.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub micro_tokens: usize,
    /// Times that every group is seen.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u32,
    /// Most steps of the optimiser; 0 means as many as the epochs have.
    #[schemars(range(max = 1_000_000_000))]
    pub max_steps: u64,
    /// Steps between two evaluations; 0 means one evaluation at the end of each epoch.
    #[schemars(range(max = 1_000_000_000))]
    pub eval_steps: u64,
    /// Stop after so many evaluations without a better value; 0 never stops.
    pub early_stop_patience: u32,
    /// Seed of the first adapter (and the first soft projector), the order of groups, and dropout.
    /// Not set: the recipe's `seed`.
    pub seed: u64,
    /// Learn the end-of-turn token after the answer too (the authors do not).
    pub train_end_of_turn: bool,
    /// Seconds between two checkpoints: what a kill or a power cut costs at most. One is also
    /// written after the first step of a process, at a stop, and at each evaluation.
    #[schemars(range(min = 0.0, max = 1_000_000_000.0))]
    pub checkpoint_seconds: f64,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            targets: vec![Target::QProj, Target::VProj],
            first_layer: 0,
            learning_rate: 5e-4,
            warmup_steps: 0,
            schedule: Schedule::Linear,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: 1.0,
            batch: 16,
            micro_tokens: 1024,
            epochs: 3,
            max_steps: 0,
            eval_steps: 0,
            early_stop_patience: 5,
            seed: 42,
            train_end_of_turn: true,
            checkpoint_seconds: 10.0,
        }
    }
}

impl Checked for LoraSettings {}
