//! Curves of the stages that train.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bounded::{Footprint, NAME, cut, flat};
use super::pace::Pace;
use super::series::Series;
use crate::event::Event;

/// Most training stages, and most metrics of one.
const MOST: usize = 12;

/// A validation metric over epochs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MetricView {
    /// Over epochs where the event has one, else over the latest step.
    pub series: Series,
    /// (epoch or step, value) that was called the best.
    pub best: Option<(f64, f64)>,
    /// True when `series` runs over epochs.
    pub by_epoch: bool,
    /// (epoch, step) of the latest point, while it runs over epochs.
    #[serde(skip)]
    at: Option<(u32, f64)>,
}

impl MetricView {
    /// Adds a value that was measured in `epoch` after `step` steps. A stage that measures several
    /// times in an epoch goes by steps, or each value would take the place of the one before.
    fn add(&mut self, epoch: Option<u32>, step: f64, value: f64, best: bool) {
        if self.series.is_empty() {
            self.by_epoch = epoch.is_some();
        }
        if let (Some(epoch), Some((last, at))) = (epoch, self.at)
            && epoch == last
            && step > at
            && self.series.len() == 1
        {
            let first = self.series.last().map_or(f64::NAN, |p| p.1);
            *self = Self { best: self.best.map(|b| (at, b.1)), ..Self::default() };
            self.series.push(at, first);
        }
        let x = match epoch {
            Some(epoch) if self.by_epoch => f64::from(epoch),
            _ => step,
        };
        self.at = epoch.filter(|_| self.by_epoch).map(|epoch| (epoch, step));
        self.series.push(x, value);
        if best {
            self.best = Some((x, value));
        }
    }
}

impl Footprint for MetricView {
    fn held(&self) -> usize {
        self.series.held()
    }
}

/// The latest checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkpoint {
    /// When.
    pub t_ms: u64,
    /// After which step.
    pub step: u64,
    /// `schedule`, `asked`, `best`, `stop`.
    pub why: String,
    /// How many were written.
    pub count: u64,
}

/// One training stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Training {
    /// Latest epoch.
    pub epoch: u32,
    /// Latest step.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Loss over steps.
    pub loss: Series,
    /// Learning rate over steps.
    pub learning_rate: Series,
    /// Norm of the gradient over steps.
    pub gradient_norm: Series,
    /// Units a second over steps.
    pub rate: Series,
    /// Mean cosine of an item's own two embeddings, over epochs.
    pub positive: Series,
    /// Mean cosine of two different items', over epochs.
    pub negative: Series,
    /// By `name (split)`.
    pub metrics: BTreeMap<String, MetricView>,
    /// The latest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Epochs, time and work over steps.
    pub pace: Pace,
}

impl Footprint for Training {
    fn held(&self) -> usize {
        let curves = [&self.loss, &self.learning_rate, &self.gradient_norm, &self.rate, &self.positive, &self.negative];
        curves.into_iter().map(Footprint::held).sum::<usize>()
            + self.metrics.iter().map(|(k, m)| k.held() + size_of::<MetricView>() + m.held()).sum::<usize>()
            + self.pace.held()
            + NAME
    }
}

/// All of them, by stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Trainings(pub BTreeMap<String, Training>);
flat!(Checkpoint);

impl Trainings {
    /// One stage's.
    pub fn get(&self, stage: &str) -> Option<&Training> {
        self.0.get(stage)
    }

    fn entry(&mut self, stage: &str) -> Option<&mut Training> {
        if !self.0.contains_key(stage) && (self.0.len() >= MOST || stage.len() > NAME) {
            return None;
        }
        Some(self.0.entry(stage.to_string()).or_default())
    }

    pub(super) fn forget(&mut self, stage: &str) {
        self.0.remove(stage);
    }

    pub(super) fn apply(&mut self, t: u64, event: &Event) {
        match event {
            Event::TrainStep { stage, epoch, step, steps, loss, learning_rate, gradient_norm, rate } => {
                let Some(training) = self.entry(stage) else { return };
                if *epoch > training.epoch {
                    training.pace.epoch(training.step, training.epoch);
                }
                training.pace.step(t, *step, *rate);
                (training.epoch, training.step, training.steps) = (*epoch, *step, *steps);
                let x = *step as f64;
                training.loss.push(x, *loss);
                training.learning_rate.push(x, *learning_rate);
                if let Some(norm) = gradient_norm {
                    training.gradient_norm.push(x, *norm);
                }
                if let Some(rate) = rate {
                    training.rate.push(x, *rate);
                }
            }
            Event::Metric { stage, name, split, value, epoch, best } => {
                let Some(training) = self.entry(stage) else { return };
                let key = cut(&format!("{name} ({split})"), NAME);
                if !training.metrics.contains_key(&key) && training.metrics.len() >= MOST {
                    return;
                }
                if let Some(epoch) = epoch {
                    training.pace.epoch(training.step, *epoch);
                }
                let step = training.step as f64;
                training.metrics.entry(key).or_default().add(*epoch, step, *value, *best);
            }
            Event::Similarity { stage, epoch, positive, negative } => {
                let Some(training) = self.entry(stage) else { return };
                training.positive.push(f64::from(*epoch), *positive);
                training.negative.push(f64::from(*epoch), *negative);
            }
            Event::CheckpointWritten { stage, step, why, .. } => {
                let Some(training) = self.entry(stage) else { return };
                let count = training.checkpoint.as_ref().map_or(0, |c| c.count) + 1;
                training.checkpoint = Some(Checkpoint { t_ms: t, step: *step, why: cut(why, NAME), count });
            }
            Event::Paused { stage } | Event::Resumed { stage, .. } => {
                if let Some(training) = self.0.get_mut(stage) {
                    training.pace.interrupt();
                }
            }
            Event::RunStarted { .. } => self.0.values_mut().for_each(|training| training.pace.interrupt()),
            _ => {}
        }
    }
}

impl Footprint for Trainings {
    fn held(&self) -> usize {
        self.0.iter().map(|(k, t)| k.held() + size_of::<Training>() + t.held()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(metric: &MetricView) -> Vec<(f64, f64)> {
        metric.series.recent().iter().copied().collect()
    }

    #[test]
    fn one_value_an_epoch_goes_by_epochs_also_after_a_resume() {
        let mut metric = MetricView::default();
        for (epoch, step, value) in [(1, 100.0, 0.5), (2, 200.0, 0.6), (3, 300.0, 0.7), (2, 200.0, 0.61)] {
            metric.add(Some(epoch), step, value, value > 0.65);
        }
        assert!(metric.by_epoch);
        assert_eq!(points(&metric), [(1.0, 0.5), (2.0, 0.61)]);
        assert_eq!(metric.best, Some((3.0, 0.7)));
    }

    #[test]
    fn several_values_in_an_epoch_go_by_steps() {
        let mut metric = MetricView::default();
        for (step, value, best) in [(10.0, 0.9, true), (20.0, 0.6, false), (30.0, 0.7, false)] {
            metric.add(Some(1), step, value, best);
        }
        metric.add(Some(2), 40.0, 0.5, false);
        assert!(!metric.by_epoch);
        assert_eq!(points(&metric), [(10.0, 0.9), (20.0, 0.6), (30.0, 0.7), (40.0, 0.5)]);
        assert_eq!(metric.best, Some((10.0, 0.9)));
    }
}
