//! Ratings counted per item, apart by folds of users.
//!
//! Nothing leaks: a training row is described by the *other folds of users* only, so its own rating
//! (and every other rating of its user) has no part in what is said of the item; validation and
//! test rows are described by training rows only; the user's own mean covers earlier ratings only,
//! never the target.

use super::content::{Rated as RatedItem, TextVectors};
use super::features::CausalFeatures;
use super::fold_in::ItemMeans;
use super::logistic::{log_odds, sigmoid};
use super::settings::CollabSettings;
use crate::data::{ItemIdx, Rated, Sample, UserIdx};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::settings::Checked;
use crate::text::ratings::RatingSummary;

/// Likes, stars and number of some ratings.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sum {
    likes: u32,
    count: u32,
    stars: f64,
}

impl Sum {
    fn add(&mut self, liked: bool, stars: f32) {
        self.likes += u32::from(liked);
        self.count += 1;
        self.stars += f64::from(stars);
    }

    fn plus(self, other: Self) -> Self {
        Self { likes: self.likes + other.likes, count: self.count + other.count, stars: self.stars + other.stars }
    }

    /// Shrunk towards `global` by `k` pseudo-ratings.
    fn shrunk(self, global: RatingSummary, k: f64) -> RatingSummary {
        let n = f64::from(self.count) + k;
        RatingSummary {
            liked: (f64::from(self.likes) + k * global.liked) / n,
            stars: (self.stars + k * global.stars) / n,
            count: self.count,
        }
    }
}

/// Sums of the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    settings: CollabSettings,
    threshold: f32,
    /// `folds[f][item]`: ratings by the users of fold f.
    folds: Vec<Vec<Sum>>,
    /// Sum over the items of each fold.
    totals: Vec<Sum>,
    /// What the items' words leave to expect: by all folds, then without each; empty where little
    /// known items are held at the mean of all.
    priors: Vec<Vec<RatingSummary>>,
}

/// The fold of a user: a pure function of the seed.
fn fold(settings: &CollabSettings, user: UserIdx) -> usize {
    Rng::new(settings.seed, Use::Rows, user.0, 0x666f_6c64).below(settings.folds) as usize
}

impl Counts {
    /// Sums up the training rows over a catalogue of `items` entries. `threshold`: a rating above
    /// it is a like.
    ///
    /// # Errors
    /// No rows, an item outside the catalogue, a rating that is not finite, settings out of range.
    pub fn fit(items: usize, threshold: f32, train: &[Sample], settings: &CollabSettings) -> Result<Self> {
        settings.check()?;
        if train.is_empty() {
            return Err(
                Error::input("collaborative counts", "no training rows").next("check the split and the filters")
            );
        }
        let mut folds = vec![vec![Sum::default(); items]; settings.folds as usize];
        for (row, s) in train.iter().enumerate() {
            let slot = folds[fold(settings, s.user)].get_mut(s.item.at()).filter(|_| s.rating.is_finite());
            let slot = slot.ok_or_else(|| {
                let what = format!("item {} of {items}, rating {}", s.item.0, s.rating);
                Error::input(format!("collaborative counts, training row {row}"), what)
                    .next("load items and samples from the same data set")
            })?;
            slot.add(s.rating > threshold, s.rating);
        }
        let totals = folds.iter().map(|sums| sums.iter().fold(Sum::default(), |a, s| a.plus(*s))).collect();
        Ok(Self { settings: settings.clone(), threshold, folds, totals, priors: Vec::new() })
    }

    /// Holds items with few ratings at what their words leave to expect, instead of the mean of
    /// all. `folds`: of how many folds training rows will be asked for; 0 where none will.
    ///
    /// # Errors
    /// Vectors of another number of items.
    pub fn with_content(mut self, vectors: &TextVectors, folds: usize) -> Result<Self> {
        let items = self.folds.first().map_or(0, Vec::len);
        let prior = |without: Option<usize>| {
            let rated = |item: usize| {
                let Sum { likes, count, stars } = self.item(item, without);
                let n = f64::from(count.max(1));
                RatedItem { count: f64::from(count), liked: f64::from(likes) / n, stars: stars / n }
            };
            let rated: Vec<RatedItem> = (0..items).map(rated).collect();
            vectors.prior(&rated, self.global(without), self.settings.content_ridge, self.settings.seed)
        };
        let all = std::iter::once(None).chain((0..folds).map(Some));
        self.priors = all.map(prior).collect::<Result<_>>()?;
        Ok(self)
    }

