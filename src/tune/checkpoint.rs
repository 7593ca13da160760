//! The state of a training run: everything that the next step depends on, in one safetensors file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::models::checkpoint;

/// One optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number, from 1.
    pub step: u64,
    /// Mean loss over its targets, before the update.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// One evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// After which step.
    pub step: u64,
    /// The metric.
    pub value: f64,
    /// Whether it was the best so far.
    pub best: bool,
}

/// What happened, step by step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// Optimiser steps.
    pub steps: Vec<StepRecord>,
    /// Evaluations.
    pub evaluations: Vec<EvalRecord>,
}

impl History {
    /// The best evaluation.
    pub fn best(&self) -> Option<EvalRecord> {
        self.evaluations.iter().rev().find(|e| e.best).copied()
    }
}

/// Where a run stands. The order of examples follows from the seed and the step, so the step is the
/// position in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    pub step: u64,
    pub finished: bool,
    pub history: History,
    pub params: Vec<f32>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// Parameters at the best evaluation; empty before the first.
    pub best: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    fingerprint: String,
    step: u64,
    finished: bool,
    history: History,
}

const VERSION: u32 = 1;

/// The file of a checkpoint folder.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

impl State {
    /// Replaces the checkpoint.
    pub fn save(&self, folder: &Path, fingerprint: &str) -> Result<()> {
        let header = Header {
            version: VERSION,
            fingerprint: fingerprint.into(),
            step: self.step,
            finished: self.finished,
            history: self.history.clone(),
        };
        let tensors: [(&str, &[f32]); 4] =
            [("best", &self.best), ("m", &self.m), ("params", &self.params), ("v", &self.v)];
        checkpoint::save(&file(folder), &header, &tensors)
    }

    /// Reads the checkpoint of a folder, `None` when there is none.
    ///
    /// # Errors
    /// A damaged file, or one of another run (other settings, model shape or number of examples).
    pub fn load(folder: &Path, fingerprint: &str, count: usize) -> Result<Option<Self>> {
        let Some(mut found) = checkpoint::load(&file(folder))? else { return Ok(None) };
        let header: Header = found.header()?;
        if header.version != VERSION || header.fingerprint != fingerprint {
            return Err(found.foreign("it belongs to another training run (settings, model or examples differ)"));
        }
        if header.history.steps.len() as u64 != header.step {
            let what = format!("{} steps, but {} recorded", header.step, header.history.steps.len());
            return Err(found.damaged(&what));
        }
        Ok(Some(Self {
            step: header.step,
            finished: header.finished,
            history: header.history,
            params: found.take("params", count)?,
            m: found.take("m", count)?,
            v: found.take("v", count)?,
            best: found.take_or_empty("best", count)?,
        }))
    }
}
