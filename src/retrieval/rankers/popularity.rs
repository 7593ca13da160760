//! The same order for everybody: by the number of training rows, by recent likes, by the share of
//! likes.

use super::ratings::Ratings;
use super::{Ranker, SILENT, Whom};
use crate::data::split::HeldOut;
use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::error::Result;
use crate::eval::rows;

/// One order.
pub struct Popularity {
    name: &'static str,
    /// Items of which something is known, the best first, ties by index.
    order: Vec<u32>,
    /// The score of each item, 1 for the best one.
    scores: Vec<f32>,
}

impl Popularity {
    /// By the number of training pairs, of a catalogue of `items` entries.
    pub fn new(items: usize, pairs: &[(UserIdx, ItemIdx)]) -> Self {
        let mut counts = vec![0.0; items];
        pairs.iter().for_each(|(_, item)| counts[item.at()] += 1.0);
        Self::by(rows::POPULARITY, counts)
    }

    /// By likes, of which one weighs half as much for each `half_life` of the time that the rows
    /// span (their oldest twentieth aside). `None` where rows have no times.
    pub fn recent(ratings: &Ratings, half_life: f64) -> Option<Self> {
        let mut times: Vec<i64> = ratings.by_user.iter().flatten().map(|row| row.time).collect();
        times.sort_unstable();
        let (first, last) = (times.get(times.len() / 20)?, times.last()?);
        let unit = half_life * (last - first) as f64;
        if !ratings.has_times || unit <= 0.0 {
            return None;
        }
        let mut counts = vec![0.0; ratings.items];
        for row in ratings.by_user.iter().flatten().filter(|row| row.rating > ratings.threshold) {
            counts[row.item.at()] += (-((last - row.time) as f64) / unit).exp2();
        }
        Some(Self::by(rows::RECENT, counts))
    }

    /// By the share of likes among the ratings, pulled towards the mean by `shrinkage`
    /// pseudo-ratings.
    pub fn item_mean(ratings: &Ratings, shrinkage: f64) -> Self {
        let tallies = ratings.tallies();
        let sum = tallies.iter().fold((0.0, 0.0), |sum, t| (sum.0 + f64::from(t.0), sum.1 + f64::from(t.1)));
        let mean = if sum.1 > 0.0 { sum.0 / sum.1 } else { 0.0 };
        let share = |&(likes, all): &(u32, u32)| match all {
            0 => 0.0,
            // Above zero, so that an item that is rated stands before those that are not.
            _ => ((f64::from(likes) + shrinkage * mean) / (f64::from(all) + shrinkage)).max(f64::MIN_POSITIVE),
        };
        Self::by(rows::ITEM_MEAN, tallies.iter().map(share).collect())
    }

    fn by(name: &'static str, values: Vec<f64>) -> Self {
        let mut order: Vec<u32> = (0..values.len() as u32).filter(|&item| values[item as usize] > 0.0).collect();
        order.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]).then(a.cmp(&b)));
        let most = order.first().map_or(1.0, |&best| values[best as usize]);
        let score = |&value: &f64| if value > 0.0 { (value / most) as f32 } else { SILENT };
        Self { name, order, scores: values.iter().map(score).collect() }
    }

    /// The list of a user who met `seen`, rising.
    pub fn list(&self, seen: &[u32], k: usize) -> Vec<u32> {
        let unseen = |item: &&u32| seen.binary_search(item).is_err();
        self.order.iter().filter(unseen).take(k).copied().collect()
    }
}

impl Ranker for Popularity {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scores(&self, _: Whom<'_>, scores: &mut [f32]) -> bool {
        scores.fill(SILENT);
        scores.iter_mut().zip(&self.scores).for_each(|(score, own)| *score = *own);
        true
    }

    fn lists(&self, users: &[HeldOut<'_>], _: usize, k: usize, _: &Device) -> Result<Vec<Vec<u32>>> {
        Ok(users.iter().map(|user| self.list(&user.seen, k)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ratings;
    use super::*;

    #[test]
    fn late_likes_weigh_more_and_dislikes_nothing() {
        // Item 0 was liked twice long ago, item 1 once just now, item 2 was disliked.
        let mut rows = ratings(3, &[(0, 0, 5), (1, 0, 5), (2, 1, 4), (3, 2, 1)]);
        for (user, time) in [0, 0, 100, 100].into_iter().enumerate() {
            rows.by_user[user][0].time = time;
        }
        let order = |ranker: &Popularity| ranker.list(&[], 9);
        assert_eq!(order(&Popularity::recent(&rows, 0.25).unwrap()), [1, 0]);
        assert_eq!(order(&Popularity::recent(&rows, 10.0).unwrap()), [0, 1]);
        assert!(Popularity::recent(&Ratings { has_times: false, ..rows.clone() }, 0.1).is_none());
        assert_eq!(order(&Popularity::new(3, &rows.pairs())), [0, 1, 2]);
    }

    #[test]
    fn a_share_of_few_ratings_is_pulled_to_the_mean() {
        let mut given = vec![(0, 0, 5)];
        given.extend((0..9).map(|user| (user, 1, 5)));
        given.extend((0..9).map(|user| (user, 2, 1)));
        let rows = ratings(4, &given);
        assert_eq!(Popularity::item_mean(&rows, 10.0).list(&[], 9), [1, 0, 2]);
        assert_eq!(Popularity::item_mean(&rows, 0.0).list(&[], 9), [0, 1, 2]);
    }
}
