//! How each metric of predictions is computed from rows, with its 95 % interval. What a metric is
//! called and which way is better stands in [`rallrec_events::metric`]; a new one is an entry there
//! and one here.

use rallrec_events::metric::{self, Metric};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::clusters::Clusters;
use super::uauc::ByUser;
use super::{auc, bootstrap, calibration, check, loss, rows};
use crate::error::{Error, Result};
use crate::settings::Checked;

/// How predictions are evaluated.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSettings {
    /// Bootstrap replicates, over users, for the intervals of all metrics but AUC, and for the
    /// tests of log loss; 0 gives none. Where no item of a table has training ratings, over users
    /// and items.
    #[schemars(range(max = 100_000))]
    pub bootstrap: u32,
    /// Seed of the resamples, and of the rows that calibrate the baselines. Not set: the recipe's
    /// `seed`.
    pub seed: u64,
    /// Bins of equal mass for the calibration error.
    #[schemars(range(min = 1, max = 10_000))]
    pub bins: u32,
    /// Rows of a window of the table that sorts rows by the variance of their reasoning samples.
    /// The paper takes 500 on Book-Crossing and 1,000 elsewhere; 0 does so too.
    #[schemars(range(max = 1_000_000_000))]
    pub window: usize,
    /// The row of the tables that the others are tested against; a table that lacks it takes
    /// `global mean`. `item mean + own history` is harder to beat.
    #[schemars(length(min = 1))]
    pub reference: String,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self { bootstrap: 1000, seed: 42, bins: 15, window: 0, reference: rows::GLOBAL_MEAN.into() }
    }
}

impl Checked for EvalSettings {}

/// What predictions are held against, one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct EvalRows<'a> {
    /// What happened.
    pub labels: &'a [bool],
    /// Whose row it is; empty where that is not known: metrics by user are then left out, and rows
    /// are taken for independent.
    pub users: &'a [u32],
    /// What the row is about, where rows of one item belong together too; empty where they do not.
    pub items: &'a [u32],
}

impl EvalRows<'_> {
    /// The rows that belong together.
    pub fn clusters(&self) -> Clusters {
        match (self.users, self.items) {
            ([], _) => Clusters::single(self.labels.len()),
            (users, []) => Clusters::by_user(users),
            (users, items) => Clusters::by_user_and_item(users, items),
        }
    }
}

impl<'a, T: AsRef<[bool]> + ?Sized> From<&'a T> for EvalRows<'a> {
    fn from(labels: &'a T) -> Self {
        Self { labels: labels.as_ref(), users: &[], items: &[] }
    }
}

/// A value with its 95 % interval, where one can be given.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The value on the rows at hand.
    pub value: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Estimate {
    /// Without interval.
    pub fn point(value: f64) -> Self {
        Self { value, low: None, high: None }
    }

    /// Percentiles of the replicates.
    fn from_replicates(value: f64, replicates: &[f64]) -> Self {
        let q = |q| bootstrap::quantile(replicates, q);
        Self { value, low: q(0.025), high: q(0.975) }
    }

    /// Percentiles of the replicates, moved so that their mean is the value. A resample has ties,
    /// which make a mean of absolute gaps larger: without the move the interval of a calibration
    /// error can leave out its own estimate.
    fn from_moved_replicates(value: f64, replicates: &[f64]) -> Self {
        let bias = replicates.iter().sum::<f64>() / replicates.len() as f64 - value;
        let q = |q| bootstrap::quantile(replicates, q).map(|q| (q - bias).max(0.0));
        Self { value, low: q(0.025), high: q(0.975) }
    }
}

/// A metric of one set of predictions as a function of how often each row is there; `None` where it
/// is undefined.
pub(super) type Statistic = Box<dyn Fn(&[u32]) -> Option<f64> + Send + Sync>;

