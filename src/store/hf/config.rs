//! `config.json` and `generation_config.json` of a Hugging Face folder.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::models::decoder::check::check;
use crate::models::decoder::families::{Activation, Windows};
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

/// The key that names the activation, and the names that it has there, the first of which is
/// written.
fn activation(family: &Family) -> (&'static str, &'static [&'static str]) {
    match family.activation {
        Activation::SwiGlu => ("hidden_act", &["silu", "swish"]),
        Activation::GeGlu => ("hidden_activation", &["gelu_pytorch_tanh"]),
    }
}

/// Everything that would change the arithmetic and is not implemented is refused here.
fn refuse(fields: &Fields, family: &Family) -> Result<()> {
    if fields.get("quantization_config").is_some() {
        return Err(fields
            .bad("quantization_config", "quantised checkpoints are not supported")
            .next("use the model's unquantised weights, or its GGUF file"));
    }
    let (_, names) = activation(family);
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(name) = fields.text(key)?.filter(|name| !names.contains(name)) {
            let what = format!("the activation {name} is not supported for {}", family.title);
            return Err(fields.bad(key, what).next(format!("{} is", names[0])));
        }
    }
    if fields.flag("use_bidirectional_attention")? == Some(true) {
        let what = "attention to later tokens is not supported";
        return Err(fields.bad("use_bidirectional_attention", what).next("use a causal model"));
    }
    for key in ["attention_bias", "mlp_bias"] {
        // Where a bias on q, k and v is part of the architecture, naming it says nothing new.
        if fields.flag(key)? == Some(true) && !(family.qkv_bias && key == "attention_bias") {
            return Err(fields.bad(key, "is not supported for this family").next("use a model without it"));
        }
    }
    Ok(())
}

/// The window of the layers that have one, and which layers have none for all that; a refusal of
/// windows that this family does not have.
fn window(fields: &Fields, family: &Family) -> Result<(Option<usize>, Option<usize>)> {
    let windowed = family.windows != Windows::Never;
    let named = match fields.map.contains_key("sliding_window") {
        true => fields.count("sliding_window")?,
        false => family.defaults.window,
    };
    // Families with a switch state a window that is off.
    let switched_on = fields.flag("use_sliding_window")?.unwrap_or(!family.hf_flags.contains(&"use_sliding_window"));
    if switched_on && named.is_some() && !windowed {
        return Err(fields
            .bad("sliding_window", format!("sliding-window attention is not supported for {}", family.title))
            .next("use a model with full attention"));
    }
    let window = named.filter(|_| switched_on);
    if let (Some(_), Windows::AllButEvery(default)) = (window, family.windows) {
        return Ok((window, pattern(fields, default)?));
    }
    let layers = if window.is_some() { "sliding_attention" } else { "full_attention" };
    let types = fields.get("layer_types").and_then(Value::as_array);
    if let Some(other) = types.into_iter().flatten().find(|t| t.as_str() != Some(layers)) {
        return Err(fields
            .bad("layer_types", format!("{other} layers are not supported here"))
            .next(format!("use a model with {layers} in every layer")));
    }
    Ok((window, None))
}

/// Every how many-th layer has no window, where the others have one.
fn pattern(fields: &Fields, default: usize) -> Result<Option<usize>> {
    const KEY: &str = "layer_types";
    let Some(types) = fields.get(KEY) else {
        return Ok(Some(fields.count("sliding_window_pattern")?.unwrap_or(default)));
    };
    let mut full = Vec::new();
    for (i, kind) in types.as_array().into_iter().flatten().enumerate() {
        match kind.as_str() {
            Some("full_attention") => full.push(i + 1),
            Some("sliding_attention") => {}
            _ => {
                let next = "use a model of full_attention and sliding_attention layers";
                return Err(fields.bad(KEY, format!("{kind} layers are not supported here")).next(next));
            }
        }
    }
    let every = full.first().copied();
    let layers = fields.need("num_hidden_layers")?;
    let want: Vec<usize> = every.map_or_else(Vec::new, |every| (every..=layers).step_by(every).collect());
    if full != want {
        let what = format!("layers {full:?} have full attention, which is not every so-many-th of {layers}");
        return Err(fields.bad(KEY, what).next("use a model with a regular pattern"));
    }
    Ok(every)
}

