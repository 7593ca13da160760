//! The decoding loop: rows in flight take one token a step; a finished row leaves, a waiting one takes its place.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::flow::{self, Flow, InFlight};
use super::{Finish, Listener, Prompt, Settings};
use crate::error::{Error, Result};
use crate::models::llama::{Model, Part, Prefix, Sequence};
use crate::monitor::Monitor;
use crate::ops::sampling::Sampler;
use crate::rng::{Rng, Use};

/// Prompt tokens read in one pass, unless a single prompt is longer.
const PREFILL: usize = 1024;
/// A common beginning shorter than this is not worth reading alone.
const COMMON: usize = 32;

/// An answer in the making.
struct Row {
    row: u32,
    sample: u32,
    sequence: Sequence,
    /// The answer so far; the last token is not in the sequence yet.
    tokens: Vec<u32>,
    sampler: Sampler,
}

/// A prompt that was read, with samples that have not begun.
struct Ready {
    row: u32,
    prefix: Prefix,
    logits: Vec<f32>,
    samples: VecDeque<u32>,
}

struct Decoder<'a> {
    model: &'a Model,
    settings: &'a Settings,
    stop: &'a [u32],
    waiting: VecDeque<&'a Prompt>,
    ready: VecDeque<Ready>,
    /// The prompt read last, for others that begin alike.
    before: Option<(&'a [u32], Prefix)>,
}

/// Generates all samples of all prompts. `stop` are the tokens that end an answer (`Config::eos`, as a rule).
/// `listener` hears tokens and answers; progress counts answers. A stop request ends it between two steps, with the
/// answers in flight lost and the finished ones delivered.
pub fn generate(
    model: &Model,
    prompts: &[Prompt],
    stop: &[u32],
    settings: &Settings,
    monitor: &dyn Monitor,
    listener: &mut dyn Listener,
) -> Result<()> {
    settings.check("sampling")?;
    let context = model.config().context;
    for prompt in prompts {
        let place = || format!("prompt of row {}", prompt.row);
        if prompt.tokens.is_empty() {
            return Err(Error::input(place(), "has no tokens").next("check the prompt's template"));
        }
        if prompt.tokens.len() >= context {
            let what = format!("{} tokens leave no room in the model's context of {context}", prompt.tokens.len());
            return Err(Error::input(place(), what).next("shorten the prompt: show fewer history items"));
        }
    }
    let total: u64 = prompts.iter().map(|p| p.samples.len() as u64).sum();
    let waiting = prompts.iter().filter(|p| !p.samples.is_empty()).collect();
    let mut decoder = Decoder { model, settings, stop, waiting, ready: VecDeque::new(), before: None };
    flow::run(&mut decoder, total, monitor, listener)
}

impl InFlight for Row {
    fn name(&self) -> (u32, u32) {
        (self.row, self.sample)
    }

    fn tokens(&mut self) -> &mut Vec<u32> {
        &mut self.tokens
    }
}

impl Flow for Decoder<'_> {
    type Row = Row;

    fn admit(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        while rows.len() < self.settings.max_rows {
            let Some(ready) = self.ready.front_mut() else {
                if self.waiting.is_empty() {
                    return Ok(());
                }
                self.read(self.settings.max_rows - rows.len())?;
                continue;
            };
            let Some(sample) = ready.samples.pop_front() else {
                self.ready.pop_front();
                continue;
            };
            let mut row = Row {
                row: ready.row,
                sample,
                sequence: Sequence::after(&ready.prefix),
                tokens: Vec::new(),
                sampler: Sampler::default(),
            };
            let mut logits = ready.logits.clone();
            self.draw(&mut row, &mut logits)?;
            rows.push(row);
        }
        Ok(())
    }

    fn finish(&self, row: &Row) -> Option<Finish> {
        // The last token is not in the sequence yet.
        let before = row.sequence.len() + 1 - row.tokens.len();
        flow::finish(&row.tokens, before, self.model.config().context, self.stop, self.settings)
    }

    fn step(&mut self, rows: &mut [Row]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let last: Vec<[u32; 1]> = rows.iter().map(|r| [r.tokens.last().copied().unwrap_or_default()]).collect();
        let mut parts: Vec<Part<'_>> =
            rows.iter_mut().zip(&last).map(|(r, tokens)| Part { tokens, sequence: &mut r.sequence }).collect();
        let logits = self.model.last_logits(&mut parts)?;
        let vocab = logits.cols();
        let mut logits = logits.into_vec();
        rows.par_iter_mut()
            .zip(logits.par_chunks_mut(vocab))
            .with_max_len(1)
            .try_for_each(|(row, logits)| self.draw(row, logits))
    }
}

impl<'a> Decoder<'a> {
    /// Draws the row's next token.
    fn draw(&self, row: &mut Row, logits: &mut [f32]) -> Result<()> {
        let step = row.tokens.len();
        if step < self.settings.min_new_tokens {
            for &token in self.stop {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let u = Rng::new(self.settings.seed, Use::Token, row.row, row.sample).at(step as u64).uniform_f64();
        let token = row.sampler.pick(logits, self.settings.cut(), u);
        row.tokens.push(token.map_err(|e| e.within(format!("row {}, sample {}, token {step}", row.row, row.sample)))?);
        Ok(())
    }

    /// Reads the next prompts, as many as fill `room` rows or one pass.
    fn read(&mut self, room: usize) -> Result<()> {
        let (mut batch, mut samples, mut tokens) = (Vec::new(), 0, 0);
        while let Some(&prompt) = self.waiting.front() {
            let shared = self.before.as_ref().map_or(0, |(seen, _)| common(seen, &prompt.tokens));
            let alike = |other: &(&Prompt, usize)| common(&other.0.tokens, &prompt.tokens) >= shared + COMMON;
            let full = samples >= room || tokens + prompt.tokens.len() - shared > PREFILL;
            // A prompt that begins like one of this batch waits for it, and then reads its own part only.
            if !batch.is_empty() && (full || batch.iter().any(alike)) {
                break;
            }
            samples += prompt.samples.len();
            tokens += prompt.tokens.len() - shared;
            batch.push((prompt, shared));
            self.waiting.pop_front();
        }
        let none = Prefix::default();
        let before = self.before.as_ref().map_or(&none, |(_, prefix)| prefix);
        let mut sequences: Vec<Sequence> =
            batch.iter().map(|(_, shared)| Sequence::after(&before.take(*shared))).collect();
        let mut parts: Vec<Part<'_>> = batch
            .iter()
            .zip(&mut sequences)
            .map(|((prompt, shared), sequence)| Part { tokens: &prompt.tokens[*shared..], sequence })
            .collect();
        let logits = self.model.last_logits(&mut parts)?;
        for (i, ((prompt, _), sequence)) in batch.into_iter().zip(sequences).enumerate() {
            let prefix = sequence.freeze();
            self.before = Some((&prompt.tokens, prefix.clone()));
            let samples = prompt.samples.iter().copied().collect();
            self.ready.push_back(Ready { row: prompt.row, prefix, logits: logits.row(i).to_vec(), samples });
        }
        Ok(())
    }
}

/// How many first tokens of `next` may be taken over from `seen`: the last token is always read, for its logits.
fn common(seen: &[u32], next: &[u32]) -> usize {
    let alike = seen.iter().zip(next).take_while(|(a, b)| a == b).count();
    let alike = alike.min(next.len().saturating_sub(1));
    if alike >= COMMON { alike } else { 0 }
}
