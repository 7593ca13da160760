//! Recommendations out of a finished run.
//!
//! [`Recommender::open`] reads a run once. The value owns all that it needs, and any number of
//! threads may ask it: [`Recommender::recommend`] ranks the catalogue for a user of the run or for
//! a history that is given, [`Recommender::score`] scores pairs.

mod ask;
mod found;
mod ids;
mod newest;
mod reasons;
mod recommender;
mod weigh;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use newest::Taken;
pub use recommender::Recommender;
pub use weigh::ModelWeight;

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

impl FromStr for Met {
    type Err = std::convert::Infallible;

    /// `ID` or `ID:RATING`. What stands behind the last colon and is no number belongs to the id.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let text = text.trim();
        let parts = text.rsplit_once(':').and_then(|(id, rating)| Some((id, rating.trim().parse::<f32>().ok()?)));
        Ok(match parts {
            Some((id, rating)) => Self { item: id.trim().into(), rating: Some(rating) },
            None => Self { item: text.into(), rating: None },
        })
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rating {
            Some(rating) => write!(f, "{}:{rating}", self.item),
            None => f.write_str(&self.item),
        }
    }
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
    /// Ask the tuned language model about the `recommend.candidates` best items of the ranker, and
    /// order them by its answers and the ranker's scores, as validation rows weigh them.
    pub ask_model: bool,
    /// Seconds that it may take, in place of `recommend.model_seconds`; 0 sets no limit.
    pub model_seconds: Option<f64>,
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
    /// What the candidates were ranked by, a row of the run's ranking tables: the best one by
    /// validation, or popularity for somebody of whom nothing is known.
    pub ranked_by: &'static str,
    /// The rankers that it is made of, with their weights; empty for popularity in its stead.
    pub parts: Vec<BlendPart>,
    /// How good it was on the validation part; none without one.
    pub quality: Option<Quality>,
    /// What the tuned language model was asked, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<AskedModel>,
    /// The log tells what was met, and not how it was rated: every row counts as a like.
    pub implicit: bool,
    /// Items that could be listed.
    pub candidates: usize,
    /// Best first.
    pub items: Vec<Recommendation>,
    /// Items without training rows, by similarity of their text to what the user liked.
    pub cold: Vec<Recommendation>,
}

/// A ranker of a blend.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct BlendPart {
    /// Its row of the run's ranking tables.
    pub ranker: String,
    /// What its scores are multiplied by, each brought to mean 0 and deviation 1 for a user.
    pub weight: f32,
}

impl From<&(String, f32)> for BlendPart {
    fn from((ranker, weight): &(String, f32)) -> Self {
        Self { ranker: ranker.clone(), weight: *weight }
    }
}

/// NDCG@10 on the validation part, which chose the ranker and the weights of a blend, and on the
/// test part, which chose nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Quality {
    /// Of the ranker.
    pub ndcg: f64,
    /// Of popularity.
    pub popularity: f64,
    /// Of the ranker on the test part; none where nobody likes anything in it.
    pub test_ndcg: Option<f64>,
    /// Of popularity there.
    pub test_popularity: Option<f64>,
}

/// What the tuned language model was asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AskedModel {
    /// Best items of the ranker among which it was to choose.
    pub candidates: usize,
    /// How many of them fitted into `recommend.model_seconds`; the others stand behind.
    pub asked: usize,
    /// What that took, loading the model included.
    pub seconds: f64,
    /// What a candidate cost, loading aside.
    pub seconds_each: f64,
    /// What the answers count beside the ranker's scores. None where the run has answered no
    /// validation row of either class: the answers alone order the candidates then.
    pub weight: Option<ModelWeight>,
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
    /// item, the similarity of its text. None of an item that fills a short list because it is
    /// popular.
    pub score: Option<f32>,
    /// The tuned language model's probability, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_probability: Option<f64>,
    /// What orders the list where the tuned model was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_score: Option<f64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rating_stands_behind_the_last_colon() {
        let met = |text: &str| text.parse::<Met>().map(|met| (met.item, met.rating)).ok();
        assert_eq!(met("17"), Some(("17".into(), None)));
        assert_eq!(met(" 17:4.5 "), Some(("17".into(), Some(4.5))));
        assert_eq!(met("urn:isbn:3:5"), Some(("urn:isbn:3".into(), Some(5.0))));
        assert_eq!(met("a:b"), Some(("a:b".into(), None)));
    }
}
