//! The search for alpha, epsilon and the number of samples, on validation rows only.

use rallrec_events::{Event, metric};
use serde::{Deserialize, Serialize};

use super::{MergeSettings, Samples, same_rows};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval;
use crate::monitor::Monitor;
use crate::ops::merge as op;
use crate::settings::Checked;

/// What the search minimises or maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Lower is better. The default.
    #[default]
    LogLoss,
    /// Higher is better.
    Auc,
}

impl Metric {
    fn about(self) -> &'static metric::Metric {
        match self {
            Metric::LogLoss => &metric::LOG_LOSS,
            Metric::Auc => &metric::AUC,
        }
    }

    /// `log_loss` or `auc`.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    pub(super) fn better(self, a: f64, b: f64) -> bool {
        self.about().is_better(a, b)
    }

    /// Of predictions `p` for rows with these labels; `place` is what an error names.
    pub(super) fn value(self, place: &str, labels: &[bool], p: &[f64]) -> Result<f64> {
        match self {
            Metric::LogLoss => eval::log_loss(labels, p),
            Metric::Auc => eval::auc(labels, p)?.ok_or_else(|| {
                Error::input(place, "the rows are all of one class")
                    .next("use more rows, or merge.sweep.metric = \"log_loss\"")
            }),
        }
    }
}

/// The grid. An empty list stands for the one value of [`MergeSettings`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSettings {
    /// Values of alpha that are tried. Empty: only `merge.alpha`.
    #[schemars(inner(range(min = 0.0, max = 1_000_000_000.0)))]
    pub alpha: Vec<f64>,
    /// Values of epsilon that are tried; the papers look at 1e-2 to 1e-6. Empty: only
    /// `merge.epsilon`.
    #[schemars(extend("items" = { "type": "number", "format": "double", "exclusiveMinimum": 0, "maximum": 1e9 }))]
    pub epsilon: Vec<f64>,
    /// Numbers of samples that are tried; 0 means all. Empty: only `merge.samples`.
    pub samples: Vec<u32>,
    /// What decides on the validation rows: the lowest `log_loss` or the highest `auc`.
    pub metric: Metric,
}

impl SweepSettings {
    /// Is there anything to search?
    pub fn is_empty(&self) -> bool {
        self.alpha.is_empty() && self.epsilon.is_empty() && self.samples.is_empty()
    }
}

/// One point of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Cell {
    /// Trust in the reasoning model.
    pub alpha: f64,
    /// Added to the variances.
    pub epsilon: f64,
    /// Samples used; 0 means all.
    pub samples: u32,
    /// The metric on the rows given.
    pub value: f64,
    /// The best of the grid; exactly one cell is.
    pub chosen: bool,
}

/// Every cell of the grid on the rows given, none of them chosen; in grid order: samples, then
/// alpha, then epsilon.
///
/// # Errors
/// Different numbers of rows, one-class labels under AUC, settings out of range, a stop that was
/// asked for.
pub fn grid(
    reasoning: &Samples,
    tuned: &Samples,
    labels: &[bool],
    settings: &MergeSettings,
    monitor: &dyn Monitor,
) -> Result<Vec<Cell>> {
    settings.check()?;
    same_rows(reasoning, tuned)?;
    let or = |list: &[f64], one: f64| if list.is_empty() { vec![one] } else { list.to_vec() };
    let lists = &settings.sweep;
    let (alphas, epsilons) = (or(&lists.alpha, settings.alpha), or(&lists.epsilon, settings.epsilon));
    let counts = if lists.samples.is_empty() { vec![settings.samples] } else { lists.samples.clone() };
    let (mean_t, var_t) = tuned.tuned(settings.tuned_mean)?;
    let (mut p, mut share) = (vec![0.0; mean_t.len()], vec![0.0; mean_t.len()]);
    let total = (counts.len() * alphas.len() * epsilons.len()) as u64;
    let mut cells: Vec<Cell> = Vec::new();
    for &samples in &counts {
        let at = MergeSettings { samples, ..settings.clone() };
        let (mean_r, var_r) = reasoning.moments(at.limit())?;
        for &alpha in &alphas {
            for &epsilon in &epsilons {
                monitor.check()?;
                let trust = MergeSettings { alpha, ..at.clone() }.trust();
                let (means, vars): ([&[f64]; 2], [&[f64]; 2]) = ([&mean_r, &mean_t], [&var_r, &var_t]);
                let experts = op::Experts { means: &means, vars: &vars, trust: &trust };
                op::merge(&Device::Cpu, experts, epsilon, &mut p, &mut share)?;
                let value = lists.metric.value("merge.sweep", labels, &p)?;
                cells.push(Cell { alpha, epsilon, samples, value, chosen: false });
                monitor.progress(cells.len() as u64, total, "cells");
            }
        }
    }
    Ok(cells)
}

/// The best cell of [`grid`] on *validation* rows. Ties go to the cheaper and more cautious cell:
/// fewer samples (all last), then smaller alpha, then larger epsilon. Returns the cells in grid
/// order, the chosen one marked, and `settings` with its values; emits one event a cell.
///
/// # Errors
/// Those of [`grid`].
pub fn sweep(
    reasoning: &Samples,
    tuned: &Samples,
    labels: &[bool],
    settings: &MergeSettings,
    monitor: &dyn Monitor,
) -> Result<(Vec<Cell>, MergeSettings)> {
    let mut cells = grid(reasoning, tuned, labels, settings, monitor)?;
    let metric = settings.sweep.metric;
    let caution = |c: &Cell| (if c.samples == 0 { u32::MAX } else { c.samples }, c.alpha, -c.epsilon);
    let mut best = 0;
    for (i, c) in cells.iter().enumerate().skip(1) {
        let wins = metric.better(c.value, cells[best].value)
            || (c.value == cells[best].value && caution(c) < caution(&cells[best]));
        if wins {
            best = i;
        }
    }
    cells[best].chosen = true;
    for c in &cells {
        monitor.emit(Event::SweepCell {
            alpha: c.alpha,
            epsilon: c.epsilon,
            samples: c.samples,
            metric: metric.name().into(),
            value: c.value,
            chosen: c.chosen,
        });
    }
    let c = cells[best];
    Ok((cells, MergeSettings { alpha: c.alpha, epsilon: c.epsilon, samples: c.samples, ..settings.clone() }))
}
