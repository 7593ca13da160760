//! What may be among the best of one query, by scores that are off by a known amount.

use super::super::{key, unkey};

/// Kept beyond the best before the rest is looked through.
const ROOM: usize = 96;
/// A query with more candidates than this for each hit, and as many more, is better scored exactly.
const CROWD: (usize, usize) = (8, 512);

/// Candidates of a query: all items whose score may be among the best `k`.
///
/// A score `s~` is off by at most `e`. When k scores are `t` at least, k true ones are `t - e` at
/// least, and an item with such a true score has `s~ >= t - 2 e`: the others are out.
pub(super) struct Best {
    keys: Vec<u64>,
    k: usize,
    /// Looked through when it holds so many.
    full: usize,
    error: f32,
    /// Scores below this do not matter.
    pub floor: f32,
    crowded: bool,
}

impl Best {
    pub(super) fn new(k: usize, error: f32) -> Self {
        let full = 2 * k + ROOM;
        Self { keys: Vec::with_capacity(full), k, full, error, floor: f32::NEG_INFINITY, crowded: false }
    }

    /// Takes a score that is not below the floor.
    pub(super) fn push(&mut self, score: f32, index: u32) {
        if self.crowded {
            return;
        }
        self.keys.push(key(score, index));
        if self.keys.len() >= self.full {
            self.shrink();
        }
    }

    /// Leaves out what can be left out by now.
    pub(super) fn shrink(&mut self) {
        if self.keys.len() <= self.k {
            return;
        }
        self.keys.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        let kth = unkey(self.keys[self.k - 1]).score;
        // Rounded down, so that the subtraction takes nothing away.
        self.floor = self.floor.max((kth - 2.0 * self.error).next_down());
        let floor = key(self.floor, u32::MAX);
        self.keys.retain(|&k| k >= floor);
        self.full = self.full.max(2 * self.keys.len());
        if self.keys.len() > CROWD.0 * self.k + CROWD.1 {
            self.crowded = true;
            self.keys = Vec::new();
            self.floor = f32::INFINITY;
        }
    }

    /// Takes what another has of the same query.
    pub(super) fn join(&mut self, other: Self) {
        if other.crowded {
            self.crowded = true;
        }
        self.keys.extend(other.keys);
    }

    /// The rows that may be among the best; `None` where they are too many.
    pub(super) fn finish(mut self) -> Option<impl Iterator<Item = u32>> {
        self.shrink();
        (!self.crowded).then(|| self.keys.into_iter().map(|k| unkey(k).index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_may_be_among_the_best_is_left_out_and_the_floor_lies_two_errors_below_the_kth() {
        let mut best = Best::new(2, 1.0);
        let scores: Vec<f32> = (0..500).map(|i| (i * 37 % 500) as f32).collect();
        for (i, &s) in scores.iter().enumerate() {
            if s >= best.floor {
                best.push(s, i as u32);
            }
        }
        best.shrink();
        assert!((best.floor - 496.0).abs() < 1e-3, "{}", best.floor);
        let mut left: Vec<f32> = best.finish().unwrap().map(|i| scores[i as usize]).collect();
        left.sort_by(f32::total_cmp);
        assert_eq!(left, [496.0, 497.0, 498.0, 499.0], "the second best is 498: two errors below it is 496");
    }

    #[test]
    fn a_crowd_is_told_and_keeps_no_memory() {
        let mut best = Best::new(1, 0.0);
        (0..10_000).for_each(|i| best.push(1.0, i));
        assert!(best.keys.capacity() < 3000 && best.finish().is_none());
    }
}
