//! Consistency-based merging (RALLRec+): the more a model's samples agree, the more it is believed.

pub mod consistency;
pub mod experts;
pub mod outside;
pub mod sweep;

use rallrec_events::Event;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::merge as op;
use crate::settings::{Checked, Faults};

pub use experts::{Expert, Opinions, merge_all, weigh};
pub use op::Trust;
pub use outside::{Calibrate, OutsideExpert};
pub use sweep::{Cell, Metric, SweepSettings, grid, sweep};

/// Which value of the tuned model enters the merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TunedMean {
    /// The mean of its runs, as the paper says. The default.
    #[default]
    Mean,
    /// The first run's value, as the authors' code does; the variance is over all runs all the
    /// same.
    First,
}

/// How two models are merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MergeSettings {
    /// Trust in the reasoning model: its weight is `alpha / (variance / tau_reasoning + epsilon)`.
    /// The tuned model's weight is `1 / (variance / tau_tuned + epsilon)`.
    #[schemars(range(min = 0.0, max = 1_000_000_000.0))]
    pub alpha: f64,
    /// Added to each variance.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Divisor of the reasoning model's variance.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub tau_reasoning: f64,
    /// Divisor of the tuned model's variance.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub tau_tuned: f64,
    /// Only the first so many reasoning samples of a row count; 0 means all.
    pub samples: u32,
    /// Which value of the tuned model enters: the mean of its runs (the paper), or its first run
    /// (the authors' code).
    pub tuned_mean: TunedMean,
    /// A row of the table for the mean of the two models without weights, beside each merge.
    pub plain_mean: bool,
    /// The grid that is searched on the validation rows; empty lists mean no search.
    pub sweep: SweepSettings,
    /// Beyond the papers: a second merge over these experts, in a row of its own: `tuned`,
    /// `reasoning` (where it has samples), `collaborative` (what the causal features alone say),
    /// and names of the section `experts`.
    #[schemars(extend("uniqueItems" = true))]
    pub experts: Vec<Expert>,
    /// Weights among which each expert's is chosen on validation rows; the first expert's is 1.
    #[schemars(length(min = 1), inner(range(min = 0.0, max = 1_000_000_000.0)))]
    pub weights: Vec<f64>,
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            alpha: 0.1,
            epsilon: 1e-3,
            tau_reasoning: 1.0,
            tau_tuned: 1.0,
            samples: 0,
            tuned_mean: TunedMean::Mean,
            plain_mean: false,
            sweep: SweepSettings::default(),
            experts: Vec::new(),
            weights: vec![0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
        }
    }
}

fn in_range(key: &str, value: f64, zero: bool) -> Result<()> {
    if value.is_finite() && (value > 0.0 || (zero && value == 0.0)) {
        return Ok(());
    }
    let bound = if zero { "0 or above" } else { "above 0" };
    Err(Error::usage(key, format!("{value} is out of range")).next(format!("choose a number {bound}")))
}

impl Checked for MergeSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let some = self.weights.iter().any(|w| *w > 0.0);
        faults.unless(some, "weights", "no weight is above 0", "give values such as [0.1, 1, 10]");
        faults
    }
}

impl MergeSettings {
    fn limit(&self) -> usize {
        if self.samples == 0 { usize::MAX } else { self.samples as usize }
    }

    pub(crate) fn trust(&self) -> [Trust; 2] {
        [Trust { alpha: self.alpha, tau: self.tau_reasoning }, Trust { alpha: 1.0, tau: self.tau_tuned }]
    }
}

/// One merged row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Merged {
    /// Mean of the reasoning samples.
    pub mean_reasoning: f64,
    /// Their population variance.
    pub var_reasoning: f64,
    /// The tuned model's value (see [`TunedMean`]).
    pub mean_tuned: f64,
    /// Population variance of its runs.
    pub var_tuned: f64,
    /// Share of the reasoning model in the weights, 0..=1.
    pub share_reasoning: f64,
    /// The merged probability.
    pub p: f64,
}

