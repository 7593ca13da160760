//! Sanity of a configuration, whatever file it came from, and of what a model is given to read.

use super::{Config, SoftTokens};
use crate::error::{Error, Result};

/// Above this no published decoder of these families comes near; larger numbers are damage, and
/// products of several of them stay far from overflow.
const WIDEST: usize = 1 << 22;

/// Fails on tokens that a model of this configuration cannot read behind `past` others. `place`
/// names them.
pub(crate) fn tokens(
    config: &Config,
    soft: Option<&SoftTokens>,
    tokens: &[u32],
    past: usize,
    place: impl Fn() -> String,
) -> Result<()> {
    if tokens.is_empty() {
        return Err(Error::input(place(), "has no tokens").next("leave empty texts out"));
    }
    let known = |t: u32| (t as usize) < config.vocab || soft.is_some_and(|s| s.row(t).is_some());
    if let Some(token) = tokens.iter().find(|&&t| !known(t)) {
        let what = format!("token {token} is not in the vocabulary of {}", config.vocab);
        return Err(Error::input(place(), what).next("use the tokenizer that belongs to this model"));
    }
    let end = past + tokens.len();
    if end > config.context {
        let what = format!("{end} tokens do not fit the model's context of {}", config.context);
        return Err(Error::input(place(), what).next("shorten the prompt: show fewer history items"));
    }
    Ok(())
}

/// Fails on a shape or a constant that cannot belong to a working model. `place` names the file.
pub(crate) fn check(config: &Config, place: &str) -> Result<()> {
    let bad = |what: String| Err(Error::input(place, what).next("the file is damaged or not a Llama-type model"));
    for (name, value) in [
        ("vocabulary size", config.vocab),
        ("hidden size", config.hidden),
        ("intermediate size", config.intermediate),
        ("number of layers", config.layers),
        ("number of heads", config.heads),
        ("number of key and value heads", config.kv_heads),
        ("head width", config.head_dim),
        ("context length", config.context),
    ] {
        let most = if name == "context length" { 1 << 32 } else { WIDEST };
        if value == 0 || value > most {
            return bad(format!("the {name} is {value}"));
        }
    }
    if config.layers > 1024 {
        return bad(format!("the number of layers is {}", config.layers));
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return bad(format!("{} heads cannot share {} key and value heads", config.heads, config.kv_heads));
    }
    if !config.head_dim.is_multiple_of(2) {
        return bad(format!("the head width {} is odd; rotary positions need pairs", config.head_dim));
    }
    let positive = |x: f64| x.is_finite() && x > 0.0;
    if !positive(config.norm_eps) || config.norm_eps > 1.0 {
        return bad(format!("the RMSNorm epsilon is {}", config.norm_eps));
    }
    if !positive(config.rope_theta) || config.rope_theta < 1.0 {
        return bad(format!("the rope base is {}", config.rope_theta));
    }
    if let Some(s) = config.rope_scaling {
        let sound = positive(s.factor)
            && positive(s.low_freq_factor)
            && positive(s.high_freq_factor)
            && s.low_freq_factor < s.high_freq_factor
            && s.original_context > 0;
        if !sound {
            return bad(format!("the rope scaling makes no sense: {s:?}"));
        }
    }
    if config.local_rope_theta.is_some_and(|theta| !positive(theta) || theta < 1.0) {
        return bad(format!("the rope base of layers with a window is {:?}", config.local_rope_theta));
    }
    for (name, value) in [
        ("scalar of the queries", config.query_scalar),
        ("soft cap of attention", config.score_cap),
        ("soft cap of the logits", config.logit_cap),
    ] {
        if value.is_some_and(|v| !positive(v) || v > 1e6) {
            return bad(format!("the {name} is {}", value.unwrap_or_default()));
        }
    }
    if config.full_every == Some(0) {
        return bad("every 0th layer has no window".into());
    }
    if config.window == Some(0) {
        return bad("the attention window is 0".into());
    }
    for id in config.bos.iter().chain(&config.eos) {
        if *id as usize >= config.vocab {
            return bad(format!("the special token id {id} is outside the vocabulary of {}", config.vocab));
        }
    }
    Ok(())
}
