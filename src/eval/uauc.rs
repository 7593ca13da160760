//! AUC inside each user's rows, averaged over the users that have both labels, each with the weight
//! of its rows (GAUC of Zhu et al., KDD 2017). It asks how well one user's items are ordered, which
//! a popular or a generous user cannot help.

/// Rows sorted by user and score, ready to be summed under any row weights (as a bootstrap needs).
pub(super) struct ByUser {
    /// (user, score, original row, label), ascending.
    rows: Vec<(u32, f64, u32, bool)>,
}

impl ByUser {
    /// `users` has one entry a row, or none at all: then there is nothing to average.
    pub(super) fn new(labels: &[bool], scores: &[f64], users: &[u32]) -> Self {
        let all = labels.iter().zip(scores).zip(users).enumerate();
        let mut rows: Vec<_> = all.map(|(i, ((&y, &s), &user))| (user, s, i as u32, y)).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Self { rows }
    }

    /// The average when row i is there `counts[i]` times. `None` when no user has both labels.
    pub(super) fn under(&self, counts: &[u32]) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for rows in self.rows.chunk_by(|a, b| a.0 == b.0) {
            let (mut positives, mut negatives, mut area) = (0.0, 0.0, 0.0);
            // `==`, not `total_cmp`: 0.0 and -0.0 are one value.
            for tied in rows.chunk_by(|a, b| a.1 == b.1) {
                let of = |label: bool| {
                    let own = tied.iter().filter(|r| r.3 == label);
                    f64::from(own.map(|r| counts[r.2 as usize]).sum::<u32>())
                };
                let (yes, no) = (of(true), of(false));
                area += yes * (negatives + no / 2.0);
                positives += yes;
                negatives += no;
            }
            if positives > 0.0 && negatives > 0.0 {
                let rows = positives + negatives;
                sum += rows * area / (positives * negatives);
                weight += rows;
            }
        }
        (weight > 0.0).then(|| sum / weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::auc;
    use proptest::prelude::*;

    /// The definition: for each user the AUC of its rows, by the routine for one set of rows.
    fn plain(labels: &[bool], scores: &[f64], users: &[u32]) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for user in 0..=users.iter().copied().max().unwrap_or(0) {
            let own: Vec<usize> = (0..users.len()).filter(|&i| users[i] == user).collect();
            let y: Vec<bool> = own.iter().map(|&i| labels[i]).collect();
            let s: Vec<f64> = own.iter().map(|&i| scores[i]).collect();
            if let Some(area) = if own.is_empty() { None } else { auc(&y, &s).unwrap() } {
                sum += own.len() as f64 * area;
                weight += own.len() as f64;
            }
        }
        (weight > 0.0).then(|| sum / weight)
    }

    proptest! {
        #[test]
        fn equals_a_plain_loop_over_users(
            rows in proptest::collection::vec((any::<bool>(), -4i8..4, 0u32..5, 0u32..4), 1..60)
        ) {
            let y: Vec<bool> = rows.iter().map(|r| r.0).collect();
            let s: Vec<f64> = rows.iter().map(|r| f64::from(r.1) / 3.0).collect();
            let users: Vec<u32> = rows.iter().map(|r| r.2).collect();
            let by_user = ByUser::new(&y, &s, &users);
            match (by_user.under(&vec![1; y.len()]), plain(&y, &s, &users)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-12, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
            // Weights stand for rows that are there several times.
            let counts: Vec<u32> = rows.iter().map(|r| r.3).collect();
            let again = |i: usize| std::iter::repeat_n(i, counts[i] as usize);
            let many: Vec<usize> = (0..y.len()).flat_map(again).collect();
            let (ym, sm, um): (Vec<bool>, Vec<f64>, Vec<u32>) = (
                many.iter().map(|&i| y[i]).collect(),
                many.iter().map(|&i| s[i]).collect(),
                many.iter().map(|&i| users[i]).collect(),
            );
            match (by_user.under(&counts), plain(&ym, &sm, &um)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-12, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }

    #[test]
    fn a_value_done_by_hand() {
        // User 0: 1 of 2 pairs in order, 3 rows. User 1: its only pair is tied, 2 rows. User 2 has
        // one label.
        let y = [true, false, false, true, false, true];
        let s = [0.5, 0.4, 0.6, 0.2, 0.2, 0.9];
        let got = ByUser::new(&y, &s, &[0, 0, 0, 1, 1, 2]).under(&[1; 6]).unwrap();
        assert!((got - 0.5).abs() <= 1e-12, "{got}");
        assert_eq!(ByUser::new(&y, &s, &[0, 1, 2, 3, 4, 5]).under(&[1; 6]), None);
        assert_eq!(ByUser::new(&y, &s, &[]).under(&[1; 6]), None);
    }
}