/// Makes a [`Statistic`] of rows and predictions, so that a bootstrap replicate costs one pass.
type Prepare = fn(EvalRows<'_>, &[f64], &EvalSettings) -> Result<Statistic>;

/// How a metric's value and interval are computed.
enum Computed {
    /// The area under the curve with DeLong's interval, clustered.
    Delong,
    /// A share of rows: Wilson's interval where rows are independent, bootstrap percentiles where
    /// they come in clusters.
    Wilson(Prepare),
    /// Bootstrap percentiles.
    Bootstrap(Prepare),
    /// Bootstrap percentiles, moved by the bias of the resamples; never below 0.
    Moved(Prepare),
}

/// Every metric in the order of [`metric::METRICS`].
const COMPUTED: [(&Metric, Computed); metric::METRICS.len()] = [
    (&metric::AUC, Computed::Delong),
    (&metric::LOG_LOSS, Computed::Bootstrap(|rows, p, _| mean_of(rows, p, loss::row_log_loss))),
    (&metric::ACCURACY, Computed::Wilson(|rows, p, _| mean_of(rows, p, loss::row_correct))),
    (&metric::BRIER, Computed::Bootstrap(|rows, p, _| mean_of(rows, p, loss::row_brier))),
    (&metric::ECE, Computed::Moved(calibration_error)),
    (&metric::UAUC, Computed::Bootstrap(by_user)),
];

fn mean_of(rows: EvalRows<'_>, p: &[f64], of_row: fn(bool, f64) -> f64) -> Result<Statistic> {
    let each: Vec<f64> = rows.labels.iter().zip(p).map(|(&y, &p)| of_row(y, p)).collect();
    Ok(Box::new(move |counts| Some(bootstrap::mean(counts, &each))))
}

fn calibration_error(rows: EvalRows<'_>, p: &[f64], settings: &EvalSettings) -> Result<Statistic> {
    let (sorted, bins) = (calibration::Sorted::new(rows.labels, p), calibration::check_bins(settings.bins)?);
    Ok(Box::new(move |counts| Some(calibration::gap(&sorted.sums(bins, |i| u64::from(counts[i]))))))
}

fn by_user(rows: EvalRows<'_>, p: &[f64], _: &EvalSettings) -> Result<Statistic> {
    let by_user = ByUser::new(rows.labels, p, rows.users);
    Ok(Box::new(move |counts| by_user.under(counts)))
}

/// The metrics of one set of predictions, by name; `None` where a metric is undefined, as AUC for
/// rows of one class.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(Vec<(String, Option<Estimate>)>);

impl Metrics {
    /// The metric of this name, where it is there and defined.
    pub fn get(&self, name: &str) -> Option<Estimate> {
        self.0.iter().find(|m| m.0 == name).and_then(|m| m.1)
    }

    /// Those that are defined as events tell them: name, value, low, high; a missing interval has
    /// both ends at the value.
    pub fn told(&self) -> Vec<(String, f64, f64, f64)> {
        let defined = self.iter().filter_map(|(name, estimate)| Some((name, estimate?)));
        let ends = |e: &Estimate| (e.low.unwrap_or(e.value), e.high.unwrap_or(e.value));
        defined.map(|(name, e)| (name.to_string(), e.value, ends(&e).0, ends(&e).1)).collect()
    }

    /// All, in the order of the columns.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<Estimate>)> {
        self.0.iter().map(|(name, estimate)| (name.as_str(), *estimate))
    }
}

impl FromIterator<(String, Option<Estimate>)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (String, Option<Estimate>)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, estimate)| (name, estimate)))
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Metrics;
            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("metrics by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Metrics, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Metrics(all))
            }
        }
        from.deserialize_map(InOrder)
    }
}

/// Predictions prepared for evaluation: every metric that is resampled, and its value on the rows
/// as they are.
pub(super) struct Prepared {
    /// (metric, the statistic, its value).
    resampled: Vec<(&'static Metric, Statistic, Option<f64>)>,
    clusters: Clusters,
}

impl Prepared {
    pub(super) fn new(rows: EvalRows<'_>, p: &[f64], settings: &EvalSettings) -> Result<Self> {
        settings.check()?;
        check::probabilities("evaluation", rows.labels, p)?;
        if !(rows.users.is_empty() || rows.users.len() == rows.labels.len()) {
            return Err(Error::input(
                "evaluation",
                format!("{} users for {} rows", rows.users.len(), rows.labels.len()),
            )
            .next("give each row its user, or none"));
        }
        if !(rows.items.is_empty() || rows.items.len() == rows.users.len()) {
            let (items, users) = (rows.items.len(), rows.users.len());
            return Err(Error::input("evaluation", format!("{items} items for rows of {users} users"))
                .next("give each row its user and its item, or no items"));
        }
        let once = vec![1; rows.labels.len()];
        let mut resampled = Vec::new();
        for (metric, computed) in COMPUTED {
            if let Computed::Wilson(prepare) | Computed::Bootstrap(prepare) | Computed::Moved(prepare) = computed {
                let statistic = prepare(rows, p, settings)?;
                let value = statistic(&once);
                resampled.push((metric, statistic, value));
            }
        }
        Ok(Self { resampled, clusters: rows.clusters() })
    }

    /// For each replicate the resampled metrics, in the order of [`Self::metrics`]; none where all
    /// rows are of one user, or one item: they tell nothing of others.
    pub(super) fn replicates(&self, settings: &EvalSettings) -> Vec<Vec<Option<f64>>> {
        if self.clusters.fewest() < 2 {
            return Vec::new();
        }
        bootstrap::replicates(settings.seed, &self.clusters, settings.bootstrap, |counts| {
            // Where no drawn user meets a drawn item, the replicate says nothing.
            let empty = counts.iter().all(|count| *count == 0);
            self.resampled.iter().map(|(_, statistic, _)| if empty { None } else { statistic(counts) }).collect()
        })
    }

