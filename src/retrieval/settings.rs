//! What a recipe may set.

use serde::{Deserialize, Serialize};

use super::mixture::{Embedding, Scale};
use super::rerank::{RerankRule, Template};
use crate::error::{Error, Result};
pub use crate::ops::infonce::Similarity;

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
pub struct Settings {
    /// History items that a prompt shows (K), 1 to 1000. Default 30.
    pub k: usize,
    /// `txt`, `text`, `colla`, `mix`, `mix2`, `mix3` or `hybrid`. Default mix3.
    pub embedding: Embedding,
    /// How blocks are brought to one scale: `max_row_norm` or `unit_rows`. Default max_row_norm.
    pub scale: Scale,
    /// Dimensions that text is reduced to by PCA; 0 leaves it whole. Default 128.
    pub pca: usize,
    /// Reduce `txt` too (as on BookCrossing). Default false.
    pub pca_plain: bool,
    /// `cosine` (ML-1M, Amazon) or `inner_product` (BookCrossing). Default cosine.
    pub similarity: Similarity,
    /// What the softmax of `mix2` runs over: `catalogue` or `history`. Default catalogue.
    pub softmax_over: SoftmaxOver,
    /// Items of the most similar user: `off`, `add` or `replace`. Default off.
    pub similar_user: SimilarUser,
    /// Most items borrowed from the similar user. Default 3.
    pub similar_items: usize,
    /// Which items in which order: `simple`, `low`, `high`, `sequential` or `rerank`. Default rerank.
    pub template: Template,
    /// Rule of `rerank`: `ml_1m`, `amazon`, `book_crossing` or `score`. Default ml_1m.
    pub rule: RerankRule,
    /// Rule `score`: weight of similarity against recency, 0 to 1. Default 0.5.
    pub gamma: f64,
    /// Rule `score`: how fast recency fades with age, at least 0. Default 1.
    pub beta: f64,
    /// Faithful to defect D1: a history item is judged by the embedding of the *next* raw id. Default false.
    pub faithful_off_by_one: bool,
    /// Faithful to defect D6: the target may be retrieved from its own history. Default false.
    pub faithful_target_in_history: bool,
    /// Faithful to defect D10: the walk back through a history with repeats starts at the number of distinct
    /// items. Default false.
    pub faithful_walk_back: bool,
}

impl Default for Settings {
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

impl Settings {
    /// With the defects of the authors' retrieval. `raw_ids_are_rows`: raw item ids count from 1, so that D1 can be.
    #[must_use]
    pub fn faithful(self, raw_ids_are_rows: bool) -> Self {
        Self {
            faithful_off_by_one: raw_ids_are_rows,
            faithful_target_in_history: true,
            faithful_walk_back: true,
            ..self
        }
    }

    /// Refuses values outside the ranges above.
    pub fn validate(&self) -> Result<()> {
        let bad = |key: &str, what: &str| Err(Error::usage(format!("retrieval.{key}"), what));
        match self {
            s if s.k == 0 || s.k > 1000 => bad("k", "must be 1 to 1000"),
            s if !(0.0..=1.0).contains(&s.gamma) => bad("gamma", "must be 0 to 1"),
            s if !(s.beta.is_finite() && s.beta >= 0.0) => bad("beta", "must be at least 0"),
            _ => Ok(()),
        }
    }
}
