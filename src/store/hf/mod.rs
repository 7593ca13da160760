//! Hugging Face model folders.

mod config;
pub(crate) mod embedded;
mod save;

pub(crate) use save::metadata;
pub use save::save_hf;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::decoder::parts::Part;
use crate::models::decoder::{Config, Family};
use crate::ops::linear::Weight;
use crate::store::assemble::{Source, assemble};
use crate::store::folder::read_json;
use crate::store::loader::{Described, Format, LoadOptions, Loaded, ModelInfo, ask_for_memory};
use crate::store::safetensors::Tensors;
use crate::store::{ChatTemplate, Tokenizer};
use crate::tensor::Dtype;

struct Folder<'a> {
    tensors: Tensors,
    family: &'static Family,
    folder: &'a Path,
    dtype: Option<Dtype>,
}

impl Source for Folder<'_> {
    fn name(&self, part: Part) -> String {
        part.hf(self.family)
    }

    fn names(&self) -> Vec<String> {
        self.tensors.entries().keys().cloned().collect()
    }

    fn matrix(&self, part: Part, (rows, cols): (usize, usize)) -> Result<Weight> {
        self.tensors.matrix(&part.hf(self.family), rows, cols, self.dtype)
    }

    fn vector(&self, part: Part, len: usize) -> Result<Vec<f32>> {
        self.tensors.values(&part.hf(self.family), &[len], self.dtype.unwrap_or(Dtype::F32))
    }

    fn norms_from_one(&self) -> bool {
        self.family.hf_norms_from_one
    }

    fn ignorable(&self, name: &str) -> bool {
        // A buffer of old checkpoints, always recomputed.
        name.ends_with("rotary_emb.inv_freq")
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }
}

/// The configuration of a folder, its tokenizer not yet considered.
fn read_config(folder: &Path) -> Result<Config> {
    let path = folder.join("config.json");
    let config = read_json(&path)?.ok_or_else(|| {
        Error::input(path.display(), "is missing")
            .next("give a folder with config.json, tokenizer.json and safetensors")
    })?;
    let generation = read_json(&folder.join("generation_config.json"))?;
    config::read(&config, generation.as_ref(), &path.display().to_string())
}

/// The weight files: those that the index names, or the single file.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index_path = folder.join("model.safetensors.index.json");
    let single = folder.join("model.safetensors");
    let Some(index) = read_json(&index_path)? else {
        if single.is_file() {
            return Ok(vec![single]);
        }
        let pickled =
            folder.join("pytorch_model.bin").is_file() || folder.join("pytorch_model.bin.index.json").is_file();
        let next = if pickled {
            "this folder has PyTorch pickles only; convert them to safetensors first"
        } else {
            "download the model's safetensors files into the folder"
        };
        return Err(Error::input(single.display(), "is missing").next(next));
    };
    let place = index_path.display();
    let bad = |what: String| Error::input(&place, what).next("download the index again");
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("weight_map is missing".into()))?;
    let mut names: Vec<&str> = Vec::new();
    for (tensor, file) in map {
        let name = file.as_str().ok_or_else(|| bad(format!("the file of {tensor} is not a string")))?;
        // A file of this folder and nothing else.
        if Path::new(name).components().count() != 1 || Path::new(name).file_name().is_none() {
            return Err(bad(format!("{name:?} is not a plain file name")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(bad("weight_map is empty".into()));
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|n| folder.join(n)).collect())
}

fn open(folder: &Path) -> Result<(Described, Tensors)> {
    let config = read_config(folder)?;
    let tokenizer = Tokenizer::from_folder(folder)?;
    let chat = ChatTemplate::from_folder(folder, &tokenizer)?;
    let files = files(folder)?;
    let tensors = Tensors::open(&files)?;
    let mut info = ModelInfo::new(folder, Format::HuggingFace, &files)?;
    for entry in tensors.entries().values() {
        let values = entry.shape.iter().product::<usize>() as u64;
        *info.stored.entry(format!("{:?}", entry.stored).to_lowercase()).or_default() += values;
    }
    info.notes.extend(tokenizer.notes().iter().cloned());
    Ok((Described::new(config, tokenizer, chat, info)?, tensors))
}

/// Reads everything but the weights.
pub(crate) fn describe(folder: &Path) -> Result<Described> {
    open(folder).map(|(described, _)| described)
}

/// Loads a folder.
pub(crate) fn load(folder: &Path, options: &LoadOptions) -> Result<Loaded> {
    let (described, tensors) = open(folder)?;
    ask_for_memory(&described.source, options, 0)?;
    let weights = assemble(
        &described.config,
        &Folder { tensors, family: described.config.family, folder, dtype: options.dtype },
    )?;
    Ok(described.with(weights))
}
