//! The recipe's section on collaborative features.

use serde::{Deserialize, Serialize};

use super::als::AlsSettings;
use crate::error::{Error, Result};
use crate::text::ratings::Wording;

/// How collaborative features are made and said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CollabSettings {
    /// What the prompt says: `none`, `silent`, `item`, `item_user`, `verdict` or `all`. Default `none`.
    #[serde(rename = "knowledge")]
    pub wording: Wording,
    /// Folds of users for training rows, 2 to 100. Default 5.
    pub folds: u32,
    /// Pseudo-ratings at the global mean added to each item, > 0. Default 20.
    pub item_shrinkage: f64,
    /// Pseudo-ratings at the global mean added to a user's history, > 0. Default 10.
    pub history_shrinkage: f64,
    /// Use how the target ranks by LightGCN among all items, and say it. Default false.
    pub affinity: bool,
    /// Which of the user's earlier ratings speak for the target: taken into the estimate behind the verdict.
    #[serde(rename = "taste")]
    pub fold_in: FoldInSettings,
    /// Seed of the folds. Default 42.
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
            seed: 42,
        }
    }
}

impl CollabSettings {
    /// Are the values in range?
    ///
    /// # Errors
    /// Names the key that is not.
    pub fn check(&self) -> Result<()> {
        if !(2..=100).contains(&self.folds) {
            return Err(Error::usage("collab.folds", format!("{} folds", self.folds)).next("choose 2 to 100"));
        }
        above_zero("collab.item_shrinkage", self.item_shrinkage)?;
        above_zero("collab.history_shrinkage", self.history_shrinkage)?;
        self.fold_in.check()
    }
}

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
    /// `lightgcn`, `ratings` or both: each gives an estimate of its own. Default: none.
    pub sources: Vec<FoldInSource>,
    /// Weight of `|p|^2` with LightGCN's vectors, which have length 1; > 0. Default 4.
    pub lightgcn_ridge: f64,
    /// The factorisation.
    pub ratings: AlsSettings,
}

impl Default for FoldInSettings {
    fn default() -> Self {
        Self { sources: Vec::new(), lightgcn_ridge: 4.0, ratings: AlsSettings::default() }
    }
}

impl FoldInSettings {
    /// Are the values in range?
    ///
    /// # Errors
    /// Names the key that is not.
    pub fn check(&self) -> Result<()> {
        above_zero("collab.fold_in.lightgcn_ridge", self.lightgcn_ridge)?;
        let again = self.sources.iter().enumerate().find(|(n, s)| self.sources[..*n].contains(s));
        if let Some((_, source)) = again {
            return Err(
                Error::usage("collab.fold_in.sources", format!("{source:?} twice")).next("name each source once")
            );
        }
        self.ratings.check()
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
            assert_eq!(bad.check().unwrap_err().place(), format!("collab.{key}"));
        }
    }
}
