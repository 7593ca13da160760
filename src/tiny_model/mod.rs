//! Makes the built-in model: a very small decoder that has learnt the language of the invented
//! catalogue, so that the whole chain can be tried without a download. It is trained from scratch
//! on invented worlds whose seeds differ from those of the data sets that it is tried on.

mod chains;
mod conversation;
mod course;
mod exam;
mod tokenizer;
mod world;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::synthetic;
use crate::error::{Error, Result};
use crate::models::decoder::train::Parameters;
use crate::models::decoder::{Config, Family, Weights};
use crate::monitor::Monitor;
use crate::rng::{Rng, Use};
use crate::settings::Checked;
use crate::store::{ChatTemplate, Tokenizer, fixture, save_hf};
use crate::tensor::Dtype;
use crate::tune::{self, History};
use course::Course;
pub use exam::{Exam, ZeroShot, exam};
use world::World;

/// How the model is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TinyModelSettings {
    /// Seed of the worlds, the lessons and the first weights. Default 1.
    pub seed: u64,
    /// Optimiser steps, 1 to 1,000,000. Default 1,300.
    pub steps: u64,
    /// Groups of lessons in a step, 1 to 1,024. Default 4.
    pub batch: usize,
    /// Highest learning rate, above 0. Default 2e-3.
    pub learning_rate: f64,
    /// Invented worlds that the lessons are drawn from, 1 to 1,000. Default 8.
    pub worlds: u32,
    /// Users of a world. Default 300.
    pub users: u32,
    /// Items of a world. Default 300.
    pub items: u32,
    /// Ratings of a world. Default 20,000.
    pub ratings: u32,
    /// Tokens in the vocabulary at most, 400 to 8,192. Default 1,600.
    pub vocab: usize,
    /// Width of the residual stream, a multiple of 64 up to 1,024. Default 128.
    pub hidden: usize,
    /// Decoder layers, 1 to 16. Default 4.
    pub layers: usize,
}

impl Default for TinyModelSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 1300,
            batch: 4,
            learning_rate: 2e-3,
            worlds: 8,
            users: 300,
            items: 300,
            ratings: 20_000,
            vocab: 1600,
            hidden: 128,
            layers: 4,
        }
    }
}

impl TinyModelSettings {
    /// Refuses values outside the documented ranges.
    ///
    /// # Errors
    /// Names the value.
    pub fn check(&self) -> Result<()> {
        let rules = [
            ("steps", (1..=1_000_000).contains(&self.steps), "1 to 1000000"),
            ("batch", (1..=1024).contains(&self.batch), "1 to 1024"),
            ("learning_rate", self.learning_rate.is_finite() && self.learning_rate > 0.0, "above 0, e.g. 3e-3"),
            ("worlds", (1..=1000).contains(&self.worlds), "1 to 1000"),
            ("vocab", (400..=8192).contains(&self.vocab), "400 to 8192"),
            ("hidden", (64..=1024).contains(&self.hidden) && self.hidden.is_multiple_of(64), "a multiple of 64"),
            ("layers", (1..=16).contains(&self.layers), "1 to 16"),
        ];
        if let Some((name, _, range)) = rules.into_iter().find(|r| !r.1) {
            return Err(Error::usage(format!("tiny-model {name}"), "the value is out of range")
                .next(format!("set it to {range}")));
        }
        self.world(0).check()
    }

    /// World `i`: never one of the default seed, which the demo uses.
    fn world(&self, i: u32) -> synthetic::SyntheticSettings {
        let plain = synthetic::SyntheticSettings::default();
        let mut rng = Rng::new(self.seed, Use::Synthetic, u32::from_be_bytes(*b"seed"), i);
        // Far above any seed that a person types.
        let seed = (1 << 40) | rng.next_u64() >> 24;
        synthetic::SyntheticSettings { seed, users: self.users, items: self.items, ratings: self.ratings, ..plain }
    }
}

/// A finished model, not yet written.
#[derive(Debug)]
pub struct Made {
    /// Shape.
    pub config: Config,
    /// Weights in f32.
    pub weights: Weights,
    /// The content of tokenizer.json.
    pub tokenizer: String,
    /// Losses by step.
    pub history: History,
}

/// Learns a tokenizer and trains the model. The same settings give the same bits.
///
/// # Errors
/// Settings out of range, or a stop that was asked for.
pub fn make(settings: &TinyModelSettings, monitor: &dyn Monitor) -> Result<Made> {
    settings.check()?;
    let worlds = (0..settings.worlds).map(|i| World::new(&settings.world(i))).collect::<Result<Vec<_>>>()?;
    monitor.check()?;
    let json = tokenizer::learn(&worlds, settings)?;
    let tokenizer = Tokenizer::from_json(json.as_bytes(), &tokenizer::settings())?;
    let chat = ChatTemplate::new(fixture::CHAT_TEMPLATE, &tokenizer)?;
    let config = shape(settings, &tokenizer)?;
    let mut weights = Weights::init(&config, settings.seed)?;
    widen(&mut weights, &config)?;
    let count = usize::try_from(settings.steps).unwrap_or(usize::MAX).saturating_mul(settings.batch);
    let course = Course::new(&worlds, &tokenizer, &chat, settings.seed, count, config.context);
    let training = tune::LoraSettings {
        learning_rate: settings.learning_rate,
        warmup_steps: (settings.steps / 20).min(100),
        beta2: 0.98,
        batch: settings.batch,
        micro_tokens: 2048,
        epochs: 1,
        max_steps: settings.steps,
        seed: settings.seed,
        ..tune::LoraSettings::default()
    };
    let outcome = tune::Training::new(&config, &course, &training, monitor).all_weights(weights, None)?;
    Ok(Made { config, weights: outcome.best, tokenizer: json, history: outcome.history })
}

/// The usual deviation of 0.02 suits models ten times as wide; here attention would take long to
/// wake up.
fn widen(weights: &mut Weights, config: &Config) -> Result<()> {
    let factor = 1.0 / (0.02 * (config.hidden as f32).sqrt());
    weights.visit_mut(&mut |name, values| {
        if !name.contains("norm") {
            let factor = if name == "embed" { 2.0 } else { factor };
            values.iter_mut().for_each(|v| *v *= factor);
        }
    })
}

fn shape(settings: &TinyModelSettings, tokenizer: &Tokenizer) -> Result<Config> {
    let end = tokenizer.token_id(tokenizer::END).ok_or_else(|| Error::failed("tokenizer", "has no end token"))?;
    Ok(Config {
        family: Family::LLAMA,
        vocab: tokenizer.size().next_multiple_of(16),
        hidden: settings.hidden,
        intermediate: 2 * settings.hidden,
        layers: settings.layers,
        heads: settings.hidden / 32,
        kv_heads: settings.hidden / 64,
        head_dim: 32,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        window: None,
        full_every: None,
        local_rope_theta: None,
        query_scalar: None,
        score_cap: None,
        logit_cap: None,
        context: 1024,
        tied: true,
        bos: None,
        eos: vec![end],
    })
}

/// Writes the model as a Hugging Face folder in bf16, whole or not at all.
///
/// # Errors
/// A folder that is occupied or cannot be written.
pub fn save(made: &Made, folder: &Path) -> Result<()> {
    save_hf(folder, &made.config, &made.weights, Dtype::Bf16, &made.tokenizer, Some(fixture::CHAT_TEMPLATE))
}

#[cfg(test)]
mod tests;
