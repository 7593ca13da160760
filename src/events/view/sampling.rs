//! Sampled answers in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bins::{Bins, Histogram, Mean};
use super::bounded::{Footprint, NAME, TEXT, cut, flat, floor};
use super::prompts::{Prompt, Prompts};
use super::series::Series;
use crate::event::Event;

/// Models that are kept apart.
const MODELS: usize = 32;

/// The sample whose text is followed.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct LiveText {
    /// Row.
    pub row: u64,
    /// Sample.
    pub sample: u32,
    /// The text so far; its end, where it is very long.
    pub text: String,
}

/// What prompts cost in one way of answering.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// Prompts.
    pub prompts: u64,
    /// Seconds.
    pub seconds: f64,
    /// Tokens.
    pub tokens: u64,
}
flat!(Cost);

impl Cost {
    /// Seconds of one prompt.
    pub fn seconds_per_prompt(&self) -> Option<f64> {
        (self.prompts > 0).then(|| self.seconds / self.prompts as f64)
    }

    /// Tokens a second.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0 && self.tokens > 0).then(|| self.tokens as f64 / self.seconds)
    }
}

/// Rows that one model has scored.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Scored {
    /// Probabilities.
    pub p: Mean,
    /// P(Yes) + P(No).
    pub mass: Mean,
    /// Rows with a label.
    pub labelled: u64,
    /// Of them right at 0.5.
    pub right: u64,
}
flat!(Scored);

/// Sampled answers of a run in numbers: counts, spread, lengths, cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampling {
    /// Answers that arrived.
    pub answers: u64,
    /// Hard answer yes.
    pub yes: u64,
    /// Hard answer no.
    pub no: u64,
    /// No hard answer: parse failures.
    pub unparsed: u64,
    /// Cut before their end.
    pub cut: u64,
    /// Lengths in tokens.
    pub tokens: Mean,
    /// P(Yes) + P(No) of the soft answers.
    pub mass: Mean,
    /// |hint - 0.5| of the prompts, 0 to 0.5.
    pub hint_strength: Histogram,
    /// Variance over the samples of a prompt (those with two or more), 0 to 0.25.
    pub variance: Histogram,
    /// Prompts by the standard deviation of their samples, 0 to 0.5; a hit is mean > 0.5 equal to
    /// the label.
    pub by_deviation: Bins,
    /// Answers by length in tokens, 1 to 16,384; a hit is p > 0.5 equal to the label.
    pub by_length: Bins,
    /// Tokens a second while sampling, over answers.
    pub tokens_per_second: Series,
    /// The text that is being written.
    pub live: Option<LiveText>,
    /// One pass a prompt.
    pub plain: Cost,
    /// S sampled answers a prompt.
    pub reasoning: Cost,
    /// By model and way of retrieving, e.g. `tuned/recipe`.
    pub scored: BTreeMap<String, Scored>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            answers: 0,
            yes: 0,
            no: 0,
            unparsed: 0,
            cut: 0,
            tokens: Mean::default(),
            mass: Mean::default(),
            hint_strength: Bins::linear(0.0, 0.5, 50),
            variance: Bins::linear(0.0, 0.25, 50),
            by_deviation: Bins::linear(0.0, 0.5, 200),
            by_length: Bins::log(1.0, 16384.0, 112),
            tokens_per_second: Series::default(),
            live: None,
            plain: Cost::default(),
            reasoning: Cost::default(),
            scored: BTreeMap::new(),
        }
    }
}

/// What a prompt contributes: (variance, right, mean), from two samples on.
fn contribution(prompt: Option<&Prompt>) -> Option<(f64, Option<bool>, f64)> {
    let prompt = prompt.filter(|p| p.answers.len() > 1)?;
    let (mean, variance) = prompt.moments()?;
    Some((variance, prompt.label.map(|l| (mean > 0.5) == l), mean))
}

impl Sampling {
    /// Cost of a prompt by sampling, as a multiple of its cost in one pass.
    pub fn cost_ratio(&self) -> Option<f64> {
        let (reasoning, plain) = (self.reasoning.seconds_per_prompt()?, self.plain.seconds_per_prompt()?);
        (plain > 0.0).then(|| reasoning / plain)
    }

