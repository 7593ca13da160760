//! The state of a training run: everything that the next step depends on, in one safetensors file.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number, from 1.
    pub step: u64,
    /// Mean loss over its learnt tokens, before the update.
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

/// Where a run stands. The order of examples follows from the seed and the step, so the step is the position in it.
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
    /// Writes to a temporary file beside the old one, flushes it, renames it.
    pub fn save(&self, folder: &Path, fingerprint: &str) -> Result<()> {
        let path = file(folder);
        let io = |e: std::io::Error| Error::io(&path, "write the checkpoint", &e);
        std::fs::create_dir_all(folder).map_err(io)?;
        let header = Header {
            version: VERSION,
            fingerprint: fingerprint.into(),
            step: self.step,
            finished: self.finished,
            history: self.history.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|e| Error::failed(path.display(), e))?;
        let tensors = [("best", &self.best), ("m", &self.m), ("params", &self.params), ("v", &self.v)];
        let views = tensors
            .iter()
            .map(|(name, t)| Ok((*name, TensorView::new(Dtype::F32, vec![t.len()], bytemuck::cast_slice(t))?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(HashMap::from([("state".to_string(), header)]))))
            .map_err(|e| Error::failed(path.display(), e))?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        temporary.write_all(&bytes).map_err(io)?;
        temporary.as_file().sync_all().map_err(io)?;
        temporary.persist(&path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Reads the checkpoint of a folder, `None` when there is none.
    ///
    /// # Errors
    /// A damaged file, or one of another run (other settings, model shape or number of examples).
    pub fn load(folder: &Path, fingerprint: &str, count: usize) -> Result<Option<Self>> {
        let path = file(folder);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, "read the checkpoint", &e)),
        };
        let remedy = "delete this file to start again, or go on with the settings it was written with";
        let damaged = |what: String| Error::input(path.display(), format!("damaged checkpoint: {what}")).next(remedy);
        let (_, meta) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let text = meta.metadata().as_ref().and_then(|m| m.get("state")).ok_or_else(|| damaged("no state".into()))?;
        let header: Header = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if header.version != VERSION || header.fingerprint != fingerprint {
            let what = "the checkpoint belongs to another training run (settings, model or examples differ)";
            return Err(Error::input(path.display(), what).next(remedy));
        }
        let read = |name: &str| -> Result<Vec<f32>> {
            let t = tensors.tensor(name).map_err(|e| damaged(e.to_string()))?;
            if t.dtype() != Dtype::F32 || !(t.data().len() == 4 * count || name == "best" && t.data().is_empty()) {
                return Err(damaged(format!("tensor {name} is not {count} f32 values")));
            }
            let (words, _) = t.data().as_chunks::<4>();
            Ok(words.iter().map(|w| f32::from_le_bytes(*w)).collect())
        };
        if header.history.steps.len() as u64 != header.step {
            return Err(damaged(format!("{} steps, but {} recorded", header.step, header.history.steps.len())));
        }
        Ok(Some(Self {
            step: header.step,
            finished: header.finished,
            history: header.history,
            params: read("params")?,
            m: read("m")?,
            v: read("v")?,
            best: read("best")?,
        }))
    }
}
