//! Everything an exact resume needs, in one safetensors file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LightGcnSettings;
use super::train::Epoch;
use crate::error::Result;
use crate::models::checkpoint;
use crate::ops::spmm::Lines;
use crate::settings::Schedule;

/// Name of the file in the checkpoint folder.
const FILE: &str = "lightgcn.safetensors";

/// How far an epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Within {
    /// Steps made.
    pub steps: usize,
    /// The sum of their losses, as the bits of a double: a decimal might be read as another number.
    pub loss: u64,
}

/// State beside the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What was set; a resume may only raise `epochs`, and only under a constant learning rate.
    pub settings: LightGcnSettings,
    /// Digest of the graph.
    pub graph: String,
    /// Finished epochs.
    pub epoch: u32,
    /// Of the epoch behind them.
    #[serde(default)]
    pub within: Within,
    /// Optimiser steps made.
    pub steps: u64,
    /// Evaluations since the best one.
    pub waited: u32,
    /// Training stopped by itself.
    pub done: bool,
    /// Per epoch.
    pub history: Vec<Epoch>,
}

/// Layer 0, its moments, and layer 0 of the best evaluation.
pub(super) struct State {
    pub progress: Progress,
    pub e0: Lines,
    pub m: Lines,
    pub v: Lines,
    pub best: Lines,
}

/// Replaces the checkpoint.
pub(super) fn save(folder: &Path, progress: &Progress, tensors: [(&str, &Lines); 4]) -> Result<()> {
    let packed = tensors.map(|(name, rows)| (name, rows.to_packed()));
    let views = packed.each_ref().map(|(name, values)| (*name, values.as_slice()));
    checkpoint::save(&folder.join(FILE), progress, &views)
}

/// The checkpoint of this graph and these settings, if there is one.
pub(super) fn load(folder: &Path, settings: &LightGcnSettings, graph: &str, nodes: usize) -> Result<Option<State>> {
    let Some(mut found) = checkpoint::load(&folder.join(FILE))? else { return Ok(None) };
    let progress: Progress = found.header()?;
    if progress.graph != graph {
        return Err(found.foreign("it belongs to another graph"));
    }
    // With a falling rate each step depends on how many there will be.
    let rest = |settings: &LightGcnSettings| {
        let epochs = if settings.schedule == Schedule::Constant { 0 } else { settings.epochs };
        LightGcnSettings { epochs, early_stop: 0, ..settings.clone() }
    };
    if rest(&progress.settings) != rest(settings) {
        return Err(found.foreign("it was made with other settings"));
    }
    let mut rows = |name: &str| -> Result<Lines> {
        Ok(Lines::from_packed(settings.dim, &found.take(name, nodes * settings.dim)?))
    };
    Ok(Some(State { progress, e0: rows("e0")?, m: rows("m")?, v: rows("v")?, best: rows("best")? }))
}
