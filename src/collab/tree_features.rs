//! What the boosted trees are fitted on: numbers about a target and its user, all from before the
//! row or from other users.

use super::counts::Counts;
use super::fold_in::ItemMeans;
use super::logistic::log_odds;
use crate::data::{Dataset, Rated, Sample};

/// Numbers of a row.
pub const COUNT: usize = 14;

/// Makes them.
pub struct TreeFeatures<'a> {
    dataset: &'a Dataset,
    counts: &'a Counts,
    /// Of all training rows, and of those of all folds but each.
    means: ItemMeans,
    without: Vec<ItemMeans>,
}

impl<'a> TreeFeatures<'a> {
    /// `folds`: those of `counts`.
    pub fn new(dataset: &'a Dataset, counts: &'a Counts, folds: usize) -> Self {
        let without = (0..folds).map(|fold| counts.item_means(Some(fold))).collect();
        Self { dataset, counts, means: counts.item_means(None), without }
    }

    /// Those of a row; `training`: it is one of the rows that the counts are of, so its user's
    /// ratings have no part in what is said of items.
    pub fn of(&self, sample: &Sample, history: &[Rated], training: bool) -> [f64; COUNT] {
        let (causal, means) = if training {
            let fold = self.counts.fold_of(sample.user);
            let causal = self.counts.of_training_row(sample.user, sample.item, history);
            (causal, self.without.get(fold).unwrap_or(&self.means))
        } else {
            (self.counts.of_new_row(sample.item, history), &self.means)
        };
        let own: Vec<&Rated> = history.iter().filter(|r| r.item != sample.item).collect();
        let rest = |r: &Rated| f64::from(r.rating) - means.stars.get(r.item.at()).copied().unwrap_or(causal.item.stars);
        let held = |rests: &mut dyn Iterator<Item = f64>, hold: f64| {
            let (sum, n) = rests.fold((0.0, 0.0), |(s, n), x| (s + x, n + 1.0));
            (sum / (n + hold), n)
        };
        let (leaning, n) = held(&mut own.iter().map(|r| rest(r)), 10.0);
        let (lately, _) = held(&mut own.iter().rev().take(5).map(|r| rest(r)), 2.0);
        let (last, _) = held(&mut own.iter().rev().take(1).map(|r| rest(r)), 1.0);
        let genres = &self.dataset.items[sample.item.at()].genres;
        let shares = |r: &&&Rated| self.dataset.items[r.item.at()].genres.iter().any(|genre| genres.contains(genre));
        let (of_genre, in_genre) = held(&mut own.iter().filter(shares).map(|r| rest(r) - leaning), 5.0);
        let spread = own.iter().map(|r| (rest(r) - leaning).powi(2)).sum::<f64>() / n.max(1.0);
        let since = own.last().map_or(0.0, |r| (sample.time.saturating_sub(r.time).max(0) as f64).ln_1p());
        [
            log_odds(causal.item.liked),
            causal.item.stars,
            f64::from(causal.item.count).ln_1p(),
            log_odds(causal.user.liked),
            causal.user.stars,
            n.ln_1p(),
            leaning,
            lately,
            last,
            of_genre,
            in_genre.ln_1p(),
            spread.sqrt(),
            since,
            genres.len() as f64,
        ]
    }
}
