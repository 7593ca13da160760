//! Writes Hugging Face folders.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype as Stored, View};
use serde_json::{Value, json};

use super::config;
use crate::durable;
use crate::error::{Error, Result};
use crate::models::decoder::parts::{LayerPart as L, Part};
use crate::models::decoder::{Config, Layer, Weights};
use crate::ops::linear::{Weight, convert};
use crate::store::folder::{write_atomically, write_file};
use crate::tensor::Dtype;

/// The safetensors type of a storage type.
pub(crate) fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::Bf16 => Stored::BF16,
        Dtype::F16 => Stored::F16,
    }
}

enum From<'a> {
    Matrix(&'a Weight),
    Vector(&'a [f32]),
    /// Each value less one.
    LessOne(&'a [f32]),
}

/// A tensor to write; it is converted when it is written, one at a time.
struct Out<'a> {
    shape: Vec<usize>,
    dtype: Dtype,
    from: From<'a>,
}

impl View for Out<'_> {
    fn dtype(&self) -> Stored {
        stored(self.dtype)
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.from {
            From::Vector(values) => convert::narrow(values, self.dtype).into(),
            From::LessOne(values) => {
                let less: Vec<f32> = values.iter().map(|v| v - 1.0).collect();
                convert::narrow(&less, self.dtype).into()
            }
            From::Matrix(weight) => {
                let mut bytes = Vec::with_capacity(self.data_len());
                let mut row = vec![0.0; weight.cols()];
                for i in 0..weight.rows() {
                    weight.read_rows(i, &mut row);
                    bytes.extend(convert::narrow(&row, self.dtype));
                }
                bytes.into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

fn find<'a>(weights: &'a Weights, part: Part) -> Option<From<'a>> {
    let layer = |layer: &'a Layer, part: L| match part {
        L::AttnNorm => Some(From::Vector(&layer.attn_norm)),
        L::Q => Some(From::Matrix(&layer.q.weight)),
        L::K => Some(From::Matrix(&layer.k.weight)),
        L::V => Some(From::Matrix(&layer.v.weight)),
        L::O => Some(From::Matrix(&layer.o.weight)),
        L::QBias => layer.q.bias.as_deref().map(From::Vector),
        L::KBias => layer.k.bias.as_deref().map(From::Vector),
        L::VBias => layer.v.bias.as_deref().map(From::Vector),
        L::QNorm => layer.q_norm.as_deref().map(From::Vector),
        L::KNorm => layer.k_norm.as_deref().map(From::Vector),
        L::MlpNorm => Some(From::Vector(&layer.mlp_norm)),
        L::AttnPostNorm => layer.attn_post_norm.as_deref().map(From::Vector),
        L::MlpPostNorm => layer.mlp_post_norm.as_deref().map(From::Vector),
        L::Gate => Some(From::Matrix(&layer.gate.weight)),
        L::Up => Some(From::Matrix(&layer.up.weight)),
        L::Down => Some(From::Matrix(&layer.down.weight)),
    };
    match part {
        Part::Embed => Some(From::Matrix(&weights.embed)),
        Part::Norm => Some(From::Vector(&weights.norm)),
        Part::Head => weights.head.as_ref().map(From::Matrix),
        Part::Layer(i, part) => weights.layers.get(i).and_then(|l| layer(l, part)),
    }
}

/// Writes a model as a Hugging Face folder, whole or not at all. Values are rounded to `dtype`
/// (norms and biases too, as published checkpoints do). `tokenizer` is the content of
/// tokenizer.json. `folder` must not exist or be empty.
pub fn save_hf(
    folder: &Path,
    config: &Config,
    weights: &Weights,
    dtype: Dtype,
    tokenizer: &str,
    chat_template: Option<&str>,
) -> Result<()> {
    let parsed: Value = serde_json::from_str(tokenizer)
        .map_err(|e| Error::input("tokenizer", format!("not valid JSON: {e}")).next("give a tokenizer.json"))?;
    let mut tensors = Vec::new();
    for part in Part::all(config) {
        let (rows, cols) = part.shape(config);
        let name = part.hf(config.family);
        let from = find(weights, part)
            .ok_or_else(|| Error::failed(&name, "the weights lack this tensor of the configuration"))?;
        let (fits, shape) = match &from {
            From::Matrix(w) => ((w.rows(), w.cols()) == (rows, cols), vec![rows, cols]),
            From::Vector(v) | From::LessOne(v) => (v.len() == cols && rows == 1 && part.is_vector(), vec![cols]),
        };
        if !fits {
            return Err(Error::failed(&name, format!("the shape differs from the configuration's {rows} x {cols}")));
        }
        let from = match from {
            From::Vector(v) if config.family.hf_norms_from_one && part.is_norm() => From::LessOne(v),
            other => other,
        };
        tensors.push((name, Out { shape, dtype, from }));
    }
    let name = match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
    };
    let token = |id: u32| token_text(&parsed, id);
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.context,
        "add_bos_token": config.bos.is_some(),
    });
    if let Some(text) = config.bos.and_then(token) {
        settings["bos_token"] = text.into();
    }
    if let Some(text) = config.eos.first().copied().and_then(token) {
        settings["eos_token"] = text.clone().into();
        settings["pad_token"] = text.into();
    }
    let pretty = |value: &Value| serde_json::to_string_pretty(value).map_err(|e| Error::failed("json", e));
    write_atomically(folder, |at| {
        write_file(&at.join("config.json"), &pretty(&config::write(config, name))?)?;
        let generation = json!({ "bos_token_id": config.bos, "eos_token_id": config.eos });
        write_file(&at.join("generation_config.json"), &pretty(&generation)?)?;
        write_file(&at.join("tokenizer.json"), tokenizer)?;
        write_file(&at.join("tokenizer_config.json"), &pretty(&settings)?)?;
        if let Some(template) = chat_template {
            write_file(&at.join("chat_template.jinja"), template)?;
        }
        let path = at.join("model.safetensors");
        write_tensors(tensors, &path)
    })
}

/// What a safetensors file says of itself, as PyTorch programs expect it.
pub(crate) fn metadata() -> HashMap<String, String> {
    HashMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Writes weights tensor by tensor: a model may be larger than the memory beside it.
fn write_tensors<V: View>(tensors: Vec<(String, V)>, path: &Path) -> Result<()> {
    safetensors::serialize_to_file(tensors, Some(metadata()), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => Error::io(path, "write the weights", &e),
        other => Error::failed(path.display(), format!("cannot write the weights: {other}")),
    })?;
    durable::usual_mode(path)
}

/// The text of a token in a tokenizer.json.
fn token_text(tokenizer: &Value, id: u32) -> Option<String> {
    let added = tokenizer.get("added_tokens")?.as_array()?;
    if let Some(token) = added.iter().find(|t| t.get("id").and_then(Value::as_u64) == Some(id.into())) {
        return token.get("content")?.as_str().map(str::to_owned);
    }
    let vocab = tokenizer.get("model")?.get("vocab")?.as_object()?;
    vocab.iter().find(|(_, v)| v.as_u64() == Some(id.into())).map(|(text, _)| text.clone())
}
