//! Language-model work behind one interface: writing on, scoring answers, embedding texts.
//!
//! Work is handed over in batches of words, and results are reported as they come, in whatever
//! order. The local engine ([`Local`]) is one implementation: what it needs besides (tokens,
//! weights) stays behind it. [`Source`] is a model that is loaded when it is first used; its
//! [`View`]s say which of its facets a stage sees, and so what its key holds.

mod live;
mod local;
mod running;
mod source;

use std::borrow::Cow;

pub use local::{Local, Options};
pub use running::{Adapted, Running};
pub use source::{Facets, Source, View};

use crate::error::Result;
use crate::generate::{self, Pooling};
use crate::monitor::Monitor;
use crate::ops::cross_entropy::Choice;
use crate::store::chat::Message;
use crate::text::prompts::{Conversation, Prompt};

/// What a model reads.
#[derive(Debug, Clone)]
pub enum Reading<'a> {
    /// A recommendation prompt, answered right away: a thought that the chat template opens is
    /// closed. It may have soft tokens.
    Prompt(Cow<'a, Prompt>),
    /// Any other conversation. One that is longer than the context loses its middle where it is
    /// scored.
    Conversation(Conversation),
}

impl Reading<'_> {
    /// Turns up to where the assistant answers.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self::Conversation(Conversation::of(messages))
    }
}

/// A request to write on.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The row's number: part of the random counter, so it must stay the same over runs.
    pub row: u32,
    /// What is read before.
    pub reading: Reading<'a>,
    /// Numbers of the samples wanted; a resume names those that are missing.
    pub samples: Vec<u32>,
}

/// A finished sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request's row.
    pub row: u32,
    /// Which sample.
    pub sample: u32,
    /// What was written.
    pub text: String,
    /// Its length in tokens.
    pub tokens: u32,
    /// It ended by itself.
    pub finished: bool,
}

/// Receives what is written. An error ends the work.
pub trait Listener {
    /// A piece of one sample while it is written; one sample is followed at a time, `start` begins
    /// another.
    ///
    /// # Errors
    /// The listener's own.
    fn piece(&mut self, row: u32, sample: u32, start: bool, text: &str) -> Result<()> {
        let _ = (row, sample, start, text);
        Ok(())
    }

    /// A finished sample; they come in the order in which they end.
    ///
    /// # Errors
    /// The listener's own.
    fn finished(&mut self, answer: Answer) -> Result<()>;
}

/// A text to embed.
#[derive(Debug, Clone, Copy)]
pub struct Clip<'a> {
    /// The words.
    pub text: &'a str,
    /// Tokens that are read at most, a BOS included; the rest is cut off.
    pub most_tokens: usize,
}

/// What is known of a model before any work.
pub trait Reader {
    /// Longest sequence in tokens.
    fn context(&self) -> usize;

    /// Length in tokens.
    ///
    /// # Errors
    /// A chat template that cannot be filled in.
    fn count(&self, reading: &Reading<'_>) -> Result<usize>;
}

/// A model at work.
pub trait LanguageModel {
    /// Length of its vectors.
    fn hidden(&self) -> usize;

    /// Rows that are worth handing over at a time; what is in flight is lost by a kill.
    fn rows_in_flight(&self) -> usize;

    /// Tokens that spell one of `words` as a whole, with a blank before or without.
    fn spellings(&self, words: [&str; 2]) -> Vec<u32>;

    /// Samples answers.
    ///
    /// # Errors
    /// A prompt beyond the context, a stop that was asked for, those of the listener.
    fn write_on(
        &self,
        asked: &[Ask<'_>],
        sampling: &generate::GenerateSettings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()>;

    /// What the model says about the two answers behind every reading. The readings of a bundle
    /// begin alike; results come bundle by bundle as (its place, its choices).
    ///
    /// # Errors
    /// Answers that are no single tokens, a reading beyond the context, a stop that was asked for,
    /// those of `received`.
    fn score(
        &self,
        bundles: &[Vec<Reading<'_>>],
        answers: [&str; 2],
        monitor: &dyn Monitor,
        received: &mut dyn FnMut(usize, &[Choice]) -> Result<()>,
    ) -> Result<()>;

    /// One vector (`hidden`) a text, but for those of which `known` says that they are there
    /// already. Results come as (the text's place, its vector); texts of the same tokens are read
    /// once.
    ///
    /// # Errors
    /// A stop that was asked for, those of `received`.
    fn embed(
        &self,
        texts: &[Clip<'_>],
        pooling: Pooling,
        known: &dyn Fn(usize) -> bool,
        monitor: &dyn Monitor,
        received: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()>;
}
