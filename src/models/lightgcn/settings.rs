//! What a recipe may set.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::spmm::Precision;

/// Settings of LightGCN training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Width of an embedding, at least 1; multiples of 16 are fastest. Default 128.
    pub dim: usize,
    /// Propagation layers, 0 (plain matrix factorisation) to 8. Default 3.
    pub layers: usize,
    /// Adam's step size, above 0. Default 1e-3.
    pub learning_rate: f32,
    /// Weight of the penalty on layer-0 rows, at least 0. Default 1e-4.
    pub lambda: f32,
    /// Triples a step, at least 1. Default 2048.
    pub batch: usize,
    /// Most epochs; an epoch sees every edge once. Default 1000.
    pub epochs: u32,
    /// Stop after this many evaluations without a better validation recall@20; 0 never stops. Default 10.
    pub early_stop: u32,
    /// Evaluate after every so many epochs, at least 1. Default 5.
    pub eval_every: u32,
    /// Standard deviation of the initial values, above 0. Default 0.1.
    pub init_std: f32,
    /// Seed of initial values, order of edges and negatives. Default 42.
    pub seed: u64,
    /// `f32` or `bf16`: how neighbours' rows are kept between the layers. 16 bits gather half the bytes and round each
    /// gathered value by at most 1/256; parameters, sums and moments stay f32. Default `f32`.
    pub precision: Precision,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dim: 128,
            layers: 3,
            learning_rate: 1e-3,
            lambda: 1e-4,
            batch: 2048,
            epochs: 1000,
            early_stop: 10,
            eval_every: 5,
            init_std: 0.1,
            seed: 42,
            precision: Precision::F32,
        }
    }
}

impl Settings {
    /// Refuses values outside the ranges above.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let bad = |key: &str, what: &str| Err(Error::usage(format!("lightgcn.{key}"), what));
        match self {
            s if s.dim == 0 || s.dim > 65_536 => bad("dim", "must be 1 to 65536"),
            s if s.layers > 8 => bad("layers", "must be 0 to 8"),
            s if !positive(s.learning_rate) => bad("learning_rate", "must be above 0"),
            s if !(s.lambda.is_finite() && s.lambda >= 0.0) => bad("lambda", "must be at least 0"),
            s if s.batch == 0 || s.batch > 1 << 24 => bad("batch", "must be 1 to 16777216"),
            s if s.epochs == 0 => bad("epochs", "must be at least 1"),
            s if s.eval_every == 0 => bad("eval_every", "must be at least 1"),
            s if !positive(s.init_std) => bad("init_std", "must be above 0"),
            _ => Ok(()),
        }
    }
}
