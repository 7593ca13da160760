//! The collaborative room: what ratings and the interaction graph say by themselves, without a
//! language model.
//!
//! - [`Counts`]: likes and stars of each item, apart by folds of users, so that a row is never
//!   described by itself;
//! - [`Baselines`], [`GraphBaseline`]: predictors that a language model has to beat;
//! - [`content`]: what the words of an item leave to expect of its ratings, and what a user's
//!   ratings of items with like words do;
//! - [`boosted`], [`similar`]: gradient-boosted trees, item-kNN on ratings, TF-IDF;
//! - [`reranker`]: which items of a history tell the answer, learnt on pairs of them;
//! - [`FoldIn`]: what a user's own earlier ratings say of a target, on LightGCN's item vectors or
//!   on those of [`als`];
//! - [`CausalFeatures`]: all of these for one row, and the probability that a [`Logistic`] fit
//!   draws from them;
//! - [`CrossFit`]: makes them so that no training row has a part in its own features.
//!
//! `text::ratings` puts the features into words.

mod affinity;
pub mod als;
mod baselines;
pub mod boosted;
pub mod content;
mod counts;
mod cross_fit;
mod features;
mod fold_in;
mod logistic;
pub mod reranker;
mod settings;
pub mod similar;
mod tree_features;

pub use affinity::Affinity;
pub use als::AlsSettings;
pub use baselines::{BaselineSettings, Baselines, GraphBaseline};
pub use content::{Content, TextVectors};
pub use counts::Counts;
pub use cross_fit::{CrossFit, Sources, Weights};
pub use features::{CausalFeatures, FEATURES};
pub use fold_in::{FoldIn, ItemMeans};
pub use logistic::{Logistic, log_odds, sigmoid};
pub use settings::{CollabSettings, FoldInSettings, FoldInSource};
pub use tree_features::{COUNT as TREE_FEATURES, TreeFeatures};