impl Merged {
    /// As an event of row `row`.
    pub fn event(&self, row: u64, label: Option<bool>) -> Event {
        Event::MergeResult {
            row,
            mean_reasoning: self.mean_reasoning,
            var_reasoning: self.var_reasoning,
            mean_tuned: self.mean_tuned,
            var_tuned: self.var_tuned,
            share_reasoning: self.share_reasoning,
            p: self.p,
            label,
        }
    }
}

/// Samples of one model for every row, checked and laid out for the operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    stride: usize,
    counts: Vec<u32>,
    values: Vec<f64>,
}

impl Samples {
    /// `rows[r]` are the probabilities that model `name` gave row r: at least one a row, numbers
    /// may differ.
    ///
    /// # Errors
    /// A row without samples, a value that is no probability.
    pub fn new<R: AsRef<[f64]>>(name: &str, rows: &[R]) -> Result<Self> {
        let stride = rows.iter().map(|r| r.as_ref().len()).max().unwrap_or(0);
        let mut values = Vec::with_capacity(rows.len() * stride);
        let mut counts = Vec::with_capacity(rows.len());
        for (r, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.is_empty() {
                return Err(Error::input(format!("merge, {name} model, row {r}"), "no sample")
                    .next("finish the stage that makes them, or leave the row out of both models"));
            }
            if let Some(s) = row.iter().position(|p| !(0.0..=1.0).contains(p)) {
                let what = format!("{} is not a probability", row[s]);
                return Err(Error::input(format!("merge, {name} model, row {r}, sample {s}"), what)
                    .next("score the sample again"));
            }
            values.extend_from_slice(row);
            values.resize((r + 1) * stride, 0.0);
            counts.push(row.len() as u32);
        }
        Ok(Self { stride, counts, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.counts.len()
    }

    /// The largest number of samples of any row.
    pub fn most(&self) -> usize {
        self.stride
    }

    /// Mean and population variance of the first `limit` (> 0) samples of each row.
    ///
    /// # Errors
    /// None of samples that [`new`](Self::new) has taken.
    pub fn moments(&self, limit: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut mean, mut var) = (vec![0.0; self.rows()], vec![0.0; self.rows()]);
        let samples = op::Samples { values: &self.values, stride: self.stride, counts: &self.counts };
        op::moments(&Device::Cpu, samples, limit.max(1), &mut mean, &mut var)?;
        Ok((mean, var))
    }

    /// First sample of each row.
    pub fn first(&self) -> Vec<f64> {
        self.values.chunks(self.stride.max(1)).map(|row| row[0]).collect()
    }

    pub(crate) fn tuned(&self, mean: TunedMean) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mu, var) = self.moments(usize::MAX)?;
        Ok((if mean == TunedMean::First { self.first() } else { mu }, var))
    }
}

pub(crate) fn same_rows(reasoning: &Samples, tuned: &Samples) -> Result<()> {
    if reasoning.rows() == tuned.rows() {
        return Ok(());
    }
    Err(Error::input("merge", format!("{} reasoning rows, {} tuned rows", reasoning.rows(), tuned.rows()))
        .next("merge predictions of the same rows"))
}

/// Merges the reasoning model's samples with the tuned model's runs (usually one), row by row.
///
/// # Errors
/// Different numbers of rows, settings out of range.
pub fn merge(reasoning: &Samples, tuned: &Samples, settings: &MergeSettings) -> Result<Vec<Merged>> {
    settings.check()?;
    same_rows(reasoning, tuned)?;
    let (mean_r, var_r) = reasoning.moments(settings.limit())?;
    let (mean_t, var_t) = tuned.tuned(settings.tuned_mean)?;
    let (mut p, mut share) = (vec![0.0; mean_r.len()], vec![0.0; mean_r.len()]);
    let (means, vars): ([&[f64]; 2], [&[f64]; 2]) = ([&mean_r, &mean_t], [&var_r, &var_t]);
    let experts = op::Experts { means: &means, vars: &vars, trust: &settings.trust() };
    op::merge(&Device::Cpu, experts, settings.epsilon, &mut p, &mut share)?;
    let row = |r: usize| Merged {
        mean_reasoning: mean_r[r],
        var_reasoning: var_r[r],
        mean_tuned: mean_t[r],
        var_tuned: var_t[r],
        share_reasoning: share[r],
        p: p[r],
    };
    Ok((0..p.len()).map(row).collect())
}