/// The base and the scaling, and the base of layers with a window, from `rope_parameters` (newer
/// files; by kind of layer where the family has two bases) or `rope_theta`, `rope_scaling` and
/// `rope_local_base_freq`.
fn rope(fields: &Fields, family: &Family) -> Result<(f64, Option<Scaling>, Option<f64>)> {
    const KEY: &str = "rope_parameters";
    let Some(default) = family.defaults.local_rope_theta else {
        let (theta, scaling) = rope_of(fields, family.defaults.rope_theta)?;
        return Ok((theta, scaling, None));
    };
    let newer = fields.object(KEY)?.filter(|map| map.contains_key("full_attention"));
    let Some(map) = newer else {
        let (theta, scaling) = rope_of(fields, family.defaults.rope_theta)?;
        return Ok((theta, scaling, Some(fields.number("rope_local_base_freq")?.unwrap_or(default))));
    };
    let place = format!("{}: {KEY}", fields.place);
    let inner = Fields { map, place: &place };
    let of = |key: &str, default: f64| match inner.get(key) {
        None => Ok((default, None)),
        Some(value) => {
            let map = Map::from_iter([(KEY.to_owned(), value.clone())]);
            rope_of(&Fields { map: &map, place: &place }, default)
        }
    };
    let (theta, scaling) = of("full_attention", family.defaults.rope_theta)?;
    match of("sliding_attention", default)? {
        (local, None) => Ok((theta, scaling, Some(local))),
        _ => Err(inner
            .bad("sliding_attention", "a scaling of layers with a window is not supported")
            .next("use a model without it")),
    }
}

/// The base and the scaling of one kind of layer.
fn rope_of(fields: &Fields, default: f64) -> Result<(f64, Option<Scaling>)> {
    let newer = fields.object("rope_parameters")?;
    let key = if newer.is_some() { "rope_parameters" } else { "rope_scaling" };
    let Some(map) = newer.or(fields.object("rope_scaling")?) else {
        return Ok((fields.number("rope_theta")?.unwrap_or(default), None));
    };
    let place = format!("{}: {key}", fields.place);
    let inner = Fields { map, place: &place };
    let theta = match inner.number("rope_theta")? {
        Some(theta) => theta,
        None => fields.number("rope_theta")?.unwrap_or(default),
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

/// Reads `config.json` (and `generation_config.json` for the tokens that end a generation). `bos`
/// is filled in by the caller, who knows whether the tokenizer puts one in front.
pub(super) fn read(config: &Value, generation: Option<&Value>, place: &str) -> Result<Config> {
    let fields = parse(config, place)?;
    let family = family(&fields)?;
    refuse(&fields, family)?;
    let (window, full_every) = window(&fields, family)?;
    let (rope_theta, rope_scaling, local_rope_theta) = rope(&fields, family)?;
    let hidden = fields.need("hidden_size")?;
    let heads = fields.need("num_attention_heads")?;
    let head_dim = match fields.count("head_dim")? {
        Some(width) => width,
        None if let Some(width) = family.defaults.head_dim => width,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(fields
                .bad("num_attention_heads", format!("{heads} heads do not divide the hidden size {hidden}"))
                .next("the file is damaged"));
        }
    };
    let scale = |key: &str, default: Option<f64>| match fields.map.contains_key(key) && family.scales {
        true => fields.number(key),
        false => Ok(default),
    };
    let query_scalar = scale("query_pre_attn_scalar", family.defaults.query_scalar)?;
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
        full_every,
        local_rope_theta: local_rope_theta.filter(|_| window.is_some()),
        query_scalar: query_scalar.filter(|&scalar| scalar != head_dim as f64),
        score_cap: scale("attn_logit_softcapping", family.defaults.score_cap)?,
        logit_cap: scale("final_logit_softcapping", family.defaults.logit_cap)?,
        context: fields.need("max_position_embeddings")?,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(family.defaults.tied),
        bos: None,
        eos,
    };
    check(&config, place)?;
    Ok(config)
}

/// `config.json` of a configuration, in the classic layout that every version of transformers
/// reads.
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
    let (key, names) = activation(family);
    value[key] = names[0].into();
    for &flag in family.hf_flags {
        value[flag] = false.into();
    }
    if family.windows != Windows::Never {
        value["sliding_window"] = config.window.into();
    }
    if let Windows::AllButEvery(_) = family.windows {
        let kind = |i| if config.window_of(i).is_some() { "sliding_attention" } else { "full_attention" };
        value["layer_types"] = (0..config.layers).map(kind).collect();
    }
    if family.scales {
        let scalar = config.query_scalar.unwrap_or(config.head_dim as f64);
        // transformers wants a whole number where it is one.
        value["query_pre_attn_scalar"] = if scalar.fract() == 0.0 { (scalar as u64).into() } else { scalar.into() };
        value["attn_logit_softcapping"] = config.score_cap.into();
        value["final_logit_softcapping"] = config.logit_cap.into();
    }
    if family.defaults.local_rope_theta.is_some() {
        value["rope_local_base_freq"] = config.local_rope_theta.unwrap_or(config.rope_theta).into();
    }
    value
}
