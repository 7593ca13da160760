//! All metrics of one set of predictions, each with a 95 % interval.

use serde::{Deserialize, Serialize};

use super::{auc, bootstrap, calibration, check, loss};
use crate::error::{Error, Result};

/// How predictions are evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Bootstrap replicates for the intervals of log loss, Brier score and calibration error and for their tests;
    /// 0 (none) to 100000. Default 1000.
    pub bootstrap: u32,
    /// Seed of the resamples. Default 42.
    pub seed: u64,
    /// Bins of equal mass for calibration, 1 to 10000. Default 15.
    pub bins: u32,
    /// The row that the others are tested against. Default `global mean`; `item mean + own history` is harder to beat.
    pub reference: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bootstrap: 1000, seed: 42, bins: 15, reference: "global mean".into() }
    }
}

impl Settings {
    /// Are the values in range?
    ///
    /// # Errors
    /// Names the key that is not.
    pub fn check(&self) -> Result<()> {
        calibration::check_bins(self.bins)?;
        if self.bootstrap > 100_000 {
            return Err(Error::usage("evaluate.bootstrap", format!("{} replicates", self.bootstrap))
                .next("choose 0 to 100000; 1000 is usual"));
        }
        Ok(())
    }
}

/// A value with its 95 % interval, where one can be given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
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

    fn from_replicates(value: f64, replicates: &[f64]) -> Self {
        let q = |q| bootstrap::quantile(replicates, q);
        Self { value, low: q(0.025), high: q(0.975) }
    }
}

/// The metrics of one set of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Metrics {
    /// DeLong interval; `None` when the rows are all of one class.
    pub auc: Option<Estimate>,
    /// Nats, clipped at [`loss::CLIP`]; bootstrap percentiles.
    pub log_loss: Estimate,
    /// At 0.5; Wilson interval.
    pub accuracy: Estimate,
    /// Bootstrap percentiles.
    pub brier: Estimate,
    /// Expected calibration error; bootstrap percentiles (resampling biases them upwards a little).
    pub ece: Estimate,
}

/// Names of the metrics in the order in which they are shown.
pub const NAMES: [&str; 5] = ["auc", "log_loss", "accuracy", "brier", "ece"];

impl Metrics {
    /// By position in [`NAMES`].
    pub fn all(&self) -> [Option<Estimate>; 5] {
        [self.auc, Some(self.log_loss), Some(self.accuracy), Some(self.brier), Some(self.ece)]
    }
}

/// Predictions prepared so that a bootstrap replicate costs one pass.
pub(super) struct Prepared {
    pub(super) value: [f64; 4],
    log_loss: Vec<f64>,
    correct: Vec<f64>,
    brier: Vec<f64>,
    sorted: calibration::Sorted,
    bins: usize,
}

/// Order of [`Prepared::value`] and of each replicate.
pub(super) const RESAMPLED: [&str; 4] = ["log_loss", "accuracy", "brier", "ece"];

impl Prepared {
    pub(super) fn new(labels: &[bool], p: &[f64], settings: &Settings) -> Result<Self> {
        settings.check()?;
        check::probabilities("evaluation", labels, p)?;
        let rows = |f: fn(bool, f64) -> f64| labels.iter().zip(p).map(|(&y, &p)| f(y, p)).collect::<Vec<_>>();
        let mut it = Self {
            value: [0.0; 4],
            log_loss: rows(loss::row_log_loss),
            correct: rows(loss::row_correct),
            brier: rows(loss::row_brier),
            sorted: calibration::Sorted::new(labels, p),
            bins: calibration::check_bins(settings.bins)?,
        };
        it.value = it.under(&vec![1; labels.len()]);
        Ok(it)
    }

    /// The four statistics when row i is there `counts[i]` times.
    pub(super) fn under(&self, counts: &[u32]) -> [f64; 4] {
        let m = |rows| bootstrap::mean(counts, rows);
        let gap = calibration::gap(&self.sorted.sums(self.bins, |i| u64::from(counts[i])));
        [m(&self.log_loss), m(&self.correct), m(&self.brier), gap]
    }

    pub(super) fn replicates(&self, settings: &Settings) -> Vec<[f64; 4]> {
        bootstrap::replicates(settings.seed, self.log_loss.len(), settings.bootstrap, |c| self.under(c))
    }

    pub(super) fn metrics(&self, labels: &[bool], p: &[f64], replicates: &[[f64; 4]]) -> Result<Metrics> {
        let column = |k: usize| replicates.iter().map(|r| r[k]).collect::<Vec<_>>();
        let from = |k: usize| Estimate::from_replicates(self.value[k], &column(k));
        Ok(Metrics {
            auc: auc::delong(labels, p)?,
            log_loss: from(0),
            accuracy: loss::wilson(self.value[1], labels.len()),
            brier: from(2),
            ece: from(3),
        })
    }
}

/// Every metric of predictions `p` for `labels`.
///
/// # Errors
/// Empty input, different lengths, a value that is no probability, settings out of range.
pub fn measure(labels: &[bool], p: &[f64], settings: &Settings) -> Result<Metrics> {
    let prepared = Prepared::new(labels, p, settings)?;
    let replicates = prepared.replicates(settings);
    prepared.metrics(labels, p, &replicates)
}
