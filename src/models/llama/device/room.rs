//! Which rows of the cache are taken.

use std::ops::Range;

/// Rows that are given out in pieces, each at the first gap that holds it.
pub(super) struct Room {
    size: usize,
    /// Ascending.
    held: Vec<Range<usize>>,
}

impl Room {
    pub(super) fn new(size: usize) -> Self {
        Self { size, held: Vec::new() }
    }

    /// `n` rows, at least one; `None` until others are given back.
    pub(super) fn take(&mut self, n: usize) -> Option<Range<usize>> {
        let mut from = 0;
        let mut place = self.held.len();
        for (i, held) in self.held.iter().enumerate() {
            if held.start - from >= n {
                place = i;
                break;
            }
            from = held.end;
        }
        let rows = from..from + n;
        (rows.end <= self.size).then(|| {
            self.held.insert(place, rows.clone());
            rows
        })
    }

    /// These rows, as they were taken, are free again.
    pub(super) fn give_back(&mut self, rows: &Range<usize>) {
        self.held.retain(|held| held != rows);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Pieces never overlap, lie inside, and are refused only where no gap holds them.
        #[test]
        fn pieces_do_not_overlap(steps in prop::collection::vec((1usize..9, any::<prop::sample::Index>(), any::<bool>()), 0..60)) {
            const SIZE: usize = 24;
            let mut room = Room::new(SIZE);
            let mut held: Vec<Range<usize>> = Vec::new();
            for (n, which, back) in steps {
                if back && !held.is_empty() {
                    room.give_back(&held.swap_remove(which.index(held.len())));
                    continue;
                }
                let free = |at: usize| at + n <= SIZE && held.iter().all(|h| h.end <= at || at + n <= h.start);
                match room.take(n) {
                    Some(rows) => {
                        prop_assert!(rows.len() == n && free(rows.start), "{:?} among {:?}", rows, held);
                        held.push(rows);
                    }
                    None => prop_assert!(!(0..SIZE).any(free), "{} refused beside {:?}", n, held),
                }
            }
        }
    }
}
