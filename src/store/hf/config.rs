//! `config.json` and `generation_config.json` of a Hugging Face folder.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::models::decoder::check::check;
use crate::models::decoder::families::Windows;
use crate::models::decoder::{Config, Family};
use crate::ops::rope::Scaling;

/// An object with its file name, for messages.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
}

impl<'a> Fields<'a> {
    /// The value, `None` when absent or null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn bad(&self, key: &str, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{}: {key}", self.place), what)
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(key, format!("{value} is not a count")).next("the file is damaged")),
        }
    }

    fn need(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.bad(key, "is missing").next("use the model's own config.json"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, format!("{value} is not a number")).next("the file is damaged")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_bool() {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, format!("{value} is neither true nor false")).next("the file is damaged")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, format!("{value} is not a string")).next("the file is damaged")),
        }
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_object() {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, format!("{value} is not an object")).next("the file is damaged")),
        }
    }

    /// One token id or a list of them.
    fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let one = |v: &Value| {
            v.as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| self.bad(key, format!("{v} is not a token id")).next("the file is damaged"))
        };
        match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single => Ok(vec![one(single)?]),
        }
    }
}

fn parse<'a>(value: &'a Value, place: &'a str) -> Result<Fields<'a>> {
    match value.as_object() {
        Some(map) => Ok(Fields { map, place }),
        None => Err(Error::input(place, "is not a JSON object").next("use the model's own file")),
    }
}

fn family(fields: &Fields) -> Result<&'static Family> {
    let architecture = fields.get("architectures").and_then(Value::as_array).and_then(|a| a.first());
    let (key, name) = match (architecture.and_then(Value::as_str), fields.text("model_type")?) {
        (Some(name), _) => ("architectures", name),
        (None, Some(name)) => ("model_type", name),
        (None, None) => {
            return Err(fields.bad("architectures", "is missing").next("use the model's own config.json"));
        }
    };
    Family::of_hf(name).ok_or_else(|| {
        fields
            .bad(key, format!("{name} is not supported"))
            .next(format!("use a model of {}", Family::list(|f| f.hf_architecture)))
    })
}

/// Everything that would change the arithmetic and is not implemented is refused here.
fn refuse(fields: &Fields, family: &Family) -> Result<()> {
    if fields.get("quantization_config").is_some() {
        return Err(fields
            .bad("quantization_config", "quantised checkpoints are not supported")
            .next("use the model's unquantised weights, or its GGUF file"));
    }
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(name) = fields.text(key)?.filter(|&name| name != "silu" && name != "swish") {
            return Err(fields.bad(key, format!("the activation {name} is not supported")).next("silu is"));
        }
    }
    for key in ["attention_bias", "mlp_bias"] {
        // Where a bias on q, k and v is part of the architecture, naming it says nothing new.
        if fields.flag(key)? == Some(true) && !(family.qkv_bias && key == "attention_bias") {
            return Err(fields.bad(key, "is not supported for this family").next("use a model without it"));
        }
    }
    Ok(())
}

/// The window of the layers that have one, and a refusal of windows that this family does not have.
fn window(fields: &Fields, family: &Family) -> Result<Option<usize>> {
    let windowed = family.windows != Windows::Never;
    let named = match fields.map.contains_key("sliding_window") {
        true => fields.count("sliding_window")?,
        false => family.default_window,
    };
    // Families with a switch state a window that is off.
    let switched_on = fields.flag("use_sliding_window")?.unwrap_or(!family.hf_flags.contains(&"use_sliding_window"));
    if switched_on && named.is_some() && !windowed {
        return Err(fields
            .bad("sliding_window", format!("sliding-window attention is not supported for {}", family.title))
            .next("use a model with full attention"));
    }
    let window = named.filter(|_| switched_on);
    let layers = if window.is_some() { "sliding_attention" } else { "full_attention" };
    let types = fields.get("layer_types").and_then(Value::as_array);
    if let Some(other) = types.into_iter().flatten().find(|t| t.as_str() != Some(layers)) {
        return Err(fields
            .bad("layer_types", format!("{other} layers are not supported here"))
            .next(format!("use a model with {layers} in every layer")));
    }
    Ok(window)
}

