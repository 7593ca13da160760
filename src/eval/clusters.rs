//! Which rows belong together. Rows of one user share that user's taste and strictness, so they are
//! not independent, and intervals that take them for independent are too narrow. Variances and
//! resamples therefore go by user.

use std::collections::HashMap;

/// A partition of rows into independent groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// The cluster of each row, from 0.
    of_row: Vec<u32>,
    count: usize,
}

impl Clusters {
    /// Every row by itself: rows are independent.
    pub fn single(rows: usize) -> Self {
        Self { of_row: (0..rows as u32).collect(), count: rows }
    }

    /// Rows of one user together.
    pub fn by_user(users: &[u32]) -> Self {
        let mut known = HashMap::new();
        let of_row = users.iter().map(|&user| {
            let next = known.len() as u32;
            *known.entry(user).or_insert(next)
        });
        Self { of_row: of_row.collect(), count: known.len() }
    }

    /// The cluster of each row, numbered from 0 in order of their first rows.
    pub fn of_rows(&self) -> &[u32] {
        &self.of_row
    }

    /// Number of clusters.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Some cluster has more than one row.
    pub fn matter(&self) -> bool {
        self.count < self.of_row.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbered_by_their_first_rows() {
        let clusters = Clusters::by_user(&[7, 3, 7, 9]);
        assert_eq!((clusters.of_rows(), clusters.count(), clusters.matter()), (&[0, 1, 0, 2][..], 3, true));
        assert_eq!(Clusters::by_user(&[5, 4]), Clusters::single(2));
        assert!(!Clusters::single(2).matter());
    }
}
