//! The knobs of fine-tuning.

use serde::{Deserialize, Serialize};

use crate::models::lora::Target;
use crate::{Error, Result};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line to 0 at the last step.
    Linear,
    /// Not at all.
    Constant,
}

/// Fine-tuning settings. The defaults are the authors' (rank 8, alpha 16, dropout 0.05 on query and value, AdamW at
/// 5e-4 with linear decay, clip 1, early stop after 5 evaluations, seed 42), except for the batch, which is sized for
/// a CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Rank of the adapter, 1 or more. Default 8.
    pub rank: usize,
    /// The adapter's product is multiplied by `alpha / rank`. Default 16.
    pub alpha: f64,
    /// Probability of dropping an element of an adapter's input, in [0, 1). Default 0.05.
    pub dropout: f64,
    /// Linear layers that get a pair. Default `["q_proj", "v_proj"]`.
    pub targets: Vec<Target>,
    /// Layers below this one are left as they are: a higher number is faster and learns less. Default 0.
    pub first_layer: usize,
    /// Highest learning rate, above 0. Default 5e-4.
    pub learning_rate: f64,
    /// Steps in which the learning rate rises from 0. Default 0.
    pub warmup_steps: u64,
    /// `linear` or `constant`. Default `linear`.
    pub schedule: Schedule,
    /// AdamW's decoupled weight decay, 0 or more. Default 0.
    pub weight_decay: f64,
    /// AdamW's decay of the first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// AdamW's decay of the second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// AdamW's epsilon, above 0. Default 1e-8.
    pub epsilon: f64,
    /// Largest norm of the whole gradient; longer ones are shortened to it. 0: no limit. Default 1.
    pub clip: f64,
    /// Groups (a history with its targets) in an optimiser step, 1 or more. Default 16.
    pub batch: usize,
    /// Tokens computed at a time: decides memory and speed, not the result beyond rounding. A longer group is computed
    /// whole. Default 1024.
    pub micro_tokens: usize,
    /// Times that every group is seen, 1 or more. Default 3.
    pub epochs: u32,
    /// Most optimiser steps; 0: as many as the epochs have. Default 0.
    pub max_steps: u64,
    /// Steps between evaluations; 0: one at the end of each epoch. Default 0.
    pub eval_steps: u64,
    /// Evaluations without a better value before training ends; 0: never. Default 5.
    pub early_stop_patience: u32,
    /// Seed of the initial adapter, the order and the dropout. Default 42.
    pub seed: u64,
    /// Whether the end-of-turn token after the answer is learnt too. Default true (the authors do not).
    pub train_end_of_turn: bool,
    /// Seconds between checkpoints; one is also written at a stop and at each evaluation. Default 60.
    pub checkpoint_seconds: f64,
}

impl Default for Settings {
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
            checkpoint_seconds: 60.0,
        }
    }
}

impl Settings {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first field that is out of range, and what it may be.
    pub fn check(&self) -> Result<()> {
        let rules: [(&str, bool, &str); 14] = [
            ("rank", self.rank >= 1 && self.rank <= 65_536, "1 or more"),
            ("alpha", self.alpha.is_finite() && self.alpha > 0.0, "above 0"),
            ("dropout", (0.0..1.0).contains(&self.dropout), "in [0, 1)"),
            ("targets", !self.targets.is_empty(), "at least one layer name, e.g. [\"q_proj\", \"v_proj\"]"),
            ("learning_rate", self.learning_rate.is_finite() && self.learning_rate > 0.0, "above 0, e.g. 5e-4"),
            ("weight_decay", self.weight_decay.is_finite() && self.weight_decay >= 0.0, "0 or more"),
            ("beta1", (0.0..1.0).contains(&self.beta1), "in [0, 1)"),
            ("beta2", (0.0..1.0).contains(&self.beta2), "in [0, 1)"),
            ("epsilon", self.epsilon.is_finite() && self.epsilon > 0.0, "above 0"),
            ("clip", self.clip.is_finite() && self.clip >= 0.0, "0 (off) or more"),
            ("batch", self.batch >= 1, "1 or more"),
            ("micro_tokens", self.micro_tokens >= 1, "1 or more"),
            ("epochs", self.epochs >= 1, "1 or more"),
            ("checkpoint_seconds", self.checkpoint_seconds >= 0.0, "0 or more"),
        ];
        for (field, fine, range) in rules {
            if !fine {
                return Err(Error::usage(format!("tune.{field}"), "the value is out of range")
                    .next(format!("set it to a value {range}")));
            }
        }
        Ok(())
    }
}
