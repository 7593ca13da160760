//! LoRA adapters in PEFT's folder format: adapter_config.json and adapter_model.safetensors.

use std::path::Path;

use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use super::folder::{read_json, write_atomically, write_file};
use super::hf::metadata;
use super::safetensors::Tensors;
use crate::durable;
use crate::error::{Error, Result};
use crate::models::decoder::Config;
use crate::models::lora::{Adapter, Pair, Target};
use crate::tensor::Dtype;

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

/// The module's name as PEFT's `target_modules` has it.
fn module(target: Target) -> &'static str {
    match target {
        Target::QProj => "q_proj",
        Target::KProj => "k_proj",
        Target::VProj => "v_proj",
        Target::OProj => "o_proj",
        Target::GateProj => "gate_proj",
        Target::UpProj => "up_proj",
        Target::DownProj => "down_proj",
    }
}

/// The tensor of a pair; `half` is `A` or `B`.
fn tensor(layer: usize, target: Target, half: char) -> String {
    let block = match target {
        Target::QProj | Target::KProj | Target::VProj | Target::OProj => "self_attn",
        Target::GateProj | Target::UpProj | Target::DownProj => "mlp",
    };
    format!("base_model.model.model.layers.{layer}.{block}.{}.lora_{half}.weight", module(target))
}

/// (out, in) of the layer that carries the pair.
fn shape(config: &Config, target: Target) -> (usize, usize) {
    match target {
        Target::QProj => (config.q_width(), config.hidden),
        Target::KProj | Target::VProj => (config.kv_width(), config.hidden),
        Target::OProj => (config.hidden, config.q_width()),
        Target::GateProj | Target::UpProj => (config.intermediate, config.hidden),
        Target::DownProj => (config.hidden, config.intermediate),
    }
}

/// Null, false, empty: a setting that is not in use.
fn unused(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Refuses by name what would change the arithmetic.
fn refuse(map: &Map<String, Value>, place: &str) -> Result<()> {
    let no = |key: &str, value: &Value| {
        Err(Error::input(format!("{place}: {key}"), format!("{value} is not supported"))
            .next("train the adapter as plain LoRA, with one rank for all its modules and layers"))
    };
    if map.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return no("peft_type", map.get("peft_type").unwrap_or(&Value::Null));
    }
    if let Some(value) = map.get("bias").filter(|v| v.as_str() != Some("none") && !v.is_null()) {
        return no("bias", value);
    }
    // These initialisations change the base weights too, so the adapter does not fit the published
    // model.
    let changing = ["pissa", "olora", "corda", "loftq", "lora_ga"];
    let changes = |v: &&Value| v.as_str().is_some_and(|name| changing.iter().any(|c| name.starts_with(c)));
    if let Some(value) = map.get("init_lora_weights").filter(changes) {
        return no("init_lora_weights", value);
    }
    const NAMED: [&str; 11] = [
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layers_pattern",
        "layer_replication",
        "fan_in_fan_out",
        "lora_bias",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
    ];
    for (key, value) in map {
        // `use_dora`, `use_qalora`, ... and the configurations of further variants, known or not.
        let variant = (key.starts_with("use_") && key != "use_rslora") || key.ends_with("_config");
        if (variant || NAMED.contains(&key.as_str())) && !unused(value) {
            return no(key, value);
        }
    }
    Ok(())
}

