//! The local engine at work: words in, words and numbers out.

use std::borrow::Cow;
use std::cell::RefCell;

use super::live::{Live, Relay};
use super::local::Local;
use super::{Ask, Clip, LanguageModel, Listener, Reading};
use crate::device::Device;
use crate::error::Result;
use crate::generate::embed::Plan;
use crate::generate::scoring::{Bundle, score};
use crate::generate::{self, Pooling};
use crate::models::decoder::Model;
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Inputs, Projector};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::ops::cross_entropy::Choice;

/// Tokens of one forward pass: large enough for fast products, small enough for memory.
const PASS: usize = 2048;

/// Bundles that are scored before the engine looks whether it should stop.
const BUNDLES: usize = 16;

/// Rows whose samples are in flight at a time.
const ROWS: usize = 8;

/// A loaded model with another set of weights: an adapter, soft tokens.
pub struct Adapted<'a> {
    local: &'a Local,
    model: Model,
}

impl<'a> Adapted<'a> {
    pub(super) fn new(local: &'a Local, adapter: &Adapter, soft: Option<(&Projector, &Inputs)>) -> Result<Self> {
        let tokens = soft.map(|(projector, inputs)| projector.tokens(inputs)).transpose()?;
        let model = local.model.with_adapter(Some(adapter))?.with_soft(tokens)?;
        Ok(Self { local, model })
    }

    /// The model on `device`.
    ///
    /// # Errors
    /// A model that does not fit.
    pub fn open(&self, device: &Device) -> Result<Running<'_>> {
        Running::new(self.local, &self.model, device)
    }
}

/// A model on its device.
pub struct Running<'a> {
    local: &'a Local,
    model: Cow<'a, Model>,
    live: RefCell<Live>,
}

impl<'a> Running<'a> {
    /// Copies the weights to `device`, if it is another than the CPU.
    ///
    /// # Errors
    /// A model that does not fit.
    pub fn new(local: &'a Local, model: &'a Model, device: &Device) -> Result<Self> {
        let model = match device {
            Device::Cpu => Cow::Borrowed(model),
            device => Cow::Owned(model.on(device)?),
        };
        Ok(Self { local, model, live: RefCell::default() })
    }
}

impl Running<'_> {
    /// Where an answer is read at a later token, the model's own likeliest tokens up to there.
    fn write_up_to_the_answer(&self, bundle: &[Reading<'_>], read: &mut Bundle, monitor: &dyn Monitor) -> Result<()> {
        let before = |reading: &Reading<'_>| match reading {
            Reading::Conversation(conversation) => conversation.answer_at.saturating_sub(1),
            Reading::Prompt(_) => 0,
        };
        for (reading, tokens) in bundle.iter().zip(read.iter_mut()) {
            let wanted = before(reading);
            if wanted == 0 {
                continue;
            }
            let sampling = generate::GenerateSettings {
                temperature: 0.0,
                max_new_tokens: wanted,
                ..generate::GenerateSettings::default()
            };
            let prompt = generate::Prompt::new(0, tokens.clone(), 1);
            let mut written: Vec<generate::Sample> = Vec::new();
            // Nothing ends it before the place that is asked for.
            generate::generate(&self.model, &[prompt], &[], &sampling, &CountedElsewhere(monitor), &mut written)?;
            tokens.extend(written.into_iter().flat_map(|sample| sample.tokens));
        }
        Ok(())
    }
}

impl LanguageModel for Running<'_> {
    fn hidden(&self) -> usize {
        self.local.model.config().hidden
    }

    fn rows_in_flight(&self) -> usize {
        ROWS
    }

    fn spellings(&self, words: [&str; 2]) -> Vec<u32> {
        let forms = words.iter().flat_map(|word| [(*word).to_owned(), format!(" {word}")]);
        let mut ids: Vec<u32> = forms.filter_map(|form| self.local.tokenizer.single_token(&form).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn write_on(
        &self,
        asked: &[Ask<'_>],
        sampling: &generate::GenerateSettings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        let mut prompts = Vec::with_capacity(asked.len());
        for ask in asked {
            let tokens = self.local.tokens(&ask.reading)?;
            prompts.push(generate::Prompt { row: ask.row, tokens, samples: ask.samples.clone() });
        }
        let mut relay = Relay { local: self.local, live: &mut self.live.borrow_mut(), listener };
        generate::generate(&self.model, &prompts, &self.local.stop, sampling, monitor, &mut relay)
    }

    fn score(
        &self,
        bundles: &[Vec<Reading<'_>>],
        answers: [&str; 2],
        monitor: &dyn Monitor,
        received: &mut dyn FnMut(usize, &[Choice]) -> Result<()>,
    ) -> Result<()> {
        let ids = self.local.answer_ids(answers)?;
        let mut place = 0;
        for some in bundles.chunks(BUNDLES) {
            monitor.check()?;
            let mut tokens: Vec<Bundle> = Vec::with_capacity(some.len());
            for bundle in some {
                let mut read = bundle.iter().map(|r| self.local.scored_tokens(r)).collect::<Result<Bundle>>()?;
                self.write_up_to_the_answer(bundle, &mut read, monitor)?;
                tokens.push(read);
            }
            for choices in score(&self.model, &tokens, ids, PASS)? {
                received(place, &choices)?;
                place += 1;
            }
        }
        Ok(())
    }

    fn embed(
        &self,
        texts: &[Clip<'_>],
        pooling: Pooling,
        known: &dyn Fn(usize) -> bool,
        monitor: &dyn Monitor,
        received: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut tokens = Vec::with_capacity(texts.len());
        for clip in texts {
            tokens.push(self.local.clip(clip)?);
        }
        let plan = Plan::new(&tokens);
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); plan.distinct.len()];
        plan.place.iter().enumerate().for_each(|(text, &distinct)| places[distinct].push(text));
        let cost = |n: &usize| plan.cost(plan.distinct[*n]) as u64;
        let (there, missing): (Vec<usize>, Vec<usize>) =
            (0..places.len()).partition(|&n| places[n].iter().all(|&text| known(text)));
        let mut done: u64 = there.iter().map(cost).sum();
        let total = done + missing.iter().map(cost).sum::<u64>();
        monitor.progress(done, total, "tokens");
        let mut left = &missing[..];
        while !left.is_empty() {
            monitor.check()?;
            let mut size = 0;
            let fits = |n: &&usize| {
                size += cost(n) as usize;
                size <= PASS
            };
            // A text longer than a pass is one by itself.
            let (batch, rest) = left.split_at(left.iter().take_while(fits).count().max(1));
            let read: Vec<&[u32]> = batch.iter().map(|&n| plan.distinct[n]).collect();
            let pooled = generate::embed(&self.model, plan.head, &read, pooling)?;
            for (row, &n) in batch.iter().enumerate() {
                places[n].iter().filter(|&&text| !known(text)).try_for_each(|&text| received(text, pooled.row(row)))?;
            }
            done += batch.iter().map(cost).sum::<u64>();
            monitor.progress(done, total, "tokens");
            left = rest;
        }
        Ok(())
    }
}
