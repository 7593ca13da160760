//! Which rows belong together. Rows of one user share that user's taste and strictness, so they are
//! not independent, and intervals that take them for independent are too narrow. Variances and
//! resamples therefore go by user. Where items are what little is known of, rows of one item share
//! its quality too: then they go by user and by item at once.

use std::collections::HashMap;

/// Rows in groups; every row is in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The group of each row, from 0.
    of_row: Vec<u32>,
    count: usize,
}

impl Partition {
    /// Rows with one key together.
    fn by(keys: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut known = HashMap::new();
        let of_row = keys.map(|key| {
            let next = known.len() as u32;
            *known.entry(key).or_insert(next)
        });
        Self { of_row: of_row.collect(), count: known.len() }
    }

    /// The group of each row, numbered from 0 in order of their first rows.
    pub fn of_rows(&self) -> &[u32] {
        &self.of_row
    }

    /// Number of groups.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// How rows depend on one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    users: Partition,
    crossed: Option<Crossed>,
}

/// Groups that lie across those by user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossed {
    /// Rows of one item together.
    pub items: Partition,
    /// Rows of one user and one item together.
    pub pairs: Partition,
}

impl Clusters {
    /// Every row by itself: rows are independent.
    pub fn single(rows: usize) -> Self {
        Self { users: Partition { of_row: (0..rows as u32).collect(), count: rows }, crossed: None }
    }

    /// Rows of one user together.
    pub fn by_user(users: &[u32]) -> Self {
        Self { users: Partition::by(users.iter().map(|&user| (user, 0))), crossed: None }
    }

    /// Rows depend on one another that share their user or their item; each has one entry a row.
    pub fn by_user_and_item(users: &[u32], items: &[u32]) -> Self {
        let pairs = users.iter().copied().zip(items.iter().copied());
        let crossed =
            Crossed { items: Partition::by(items.iter().map(|&item| (item, 0))), pairs: Partition::by(pairs) };
        Self { crossed: Some(crossed), ..Self::by_user(users) }
    }

    /// Groups by user, or of single rows.
    pub fn users(&self) -> &Partition {
        &self.users
    }

    /// Groups by item, where they count.
    pub fn crossed(&self) -> Option<&Crossed> {
        self.crossed.as_ref()
    }

    /// Number of users, or of items where those are fewer.
    pub fn fewest(&self) -> usize {
        self.crossed.as_ref().map_or(self.users.count, |crossed| self.users.count.min(crossed.items.count))
    }

    /// Some rows belong together.
    pub fn matter(&self) -> bool {
        let shared = |part: &Partition| part.count < part.of_row.len();
        shared(&self.users) || self.crossed.as_ref().is_some_and(|crossed| shared(&crossed.items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbered_by_their_first_rows() {
        let clusters = Clusters::by_user(&[7, 3, 7, 9]);
        let users = clusters.users();
        assert_eq!((users.of_rows(), users.count(), clusters.matter()), (&[0, 1, 0, 2][..], 3, true));
        assert_eq!(Clusters::by_user(&[5, 4]), Clusters::single(2));
        assert!(!Clusters::single(2).matter());
    }

    #[test]
    fn a_pair_is_a_user_with_an_item() {
        let clusters = Clusters::by_user_and_item(&[7, 3, 7, 7], &[1, 1, 2, 1]);
        let crossed = clusters.crossed().unwrap();
        assert_eq!(clusters.users(), Clusters::by_user(&[7, 3, 7, 7]).users());
        assert_eq!((crossed.items.of_rows(), crossed.items.count()), (&[0, 0, 1, 0][..], 2));
        assert_eq!((crossed.pairs.of_rows(), crossed.pairs.count()), (&[0, 1, 2, 0][..], 3));
        // Every user once, and one item: the rows belong together all the same.
        assert!(Clusters::by_user_and_item(&[1, 2], &[5, 5]).matter());
        assert!(!Clusters::by_user_and_item(&[1, 2], &[5, 6]).matter());
    }
}
