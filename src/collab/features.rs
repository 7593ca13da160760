//! What ratings and graph say of one row, as numbers. Only what happened before the row, or to
//! other users, is in them.

use serde::{Deserialize, Serialize};

use super::logistic::{Logistic, log_odds};
use crate::text::ratings::{RatingSummary, Stated, Wording};

/// The causal features of one row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CausalFeatures {
    /// Other users on the target.
    pub item: RatingSummary,
    /// This user so far.
    pub user: RatingSummary,
    /// Share of likes over all items.
    pub global: f64,
    /// Share of the items that suit the user less than the target, by LightGCN.
    pub affinity: Option<f64>,
    /// Estimates by [`super::FoldIn`] in the order of the sources, in the rating's scale; 0 where
    /// there is none.
    pub fold_in: [f64; 2],
    /// What the user's ratings of items with like texts say, in the rating's scale: by words and by
    /// an embedding; 0 by what `collab.content` does not name.
    #[serde(default)]
    pub like_texts: [f64; 2],
    /// Probability of liking that follows from the above; the verdict's base.
    pub p: f64,
}

/// Length of [`CausalFeatures::values`].
pub const FEATURES: usize = 7;

impl CausalFeatures {
    /// Input of a logistic fit: log odds of item and user relative to the global share, the
    /// affinity (0.5 where there is none), the fold-ins, the ratings of items with like texts.
    pub fn values(&self) -> [f64; FEATURES] {
        let g = log_odds(self.global);
        let ([a, b], [words, embedding]) = (self.fold_in, self.like_texts);
        let [item, user] = [self.item.liked, self.user.liked].map(|liked| log_odds(liked) - g);
        [item, user, self.affinity.unwrap_or(0.5), a, b, words, embedding]
    }

    /// The same row if nobody had rated the item: what is left of it is `prior`, which its words
    /// leave to expect, and the user.
    #[must_use]
    pub fn unrated(self, prior: RatingSummary) -> Self {
        Self { item: RatingSummary { count: 0, ..prior }, affinity: None, fold_in: [0.0; 2], ..self }
    }

    /// Takes the probability from a logistic fit of [`Self::values`].
    #[must_use]
    pub fn calibrated(mut self, fit: &Logistic) -> Self {
        self.p = fit.predict(&self.values());
        self
    }

    /// Adds how the target ranks by LightGCN, 0..=1; values outside are held to the ends, NaN is
    /// left out.
    #[must_use]
    pub fn with_affinity(mut self, share_below: f64) -> Self {
        self.affinity = (!share_below.is_nan()).then(|| share_below.clamp(0.0, 1.0));
        self
    }

    /// Adds what the user's own ratings say of the target.
    #[must_use]
    pub fn with_fold_in(mut self, estimates: [f64; 2]) -> Self {
        self.fold_in = estimates;
        self
    }

    /// Adds what the user's ratings of items with like texts say.
    #[must_use]
    pub fn with_like_texts(mut self, estimates: [f64; 2]) -> Self {
        self.like_texts = estimates;
        self
    }

    /// What a prompt says of them; `None` where it says nothing.
    pub fn stated(&self, wording: Wording) -> Option<Stated> {
        let Self { item, user, affinity, p, .. } = *self;
        wording.speaks().then_some(Stated { wording, item, user, affinity, p })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_affinity_stays_in_its_range_and_nan_is_left_out() {
        let half = RatingSummary { liked: 0.5, stars: 3.0, count: 0 };
        let features = CausalFeatures {
            item: half,
            user: half,
            global: 0.5,
            affinity: Some(0.25),
            fold_in: [0.0; 2],
            like_texts: [0.0; 2],
            p: 0.5,
        };
        let affinity = |share: f64| features.with_affinity(share).affinity;
        assert_eq!((affinity(0.75), affinity(-1.0), affinity(2.0)), (Some(0.75), Some(0.0), Some(1.0)));
        assert_eq!(affinity(f64::NAN), None);
        assert_eq!(features.with_affinity(f64::NAN).values()[2], 0.5, "none counts as the middle");
    }
}