/// Reads an adapter for a model of this configuration. rsLoRA's scale `alpha / sqrt(r)` is kept by
/// a changed alpha.
pub fn read(folder: &Path, config: &Config) -> Result<Adapter> {
    let path = folder.join(CONFIG);
    let place = path.display().to_string();
    let value =
        read_json(&path)?.ok_or_else(|| Error::input(&place, "is missing").next("give a PEFT adapter folder"))?;
    let map = value
        .as_object()
        .ok_or_else(|| Error::input(&place, "is not a JSON object").next("give a PEFT adapter folder"))?;
    refuse(map, &place)?;
    let number = |key: &str, default: Option<f64>| -> Result<f64> {
        match map.get(key).filter(|v| !v.is_null()) {
            None if default.is_some() => Ok(default.unwrap_or_default()),
            found => found.and_then(Value::as_f64).filter(|x| x.is_finite()).ok_or_else(|| {
                let what = found.map_or("is missing".into(), |v| format!("{v} is not a number"));
                Error::input(format!("{place}: {key}"), what).next("the file is damaged")
            }),
        }
    };
    let (rank, mut alpha, dropout) =
        (number("r", None)?, number("lora_alpha", None)?, number("lora_dropout", Some(0.0))?);
    let widest = config.hidden.max(config.intermediate).max(config.q_width()) as f64;
    if rank < 1.0 || rank.fract() != 0.0 || rank > widest {
        return Err(Error::input(format!("{place}: r"), format!("{rank} is no rank")).next("the file is damaged"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(Error::input(format!("{place}: lora_dropout"), format!("{dropout} is not in 0 to 1"))
            .next("the file is damaged"));
    }
    if map.get("use_rslora").and_then(Value::as_bool) == Some(true) {
        alpha *= rank.sqrt();
    }
    let rank = rank as usize;

    let weights = folder.join(TENSORS);
    if !weights.is_file() {
        let pickled = folder.join("adapter_model.bin").is_file();
        let next = if pickled { "save the adapter with safe_serialization=True" } else { "give a PEFT adapter folder" };
        return Err(Error::input(weights.display(), "is missing").next(next));
    }
    let tensors = Tensors::open(std::slice::from_ref(&weights))?;
    let names = tensors.entries();
    let targets: Vec<Target> = Target::ALL
        .into_iter()
        .filter(|&t| (0..config.layers).any(|i| names.contains_key(&tensor(i, t, 'A'))))
        .collect();
    if let Some(listed) = map.get("target_modules").and_then(Value::as_array) {
        for name in listed {
            // Plain names, or, as PEFT writes them for "all-linear", the whole path of every
            // layer's module.
            let last = name.as_str().and_then(|n| n.rsplit('.').next());
            if !targets.iter().any(|&t| Some(module(t)) == last) {
                return Err(Error::input(
                    format!("{place}: target_modules"),
                    format!("{name} has no tensors this engine knows"),
                )
                .next("use an adapter on q, k, v, o, gate, up or down projections"));
            }
        }
    }
    let mut known = std::collections::HashSet::new();
    let mut pairs = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let mut row = Vec::with_capacity(targets.len());
        for &target in &targets {
            let (out, inp) = shape(config, target);
            let (a, b) = (tensor(layer, target, 'A'), tensor(layer, target, 'B'));
            let pair = Pair {
                a: tensors.values(&a, &[rank, inp], Dtype::F32)?,
                b: tensors.values(&b, &[out, rank], Dtype::F32)?,
            };
            known.extend([a, b]);
            row.push(pair);
        }
        pairs.push(row);
    }
    if let Some(other) = names.keys().find(|name| !known.contains(*name)) {
        return Err(Error::input(weights.display(), format!("tensor {other} does not belong to this model"))
            .next("use the base model that the adapter was trained on"));
    }
    if targets.is_empty() {
        return Err(Error::input(weights.display(), "has no LoRA tensors").next("give a PEFT adapter folder"));
    }
    Ok(Adapter { rank, alpha, dropout, targets, pairs })
}

/// Writes an adapter folder, whole or not at all; `folder` must not exist or be empty. `base` is
/// the name or path of the base model, for PEFT's configuration.
pub fn write(folder: &Path, adapter: &Adapter, config: &Config, base: &str) -> Result<()> {
    let differ = |what: String| Error::failed("adapter", what);
    if adapter.pairs.len() != config.layers || adapter.rank == 0 {
        return Err(differ(format!(
            "{} layers of rank {}, the model has {}",
            adapter.pairs.len(),
            adapter.rank,
            config.layers
        )));
    }
    let mut tensors = Vec::new();
    for (layer, row) in adapter.pairs.iter().enumerate() {
        if row.len() != adapter.targets.len() {
            return Err(differ(format!("layer {layer} has {} pairs for {} targets", row.len(), adapter.targets.len())));
        }
        for (&target, pair) in adapter.targets.iter().zip(row) {
            let (out, inp) = shape(config, target);
            for (half, values, shape) in [('A', &pair.a, [adapter.rank, inp]), ('B', &pair.b, [out, adapter.rank])] {
                let name = tensor(layer, target, half);
                if values.len() != shape[0] * shape[1] {
                    return Err(differ(format!("{name} has {} values for the shape {shape:?}", values.len())));
                }
                if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                    return Err(differ(format!("{name}: value {i} is {}", values[i]))
                        .next("the training went astray: lower the learning rate"));
                }
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((name, shape.to_vec(), bytes));
            }
        }
    }
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, bytes) in &tensors {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).map_err(|e| differ(e.to_string()))?;
        views.push((name.clone(), view));
    }
    let alpha = if adapter.alpha.fract() == 0.0 && adapter.alpha.abs() < 1e9 {
        json!(adapter.alpha as i64)
    } else {
        json!(adapter.alpha)
    };
    let settings = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": adapter.targets.iter().map(|&t| module(t)).collect::<Vec<_>>(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": false,
        "use_rslora": false,
        "revision": null,
    });
    let text = serde_json::to_string_pretty(&settings).map_err(|e| Error::failed("json", e))?;
    write_atomically(folder, |at| {
        write_file(&at.join(CONFIG), &text)?;
        let bytes = safetensors::serialize(views, Some(metadata()))
            .map_err(|e| Error::failed(TENSORS, format!("cannot write the weights: {e}")))?;
        durable::write(&at.join(TENSORS), &bytes)
    })
}
