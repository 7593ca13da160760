//! Names of the rows of a table of results.

use serde::{Deserialize, Deserializer};

/// Share of likes in the training rows.
pub const GLOBAL_MEAN: &str = "global mean";
/// The item's own share, shrunk.
pub const ITEM_MEAN: &str = "item mean";
/// The item's mean and the user's history.
pub const ITEM_AND_HISTORY: &str = "item mean + own history";
/// LightGCN's score for a user and an item, made a probability: who meets what, with nothing of how
/// it is rated. It is fitted on edges that it has seen.
pub const EXPOSURE: &str = "LightGCN, exposure alone";
/// LightGCN, in tables of rankers.
pub const LIGHTGCN: &str = "LightGCN";
/// Items by the number of their training ratings, in tables of rankers.
pub const POPULARITY: &str = "popularity";
/// Items by their likes, the later ones weighing more.
pub const RECENT: &str = "recent likes";
/// Items that are liked by the same users.
pub const NEIGHBOURS: &str = "item-kNN";
/// Each item from all others by ridge regression, on likes.
pub const EASE: &str = "EASE";
/// The same on ratings.
pub const EASE_RATED: &str = "EASE on ratings";
/// Vectors of users and items by weighted least squares over all pairs.
pub const FACTORS: &str = "implicit ALS";
/// Several rankers at once.
pub const BLEND: &str = "blend";
/// Biases of item and user, and factors of the ratings.
pub const FACTORISATION: &str = "matrix factorisation";
/// Ratings of items that the same users rate alike.
pub const RATED_NEIGHBOURS: &str = "item-kNN on ratings";
/// Ratings of items with like words; in tables of rankers, items with words like those of the
/// likes.
pub const CONTENT: &str = "TF-IDF content";
/// Gradient-boosted trees on what was known before the row.
pub const TREES: &str = "boosted trees";
/// The baselines that the part `baselines` of `evaluate` fits, in the order of a table.
pub const FITTED: [&str; 4] = [FACTORISATION, RATED_NEIGHBOURS, CONTENT, TREES];
/// The estimate from ratings and graph, without words.
pub const FEATURES: &str = "causal features alone";
/// The untuned model.
pub const ZERO_SHOT: &str = "zero-shot";
/// The tuned model.
pub const TUNED: &str = "tuned";
/// The reasoning model.
pub const REASONING: &str = "reasoning";
/// Tuned and reasoning model, merged.
pub const MERGED: &str = "merged";
/// The reasoning model without the tuned model's opinion.
pub const REASONING_BARE: &str = "reasoning, without the hint";
/// The same over the newest items of the history.
pub const REASONING_RECENT: &str = "reasoning, without retrieval";
/// The merge with that.
pub const MERGED_BARE: &str = "merged, without the hint";
/// The tuned model in the table of other histories.
pub const TUNED_AS_RECIPE: &str = "tuned, as the recipe retrieves";

/// The mean of the tuned and the reasoning model, without weights.
pub const PLAIN_MEAN: &str = "plain mean of both";
/// The same without the tuned model's opinion in the reasoning prompt.
pub const PLAIN_MEAN_BARE: &str = "plain mean of both, without the hint";

/// Ways of choosing the shown history, in the order of the ablation table. Those behind the first
/// seven are there where `predict.more_histories` names them.
pub const HISTORIES: [&str; 9] = [
    "no retrieval",
    "text only",
    "collaborative only",
    "mix",
    "mix3",
    "without rerank",
    "as the authors' code retrieves",
    "hybrid score",
    "as ReLLa retrieves",
];

/// The row of the tuned model behind one of [`HISTORIES`].
pub fn tuned_on(history: &str) -> String {
    format!("{TUNED}, {history}")
}

/// The row of a merge of this many experts.
pub fn merged_of(experts: usize) -> String {
    format!("{MERGED}, {experts} experts")
}

/// Every name that a row can have.
pub fn names() -> Vec<String> {
    let own = ALL.iter().map(ToString::to_string);
    let experts = (1..=EXPERTS).map(merged_of);
    own.chain(experts).chain(HISTORIES.iter().map(|history| tuned_on(history))).collect()
}

/// How many experts a merge can have.
pub const EXPERTS: usize = 3;

/// The rows that a recipe can have, in the order of a table. [`names`] has the others too.
pub const ALL: [&str; 19] = [
    GLOBAL_MEAN,
    ITEM_MEAN,
    ITEM_AND_HISTORY,
    EXPOSURE,
    FACTORISATION,
    RATED_NEIGHBOURS,
    CONTENT,
    TREES,
    FEATURES,
    ZERO_SHOT,
    TUNED,
    REASONING,
    MERGED,
    PLAIN_MEAN,
    REASONING_BARE,
    REASONING_RECENT,
    MERGED_BARE,
    PLAIN_MEAN_BARE,
    TUNED_AS_RECIPE,
];

/// Names of earlier versions, and what the rows are called now.
pub const RENAMED: [(&str, &str); 1] = [("facts alone", FEATURES)];

/// Today's name of a row.
pub fn current(name: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, now)| now)
}

/// Reads a row's name as it is called now, so that old results stand beside new ones.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(current(&String::deserialize(from)?).to_owned())
}

/// The same where there may be none.
pub(super) fn read_some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(|name| current(&name).to_owned()))
}
