//! Single prompts: what was asked, what was answered, what became of it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::bounded::{Footprint, NAME, TEXT, cut, flat};
use super::merge::MergeRow;
use crate::event::Event;
use crate::parts::ItemName;

/// Prompts that are kept; the oldest go first.
pub const MOST: usize = 512;
/// Samples that are kept of a prompt.
pub const SAMPLES: usize = 64;
/// Bytes that are kept of an answer.
const ANSWER: usize = 400;

/// One sampled answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Which of the S.
    pub sample: u32,
    /// Soft answer.
    pub p: f64,
    /// Hard answer, if one was said.
    pub answer: Option<bool>,
    /// Tokens.
    pub tokens: u32,
    /// It ended by itself.
    pub finished: bool,
    /// P(Yes) + P(No).
    pub yes_no_mass: Option<f64>,
    /// The start of its text.
    pub text: String,
}

impl Footprint for Answer {
    fn held(&self) -> usize {
        self.text.held()
    }
}

/// What is known of one data row: target, predictions, samples, merge.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Prompt {
    /// Index of the sample.
    pub row: u64,
    /// `valid` or `test`.
    pub set: Option<String>,
    /// Whether the user liked the target.
    pub label: Option<bool>,
    /// The target.
    pub target: Option<ItemName>,
    /// What the model read.
    pub prompt: Option<String>,
    /// The hint's sentence.
    pub hint: Option<String>,
    /// The probability behind the hint.
    pub hint_p: Option<f64>,
    /// The untuned model's answer.
    pub zero_shot: Option<f64>,
    /// The tuned model's answer.
    pub tuned: Option<f64>,
    /// Sampled answers, by sample.
    pub answers: Vec<Answer>,
    /// The merge.
    pub merged: Option<MergeRow>,
}

impl Prompt {
    /// Mean and population variance of the soft answers.
    pub fn moments(&self) -> Option<(f64, f64)> {
        let (n, mut sum, mut squares) = (self.answers.len() as f64, 0.0, 0.0);
        for a in &self.answers {
            sum += a.p;
            squares += a.p * a.p;
        }
        let mean = sum / n;
        (n > 0.0).then(|| (mean, (squares / n - mean * mean).max(0.0)))
    }

    /// Mean length of an answer in tokens.
    pub fn mean_tokens(&self) -> Option<f64> {
        let sum: f64 = self.answers.iter().map(|a| f64::from(a.tokens)).sum();
        (!self.answers.is_empty()).then(|| sum / self.answers.len() as f64)
    }

    /// The last word on the row: the merged, else the tuned, else the sampled probability.
    pub fn verdict(&self) -> Option<f64> {
        self.merged.as_ref().map(|m| m.p).or(self.tuned).or_else(|| self.moments().map(|m| m.0))
    }
}

impl Footprint for ItemName {
    fn held(&self) -> usize {
        self.id.held() + self.title.held() + self.genres.held()
    }
}

impl Footprint for Prompt {
    fn held(&self) -> usize {
        self.set.held() + self.target.held() + self.prompt.held() + self.hint.held() + self.answers.held()
    }
}
flat!(MergeRow);

/// The latest prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Prompts {
    by_row: BTreeMap<u64, Prompt>,
    order: VecDeque<u64>,
    /// Prompts that had to make room.
    pub dropped: u64,
}

/// `item` with bounded strings.
pub(super) fn bounded_item(item: &ItemName) -> ItemName {
    ItemName {
        id: cut(&item.id, NAME),
        title: cut(&item.title, 2 * NAME),
        genres: item.genres.iter().take(8).map(|g| cut(g, NAME)).collect(),
    }
}

impl Prompts {
    /// By row.
    pub fn get(&self, row: u64) -> Option<&Prompt> {
        self.by_row.get(&row)
    }

    /// Rows in the order in which they were first reported.
    pub fn rows(&self) -> &VecDeque<u64> {
        &self.order
    }

    /// The prompts in that order.
    pub fn iter(&self) -> impl Iterator<Item = &Prompt> {
        self.order.iter().filter_map(|row| self.by_row.get(row))
    }

    /// Count.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// None yet.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn entry(&mut self, row: u64) -> &mut Prompt {
        if !self.by_row.contains_key(&row) {
            while self.order.len() >= MOST {
                if let Some(oldest) = self.order.pop_front() {
                    self.by_row.remove(&oldest);
                    self.dropped += 1;
                }
            }
            self.order.push_back(row);
        }
        self.by_row.entry(row).or_insert_with(|| Prompt { row, ..Prompt::default() })
    }

    /// Stores an answer; sampling counts it (see [`super::Sampling`]).
    pub(super) fn answer(&mut self, event: &Event) {
        let Event::ReasoningSample { row, sample, p, answer, tokens, finished, text, label, hint, set, yes_no_mass } =
            event
        else {
            return;
        };
        let prompt = self.entry(*row);
        prompt.label = label.or(prompt.label);
        prompt.hint_p = hint.or(prompt.hint_p);
        if let Some(set) = set {
            prompt.set = Some(cut(set, NAME));
        }
        let new = Answer {
            sample: *sample,
            p: *p,
            answer: *answer,
            tokens: *tokens,
            finished: *finished,
            yes_no_mass: *yes_no_mass,
            text: cut(text, ANSWER),
        };
        match prompt.answers.binary_search_by_key(sample, |a| a.sample) {
            Ok(at) => prompt.answers[at] = new,
            Err(at) if prompt.answers.len() < SAMPLES => prompt.answers.insert(at, new),
            Err(_) => {}
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::PromptExample { row, set, label, target, prompt, hint } => {
                let entry = self.entry(*row);
                entry.set = Some(cut(set, NAME));
                entry.label = label.or(entry.label);
                entry.target = Some(bounded_item(target));
                entry.prompt = Some(cut(prompt, 2 * TEXT));
                entry.hint = (!hint.is_empty()).then(|| cut(hint, TEXT));
            }
            Event::MergeResult { row, mean_tuned, label, .. } => {
                // Only rows that are here already: the merge says all its rows at once.
                if let (Some(entry), Some(merged)) = (self.by_row.get_mut(row), MergeRow::of(event)) {
                    entry.tuned = Some(*mean_tuned);
                    entry.label = label.or(entry.label);
                    entry.merged = Some(merged);
                }
            }
            Event::SampleScored { model, row, p, label, .. } => {
                if let Some(entry) = self.by_row.get_mut(row) {
                    entry.label = label.or(entry.label);
                    match model.as_str() {
                        "tuned/recipe" => entry.tuned = Some(*p),
                        "zero_shot/recipe" => entry.zero_shot = Some(*p),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

impl Footprint for Prompts {
    fn held(&self) -> usize {
        self.order.capacity() * 8
            + self.by_row.values().map(|p| size_of::<(u64, Prompt)>() * 2 + p.held()).sum::<usize>()
    }
}
