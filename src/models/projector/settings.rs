//! What a recipe may set. The papers leave nearly all of it open.

use serde::{Deserialize, Serialize};

pub use crate::ops::infonce::Similarity;
pub use crate::ops::mlp::Activation;
use crate::settings::{Checked, Faults};

/// What maps a text's embedding into the collaborative space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// A perceptron of two layers, as the papers have it.
    #[default]
    Mlp,
    /// Self-attention over slices of the embedding, and the perceptron behind it. It runs on the
    /// CPU.
    Attention,
}

/// Settings of the alignment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorSettings {
    /// How a text vector and a collaborative one are compared.
    pub similarity: Similarity,
    /// Temperature of the contrastive loss.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub tau: f32,
    /// Learn the temperature too, starting from `tau`.
    pub learn_tau: bool,
    /// What maps text into the collaborative space: the papers' perceptron, or attention before it.
    pub projection: Projection,
    /// Tokens that attention reads a text's embedding as.
    #[schemars(range(min = 2, max = 4096))]
    pub tokens: usize,
    /// Width of the projector's hidden layer; 0 means twice the output's.
    #[schemars(range(max = 1_048_576))]
    pub hidden: usize,
    /// What stands between the projector's two layers.
    pub activation: Activation,
    /// Items of a batch; 0 means all at once. A batch of 1 has nothing to contrast with and is
    /// refused.
    #[schemars(range(max = 16_777_216))]
    pub batch: usize,
    /// Most epochs; an epoch sees every item once.
    #[schemars(range(min = 1))]
    pub epochs: u32,
    /// Adam's step size.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f32,
    /// Keep the collaborative vectors as they are; else a copy of them is trained along.
    pub freeze_collaborative: bool,
    /// Reduce text vectors by PCA to so many dimensions first; 0 means no reduction.
    #[schemars(range(max = 65_536))]
    pub text_pca: usize,
    /// Take the mean of the losses of the two directions instead of their sum.
    pub half: bool,
    /// Share of items held out; their loss decides when to stop.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub held_out: f32,
    /// Stop after so many epochs without a lower held-out loss; 0 never stops.
    pub early_stop: u32,
    /// Seed of first weights, held-out items and batches. Not set: the recipe's `seed`.
    pub seed: u64,
}

impl Default for ProjectorSettings {
    fn default() -> Self {
        Self {
            similarity: Similarity::Cosine,
            tau: 0.1,
            learn_tau: false,
            projection: Projection::Mlp,
            tokens: 16,
            hidden: 0,
            activation: Activation::Relu,
            batch: 1024,
            epochs: 200,
            learning_rate: 1e-3,
            freeze_collaborative: true,
            text_pca: 0,
            half: false,
            held_out: 0.1,
            early_stop: 10,
            seed: 42,
        }
    }
}

impl Checked for ProjectorSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let next = "set it to 0 (all items) or to at least 2";
        faults.unless(self.batch != 1, "batch", "a batch of one item has nothing to contrast with", next);
        faults
    }
}