    /// Share of answers without a hard yes or no.
    pub fn unparsed_share(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.unparsed as f64 / self.answers as f64)
    }

    pub(super) fn forget(&mut self) {
        *self = Self { plain: self.plain, scored: std::mem::take(&mut self.scored), ..Self::default() };
    }

    pub(super) fn apply(&mut self, event: &Event, prompts: &mut Prompts) {
        match event {
            Event::TextChunk { row, sample, start, text } => {
                let live = self.live.get_or_insert_default();
                if *start || live.row != *row || live.sample != *sample {
                    *live = LiveText { row: *row, sample: *sample, text: String::new() };
                }
                live.text.push_str(&text[..floor(text, TEXT)]);
                if live.text.len() > 2 * TEXT {
                    let from = floor(&live.text, live.text.len() - TEXT);
                    live.text.drain(..from);
                }
            }
            Event::ReasoningSample { .. } => self.answer(event, prompts),
            Event::PromptCost { how, prompts, seconds, tokens } => {
                let cost = if how == "plain" { &mut self.plain } else { &mut self.reasoning };
                cost.prompts = cost.prompts.saturating_add(*prompts);
                cost.tokens = cost.tokens.saturating_add(*tokens);
                if seconds.is_finite() {
                    cost.seconds += seconds;
                    if how != "plain" && *seconds > 0.0 {
                        self.tokens_per_second.push(self.answers as f64, *tokens as f64 / seconds);
                    }
                }
            }
            Event::SampleScored { model, p, yes_no_mass, label, .. } => {
                if !self.scored.contains_key(model) && (self.scored.len() >= MODELS || model.len() > NAME) {
                    return;
                }
                let scored = self.scored.entry(cut(model, NAME)).or_default();
                scored.p.add(*p);
                scored.mass.add(*yes_no_mass);
                if let Some(label) = label {
                    scored.labelled += 1;
                    scored.right += u64::from((*p > 0.5) == *label);
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, event: &Event, prompts: &mut Prompts) {
        let Event::ReasoningSample { row, sample, p, answer, tokens, finished, label, hint, yes_no_mass, .. } = event
        else {
            return;
        };
        let before = prompts.get(*row);
        let first = before.is_none_or(|b| b.answers.is_empty());
        // A sample that comes again (its writer was killed before it was stored) replaces the first
        // one.
        let old = before.and_then(|b| b.answers.iter().find(|a| a.sample == *sample)).map(|a| (a.answer, a.finished));
        match old {
            Some((answer, finished)) => {
                self.answers -= 1;
                match answer {
                    Some(true) => self.yes -= 1,
                    Some(false) => self.no -= 1,
                    None => self.unparsed -= 1,
                }
                self.cut -= u64::from(!finished);
            }
            None => {
                self.tokens.add(f64::from(*tokens));
                self.mass.add(yes_no_mass.unwrap_or(f64::NAN));
                if let Some(label) = label {
                    self.by_length.add(f64::from(*tokens), (*p > 0.5) == *label, *p);
                }
            }
        }
        self.answers += 1;
        match answer {
            Some(true) => self.yes += 1,
            Some(false) => self.no += 1,
            None => self.unparsed += 1,
        }
        self.cut += u64::from(!finished);
        if let (true, Some(hint)) = (first, hint) {
            self.hint_strength.add((hint - 0.5).abs(), false, *hint);
        }
        if let Some((variance, right, mean)) = contribution(before) {
            self.variance.take_back(variance, right == Some(true), mean);
            if let Some(right) = right {
                self.by_deviation.take_back(variance.sqrt(), right, mean);
            }
        }
        prompts.answer(event);
        if let Some((variance, right, mean)) = contribution(prompts.get(*row)) {
            self.variance.add(variance, right == Some(true), mean);
            if let Some(right) = right {
                self.by_deviation.add(variance.sqrt(), right, mean);
            }
        }
    }
}

impl Footprint for Sampling {
    fn held(&self) -> usize {
        self.hint_strength.held()
            + self.variance.held()
            + self.by_deviation.held()
            + self.by_length.held()
            + self.tokens_per_second.held()
            + self.live.as_ref().map_or(0, |l| l.text.held())
            + self.scored.keys().map(|k| k.held() + size_of::<Scored>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(row: u64, sample: u32, p: f64, label: bool) -> Event {
        Event::ReasoningSample {
            row,
            sample,
            p,
            answer: None,
            tokens: 8,
            finished: true,
            text: String::new(),
            label: Some(label),
            hint: Some(0.8),
            set: None,
            yes_no_mass: Some(0.9),
        }
    }

    #[test]
    fn a_prompt_counts_once_with_all_its_samples() {
        let (mut sampling, mut prompts) = (Sampling::default(), Prompts::default());
        for (s, p) in [0.2, 0.4, 0.9].into_iter().enumerate() {
            sampling.apply(&sample(7, s as u32, p, true), &mut prompts);
        }
        // The mean is 0.5: not above it, so wrong; variance 0.0866...
        assert_eq!(sampling.variance.n(), 1);
        assert_eq!(sampling.by_deviation.bins().iter().map(|b| (b.n, b.hits)).max(), Some((1, 0)));
        let (mean, variance) = prompts.get(7).unwrap().moments().unwrap();
        assert!((mean - 0.5).abs() < 1e-12 && (variance - 0.26 / 3.0).abs() < 1e-12, "{mean} {variance}");
        assert_eq!((sampling.answers, sampling.unparsed, sampling.hint_strength.n()), (3, 3, 1));
        // The same sample again replaces.
        sampling.apply(&sample(7, 2, 0.95, true), &mut prompts);
        assert_eq!((sampling.answers, sampling.variance.n(), sampling.unparsed), (3, 1, 3));
        assert_eq!(sampling.by_deviation.bins().iter().map(|b| (b.n, b.hits)).max(), Some((1, 1)));
    }
}
