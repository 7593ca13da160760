//! Metrics of ranked lists at a cut. What each is called stands in [`rallrec_events::metric`].

mod render;
mod table;

pub use table::{CUTS, Judged, RankingRow, RankingTable};

use rallrec_events::metric::{self, Metric};

/// What the list of one user came to.
struct List {
    /// For each place up to the cut: does the item there belong there?
    hits: Vec<bool>,
    /// Items that should be in it, at least 1.
    relevant: usize,
    cut: usize,
}

impl List {
    fn new<T: PartialEq>(ranked: &[T], relevant: &[T], cut: usize) -> Self {
        let hits = ranked.iter().take(cut).map(|item| relevant.contains(item)).collect();
        Self { hits, relevant: relevant.len(), cut }
    }
}

/// The value of one list.
type Value = fn(&List) -> f64;

/// Every metric with the value of one list, in the order of [`metric::RANKING`].
const COMPUTED: [(&Metric, Value); metric::RANKING.len()] = [
    (&metric::RECALL, recall),
    (&metric::NDCG, ndcg),
    (&metric::MRR, reciprocal_rank),
    (&metric::PRECISION, precision),
];

/// Hits over relevant items.
fn recall(list: &List) -> f64 {
    list.hits.iter().filter(|h| **h).count() as f64 / list.relevant as f64
}

/// A hit at place p (from 1) counts `1 / log2(p + 1)`, divided by the best that `min(relevant,
/// cut)` hits could reach.
fn ndcg(list: &List) -> f64 {
    let discount = |place: usize| 1.0 / ((place + 2) as f64).log2();
    let gain: f64 = list.hits.iter().enumerate().filter(|(_, h)| **h).map(|(place, _)| discount(place)).sum();
    let best: f64 = (0..list.relevant.min(list.cut)).map(discount).sum();
    if best > 0.0 { gain / best } else { 0.0 }
}

/// One over the place (from 1) of the first hit; 0 without a hit.
fn reciprocal_rank(list: &List) -> f64 {
    list.hits.iter().position(|h| *h).map_or(0.0, |place| 1.0 / (place + 1) as f64)
}

/// Hits over the length of the list.
fn precision(list: &List) -> f64 {
    list.hits.iter().filter(|h| **h).count() as f64 / list.cut.max(1) as f64
}

/// NDCG of one list; `relevant` is not empty.
pub fn ndcg_of<T: PartialEq>(ranked: &[T], relevant: &[T], cut: usize) -> f64 {
    ndcg(&List::new(ranked, relevant, cut))
}

/// The metrics of one list in the order of [`metric::RANKING`]; `relevant` is not empty.
fn values<T: PartialEq>(ranked: &[T], relevant: &[T], cut: usize) -> [f64; COMPUTED.len()] {
    let list = List::new(ranked, relevant, cut);
    COMPUTED.map(|(_, of)| of(&list))
}

/// Sums over users, from which the means are taken.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ranking {
    sums: [f64; COMPUTED.len()],
    users: u64,
}

impl Ranking {
    /// Adds a user: `ranked` is the list as recommended (its length is the cut K or less),
    /// `relevant` what should be in it. A user with nothing relevant does not count.
    pub fn add<T: PartialEq>(&mut self, ranked: &[T], relevant: &[T], cut: usize) {
        if relevant.is_empty() {
            return;
        }
        self.sums.iter_mut().zip(values(ranked, relevant, cut)).for_each(|(sum, value)| *sum += value);
        self.users += 1;
    }

    /// Users counted.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Every metric with its mean over the users; 0 without users.
    pub fn means(&self) -> impl Iterator<Item = (&'static Metric, f64)> + use<> {
        let (sums, users) = (self.sums, self.users.max(1) as f64);
        COMPUTED.into_iter().zip(sums).map(move |((metric, _), sum)| (metric, sum / users))
    }

    fn mean(&self, wanted: &Metric) -> f64 {
        self.means().find(|(metric, _)| *metric == wanted).map_or(0.0, |(_, mean)| mean)
    }

    /// Mean recall; 0 without users.
    pub fn recall(&self) -> f64 {
        self.mean(&metric::RECALL)
    }

    /// Mean NDCG; 0 without users.
    pub fn ndcg(&self) -> f64 {
        self.mean(&metric::NDCG)
    }

    /// Mean reciprocal rank of the first hit; 0 without users.
    pub fn mrr(&self) -> f64 {
        self.mean(&metric::MRR)
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
        assert!((ranking.mrr() - 1.0).abs() <= 1e-12);
        assert!((ranking.mean(&metric::PRECISION) - 0.5).abs() <= 1e-12);
        ranking.add(&[1, 2], &[3], 2);
        assert!((ranking.recall() - 1.0 / 3.0).abs() <= 1e-12);
        assert!((ranking.mrr() - 0.5).abs() <= 1e-12);
        ranking.add(&[1], &[], 2);
        assert_eq!(ranking.users(), 2);
    }

    #[test]
    fn the_first_hit_alone_decides_the_reciprocal_rank() {
        for (ranked, want) in [([1, 9, 8], 0.5), ([1, 2, 8], 1.0 / 3.0), ([8, 9, 1], 1.0), ([1, 2, 3], 0.0)] {
            let mut ranking = Ranking::default();
            ranking.add(&ranked, &[9, 8], 3);
            assert!((ranking.mrr() - want).abs() <= 1e-12, "{ranked:?}: {}", ranking.mrr());
        }
    }

    #[test]
    fn the_cut_cuts() {
        let mut ranking = Ranking::default();
        ranking.add(&[1, 2, 3], &[3], 2);
        assert_eq!((ranking.recall(), ranking.ndcg(), ranking.mrr()), (0.0, 0.0, 0.0));
        assert_eq!(Ranking::default().recall(), 0.0);
        assert_eq!(ranking.means().map(|(m, _)| m.name).collect::<Vec<_>>(), ["recall", "ndcg", "mrr", "precision"]);
    }
}
