//! Items by the number of their training pairs.

use super::{Ranker, SILENT, Whom};
use crate::data::split::HeldOut;
use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::error::Result;
use crate::eval::rows;

/// The same order for everybody.
pub struct Popularity {
    /// Items with a training pair, the most rated first, ties by index.
    order: Vec<u32>,
    /// Training pairs of each item, over those of the most rated.
    shares: Vec<f32>,
}

impl Popularity {
    /// Of a catalogue of `items` entries.
    pub fn new(items: usize, pairs: &[(UserIdx, ItemIdx)]) -> Self {
        let mut counts = vec![0u32; items];
        pairs.iter().for_each(|(_, item)| counts[item.at()] += 1);
        let mut order: Vec<u32> = (0..items as u32).filter(|&item| counts[item as usize] > 0).collect();
        order.sort_by_key(|&item| (std::cmp::Reverse(counts[item as usize]), item));
        let most = f64::from(counts.iter().copied().max().unwrap_or(0).max(1));
        let share = |&count: &u32| if count == 0 { SILENT } else { (f64::from(count) / most) as f32 };
        Self { order, shares: counts.iter().map(share).collect() }
    }

    /// The list of a user who met `seen`, rising.
    pub fn list(&self, seen: &[u32], k: usize) -> Vec<u32> {
        let unseen = |item: &&u32| seen.binary_search(item).is_err();
        self.order.iter().filter(unseen).take(k).copied().collect()
    }
}

impl Ranker for Popularity {
    fn name(&self) -> &'static str {
        rows::POPULARITY
    }

    fn scores(&self, _: Whom<'_>, scores: &mut [f32]) -> bool {
        scores.fill(SILENT);
        scores.iter_mut().zip(&self.shares).for_each(|(score, share)| *score = *share);
        true
    }

    fn lists(&self, users: &[HeldOut<'_>], _: usize, k: usize, _: &Device) -> Result<Vec<Vec<u32>>> {
        Ok(users.iter().map(|user| self.list(&user.seen, k)).collect())
    }
}