/// The base and the scaling, from `rope_parameters` (newer files) or `rope_theta` and `rope_scaling`.
fn rope(fields: &Fields) -> Result<(f64, Option<Scaling>)> {
    let newer = fields.object("rope_parameters")?;
    let key = if newer.is_some() { "rope_parameters" } else { "rope_scaling" };
    let Some(map) = newer.or(fields.object("rope_scaling")?) else {
        return Ok((fields.number("rope_theta")?.unwrap_or(10_000.0), None));
    };
    let place = format!("{}: {key}", fields.place);
    let inner = Fields { map, place: &place };
    let theta = match inner.number("rope_theta")? {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
    };
    for (where_, partial) in
        [(&inner, inner.number("partial_rotary_factor")?), (fields, fields.number("partial_rotary_factor")?)]
    {
        if partial.is_some_and(|p| p != 1.0) {
            return Err(where_.bad("partial_rotary_factor", "is not supported").next("use a model with full rotary"));
        }
    }
    let kind = match inner.text("rope_type")? {
        Some(kind) => kind,
        None => inner.text("type")?.unwrap_or("default"),
    };
    match kind {
        "default" => Ok((theta, None)),
        "llama3" => {
            let need = |key: &str| inner.number(key)?.ok_or_else(|| inner.bad(key, "is missing").next("complete it"));
            let scaling = Scaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: inner.need("original_max_position_embeddings")?,
            };
            Ok((theta, Some(scaling)))
        }
        other => Err(inner
            .bad("rope_type", format!("rope scaling of type {other} is not supported"))
            .next("use a model with default or llama3 rope")),
    }
}

/// Reads `config.json` (and `generation_config.json` for the tokens that end a generation). `bos` is filled in
/// by the caller, who knows whether the tokenizer puts one in front.
pub(super) fn read(config: &Value, generation: Option<&Value>, place: &str) -> Result<Config> {
    let fields = parse(config, place)?;
    let family = family(&fields)?;
    refuse(&fields, family)?;
    let window = window(&fields, family)?;
    let (rope_theta, rope_scaling) = rope(&fields)?;
    let hidden = fields.need("hidden_size")?;
    let heads = fields.need("num_attention_heads")?;
    let head_dim = match fields.count("head_dim")? {
        Some(width) => width,
        None if family.head_dim.is_some() => family.head_dim.unwrap_or_default(),
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(fields
                .bad("num_attention_heads", format!("{heads} heads do not divide the hidden size {hidden}"))
                .next("the file is damaged"));
        }
    };
    let mut eos = fields.tokens("eos_token_id")?;
    if let Some(generation) = generation {
        let place = place.replace("config.json", "generation_config.json");
        for id in parse(generation, &place)?.tokens("eos_token_id")? {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
    }
    let config = Config {
        family,
        vocab: fields.need("vocab_size")?,
        hidden,
        intermediate: fields.need("intermediate_size")?,
        layers: fields.need("num_hidden_layers")?,
        heads,
        kv_heads: fields.count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        window,
        context: fields.need("max_position_embeddings")?,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        bos: None,
        eos,
    };
    check(&config, place)?;
    Ok(config)
}

/// `config.json` of a configuration, in the classic layout that every version of transformers reads.
pub(super) fn write(config: &Config, dtype: &str) -> Value {
    let family = config.family;
    let scaling = config.rope_scaling.map(|s| {
        serde_json::json!({
            "rope_type": "llama3",
            "factor": s.factor,
            "low_freq_factor": s.low_freq_factor,
            "high_freq_factor": s.high_freq_factor,
            "original_max_position_embeddings": s.original_context,
        })
    });
    let mut value = serde_json::json!({
        "architectures": [family.hf_architecture],
        "model_type": family.hf_model_type,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos,
        "eos_token_id": config.eos,
        "use_cache": true,
        "torch_dtype": dtype,
    });
    for &flag in family.hf_flags {
        value[flag] = false.into();
    }
    if family.windows != Windows::Never {
        value["sliding_window"] = config.window.into();
    }
    value
}