    /// Features of a *training* row: from the folds that its user is not in, and from `history`,
    /// the user's earlier ratings.
    pub fn of_training_row(&self, user: UserIdx, target: ItemIdx, history: &[Rated]) -> CausalFeatures {
        self.features(target, history, Some(fold(&self.settings, user)))
    }

    /// Features of a validation or test row, or of a new request: from all training rows.
    pub fn of_new_row(&self, target: ItemIdx, history: &[Rated]) -> CausalFeatures {
        self.features(target, history, None)
    }

    /// The fold of a user: its training rows are described without it.
    pub fn fold_of(&self, user: UserIdx) -> usize {
        fold(&self.settings, user)
    }

    /// The mean rating of every item, by all folds but `without`.
    pub fn item_means(&self, without: Option<usize>) -> ItemMeans {
        let (global, k) = (self.global(without), self.settings.item_shrinkage);
        let items = self.folds.first().map_or(0, Vec::len);
        let mean = |i: usize| self.item(i, without).shrunk(self.prior(i, without, global), k).stars;
        let stars = (0..items).map(mean).collect();
        ItemMeans { stars, shrinkage: self.settings.history_shrinkage }
    }

    /// What an item without ratings is held at, for a row of that fold of users.
    pub fn prior_of(&self, item: ItemIdx, without: Option<usize>) -> RatingSummary {
        self.prior(item.at(), without, self.global(without))
    }

    /// What an item with few ratings is held at.
    fn prior(&self, item: usize, without: Option<usize>, global: RatingSummary) -> RatingSummary {
        let of = self.priors.get(without.map_or(0, |fold| fold + 1));
        of.and_then(|priors| priors.get(item)).copied().unwrap_or(global)
    }

    fn others(&self, without: Option<usize>) -> impl Iterator<Item = usize> {
        (0..self.folds.len()).filter(move |f| Some(*f) != without)
    }

    fn item(&self, item: usize, without: Option<usize>) -> Sum {
        let sums = self.others(without).filter_map(|f| self.folds[f].get(item));
        sums.fold(Sum::default(), |all, s| all.plus(*s))
    }

    fn global(&self, without: Option<usize>) -> RatingSummary {
        let all = self.others(without).fold(Sum::default(), |all, f| all.plus(self.totals[f]));
        match all.count {
            0 => RatingSummary { liked: 0.5, stars: f64::from(self.threshold), count: 0 },
            n => RatingSummary {
                // Held off 0 and 1, where log odds end.
                liked: (f64::from(all.likes) / f64::from(n)).clamp(1e-3, 1.0 - 1e-3),
                stars: all.stars / f64::from(n),
                count: n,
            },
        }
    }