    /// A resampled metric as a function of how often each row is there.
    pub(super) fn statistic(&self, metric: &Metric) -> Option<&Statistic> {
        self.resampled.iter().find(|(own, ..)| *own == metric).map(|(_, statistic, _)| statistic)
    }

    /// The resampled metrics with their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (&'static Metric, Option<f64>)> {
        self.resampled.iter().map(|(metric, _, value)| (*metric, *value))
    }

    pub(super) fn metrics(&self, labels: &[bool], p: &[f64], replicates: &[Vec<Option<f64>>]) -> Result<Metrics> {
        let mut all = Vec::with_capacity(COMPUTED.len());
        for (metric, computed) in COMPUTED {
            let at = self.resampled.iter().position(|(m, ..)| *m == metric);
            let value = at.and_then(|at| self.resampled[at].2);
            // A replicate in which the metric is undefined says nothing.
            let column = |at: usize| -> Vec<f64> { replicates.iter().filter_map(|r| r[at]).collect() };
            let estimate = match (computed, at, value) {
                (Computed::Delong, ..) => auc::delong(labels, p, &self.clusters)?,
                (Computed::Wilson(_), _, Some(value)) if !self.clusters.matter() => {
                    Some(loss::wilson(value, labels.len()))
                }
                (Computed::Moved(_), Some(at), Some(value)) => {
                    Some(Estimate::from_moved_replicates(value, &column(at)))
                }
                (_, Some(at), Some(value)) => Some(Estimate::from_replicates(value, &column(at))),
                _ => None,
            };
            all.push((metric.name.to_string(), estimate));
        }
        Ok(Metrics(all))
    }
}

/// Every metric of predictions `p` for `rows`.
///
/// # Errors
/// Empty input, different lengths, a value that is no probability, settings out of range.
pub fn measure<'a>(rows: impl Into<EvalRows<'a>>, p: &[f64], settings: &EvalSettings) -> Result<Metrics> {
    let rows = rows.into();
    let prepared = Prepared::new(rows, p, settings)?;
    let replicates = prepared.replicates(settings);
    prepared.metrics(rows.labels, p, &replicates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_that_has_a_name_is_computed() {
        let names = COMPUTED.map(|(metric, _)| metric.name);
        assert_eq!(names, metric::METRICS.map(|m| m.name));
        let users = [0, 0, 1, 1, 1];
        let rows = EvalRows { labels: &[true, false, true, false, true], users: &users, items: &[] };
        let metrics = measure(rows, &[0.9, 0.4, 0.3, 0.6, 0.8], &EvalSettings::default()).unwrap();
        for name in names {
            let estimate = metrics.get(name).unwrap();
            assert!(estimate.value.is_finite() && estimate.low.is_some(), "{name}: {estimate:?}");
        }
        // User 0: 1; user 1: one of two pairs. Weights 2 and 3.
        let uauc = metrics.get("uauc").unwrap();
        assert!((uauc.value - (2.0 + 1.5) / 5.0).abs() <= 1e-12, "{uauc:?}");
        let short = EvalRows { users: &users[1..], ..rows };
        assert!(measure(short, &[0.5; 5], &EvalSettings::default()).is_err());
        let short = EvalRows { items: &users[1..], ..rows };
        assert!(measure(short, &[0.5; 5], &EvalSettings::default()).is_err());
    }

    #[test]
    fn one_user_and_one_item_have_values_and_no_intervals() {
        let (labels, p) = ([true, false, true, false], [0.9, 0.4, 0.3, 0.6]);
        let apart = [0, 1, 2, 3];
        for (users, items) in [(&[5; 4], &[][..]), (&apart, &[7; 4][..])] {
            let rows = EvalRows { labels: &labels, users, items };
            let found = measure(rows, &p, &EvalSettings::default()).unwrap();
            let known: Vec<_> = found.iter().filter_map(|(_, e)| e).collect();
            assert!(known.len() >= 5 && known.iter().all(|e| e.low.is_none() && e.high.is_none()), "{found:?}");
            let compared = super::super::paired::compare(rows, &p, &[0.5; 4], &EvalSettings::default()).unwrap();
            assert!(!compared.is_empty() && compared.iter().all(|c| c.p.is_none() && c.low.is_none()), "{compared:?}");
        }
    }

    #[test]
    fn rows_without_users_have_no_uauc() {
        let metrics = measure(&[true, false], &[0.9, 0.4], &EvalSettings::default()).unwrap();
        assert_eq!(metrics.get("uauc"), None);
        let json = serde_json::to_string(&metrics).unwrap();
        assert!(json.starts_with(r#"{"auc":{"value":1.0"#) && json.ends_with(r#""uauc":null}"#), "{json}");
        assert_eq!(serde_json::from_str::<Metrics>(&json).unwrap(), metrics);
    }
}
