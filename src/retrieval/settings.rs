//! What a recipe may set.

use serde::{Deserialize, Serialize};

use super::mixture::{Embedding, Scale};
use super::rerank::{RerankRule, Template};
pub use crate::ops::infonce::Similarity;
use crate::settings::Checked;

/// What the softmax of `mix2` runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SoftmaxOver {
    /// All items (ML-1M, Amazon).
    #[default]
    Catalogue,
    /// The user's history (BookCrossing).
    History,
}

/// Items borrowed from the most similar user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimilarUser {
    /// None.
    #[default]
    Off,
    /// Put in front of the list, only for histories of at most K - 3 items (ML-1M).
    Add,
    /// Put in front of the list in place of as many items there (Amazon).
    Replace,
}

/// Settings of retrieval and reranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrievalSettings {
    /// History items that a prompt shows (K).
    #[schemars(range(min = 1, max = 1000))]
    pub k: usize,
    /// Which embeddings a history item and the target are compared by: the templated text (`txt`),
    /// the description (`text`), LightGCN (`colla`), or a mixture of them.
    pub embedding: Embedding,
    /// How the blocks of a mixture are brought to one scale.
    pub scale: Scale,
    /// Dimensions that text vectors are reduced to by PCA; 0 leaves them whole.
    #[schemars(range(max = 65_536))]
    pub pca: usize,
    /// Reduce the templated text (`txt`) too, as the authors do on Book-Crossing.
    pub pca_plain: bool,
    /// How two vectors are compared: the authors take `cosine` on ML-1M and Amazon, `inner_product`
    /// on Book-Crossing.
    pub similarity: Similarity,
    /// What the softmax of `mix2` runs over.
    pub softmax_over: SoftmaxOver,
    /// What is done with items of the most similar user.
    pub similar_user: SimilarUser,
    /// Most items borrowed from the similar user.
    #[schemars(range(max = 1000))]
    pub similar_items: usize,
    /// Which items are shown, and in which order.
    pub template: Template,
    /// How `rerank` joins retrieved and recent items: by a rule, or as learnt on training rows.
    pub rule: RerankRule,
    /// Rules `paper` and `score`: weight of similarity; that of recency is the rest of 1. The paper
    /// searches 1/2, 2/3 and 4/5.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f64,
    /// Rule `paper`: how fast a score falls with the place in its order; the paper has 1. Rule
    /// `score`: how fast recency fades with age.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub beta: f64,
    /// Faithful to defect D1: a history item is judged by the embedding of the *next* raw id.
    pub faithful_off_by_one: bool,
    /// Faithful to defect D6: the target may be retrieved from its own history.
    pub faithful_target_in_history: bool,
    /// Faithful to defect D10: the walk back through a history with repeats starts at the number of
    /// distinct items.
    pub faithful_walk_back: bool,
}

impl Default for RetrievalSettings {
    fn default() -> Self {
        Self {
            k: 30,
            embedding: Embedding::Mix3,
            scale: Scale::MaxRowNorm,
            pca: 128,
            pca_plain: false,
            similarity: Similarity::Cosine,
            softmax_over: SoftmaxOver::Catalogue,
            similar_user: SimilarUser::Off,
            similar_items: 3,
            template: Template::Rerank,
            rule: RerankRule::Ml1m,
            gamma: 0.5,
            beta: 1.0,
            faithful_off_by_one: false,
            faithful_target_in_history: false,
            faithful_walk_back: false,
        }
    }
}

impl RetrievalSettings {
    /// With the defects of the authors' retrieval. `raw_ids_are_rows`: raw item ids count from 1,
    /// so that D1 can be.
    #[must_use]
    pub fn faithful(self, raw_ids_are_rows: bool) -> Self {
        Self {
            faithful_off_by_one: raw_ids_are_rows,
            faithful_target_in_history: true,
            faithful_walk_back: true,
            ..self
        }
    }
}

impl Checked for RetrievalSettings {}
