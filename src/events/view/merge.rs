//! The merge.

use std::collections::VecDeque;

use serde::Serialize;

use super::bins::{Bins, Histogram, Mean, Reliability};
use super::bounded::{Footprint, NAME, cut, flat, push};
use crate::event::Event;

/// Rows that are kept one by one.
const ROWS: usize = 2048;
/// Cells of the sweep.
const CELLS: usize = 2048;

/// One merged row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MergeRow {
    /// Index of the sample.
    pub row: u64,
    /// Mean of the sampled answers.
    pub mean_reasoning: f64,
    /// Their variance.
    pub var_reasoning: f64,
    /// The tuned model's answer.
    pub mean_tuned: f64,
    /// Variance over its runs.
    pub var_tuned: f64,
    /// Weight of the reasoning model, 0 to 1.
    pub share_reasoning: f64,
    /// Merged probability.
    pub p: f64,
    /// Whether the user liked the target.
    pub label: Option<bool>,
}

impl MergeRow {
    pub(super) fn of(event: &Event) -> Option<Self> {
        let Event::MergeResult { row, mean_reasoning, var_reasoning, mean_tuned, var_tuned, share_reasoning, p, label } =
            event
        else {
            return None;
        };
        Some(Self {
            row: *row,
            mean_reasoning: *mean_reasoning,
            var_reasoning: *var_reasoning,
            mean_tuned: *mean_tuned,
            var_tuned: *var_tuned,
            share_reasoning: *share_reasoning,
            p: *p,
            label: *label,
        })
    }
}

/// One cell of the sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Trust in the reasoning model.
    pub alpha: f64,
    /// Constant on the variances.
    pub epsilon: f64,
    /// Samples used; 0 = all.
    pub samples: u32,
    /// Metric.
    pub metric: String,
    /// Its value on the validation rows.
    pub value: f64,
    /// The one that was chosen.
    pub chosen: bool,
}

impl Footprint for Cell {
    fn held(&self) -> usize {
        self.metric.held()
    }
}

/// How one of the three predictors does over all merged rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Model {
    /// Predicted against observed.
    pub reliability: Reliability,
    /// Rows with a label.
    pub n: u64,
    /// Right at 0.5.
    pub right: u64,
    /// Sum of log losses, natural, clipped at 2^-52.
    pub log_loss_sum: f64,
}

impl Model {
    fn add(&mut self, p: f64, label: bool) {
        if !p.is_finite() {
            return;
        }
        self.reliability.add(p, label);
        self.n += 1;
        self.right += u64::from((p > 0.5) == label);
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        self.log_loss_sum -= if label { p.ln() } else { (1.0 - p).ln() };
    }

    /// Share right at 0.5.
    pub fn accuracy(&self) -> Option<f64> {
        (self.n > 0).then(|| self.right as f64 / self.n as f64)
    }

    /// Mean log loss.
    pub fn log_loss(&self) -> Option<f64> {
        (self.n > 0).then(|| self.log_loss_sum / self.n as f64)
    }
}

/// The merge of a run: its latest rows, the sweep, and how well each model does so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Merge {
    /// The latest rows.
    pub rows: VecDeque<MergeRow>,
    /// The reasoning model's share of the weight; its `n` counts all rows.
    pub share: Mean,
    /// The same spread over 0 to 1.
    pub shares: Histogram,
    /// Variance over the samples.
    pub variance: Mean,
    /// The tuned model.
    pub tuned: Model,
    /// The mean of the sampled answers.
    pub reasoning: Model,
    /// The merge.
    pub merged: Model,
    /// The sweep.
    pub cells: Vec<Cell>,
}

impl Default for Merge {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            share: Mean::default(),
            shares: Bins::linear(0.0, 1.0, 50),
            variance: Mean::default(),
            tuned: Model::default(),
            reasoning: Model::default(),
            merged: Model::default(),
            cells: Vec::new(),
        }
    }
}

impl Merge {
    /// Nothing was merged yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cells.is_empty()
    }

    /// The chosen cell.
    pub fn chosen(&self) -> Option<&Cell> {
        self.cells.iter().find(|c| c.chosen)
    }

    /// Largest share that the reasoning model can have at these constants when the tuned model has
    /// one run (variance 0): `alpha / (alpha + 1)` where its own variance is 0 too.
    pub fn largest_possible_share(alpha: f64) -> f64 {
        alpha / (alpha + 1.0)
    }

    pub(super) fn apply(&mut self, event: &Event) {
        if let Some(row) = MergeRow::of(event) {
            self.share.add(row.share_reasoning);
            self.shares.add(row.share_reasoning, false, 0.0);
            self.variance.add(row.var_reasoning);
            if let Some(label) = row.label {
                self.tuned.add(row.mean_tuned, label);
                self.reasoning.add(row.mean_reasoning, label);
                self.merged.add(row.p, label);
            }
            push(&mut self.rows, ROWS, row);
        }
        if let Event::SweepCell { alpha, epsilon, samples, metric, value, chosen } = event {
            let same = |c: &&mut Cell| c.alpha == *alpha && c.epsilon == *epsilon && c.samples == *samples;
            let full = self.cells.len() >= CELLS;
            match self.cells.iter_mut().find(same) {
                Some(cell) => (cell.value, cell.chosen) = (*value, *chosen),
                None if !full => self.cells.push(Cell {
                    alpha: *alpha,
                    epsilon: *epsilon,
                    samples: *samples,
                    metric: cut(metric, NAME),
                    value: *value,
                    chosen: *chosen,
                }),
                None => {}
            }
        }
    }
}

flat!(Model);

impl Footprint for Merge {
    fn held(&self) -> usize {
        let bins = self.shares.held() + 3 * self.merged.reliability.held();
        self.rows.held() + bins + self.cells.held()
    }
}
