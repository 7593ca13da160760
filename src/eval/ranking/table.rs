//! The table of rankers: each one's lists for the same users, judged at the same cuts, beside
//! popularity.

use rallrec_events::metric::{self, Metric};
use rallrec_events::{Difference, Event};
use serde::{Deserialize, Serialize};

use super::values;
use crate::eval::auc::Z95;
use crate::eval::{Compared, Estimate, Metrics, rows};

/// Lengths of the lists that are judged.
pub const CUTS: [usize; 2] = [10, 20];

/// The values of one list: by cut, in the order of [`metric::RANKING`].
type Values = [[f64; metric::RANKING.len()]; CUTS.len()];

/// The lists of one ranker, judged as they come.
pub struct Judged {
    name: String,
    lists: Vec<Values>,
    /// By cut: whether an item stands in a list.
    shown: [Vec<bool>; CUTS.len()],
}

impl Judged {
    /// No list yet, of a catalogue of `items` entries.
    pub fn new(name: &str, items: usize) -> Self {
        Self { name: name.into(), lists: Vec::new(), shown: CUTS.map(|_| vec![false; items]) }
    }

    /// Adds a user's list, best first, and what should be in it (not empty).
    pub fn add(&mut self, ranked: &[u32], relevant: &[u32]) {
        self.lists.push(CUTS.map(|cut| values(ranked, relevant, cut)));
        for (shown, cut) in self.shown.iter_mut().zip(CUTS) {
            for &item in ranked.iter().take(cut) {
                shown[item as usize] = true;
            }
        }
    }

    fn row(&self, against: Option<&Self>) -> RankingRow {
        let (mut metrics, mut differences) = (Vec::new(), Vec::new());
        for (at, cut) in CUTS.into_iter().enumerate() {
            for (n, metric) in metric::RANKING.into_iter().enumerate() {
                let own = self.lists.iter().map(|list| list[at][n]);
                metrics.push((named(metric, cut), Some(share(own.clone()))));
                if let Some(other) = against {
                    let each: Vec<f64> = own.zip(&other.lists).map(|(a, b)| a - b[at][n]).collect();
                    let (difference, error) = mean(each.iter().copied());
                    let p = error
                        .filter(|&error| error > 0.0)
                        .map(|error| libm::erfc(difference.abs() / error * std::f64::consts::FRAC_1_SQRT_2));
                    let end = |side: f64| error.map(|error| difference + side * Z95 * error);
                    differences.push(Compared {
                        metric: named(metric, cut),
                        difference,
                        low: end(-1.0),
                        high: end(1.0),
                        p,
                        p_holm: None,
                    });
                }
            }
            let shown = self.shown[at].iter().filter(|shown| **shown).count();
            let covered = shown as f64 / self.shown[at].len().max(1) as f64;
            metrics.push((named(&metric::COVERAGE, cut), Some(Estimate::point(covered))));
        }
        RankingRow { name: self.name.clone(), metrics: metrics.into_iter().collect(), against: differences }
    }
}

/// `recall@20`.
fn named(metric: &Metric, cut: usize) -> String {
    format!("{}@{cut}", metric.name)
}

/// The mean and its standard error; none of a single value.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, Option<f64>) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (mean, (n > 1.0).then(|| (squares / (n - 1.0) / n).sqrt()))
}

/// The mean of values in 0 to 1, with the interval of the normal distribution over users.
fn share(values: impl Iterator<Item = f64> + Clone) -> Estimate {
    let (value, error) = mean(values);
    let end = |side: f64| error.map(|error| (value + side * Z95 * error).clamp(0.0, 1.0));
    Estimate { value, low: end(-1.0), high: end(1.0) }
}

/// One ranker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingRow {
    /// Shown name, one of [`rows`].
    pub name: String,
    /// `recall@10` and the like, with intervals over users.
    pub metrics: Metrics,
    /// Against the reference; empty for the reference itself.
    pub against: Vec<Compared>,
}

impl RankingRow {
    /// The value of a metric.
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).map(|estimate| estimate.value)
    }
}

/// All rankers on the users of one part of the split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingTable {
    /// `test`, `valid`.
    pub split: String,
    /// Users with a held-out like, each with a list.
    pub users: usize,
    /// Their held-out likes.
    pub relevant: usize,
    /// The catalogue.
    pub items: usize,
    /// The row that the others are compared with.
    pub reference: String,
    /// The reference first.
    pub rows: Vec<RankingRow>,
}

/// What decides whether a ranker beats another.
const JUDGED_BY: &str = "ndcg@10";

