//! Collaborative features in words: what other users thought of the target and how this user rates,
//! as one or two sentences of the prompt. An option beyond the papers. Takes plain numbers; the
//! room `collab` computes them.

use serde::{Deserialize, Serialize};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wording {
    /// Nothing, as in the papers. The default.
    #[default]
    None,
    /// Nothing either, but the estimate is made, for the tables and the merge.
    Silent,
    /// How others rated the target.
    Item,
    /// That, and how this user rated so far.
    ItemUser,
    /// A verdict drawn from both, without the numbers behind it.
    Verdict,
    /// Everything.
    All,
}

impl Wording {
    /// Does the prompt say anything?
    pub fn speaks(self) -> bool {
        !matches!(self, Wording::None | Wording::Silent)
    }
}

/// Some ratings in three numbers, shrunk towards the global mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RatingSummary {
    /// Share of likes, in (0, 1).
    pub liked: f64,
    /// Mean rating in the data set's scale.
    pub stars: f64,
    /// Ratings behind it.
    pub count: u32,
}

/// The numbers behind the sentences of one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stated {
    /// What is said of them.
    pub wording: Wording,
    /// Other users on the target.
    pub item: RatingSummary,
    /// This user so far.
    pub user: RatingSummary,
    /// Share of the items that suit the user less than the target.
    pub affinity: Option<f64>,
    /// Probability of liking; the verdict's base.
    pub p: f64,
}

impl Stated {
    /// The verdict in words.
    pub fn verdict(&self) -> &'static str {
        match self.p {
            p if p >= 0.85 => "very likely yes",
            p if p >= 0.7 => "likely yes",
            p if p >= 0.55 => "perhaps yes",
            p if p >= 0.45 => "undecided",
            p if p >= 0.3 => "perhaps no",
            p if p >= 0.15 => "likely no",
            _ => "very likely no",
        }
    }

    /// One or two short sentences on one line, without line break at the end; empty when nothing is
    /// to be said. `noun` is what an item is called, `best` the best rating of the scale.
    pub fn sentences(&self, noun: &str, best: f32) -> String {
        let noun = if noun.is_empty() { "item" } else { noun };
        let percent = |x: f64| format!("{:.0}%", 100.0 * x);
        let mut out = Vec::new();
        if matches!(self.wording, Wording::Item | Wording::ItemUser | Wording::All) {
            out.push(match self.item.count {
                0 => format!("No other user has rated this {noun} yet."),
                n => format!(
                    "Others rated this {noun} {:.1} of {} on average ({} liked it, {n} ratings).",
                    self.item.stars,
                    best,
                    percent(self.item.liked)
                ),
            });
        }
        if matches!(self.wording, Wording::ItemUser | Wording::All) && self.user.count > 0 {
            out.push(format!(
                "The user liked {} of earlier ones (mean {:.1}).",
                percent(self.user.liked),
                self.user.stars
            ));
        }
        if let Some(a) = self.affinity.filter(|_| self.wording.speaks()) {
            out.push(format!("It suits the user better than {} of all.", percent(a)));
        }
        if matches!(self.wording, Wording::Verdict | Wording::All) {
            out.push(format!("Ratings alone suggest: {} ({}).", self.verdict(), percent(self.p)));
        }
        out.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentences() {
        let summary = |liked, stars, count| RatingSummary { liked, stars, count };
        let mut stated = Stated {
            wording: Wording::All,
            item: summary(0.784, 4.04, 312),
            user: summary(0.6, 3.6, 40),
            affinity: None,
            p: 0.8,
        };
        assert_eq!(
            stated.sentences("movie", 5.0),
            "Others rated this movie 4.0 of 5 on average (78% liked it, 312 ratings). The user liked 60% of earlier \
             ones (mean 3.6). Ratings alone suggest: likely yes (80%)."
        );
        stated.wording = Wording::Item;
        stated.item.count = 0;
        assert_eq!(stated.sentences("movie", 5.0), "No other user has rated this movie yet.");
        stated.wording = Wording::Verdict;
        stated.affinity = Some(0.93);
        assert_eq!(
            stated.sentences("movie", 5.0),
            "It suits the user better than 93% of all. Ratings alone suggest: likely yes (80%)."
        );
        for silent in [Wording::None, Wording::Silent] {
            assert_eq!(Stated { wording: silent, ..stated }.sentences("movie", 5.0), "");
        }
    }
}
