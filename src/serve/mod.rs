//! Recommendations out of a finished run.
//!
//! [`Recommender::open`] reads a run once. The value owns all that it needs, and any number of
//! threads may ask it: [`Recommender::recommend`] ranks the catalogue for a user of the run or for
//! a history that is given, [`Recommender::score`] scores pairs.

mod ask;
mod found;
mod ids;
mod reasons;
mod recommender;

use serde::{Deserialize, Serialize};

pub use recommender::Recommender;

/// Most items of a list.
pub const MOST: usize = 256;

/// Something that somebody met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Met {
    /// Id of the item, as the data set writes it.
    pub item: String,
    /// How it was rated, on the data set's scale; a row without a rating counts as a like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<f32>,
}

/// Whose recommendations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A user of the run, by the id that the data set writes.
    User(String),
    /// Somebody who met these, oldest first. The run need not know more of them.
    History(Vec<Met>),
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// For whom.
    pub who: Who,
    /// Recommendations, 1 to [`MOST`].
    pub top: usize,
    /// Items without ratings to learn from that are listed besides.
    pub cold: usize,
    /// Ids of items that are not to be listed, besides those of the history.
    pub exclude: Vec<String>,
    /// Ask the tuned language model about the recommendations, and order them by its answer.
    pub ask_model: bool,
}

/// The answer.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Recommendations {
    /// Id of the user; none for a history that was given.
    pub user: Option<String>,
    /// Ratings in the user's history.
    pub ratings: usize,
    /// How many of them are likes.
    pub liked: usize,
    /// What the candidates were ranked by, a row of the run's ranking tables.
    pub ranked_by: &'static str,
    /// The log tells what was met, and not how it was rated: every row counts as a like.
    pub implicit: bool,
    /// Items that could be listed.
    pub candidates: usize,
    /// Best first.
    pub items: Vec<Recommendation>,
    /// Items without training rows, by similarity of their text to what the user liked.
    pub cold: Vec<Recommendation>,
}

/// One item.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Recommendation {
    /// Id of the item.
    pub item: String,
    /// Title.
    pub title: String,
    /// Genres.
    pub genres: Vec<String>,
    /// Place by the ranker's score, from 1; among new items, by their text.
    pub rank: usize,
    /// The ranker's score: it orders the items of one list, and means nothing beyond it. Of a new
    /// item, the similarity of its text.
    pub score: f32,
    /// The tuned language model's probability, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_probability: Option<f64>,
    /// Training ratings of the item.
    pub item_ratings: usize,
    /// How many of them are likes.
    pub item_likes: usize,
    /// No training rating: ranked by its content.
    pub is_cold: bool,
    /// What of the history speaks for it, the strongest first.
    pub because: Vec<Because>,
    /// All that in words.
    pub reason: String,
}

/// A liked item that speaks for a recommendation.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Because {
    /// Id.
    pub item: String,
    /// Title.
    pub title: String,
    /// The user's rating.
    pub rating: f32,
    /// How much it speaks for the recommendation, by what ranked it.
    pub weight: f32,
}

/// A user and an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Id of a user of the run.
    pub user: String,
    /// Id of an item of the run.
    pub item: String,
}

/// What is known of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Score {
    /// Id of the user.
    pub user: String,
    /// Id of the item.
    pub item: String,
    /// The score of what ranks this user's list: it compares items for one user. None where it says
    /// nothing of the item.
    pub score: Option<f32>,
    /// What gave the score.
    pub ranked_by: &'static str,
    /// Probability that the user likes the item, by the item's ratings and the user's own; none for
    /// a log without ratings.
    pub probability: Option<f64>,
    /// The item stands in the user's history.
    pub met: bool,
}