impl RankingTable {
    /// Of judged lists of the same users in the same order, the reference's first. `relevant`:
    /// held-out likes.
    pub fn new(split: &str, items: usize, relevant: usize, judged: &[Judged]) -> Self {
        let reference = judged.first();
        let rows = judged.iter().enumerate().map(|(n, own)| own.row(reference.filter(|_| n > 0))).collect();
        Self {
            split: split.into(),
            users: reference.map_or(0, |own| own.lists.len()),
            relevant,
            items,
            reference: reference.map_or_else(|| rows::POPULARITY.into(), |own| own.name.clone()),
            rows,
        }
    }

    /// The rows as events.
    pub fn events(&self) -> Vec<Event> {
        let row = |row: &RankingRow| {
            let against =
                row.against.iter().map(|c| Difference { metric: c.metric.clone(), difference: c.difference, p: c.p });
            Event::ResultRow {
                row: row.name.clone(),
                split: self.split.clone(),
                metrics: row.metrics.told(),
                table: Some(self.title()),
                n: Some(self.users as u64),
                reference: Some(self.reference.clone()),
                against: against.collect(),
            }
        };
        self.rows.iter().map(row).collect()
    }

    /// The row of a ranker.
    pub fn row(&self, name: &str) -> Option<&RankingRow> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Says that a ranker falls behind the reference by NDCG@10; `None` where it does not.
    pub fn falls_behind(&self, name: &str) -> Option<String> {
        let value = |name: &str| self.row(name)?.value(JUDGED_BY);
        let (own, other) = (value(name)?, value(&self.reference)?);
        (own < other).then(|| {
            let (own, other) = apart(own, other);
            format!(
                "{name} ranks worse than {}: NDCG@10 {own} against {other}, {} users of {}",
                self.reference, self.users, self.split
            )
        })
    }
}

/// Two values that differ, with as many digits as show it, four at least.
fn apart(a: f64, b: f64) -> (String, String) {
    let with = |digits: usize| (format!("{a:.digits$}"), format!("{b:.digits$}"));
    (4..17).map(with).find(|(a, b)| a != b).unwrap_or_else(|| (a.to_string(), b.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, lists: &[(&[u32], &[u32])]) -> Judged {
        let mut judged = Judged::new(name, 8);
        lists.iter().for_each(|(ranked, relevant)| judged.add(ranked, relevant));
        judged
    }

    #[test]
    fn means_and_intervals_over_users_done_by_hand() {
        let good = judged("LightGCN", &[(&[1, 2], &[1]), (&[3, 4], &[4]), (&[5], &[6])]);
        let base = judged("popularity", &[(&[0, 1], &[1]), (&[0, 1], &[4]), (&[0, 1], &[6])]);
        let table = RankingTable::new("test", 8, 3, &[base, good]);
        let row = table.row("LightGCN").unwrap();
        let near = |value: Option<f64>, want: f64| {
            assert!(value.is_some_and(|value| (value - want).abs() <= 1e-12), "{value:?} is not {want}");
        };
        near(row.value("recall@10"), 2.0 / 3.0);
        near(row.value("mrr@20"), 0.5);
        near(row.value("coverage@10"), 5.0 / 8.0);
        // Values 1, 1, 0: variance 1/3, standard error 1/3.
        let recall = row.metrics.get("recall@10").unwrap();
        near(recall.low, 2.0 / 3.0 - Z95 / 3.0);
        near(recall.high, 1.0);
        // Differences in recall: 0, 1, 0.
        let difference = row.against.iter().find(|c| c.metric == "recall@10").unwrap();
        near(Some(difference.difference), 1.0 / 3.0);
        near(difference.p, libm::erfc(std::f64::consts::FRAC_1_SQRT_2));
        assert_eq!((table.users, table.reference.as_str(), table.falls_behind("LightGCN")), (3, "popularity", None));
        assert!(table.rows[0].against.is_empty());
    }

    #[test]
    fn figures_that_differ_are_printed_so_that_it_shows() {
        let said = |a, b| apart(a, b);
        assert_eq!(said(0.1, 0.25), ("0.1000".into(), "0.2500".into()));
        assert_eq!(said(0.208_411, 0.208_432), ("0.20841".into(), "0.20843".into()));
        let next = f64::from_bits(0.2084f64.to_bits() + 1);
        let (a, b) = said(0.2084, next);
        assert_ne!(a, b);
    }

    #[test]
    fn a_ranker_that_falls_behind_is_named() {
        let [bad, base] = [judged("LightGCN", &[(&[2], &[1])]), judged("popularity", &[(&[1], &[1])])];
        let table = RankingTable::new("valid", 8, 1, &[base, bad]);
        assert!(table.falls_behind("LightGCN").is_some_and(|said| said.contains("0.0000 against 1.0000")));
        assert_eq!(table.row("LightGCN").unwrap().metrics.get("ndcg@10").unwrap().low, None, "one user: no interval");
    }
}
