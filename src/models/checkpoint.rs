//! Checkpoints of every training loop: named f32 tensors and a JSON header in one safetensors file
//! that appears whole or not at all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable;
use crate::error::{Error, Result};

/// Name of the header in the file's metadata.
const HEADER: &str = "state";

/// Writes beside the old file, flushes, then replaces it; the folder is made where it is not there.
///
/// # Errors
/// The folder or file cannot be written.
pub(crate) fn save(path: &Path, header: &impl Serialize, tensors: &[(&str, &[f32])]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::failed(path.display(), format!("cannot write the checkpoint: {e}"));
    let folder = path.parent().unwrap_or(Path::new("."));
    // Not what is above it: a run folder that somebody has moved is not made anew.
    if !folder.is_dir() {
        std::fs::create_dir(folder).map_err(|e| Error::io(folder, "make the folder", &e))?;
    }
    let mut views = Vec::with_capacity(tensors.len());
    for (name, values) in tensors {
        let bytes = bytemuck::cast_slice(values);
        views.push((*name, TensorView::new(Dtype::F32, vec![values.len()], bytes).map_err(|e| failed(&e))?));
    }
    let header = serde_json::to_string(header).map_err(|e| failed(&e))?;
    let bytes =
        safetensors::serialize(views, Some(HashMap::from([(HEADER.to_owned(), header)]))).map_err(|e| failed(&e))?;
    durable::write(path, &bytes)
}

/// A checkpoint that was read.
pub(crate) struct Checkpoint {
    path: PathBuf,
    header: String,
    tensors: HashMap<String, Vec<f32>>,
}

/// The checkpoint at `path`, `None` where there is none.
///
/// # Errors
/// A damaged file.
pub(crate) fn load(path: &Path) -> Result<Option<Checkpoint>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "read the checkpoint", &e)),
    };
    let bad = |what: &dyn std::fmt::Display| damaged(path, what);
    let (_, meta) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(&e))?;
    let header = meta.metadata().as_ref().and_then(|m| m.get(HEADER)).ok_or_else(|| bad(&"it has no header"))?;
    let mut tensors = HashMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(bad(&format!("tensor {name} is {:?}", view.dtype())));
        }
        let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|&w| f32::from_le_bytes(w)).collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(bad(&format!("tensor {name}: value {at} is not finite")));
        }
        tensors.insert(name.to_owned(), values);
    }
    Ok(Some(Checkpoint { path: path.to_owned(), header: header.clone(), tensors }))
}

fn damaged(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::input(path.display(), format!("damaged checkpoint: {what}")).next("remove this file to start again")
}

impl Checkpoint {
    /// What was written beside the tensors.
    pub fn header<H: DeserializeOwned>(&self) -> Result<H> {
        serde_json::from_str(&self.header).map_err(|e| self.damaged(&e))
    }

    /// Takes the tensor `name` of `count` values.
    pub fn take(&mut self, name: &str, count: usize) -> Result<Vec<f32>> {
        match self.tensors.remove(name) {
            Some(values) if values.len() == count => Ok(values),
            Some(values) => Err(self.damaged(&format!("tensor {name}: {} values and not {count}", values.len()))),
            None => Err(self.damaged(&format!("there is no tensor {name}"))),
        }
    }

    /// As [`Self::take`], also where it is empty.
    pub fn take_or_empty(&mut self, name: &str, count: usize) -> Result<Vec<f32>> {
        let empty = self.tensors.get(name).is_some_and(Vec::is_empty);
        self.take(name, if empty { 0 } else { count })
    }

    /// An error about this file's content.
    pub fn damaged(&self, what: &dyn std::fmt::Display) -> Error {
        damaged(&self.path, what)
    }

    /// The error for a checkpoint of another run.
    pub fn foreign(&self, what: &str) -> Error {
        Error::input(self.path.display(), what)
            .next("remove this file to start again, or go on with the settings it was written with")
    }
}
