//! What a recipe may set.

use serde::{Deserialize, Serialize};

use crate::ops::spmm::Precision;
use crate::settings::{Checked, Schedule};

/// How the user and the item of a triple are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Draw {
    /// Every pair once an epoch: a user stands in as many triples as the user has pairs.
    Pairs,
    /// Every user equally often, with one of the user's pairs, as LightGCN's published program
    /// does. Figures that are means over users gain by it.
    Users,
}

/// Settings of LightGCN training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LightGcnSettings {
    /// Width of an embedding; multiples of 16 are fastest.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Propagation layers; 0 is plain matrix factorisation.
    #[schemars(range(max = 8))]
    pub layers: usize,
    /// Adam's step size.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f32,
    /// How the learning rate falls over `epochs`. A falling rate takes larger ones at the beginning
    /// and needs fewer epochs; a run that ended cannot go on with more of them then.
    pub schedule: Schedule,
    /// Weight of the L2 penalty on the embeddings before propagation.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub lambda: f32,
    /// Triples (user, item, negative item) of a step.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub batch: usize,
    /// Items drawn for a triple, of which the one that the model scores highest is its negative
    /// (dynamic negative sampling). 1 draws uniformly, as LightGCN's paper does; 8 needs a fraction
    /// of the epochs.
    #[schemars(range(min = 1, max = 1024))]
    pub negative_candidates: u32,
    /// How the user and the item of a triple are chosen.
    pub draw: Draw,
    /// Most epochs; an epoch has as many triples as there are edges.
    #[schemars(range(min = 1))]
    pub epochs: u32,
    /// Stop after so many evaluations without a better validation recall@20; 0 never stops.
    pub early_stop: u32,
    /// Epochs between two evaluations.
    #[schemars(range(min = 1))]
    pub eval_every: u32,
    /// Standard deviation of the first embeddings.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub init_std: f32,
    /// Seed of first embeddings, order of edges and negatives. Not set: the recipe's `seed`.
    pub seed: u64,
    /// Storage of neighbours' vectors between the layers: `bf16` gathers half the bytes and rounds
    /// each gathered value by at most 1/256. Parameters, sums and moments stay f32.
    pub precision: Precision,
}

impl Default for LightGcnSettings {
    fn default() -> Self {
        Self {
            dim: 128,
            layers: 3,
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            lambda: 1e-4,
            batch: 2048,
            negative_candidates: 1,
            draw: Draw::Pairs,
            epochs: 1000,
            early_stop: 10,
            eval_every: 5,
            init_std: 0.1,
            seed: 42,
            precision: Precision::F32,
        }
    }
}

impl Checked for LightGcnSettings {}
