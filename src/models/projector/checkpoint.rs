//! Everything that an exact resume needs.

use std::path::Path;

use super::ProjectorSettings;
use super::state::{self, Progress, State};
use crate::data::ItemIdx;
use crate::error::{Error, Result};
use crate::models::checkpoint;
use crate::tensor::Matrix;

/// Name of the file in the checkpoint folder.
const FILE: &str = "projector.safetensors";

/// Names of the tensors of f, in order; the last two are attention's.
const TENSORS: [&str; state::TENSORS] = ["w1", "b1", "w2", "b2", "attention", "values"];

/// What the training is about.
pub(super) fn digest(text: &Matrix, colla: &Matrix, both: &[ItemIdx]) -> String {
    let mut hash = blake3::Hasher::new();
    for matrix in [text, colla] {
        hash.update(&(matrix.cols() as u64).to_le_bytes());
        hash.update(bytemuck::cast_slice(matrix.as_slice()));
    }
    for item in both {
        hash.update(&item.0.to_le_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// Replaces the checkpoint.
pub(super) fn save(folder: &Path, state: &State) -> Result<()> {
    let mut named: Vec<(String, &[f32])> = Vec::new();
    for (n, name) in TENSORS.iter().enumerate() {
        named.push(((*name).to_owned(), state.p.each()[n]));
        named.push((format!("best.{name}"), state.best.each()[n]));
        named.push((format!("m.{name}"), &state.moments[n].m));
        named.push((format!("v.{name}"), &state.moments[n].v));
    }
    if !state.progress.settings.freeze_collaborative {
        named.push(("colla".into(), &state.colla));
    }
    for (name, moments) in [("colla", &state.colla_moments), ("tau", &state.tau_moments)] {
        named.push((format!("m.{name}"), &moments.m));
        named.push((format!("v.{name}"), &moments.v));
    }
    let tensors: Vec<(&str, &[f32])> = named.iter().map(|(name, values)| (name.as_str(), *values)).collect();
    checkpoint::save(&folder.join(FILE), &state.progress, &tensors)
}

/// Removes the checkpoint in `folder`, if there is one: the result is there.
pub fn forget(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, "remove the checkpoint", &e)),
        _ => Ok(()),
    }
}

/// The checkpoint of the training that begins with `fresh`, if there is one.
pub(super) fn load(folder: &Path, fresh: &State) -> Result<Option<State>> {
    let Some(mut found) = checkpoint::load(&folder.join(FILE))? else { return Ok(None) };
    let progress: Progress = found.header()?;
    if progress.data != fresh.progress.data {
        return Err(found.foreign("it belongs to other embeddings or items"));
    }
    let fixed = |s: &ProjectorSettings| ProjectorSettings { epochs: 0, early_stop: 0, ..s.clone() };
    if fixed(&progress.settings) != fixed(&fresh.progress.settings) {
        return Err(found.foreign("it was made with other settings"));
    }
    if progress.history.len() != progress.epoch as usize || !(progress.tau.is_finite() && progress.tau > 0.0) {
        return Err(found.damaged(&"its header contradicts itself"));
    }
    let mut state = fresh.clone();
    state.progress = Progress { settings: fresh.progress.settings.clone(), ..progress };
    let mut fill = |name: String, into: &mut Vec<f32>| -> Result<()> {
        *into = found.take(&name, into.len())?;
        Ok(())
    };
    for (n, name) in TENSORS.iter().enumerate() {
        fill((*name).to_owned(), state.p.each_mut()[n])?;
        fill(format!("best.{name}"), state.best.each_mut()[n])?;
        fill(format!("m.{name}"), &mut state.moments[n].m)?;
        fill(format!("v.{name}"), &mut state.moments[n].v)?;
    }
    if !state.progress.settings.freeze_collaborative {
        fill("colla".into(), &mut state.colla)?;
    }
    for (name, moments) in [("colla", &mut state.colla_moments), ("tau", &mut state.tau_moments)] {
        fill(format!("m.{name}"), &mut moments.m)?;
        fill(format!("v.{name}"), &mut moments.v)?;
    }
    Ok(Some(state))
}
