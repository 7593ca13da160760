//! Everything an exact resume needs, in one safetensors file.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::train::Epoch;
use crate::error::{Error, Result};
use crate::ops::spmm::Rows;

/// Name of the file in the checkpoint folder.
const FILE: &str = "lightgcn.safetensors";

/// State beside the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What was set; a resume may only raise `epochs`.
    pub settings: Settings,
    /// Digest of the graph.
    pub graph: String,
    /// Finished epochs.
    pub epoch: u32,
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
    pub e0: Rows,
    pub m: Rows,
    pub v: Rows,
    pub best: Rows,
}

/// Writes beside the old checkpoint, then replaces it.
pub(super) fn save(folder: &Path, progress: &Progress, tensors: [(&str, &Rows); 4]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create the checkpoint folder", &e))?;
    let path = folder.join(FILE);
    let failed = |e: &dyn std::fmt::Display| Error::failed(path.display(), format!("cannot write the checkpoint: {e}"));
    let packed: Vec<(&str, Vec<usize>, Vec<f32>)> =
        tensors.iter().map(|(name, rows)| (*name, vec![rows.rows(), rows.dim()], rows.to_packed())).collect();
    let mut views = Vec::with_capacity(packed.len());
    for (name, shape, values) in &packed {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).map_err(|e| failed(&e))?;
        views.push((*name, view));
    }
    let json = serde_json::to_string(progress).map_err(|e| failed(&e))?;
    let meta = HashMap::from([("progress".to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(meta)).map_err(|e| failed(&e))?;
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io(folder, "write the checkpoint", &e))?;
    std::io::Write::write_all(&mut file, &bytes).map_err(|e| Error::io(&path, "write the checkpoint", &e))?;
    file.as_file().sync_all().map_err(|e| Error::io(&path, "write the checkpoint", &e))?;
    file.persist(&path).map_err(|e| Error::io(&path, "write the checkpoint", &e.error))?;
    Ok(())
}

/// The checkpoint of this graph and these settings, if there is one.
pub(super) fn load(folder: &Path, settings: &Settings, graph: &str, nodes: usize) -> Result<Option<State>> {
    let path = folder.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(&path, "read the checkpoint", &e)),
    };
    let bad = |what: &dyn std::fmt::Display| {
        Error::input(path.display(), what).next("remove the file to start LightGCN training again")
    };
    let (_, meta) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(&format!("not a checkpoint: {e}")))?;
    let json = meta.metadata().as_ref().and_then(|m| m.get("progress")).ok_or_else(|| bad(&"no progress in it"))?;
    let progress: Progress = serde_json::from_str(json).map_err(|e| bad(&format!("unreadable progress: {e}")))?;
    if progress.graph != graph {
        return Err(bad(&"it belongs to another graph"));
    }
    if (Settings { epochs: 0, early_stop: 0, ..progress.settings.clone() })
        != (Settings { epochs: 0, early_stop: 0, ..settings.clone() })
    {
        return Err(bad(&"it was made with other settings"));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?;
    let rows = |name: &str| -> Result<Rows> {
        let t = tensors.tensor(name).map_err(|e| bad(&format!("tensor {name}: {e}")))?;
        if t.dtype() != Dtype::F32 || t.shape() != [nodes, settings.dim] {
            return Err(bad(&format!("tensor {name} is {:?} {:?}", t.dtype(), t.shape())));
        }
        let words = t.data().as_chunks::<4>().0;
        let values: Vec<f32> = words.iter().map(|&w| f32::from_le_bytes(w)).collect();
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(bad(&format!("tensor {name}: value {at} is not finite"))),
            None => Ok(Rows::from_packed(settings.dim, &values)),
        }
    };
    let (e0, m, v, best) = (rows("e0")?, rows("m")?, rows("v")?, rows("best")?);
    Ok(Some(State { progress, e0, m, v, best }))
}
