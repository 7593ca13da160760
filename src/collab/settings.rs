//! The recipe's section on collaborative features.

use serde::{Deserialize, Serialize};

use super::als::AlsSettings;
use super::content::Content;
use crate::error::{Error, Result};
use crate::settings::Checked;
use crate::text::ratings::Wording;

/// How collaborative features are made and said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CollabSettings {
    /// What the prompt says of them: nothing (`none` makes no features, `silent` makes them for
    /// tables and merge), how others rated the target, that and how the user rates, a verdict
    /// without the numbers, or everything.
    pub wording: Wording,
    /// Folds of users: the features of a training row are fitted on the other folds.
    #[schemars(range(min = 2, max = 100))]
    pub folds: u32,
    /// Pseudo-ratings at the global mean that are added to each item's ratings.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub item_shrinkage: f64,
    /// Pseudo-ratings at the global mean that are added to a user's history.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub history_shrinkage: f64,
    /// Add the rank of the target among all items by LightGCN, and say it.
    pub affinity: bool,
    /// Which of the user's earlier ratings speak for the target (fold-in); part of the estimate
    /// behind the verdict.
    pub fold_in: FoldInSettings,
    /// What holds items with few ratings: the mean of all items, or what their words leave to
    /// expect, learnt from other items (a content prior).
    pub content: Content,
    /// Ridge of the regression behind the content prior.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub content_ridge: f64,
    /// Seed of the folds, and of the rows that the estimate is fitted on. Not set: the recipe's
    /// `seed`.
    pub seed: u64,
}

impl Default for CollabSettings {
    fn default() -> Self {
        Self {
            wording: Wording::None,
            folds: 5,
            item_shrinkage: 20.0,
            history_shrinkage: 10.0,
            affinity: false,
            fold_in: FoldInSettings::default(),
            content: Content::None,
            content_ridge: 1.0,
            seed: 42,
        }
    }
}

impl Checked for CollabSettings {}

/// Where the item vectors of a fold-in come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoldInSource {
    /// LightGCN's item embeddings, brought to mean 0 and unit length.
    Lightgcn,
    /// Factors of the training ratings by alternating least squares.
    Ratings,
}

/// How a user is folded in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FoldInSettings {
    /// Where item vectors come from; each source gives an estimate of its own. Empty: no fold-in.
    #[schemars(extend("uniqueItems" = true))]
    pub sources: Vec<FoldInSource>,
    /// Ridge of the fold-in on LightGCN's vectors, which are brought to length 1.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub lightgcn_ridge: f64,
    /// The factorisation behind the source `ratings`.
    pub ratings: AlsSettings,
}

impl Default for FoldInSettings {
    fn default() -> Self {
        Self { sources: Vec::new(), lightgcn_ridge: 4.0, ratings: AlsSettings::default() }
    }
}

pub(super) fn above_zero(key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::usage(key, format!("{value} is out of range")).next("choose a number above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_out_of_range_is_named() {
        let good = CollabSettings::default();
        good.check().unwrap();
        let twice = vec![FoldInSource::Ratings, FoldInSource::Ratings];
        for (bad, key) in [
            (CollabSettings { folds: 1, ..good.clone() }, "folds"),
            (CollabSettings { item_shrinkage: 0.0, ..good.clone() }, "item_shrinkage"),
            (CollabSettings { history_shrinkage: f64::NAN, ..good.clone() }, "history_shrinkage"),
            (
                CollabSettings { fold_in: FoldInSettings { sources: twice, ..good.fold_in.clone() }, ..good.clone() },
                "fold_in.sources",
            ),
        ] {
            assert_eq!(bad.check().unwrap_err().place(), key);
        }
    }
}
