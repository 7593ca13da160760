//! A Hugging Face folder whose files are in memory, such as one inside the program.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::Value;

use super::config;
use crate::error::{Error, Result};
use crate::models::decoder::Family;
use crate::models::decoder::parts::Part;
use crate::ops::linear::{Weight, convert};
use crate::store::assemble::{Source, assemble};
use crate::store::loader::{Described, Format, LoadOptions, Loaded, ModelInfo};
use crate::store::safetensors::dtype;
use crate::store::{ChatTemplate, Tokenizer};
use crate::tensor::Dtype;

/// The files' contents.
pub(crate) struct Files<'a> {
    pub config: &'a [u8],
    pub tokenizer: &'a [u8],
    pub tokenizer_config: &'a [u8],
    pub chat_template: &'a str,
    pub weights: &'a [u8],
}

struct Memory<'a> {
    tensors: SafeTensors<'a>,
    family: &'static Family,
    name: &'a str,
    dtype: Option<Dtype>,
}

impl<'a> Memory<'a> {
    /// Bytes and type of a tensor of exactly this shape.
    fn find(&self, part: Part, shape: &[usize]) -> Result<(&'a [u8], Dtype)> {
        let name = part.hf(self.family);
        let bad = |what: String| Error::input(format!("{}: tensor {name}", self.name), what).next("build it again");
        let tensor = self.tensors.tensor(&name).map_err(|e| bad(e.to_string()))?;
        if tensor.shape() != shape {
            return Err(bad(format!("the shape is {:?}, expected {shape:?}", tensor.shape())));
        }
        let stored = dtype(tensor.dtype()).ok_or_else(|| bad(format!("type {:?}", tensor.dtype())))?;
        Ok((tensor.data(), stored))
    }
}

impl Source for Memory<'_> {
    fn name(&self, part: Part) -> String {
        part.hf(self.family)
    }

    fn names(&self) -> Vec<String> {
        self.tensors.names().into_iter().map(str::to_owned).collect()
    }

    fn matrix(&self, part: Part, (rows, cols): (usize, usize)) -> Result<Weight> {
        let (bytes, stored) = self.find(part, &[rows, cols])?;
        let width = cols * stored.size();
        let storage = convert::build(rows, cols, self.dtype.unwrap_or(stored), |row, out| {
            convert::widen(&bytes[row * width..(row + 1) * width], stored, out);
        })?;
        Weight::new(rows, cols, storage)
    }

    fn vector(&self, part: Part, len: usize) -> Result<Vec<f32>> {
        let (bytes, stored) = self.find(part, &[len])?;
        let mut values = vec![0.0; len];
        convert::widen(bytes, stored, &mut values);
        convert::round_vector(values, self.dtype.unwrap_or(Dtype::F32), &part.hf(self.family))
    }

    fn norms_from_one(&self) -> bool {
        self.family.hf_norms_from_one
    }

    fn ignorable(&self, _: &str) -> bool {
        false
    }

    fn place(&self) -> String {
        self.name.into()
    }
}

/// Loads the model; `name` stands for its path.
pub(crate) fn load(name: &str, files: &Files<'_>, options: &LoadOptions) -> Result<Loaded> {
    let json = |file: &str, bytes: &[u8]| -> Result<Value> {
        serde_json::from_slice(bytes).map_err(|e| Error::input(format!("{name}: {file}"), format!("not JSON: {e}")))
    };
    let config = config::read(&json("config.json", files.config)?, None, name)?;
    let settings = json("tokenizer_config.json", files.tokenizer_config)?;
    let tokenizer = Tokenizer::from_json(files.tokenizer, &settings).map_err(|e| e.within(name))?;
    let chat = ChatTemplate::new(files.chat_template, &tokenizer).map_err(|e| e.within(name))?;
    let tensors = SafeTensors::deserialize(files.weights)
        .map_err(|e| Error::input(format!("{name}: model.safetensors"), format!("not sound: {e}")))?;
    let mut source = ModelInfo {
        path: PathBuf::from(name),
        format: Format::Memory,
        files: Vec::new(),
        bytes: files.weights.len() as u64,
        stored: std::collections::BTreeMap::new(),
        notes: Vec::new(),
    };
    for (_, tensor) in tensors.iter() {
        let values = tensor.shape().iter().product::<usize>() as u64;
        *source.stored.entry(format!("{:?}", tensor.dtype()).to_lowercase()).or_default() += values;
    }
    let weights = assemble(&config, &Memory { tensors, family: config.family, name, dtype: options.dtype })?;
    Ok(Described::new(config, tokenizer, chat, source)?.with(weights))
}
