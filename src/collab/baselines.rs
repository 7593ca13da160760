//! Predictors that know no text, fitted on training rows only. A model that does not beat them has
//! learnt nothing from the words.

use serde::{Deserialize, Serialize};

use super::logistic::{Logistic, log_odds, sigmoid};
use super::settings::above_zero;
use crate::data::{ItemIdx, Rated, Sample};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

/// How strongly small counts are pulled towards the global mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaselineSettings {
    /// Pseudo-ratings at the global mean added to each item, > 0. Default 20.
    pub item_shrinkage: f64,
    /// Pseudo-ratings at the global mean added to a user's history, > 0. Default 10.
    pub history_shrinkage: f64,
}

impl Default for BaselineSettings {
    fn default() -> Self {
        Self { item_shrinkage: 20.0, history_shrinkage: 10.0 }
    }
}

impl BaselineSettings {
    /// Are the values in range?
    ///
    /// # Errors
    /// Names the key that is not.
    pub fn check(&self) -> Result<()> {
        above_zero("item_shrinkage", self.item_shrinkage)?;
        above_zero("history_shrinkage", self.history_shrinkage)
    }
}

/// The share of likes overall and per item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    global: f64,
    items: Vec<f64>,
    settings: BaselineSettings,
}

impl Baselines {
    /// Counts likes of `train` per item of a catalogue of `items` entries.
    ///
    /// # Errors
    /// No rows, rows of one class only, an item outside the catalogue, settings out of range.
    pub fn fit(items: usize, train: &[Sample], settings: &BaselineSettings) -> Result<Self> {
        settings.check()?;
        let mut likes = vec![(0u64, 0u64); items];
        for (row, s) in train.iter().enumerate() {
            let slot = likes.get_mut(s.item.at()).ok_or_else(|| {
                Error::input(format!("training row {row}"), format!("item {} of {items}", s.item.0))
                    .next("load items and samples from the same data set")
            })?;
            *slot = (slot.0 + u64::from(s.label), slot.1 + 1);
        }
        let yes: u64 = likes.iter().map(|l| l.0).sum();
        if yes == 0 || yes == train.len() as u64 {
            return Err(Error::input("baselines", format!("{yes} of {} training rows are liked", train.len()))
                .next("check the rating threshold and the split: both classes are needed"));
        }
        let global = yes as f64 / train.len() as f64;
        let k = settings.item_shrinkage;
        let items = likes.iter().map(|&(yes, n)| (yes as f64 + k * global) / (n as f64 + k)).collect();
        Ok(Self { global, items, settings: settings.clone() })
    }

    /// Share of likes in training.
    pub fn global(&self) -> f64 {
        self.global
    }

    /// Share of likes of an item, shrunk; the global share for an item that was not seen.
    pub fn item(&self, item: ItemIdx) -> f64 {
        self.items.get(item.at()).copied().unwrap_or(self.global)
    }

    /// Share of likes in a user's own earlier ratings, shrunk. `likes` is the data set's rule.
    pub fn history(&self, history: &[Rated], likes: impl Fn(f32) -> bool) -> f64 {
        let yes = history.iter().filter(|r| likes(r.rating)).count() as f64;
        let k = self.settings.history_shrinkage;
        (yes + k * self.global) / (history.len() as f64 + k)
    }

    /// Item and history together: their log odds, each relative to the global share, are added.
    pub fn predict(&self, item: ItemIdx, history: &[Rated], likes: impl Fn(f32) -> bool) -> f64 {
        let (i, h) = (self.item(item), self.history(history, likes));
        sigmoid(log_odds(i) + log_odds(h) - log_odds(self.global))
    }
}

/// Training rows behind the logistic fit of [`GraphBaseline`].
const GRAPH_ROWS: usize = 50_000;

/// LightGCN's score `u . i`, made a probability by a logistic fit on training rows.
#[derive(Debug, Clone)]
pub struct GraphBaseline<'a> {
    users: &'a Matrix,
    items: &'a Matrix,
    fit: Logistic,
}

impl<'a> GraphBaseline<'a> {
    /// `users`: users x d, `items`: items x d. Fits on a draw of the training rows.
    ///
    /// # Errors
    /// No or one-class rows, vectors that are not finite.
    pub fn fit(users: &'a Matrix, items: &'a Matrix, train: &[Sample], seed: u64) -> Result<Self> {
        let mut rows: Vec<usize> = (0..train.len()).collect();
        Rng::new(seed, Use::Rows, 78, 0).shuffle(&mut rows);
        rows.truncate(GRAPH_ROWS);
        let x: Vec<f64> = rows.iter().map(|&r| inner(users, items, &train[r])).collect();
        let y: Vec<bool> = rows.iter().map(|&r| train[r].label).collect();
        Ok(Self { users, items, fit: Logistic::fit(&x, 1, &y, 1.0)? })
    }

    /// Probability that the sample's user likes its item.
    pub fn predict(&self, sample: &Sample) -> f64 {
        self.fit.predict(&[inner(self.users, self.items, sample)])
    }
}

fn inner(users: &Matrix, items: &Matrix, sample: &Sample) -> f64 {
    let (user, item) = (users.row(sample.user.at()), items.row(sample.item.at()));
    user.iter().zip(item).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::UserIdx;

    fn sample(item: u32, label: bool) -> Sample {
        let rating = if label { 5.0 } else { 1.0 };
        Sample { user: UserIdx(0), item: ItemIdx(item), rating, label, time: 0, position: 0 }
    }

    #[test]
    fn shrinks_towards_the_global_share() {
        let train = [sample(0, true), sample(0, true), sample(1, false), sample(1, true)];
        let y = Baselines::fit(3, &train, &BaselineSettings::default()).unwrap();
        assert!((y.global() - 0.75).abs() <= 1e-15);
        assert!((y.item(ItemIdx(0)) - (2.0 + 15.0) / 22.0).abs() <= 1e-15);
        assert!((y.item(ItemIdx(2)) - 0.75).abs() <= 1e-15 && (y.item(ItemIdx(99)) - 0.75).abs() <= 1e-15);
        let history = [Rated { item: ItemIdx(1), rating: 2.0, time: 0 }];
        let h = y.history(&history, |r| r > 3.0);
        assert!((h - 7.5 / 11.0).abs() <= 1e-15);
        // An average user adds nothing.
        assert!((y.predict(ItemIdx(0), &[], |r| r > 3.0) - y.item(ItemIdx(0))).abs() <= 1e-12);
        assert!(y.predict(ItemIdx(0), &history, |r| r > 3.0) < y.item(ItemIdx(0)));
    }

    #[test]
    fn refuses_what_it_cannot_fit() {
        for train in [vec![], vec![sample(0, true)], vec![sample(7, true), sample(0, false)]] {
            assert!(!Baselines::fit(3, &train, &BaselineSettings::default()).unwrap_err().next_step().is_empty());
        }
        let vectors = Matrix::zeros(1, 2);
        assert!(GraphBaseline::fit(&vectors, &vectors, &[sample(0, true)], 1).is_err(), "one class");
        let bad = BaselineSettings { item_shrinkage: 0.0, ..BaselineSettings::default() };
        assert!(Baselines::fit(3, &[sample(0, true), sample(0, false)], &bad).is_err());
    }
}
