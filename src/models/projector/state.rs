//! All that the next epoch depends on, and one optimiser step.

use serde::{Deserialize, Serialize};

use super::attention::Mixing;
use super::{Epoch, ProjectorSettings};
use crate::device::Device;
use crate::error::Result;
use crate::ops::adam::{self, Adam};
use crate::ops::infonce::Gradients;
use crate::ops::mlp::Tensors;

/// What is trained of f, or its gradients.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    /// The perceptron.
    pub mlp: Tensors,
    /// Attention before it; empty where there is none.
    pub mixing: Mixing,
}

/// Tensors of [`Weights`].
pub(super) const TENSORS: usize = 6;

impl Weights {
    /// All, in order.
    pub fn each(&self) -> [&Vec<f32>; TENSORS] {
        let ([w1, b1, w2, b2], [a, b]) = (self.mlp.each(), self.mixing.each_ref());
        [w1, b1, w2, b2, a, b]
    }

    /// All, in order.
    pub fn each_mut(&mut self) -> [&mut Vec<f32>; TENSORS] {
        let ([w1, b1, w2, b2], [a, b]) = (self.mlp.each_mut(), self.mixing.each_mut());
        [w1, b1, w2, b2, a, b]
    }
}

/// First and second moment of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

impl Moments {
    fn zeros(n: usize) -> Self {
        Self { m: vec![0.0; n], v: vec![0.0; n] }
    }
}

/// What is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What was set; a resume may change `epochs` and `early_stop`.
    pub settings: ProjectorSettings,
    /// Digest of the embeddings and items trained on.
    pub data: String,
    /// Finished epochs.
    pub epoch: u32,
    /// Optimiser steps made.
    pub steps: u64,
    /// Epochs since the best one.
    pub waited: u32,
    /// Temperature.
    pub tau: f32,
    /// Epoch by epoch.
    pub history: Vec<Epoch>,
}

/// The training between two epochs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub progress: Progress,
    /// f.
    pub p: Weights,
    /// Moments of its tensors.
    pub moments: [Moments; TENSORS],
    /// The collaborative rows; they move only when not frozen.
    pub colla: Vec<f32>,
    /// Their moments, empty when frozen.
    pub colla_moments: Moments,
    /// Of the temperature.
    pub tau_moments: Moments,
    /// f after the best epoch.
    pub best: Weights,
}

impl State {
    /// Before the first epoch.
    pub fn fresh(settings: &ProjectorSettings, data: String, p: Weights, colla: &[f32]) -> Self {
        Self {
            progress: Progress {
                settings: settings.clone(),
                data,
                epoch: 0,
                steps: 0,
                waited: 0,
                tau: settings.tau,
                history: Vec::new(),
            },
            moments: p.each().map(|t| Moments::zeros(t.len())),
            colla: colla.to_vec(),
            colla_moments: Moments::zeros(if settings.freeze_collaborative { 0 } else { colla.len() }),
            tau_moments: Moments::zeros(1),
            best: p.clone(),
            p,
        }
    }

    /// One step of Adam on whatever is trained: f by `g`, the collaborative rows of
    /// `batch` and the temperature by `loss`.
    ///
    /// # Errors
    /// Gradients of other shapes; a device that fails.
    pub fn step(&mut self, settings: &ProjectorSettings, g: &Weights, batch: &[u32], loss: Gradients) -> Result<()> {
        self.progress.steps += 1;
        let (adam, t) = (Adam::new(settings.learning_rate), self.progress.steps);
        let step = |p: &mut [f32], g: &[f32], s: &mut Moments| {
            let state = adam::State::of(p, &mut s.m, &mut s.v);
            adam::step(&Device::Cpu, &adam, t, state, (g, g.len()).into(), None)
        };
        for ((p, g), s) in self.p.each_mut().into_iter().zip(g.each()).zip(&mut self.moments) {
            step(p, g, s)?;
        }
        if !settings.freeze_collaborative && !batch.is_empty() {
            let (dim, by_rows) = (loss.y.dim(), loss.y.into_matrix()?);
            let mut by = vec![0.0; self.colla.len()];
            for (&i, g) in batch.iter().zip(by_rows.as_slice().chunks_exact(dim)) {
                by[i as usize * dim..(i as usize + 1) * dim].copy_from_slice(g);
            }
            step(&mut self.colla, &by, &mut self.colla_moments)?;
        }
        if settings.learn_tau {
            let mut value = [self.progress.tau];
            step(&mut value, &[loss.tau as f32], &mut self.tau_moments)?;
            self.progress.tau = value[0].max(1e-3);
        }
        Ok(())
    }

    /// Notes an epoch; true, and f is kept, when it is the best so far.
    pub fn finish_epoch(&mut self, entry: Epoch) -> bool {
        let judged = |e: &Epoch| e.held_out.unwrap_or(e.loss);
        let best = self.progress.history.iter().map(judged).fold(f64::INFINITY, f64::min);
        let better = judged(&entry) < best;
        self.progress.history.push(entry);
        self.progress.epoch = entry.epoch;
        if better {
            self.progress.waited = 0;
            self.best.clone_from(&self.p);
        } else {
            self.progress.waited += 1;
        }
        better
    }

    /// Has it waited long enough?
    pub fn stopped_early(&self, settings: &ProjectorSettings) -> bool {
        settings.early_stop > 0 && self.progress.waited >= settings.early_stop
    }
}
