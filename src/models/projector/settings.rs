//! What a recipe may set. The papers leave nearly all of it open.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use crate::ops::infonce::Similarity;
pub use crate::ops::mlp::Activation;

/// Settings of the alignment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `cosine` or `inner_product`. Default cosine.
    pub similarity: Similarity,
    /// Temperature, above 0. Default 0.1.
    pub tau: f32,
    /// Learn the temperature too, starting from `tau`. Default false.
    pub learn_tau: bool,
    /// Hidden width; 0 means twice the output's. Default 0.
    pub hidden: usize,
    /// `relu`, `tanh`, `silu` or `identity`. Default relu.
    pub activation: Activation,
    /// Items of a batch, at least 2; 0 means all at once. Default 1024.
    pub batch: usize,
    /// Most epochs, at least 1. Default 200.
    pub epochs: u32,
    /// Adam's step size, above 0. Default 1e-3.
    pub learning_rate: f32,
    /// Keep the collaborative rows as they are; else a copy of them is trained along. Default true.
    pub freeze_collaborative: bool,
    /// Reduce text by PCA to so many dimensions first; 0 means no. Default 0.
    pub text_pca: usize,
    /// Take half of the two directions' sum (their mean). Default false.
    pub half: bool,
    /// Share of items held out to decide when to stop, 0 to 0.5. Default 0.1.
    pub held_out: f32,
    /// Stop after so many epochs without a lower held-out loss; 0 never stops. Default 10.
    pub early_stop: u32,
    /// Seed of initial weights, held-out items and batches. Default 42.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            similarity: Similarity::Cosine,
            tau: 0.1,
            learn_tau: false,
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

impl Settings {
    /// Refuses values outside the ranges above.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let bad = |key: &str, what: &str| {
            Err(Error::usage(format!("align.{key}"), what).next("mend the recipe, or use --set"))
        };
        match self {
            s if !positive(s.tau) => bad("tau", "must be above 0"),
            s if !positive(s.learning_rate) => bad("learning_rate", "must be above 0"),
            s if s.batch == 1 => bad("batch", "must be 0 (all items) or at least 2"),
            s if s.epochs == 0 => bad("epochs", "must be at least 1"),
            s if !(0.0..=0.5).contains(&s.held_out) => bad("held_out", "must be 0 to 0.5"),
            s if s.hidden > 1 << 20 => bad("hidden", "must be at most 1048576"),
            _ => Ok(()),
        }
    }
}
