//! What a recipe may set of rankers and recommendations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Checked;

/// Which rows the rankers behind `recommend` are fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinalFit {
    /// All rows for a table of one's own, the training rows for the data sets of the papers.
    #[default]
    Auto,
    /// All rows, those of validation and test too; the tables stay those of the split.
    All,
    /// The training rows alone.
    Training,
}

/// What all pairs without a like weigh beside the likes. With a weight that is right for a dense
/// table, those of a sparse one drown the likes: on the published split of Gowalla (0.07 % of the
/// pairs) 0.1 leaves recall@20 at .010, and this rule reaches .142.
const PAIRS_PER_LIKE: f64 = 5.0;

/// Most that such a pair weighs by itself.
const MOST_UNSEEN: f64 = 0.1;

/// Implicit alternating least squares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FactorSettings {
    /// Length of the vectors; 0 leaves the ranker out.
    #[schemars(range(max = 256))]
    pub dim: usize,
    /// Weight of the vectors' squared length, for each like and each weighted pair.
    #[schemars(range(max = 1_000_000.0), extend("exclusiveMinimum" = 0))]
    pub ridge: f64,
    /// What a pair without a like weighs; a like weighs 1. 0: five times the share of likes among
    /// all pairs of users and items, 0.1 at most, so that all pairs without a like together weigh
    /// about five times the likes.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub unseen_weight: f64,
    /// Times that both sides are solved.
    #[schemars(range(min = 1, max = 1000))]
    pub sweeps: u32,
}

impl Default for FactorSettings {
    fn default() -> Self {
        Self { dim: 48, ridge: 0.03, unseen_weight: 0.0, sweeps: 8 }
    }
}

impl FactorSettings {
    /// With the weight of a pair without a like that stands for 0 in a table of so many likes.
    #[must_use]
    pub fn weighed(&self, likes: usize, users: usize, items: usize) -> Self {
        let share = likes as f64 / (users.max(1) as f64 * items.max(1) as f64);
        let own = if share > 0.0 { (PAIRS_PER_LIKE * share).min(MOST_UNSEEN) } else { MOST_UNSEEN };
        Self { unseen_weight: if self.unseen_weight > 0.0 { self.unseen_weight } else { own }, ..self.clone() }
    }
}

/// Rankers, their blend, and recommendations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecommendSettings {
    /// Weight of the squared weights in EASE.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub ease_ridge: f64,
    /// Memory in MiB that EASE's items x items table may take while it is fitted, 12 bytes an
    /// entry; above that it is left out. 0 leaves it out.
    #[schemars(range(max = 1_000_000))]
    pub ease_memory: u64,
    /// Neighbours of each item in item-kNN; 0 leaves it out.
    #[schemars(range(max = 10_000))]
    pub neighbours: usize,
    /// Time after which a like counts half for the ranker by recent likes, as a share of the time
    /// that the training rows span.
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    pub half_life: f64,
    /// Implicit ALS.
    pub factors: FactorSettings,
    /// Validation users that the weights of the blend are chosen on; 0 makes no blend.
    #[schemars(range(max = 1_000_000))]
    pub blend_users: usize,
    /// Which rows the rankers behind `recommend` are fitted on; the tables are those of the split
    /// in any case.
    pub fit: FinalFit,
    /// Best items of the ranker among which the tuned language model chooses with `--score llm`.
    #[schemars(range(min = 1, max = 256))]
    pub candidates: usize,
    /// Seconds that the tuned language model may take for one list, loading aside; candidates that
    /// do not fit stand behind, in the ranker's order. 0 sets no limit.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub model_seconds: f64,
}

impl Default for RecommendSettings {
    fn default() -> Self {
        Self {
            ease_ridge: 300.0,
            ease_memory: 1024,
            neighbours: 100,
            half_life: 0.1,
            factors: FactorSettings::default(),
            blend_users: 5000,
            fit: FinalFit::Auto,
            candidates: 50,
            model_seconds: 60.0,
        }
    }
}

impl Checked for RecommendSettings {}
