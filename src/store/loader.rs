//! Loads a model from whatever it lies in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ChatTemplate, Tokenizer, gguf, hf};
use crate::error::{Error, Result};
use crate::memory;
use crate::models::decoder::check::check;
use crate::models::decoder::{Config, Weights};
use crate::tensor::Dtype;

/// How to load.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadOptions {
    /// Type of the weights in memory: `f32`, `bf16` or `f16`. Norms and biases stay f32 values but
    /// are rounded to it. Default: as stored, also where that is quantised; plain numbers then stay
    /// in the mapped file.
    pub dtype: Option<Dtype>,
}

/// The file format a model came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder with config.json, tokenizer.json and safetensors.
    HuggingFace,
    /// One GGUF file.
    Gguf,
    /// Made in memory.
    Memory,
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The folder or file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The weight files.
    pub files: Vec<PathBuf>,
    /// Their bytes together.
    pub bytes: u64,
    /// Values by stored type (`bf16`, `q4_1`, ...).
    pub stored: BTreeMap<String, u64>,
    /// What a user should know, e.g. that the chat template is a stand-in.
    pub notes: Vec<String>,
}

impl ModelInfo {
    pub(super) fn new(path: &Path, format: Format, files: &[PathBuf]) -> Result<Self> {
        let mut bytes = 0;
        for file in files {
            bytes += std::fs::metadata(file).map_err(|e| Error::io(file, "read", &e))?.len();
        }
        let (stored, notes) = (BTreeMap::new(), Vec::new());
        Ok(Self { path: path.to_owned(), format, files: files.to_vec(), bytes, stored, notes })
    }
}

/// Fails where the weights cannot be held as `options` ask. Plain numbers of the wanted type stay
/// in the mapped file and take no memory of their own, and so do `stays` bytes of others.
pub(crate) fn ask_for_memory(source: &ModelInfo, options: &LoadOptions, stays: u64) -> Result<()> {
    let next = "use a quantised or a smaller model, or leave model.dtype away: weights then stay as they are stored";
    memory::ask(&source.path.display().to_string(), held(source, options.dtype).saturating_sub(stays), next)
}

/// Bytes of the weights that are copied into memory.
fn held(source: &ModelInfo, dtype: Option<Dtype>) -> u64 {
    let plain = |name: &str| [Dtype::F32, Dtype::Bf16, Dtype::F16].into_iter().find(|d| d.name() == name);
    match dtype {
        Some(dtype) => {
            let others = source.stored.iter().filter(|(name, _)| plain(name) != Some(dtype));
            others.map(|(_, values)| values.saturating_mul(dtype.size() as u64)).sum()
        }
        None => {
            let mapped = source.stored.iter().filter_map(|(name, values)| Some(values * plain(name)?.size() as u64));
            source.bytes.saturating_sub(mapped.sum())
        }
    }
}

/// A model, ready for use.
#[derive(Debug)]
pub struct Loaded {
    /// Shape.
    pub config: Config,
    /// Weights.
    pub weights: Weights,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Chat template.
    pub chat: ChatTemplate,
    /// Where it came from.
    pub source: ModelInfo,
}

/// Loads a Hugging Face folder, a `.gguf` file, or a folder with exactly one `.gguf` file.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    match locate(path)? {
        (Format::Gguf, file) => gguf::load(&file, options),
        (_, folder) => hf::load(&folder, options),
    }
}

/// What lies at `path`: a folder of the Hugging Face kind or a GGUF file.
pub(crate) fn locate(path: &Path) -> Result<(Format, PathBuf)> {
    let meta = std::fs::metadata(path).map_err(|e| {
        let next = "check the path, or fetch a model with `rallrec model pull smollm2-135m`";
        Error::io(path, "open the model", &e).next(next)
    })?;
    let is_gguf = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if meta.is_file() {
        if is_gguf(path) {
            return Ok((Format::Gguf, path.to_owned()));
        }
        return Err(Error::input(path.display(), "is not a model").next("give a model folder or a .gguf file"));
    }
    if path.join("config.json").is_file() {
        return Ok((Format::HuggingFace, path.to_owned()));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, "list", &e))? {
        let file = entry.map_err(|e| Error::io(path, "list", &e))?.path();
        if is_gguf(&file) && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok((Format::Gguf, one.clone())),
        [] => Err(Error::input(path.display(), "has neither config.json nor a .gguf file")
            .next("give a model folder or a .gguf file, or fetch one with `rallrec model pull smollm2-135m`")),
        several => Err(Error::input(path.display(), format!("has {} .gguf files", several.len()))
            .next(format!("name one of them, e.g. {}", several[0].display()))),
    }
}

/// A model without its weights: what the headers say.
#[derive(Debug)]
pub struct Described {
    /// Shape.
    pub config: Config,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Chat template.
    pub chat: ChatTemplate,
    /// Where it came from.
    pub source: ModelInfo,
}

/// Reads everything but the weights; takes what [`load`] takes. Quick for a model of any size.
pub fn describe(path: &Path) -> Result<Described> {
    match locate(path)? {
        (Format::Gguf, file) => gguf::describe(&file),
        (_, folder) => hf::describe(&folder),
    }
}

impl Described {
    /// Fits configuration and tokenizer together; the same for every format.
    pub(super) fn new(
        mut config: Config,
        tokenizer: Tokenizer,
        chat: ChatTemplate,
        mut source: ModelInfo,
    ) -> Result<Self> {
        let place = source.path.display().to_string();
        config.bos = tokenizer.bos();
        if let Some(eos) = tokenizer.eos().filter(|eos| !config.eos.contains(eos)) {
            config.eos.push(eos);
        }
        check(&config, &place)?;
        if tokenizer.size() > config.vocab {
            return Err(Error::input(
                place,
                format!("the tokenizer has {} tokens, the model only {}", tokenizer.size(), config.vocab),
            )
            .next("tokenizer and weights must belong together"));
        }
        if config.eos.is_empty() {
            source.notes.push("no end token is named: generation ends at its length limit".into());
        }
        if chat.is_fallback() {
            source.notes.push("the model has no chat template: ChatML stands in".into());
        }
        Ok(Self { config, tokenizer, chat, source })
    }

    /// With its weights.
    pub(super) fn with(self, weights: Weights) -> Loaded {
        let Self { config, tokenizer, chat, source } = self;
        Loaded { config, weights, tokenizer, chat, source }
    }
}
