//! Items by the number of their training pairs.

use super::Ranker;
use crate::data::split::HeldOut;
use crate::data::{ItemIdx, UserIdx};
use crate::error::Result;
use crate::eval::rows;

/// The same order for everybody.
pub struct Popularity {
    /// Items with a training pair, the most rated first, ties by index.
    order: Vec<u32>,
}

impl Popularity {
    /// Of a catalogue of `items` entries.
    pub fn new(items: usize, pairs: &[(UserIdx, ItemIdx)]) -> Self {
        let mut counts = vec![0u32; items];
        pairs.iter().for_each(|(_, item)| counts[item.at()] += 1);
        let mut order: Vec<u32> = (0..items as u32).filter(|&item| counts[item as usize] > 0).collect();
        order.sort_by_key(|&item| (std::cmp::Reverse(counts[item as usize]), item));
        Self { order }
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

    fn lists(&self, users: &[HeldOut], k: usize) -> Result<Vec<Vec<u32>>> {
        Ok(users.iter().map(|user| self.list(&user.seen, k)).collect())
    }
}
