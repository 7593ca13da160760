//! Sampling answers: S of them for each prompt, which share the prompt's keys and values.
//!
//! The draw for the token at `step` of sample `s` of row `r` is number `step` of the Philox stream
//! (seed, token, r, s), and logits do not depend on the batch. So an answer is a function of
//! (model, prompt, settings, r, s): the same whatever else is generated beside it, in whatever
//! order, and after a stop and a resume.

mod choose;
mod decode;
pub mod embed;
pub(crate) mod flow;
pub mod scoring;
mod step;

pub use decode::generate;
pub use embed::{Pooling, embed};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::sampling::Cut;

/// How answers are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateSettings {
    /// Flattens (above 1) or sharpens (below 1) the distribution; 0 always takes the likeliest
    /// token. Default 0.6.
    pub temperature: f32,
    /// Keep the likeliest tokens that hold this share of the probability; in (0, 1], 1 keeps all.
    /// Default 1.
    pub top_p: f64,
    /// Keep this many of the likeliest tokens; 0 keeps all. Default 0.
    pub top_k: usize,
    /// Stop tokens are forbidden before this many tokens. Default 0.
    pub min_new_tokens: usize,
    /// An answer is cut at this many tokens; at least 1. Default 512.
    pub max_new_tokens: usize,
    /// Seed of the draws. Default 42.
    pub seed: u64,
    /// Tokens that end an answer and belong to it, besides the model's stop tokens, which do not.
    pub ends: Vec<u32>,
    /// Answers generated side by side; at least 1. More is faster until memory or caches are full.
    /// Default 64.
    pub max_rows: usize,
}

impl Default for GenerateSettings {
    fn default() -> Self {
        Self {
            temperature: 0.6,
            top_p: 1.0,
            top_k: 0,
            min_new_tokens: 0,
            max_new_tokens: 512,
            seed: 42,
            ends: Vec::new(),
            max_rows: 64,
        }
    }
}

impl GenerateSettings {
    /// The cut of the distribution.
    pub fn cut(&self) -> Cut {
        Cut { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p }
    }

    /// Refuses values out of range; `place` names the recipe's section.
    pub fn check(&self, place: &str) -> Result<()> {
        self.cut().check(place)?;
        let least = |name: &str, value: usize| {
            let error = || Error::usage(format!("{place}.{name}"), "0 is not allowed").next("use 1 or more");
            if value == 0 { Err(error()) } else { Ok(()) }
        };
        least("max_new_tokens", self.max_new_tokens)?;
        least("max_rows", self.max_rows)?;
        if self.min_new_tokens > self.max_new_tokens {
            let what = format!("{} is more than max_new_tokens, {}", self.min_new_tokens, self.max_new_tokens);
            return Err(Error::usage(format!("{place}.min_new_tokens"), what).next("lower it"));
        }
        Ok(())
    }
}

/// A prompt and the samples wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The row's number: part of the random counter, so it must stay the same over runs.
    pub row: u32,
    /// At least one.
    pub tokens: Vec<u32>,
    /// Numbers of the samples; a resume names those that are missing.
    pub samples: Vec<u32>,
}

impl Prompt {
    /// Samples 0..count.
    pub fn new(row: u32, tokens: Vec<u32>, count: u32) -> Self {
        Self { row, tokens, samples: (0..count).collect() }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop token, which is not part of the answer.
    Stop,
    /// One of [`GenerateSettings::ends`], which is.
    Said,
    /// `max_new_tokens`.
    Length,
    /// The model's context is full.
    Context,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt's row.
    pub row: u32,
    /// Which of its samples.
    pub sample: u32,
    /// The answer, without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Hears what is generated. An error ends the generation.
pub trait Listener {
    /// One more token of an answer that goes on; for live text.
    fn token(&mut self, row: u32, sample: u32, token: u32) -> Result<()> {
        let _ = (row, sample, token);
        Ok(())
    }

    /// A finished answer; they come in the order in which they end.
    fn finished(&mut self, sample: Sample) -> Result<()>;
}

impl Listener for Vec<Sample> {
    fn finished(&mut self, sample: Sample) -> Result<()> {
        self.push(sample);
        Ok(())
    }
}