    fn features(&self, target: ItemIdx, history: &[Rated], without: Option<usize>) -> CausalFeatures {
        let global = self.global(without);
        let prior = self.prior(target.at(), without, global);
        let item = self.item(target.at(), without).shrunk(prior, self.settings.item_shrinkage);
        let mut user = Sum::default();
        // A repeated target must not be described by its own rating (defect D6).
        for r in history.iter().filter(|r| r.item != target) {
            user.add(r.rating > self.threshold, r.rating);
        }
        let user = user.shrunk(global, self.settings.history_shrinkage);
        let p = sigmoid(log_odds(item.liked) + log_odds(user.liked) - log_odds(global.liked));
        CausalFeatures { item, user, global: global.liked, affinity: None, fold_in: [0.0; 2], like_texts: [0.0; 2], p }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(user: u32, item: u32, rating: u8) -> Sample {
        let rating = f32::from(rating);
        Sample { user: UserIdx(user), item: ItemIdx(item), rating, label: rating > 3.0, time: 0, position: 0 }
    }

    /// Earlier ratings of row k's user, in order of rows.
    fn history(rows: &[Sample], k: usize) -> Vec<Rated> {
        let own = rows[..k].iter().filter(|s| s.user == rows[k].user);
        own.map(|s| Rated { item: s.item, rating: s.rating, time: 0 }).collect()
    }

    proptest! {
        #[test]
        fn a_rows_own_rating_changes_none_of_its_features(
            raw in proptest::collection::vec((0u32..8, 0u32..6, 1u8..=5), 1..60), pick in any::<prop::sample::Index>(),
            other in 1u8..=5, folds in 2u32..6
        ) {
            let rows: Vec<Sample> = raw.iter().map(|&(u, i, r)| sample(u, i, r)).collect();
            let k = pick.index(rows.len());
            let settings = CollabSettings { folds, ..CollabSettings::default() };
            let features = |rows: &[Sample]| {
                let counts = Counts::fit(6, 3.0, rows, &settings).unwrap();
                counts.of_training_row(rows[k].user, rows[k].item, &history(rows, k))
            };
            let mut changed = rows.clone();
            changed[k] = sample(rows[k].user.0, rows[k].item.0, other);
            prop_assert_eq!(features(&rows), features(&changed));
            // Nor do later ratings of the same user.
            for s in changed[k + 1..].iter_mut().filter(|s| s.user == rows[k].user) {
                *s = sample(s.user.0, s.item.0, other);
            }
            prop_assert_eq!(features(&rows), features(&changed));
        }

        #[test]
        fn new_rows_use_every_training_row(raw in proptest::collection::vec((0u32..8, 0u32..6, 1u8..=5), 1..60)) {
            let rows: Vec<Sample> = raw.iter().map(|&(u, i, r)| sample(u, i, r)).collect();
            let counts = Counts::fit(6, 3.0, &rows, &CollabSettings::default()).unwrap();
            for item in 0..6 {
                let want = rows.iter().filter(|s| s.item.0 == item).count() as u32;
                let features = counts.of_new_row(ItemIdx(item), &[]);
                prop_assert_eq!(features.item.count, want);
                prop_assert!(features.p > 0.0 && features.p < 1.0);
                prop_assert!((features.user.liked - features.global).abs() <= 1e-12);
            }
        }
    }

    #[test]
    fn items_of_few_ratings_are_held_at_what_their_words_say_and_many_ratings_outweigh_it() {
        let texts: Vec<String> = (0..40).map(|i| format!("{} w{i}", ["good", "poor"][i % 2])).collect();
        let words = TextVectors::Words(crate::retrieval::Words::of(texts.iter().map(String::as_str)));
        // Item 0 has no rating; item 1, a poor one by its words, is liked by everybody.
        let rating = |item: u32| if item.is_multiple_of(2) || item == 1 { 5 } else { 1 };
        let rows: Vec<Sample> = (0..300).flat_map(|u| (1..40).map(move |i| sample(u, i, rating(i)))).collect();
        let settings = CollabSettings { content_ridge: 0.1, ..CollabSettings::default() };
        let plain = Counts::fit(40, 3.0, &rows, &settings).unwrap();
        let with = plain.clone().with_content(&words, 5).unwrap();
        let liked = |counts: &Counts, item| counts.of_new_row(ItemIdx(item), &[]).item.liked;
        assert!((liked(&plain, 0) - plain.of_new_row(ItemIdx(0), &[]).global).abs() <= 1e-12);
        assert!(liked(&with, 0) > 0.65, "{}", liked(&with, 0));
        assert!((liked(&with, 1) - liked(&plain, 1)).abs() <= 0.06, "300 ratings outweigh words");
        assert!(with.item_means(None).stars[0] > 3.6 && with.item_means(Some(2)).stars[0] > 3.6);
        // A training row of the item is described without its own fold of users all the same.
        assert!(with.of_training_row(UserIdx(3), ItemIdx(0), &[]).item.liked > 0.65);
    }

    #[test]
    fn a_repeated_target_does_not_speak_for_itself() {
        let rows = [sample(0, 0, 5), sample(1, 1, 1)];
        let counts = Counts::fit(2, 3.0, &rows, &CollabSettings::default()).unwrap();
        let own = [Rated { item: ItemIdx(0), rating: 5.0, time: 0 }];
        assert_eq!(counts.of_new_row(ItemIdx(0), &own).user.count, 0);
        assert_eq!(counts.of_new_row(ItemIdx(1), &own).user.count, 1);
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = [sample(0, 0, 5)];
        for (bad, key) in [
            (CollabSettings { folds: 1, ..CollabSettings::default() }, "folds"),
            (CollabSettings { item_shrinkage: 0.0, ..CollabSettings::default() }, "item_shrinkage"),
        ] {
            assert_eq!(Counts::fit(1, 3.0, &rows, &bad).unwrap_err().place(), key);
        }
        assert!(Counts::fit(0, 3.0, &rows, &CollabSettings::default()).unwrap_err().place().contains("row 0"));
        assert!(Counts::fit(1, 3.0, &[], &CollabSettings::default()).is_err());
    }
}
