//! Metrics of ranked lists: recall and normalised discounted cumulative gain at a cut.

/// Sums over users, from which the means are taken.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ranking {
    recall: f64,
    ndcg: f64,
    users: u64,
}

impl Ranking {
    /// Adds a user: `ranked` is the list as recommended (its length is the cut K or less), `relevant` what
    /// should be in it. A user with nothing relevant does not count.
    ///
    /// Recall: hits / |relevant|. NDCG: a hit at place p (from 1) counts 1 / log2(p + 1), divided by the best that
    /// `min(|relevant|, cut)` hits could reach.
    pub fn add<T: PartialEq>(&mut self, ranked: &[T], relevant: &[T], cut: usize) {
        if relevant.is_empty() {
            return;
        }
        let discount = |place: usize| 1.0 / ((place + 2) as f64).log2();
        let (mut hits, mut gain) = (0u64, 0.0);
        for (place, item) in ranked.iter().take(cut).enumerate() {
            if relevant.contains(item) {
                hits += 1;
                gain += discount(place);
            }
        }
        let best: f64 = (0..relevant.len().min(cut)).map(discount).sum();
        self.recall += hits as f64 / relevant.len() as f64;
        self.ndcg += if best > 0.0 { gain / best } else { 0.0 };
        self.users += 1;
    }

    /// Users counted.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Mean recall; 0 without users.
    pub fn recall(&self) -> f64 {
        self.recall / self.users.max(1) as f64
    }

    /// Mean NDCG; 0 without users.
    pub fn ndcg(&self) -> f64 {
        self.ndcg / self.users.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_done_by_hand() {
        let mut ranking = Ranking::default();
        // Hits at places 1 and 3 of 4; three relevant.
        ranking.add(&[5, 1, 7, 2], &[7, 5, 9], 4);
        let gain = 1.0 + 0.5;
        let best = 1.0 + 1.0 / 3f64.log2() + 0.5;
        assert!((ranking.recall() - 2.0 / 3.0).abs() <= 1e-12);
        assert!((ranking.ndcg() - gain / best).abs() <= 1e-12);
        ranking.add(&[1, 2], &[3], 2);
        assert!((ranking.recall() - 1.0 / 3.0).abs() <= 1e-12);
        ranking.add(&[1], &[], 2);
        assert_eq!(ranking.users(), 2);
    }

    #[test]
    fn the_cut_cuts() {
        let mut ranking = Ranking::default();
        ranking.add(&[1, 2, 3], &[3], 2);
        assert_eq!((ranking.recall(), ranking.ndcg()), (0.0, 0.0));
        assert_eq!(Ranking::default().recall(), 0.0);
    }
}
