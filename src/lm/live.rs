//! One sample followed while it is written.

use std::time::{Duration, Instant};

use super::local::Local;
use super::{Answer, Listener};
use crate::error::Result;
use crate::generate::{self, Finish, Sample};

/// The sample that is followed.
#[derive(Default)]
pub(super) struct Live {
    /// (row, sample); `None` before the first and after the end of one.
    of: Option<(u32, u32)>,
    tokens: Vec<u32>,
    /// Bytes of the text that are passed on already.
    passed: usize,
    at: Option<Instant>,
}

/// A piece is passed on about this often.
const OFTEN: Duration = Duration::from_millis(200);

/// Tokens in, words out.
pub(super) struct Relay<'a> {
    /// For the words.
    pub local: &'a Local,
    /// What is followed; outlives one batch of requests.
    pub live: &'a mut Live,
    /// Who listens.
    pub listener: &'a mut dyn Listener,
}

impl Relay<'_> {
    fn pass_on(&mut self) -> Result<()> {
        let Some((row, sample)) = self.live.of else { return Ok(()) };
        let text = self.local.tokenizer.decode(&self.live.tokens, true)?;
        // A character that is not whole yet, or a tokenizer that takes back what it said: wait for
        // more.
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(new) = whole.get(self.live.passed..).filter(|new| !new.is_empty()) {
            self.listener.piece(row, sample, self.live.passed == 0, new)?;
            self.live.passed = whole.len();
        }
        self.live.at = Some(Instant::now());
        Ok(())
    }
}

impl generate::Listener for Relay<'_> {
    fn token(&mut self, row: u32, sample: u32, token: u32) -> Result<()> {
        if self.live.of.is_none() {
            *self.live = Live { of: Some((row, sample)), at: self.live.at, ..Live::default() };
        }
        if self.live.of != Some((row, sample)) {
            return Ok(());
        }
        self.live.tokens.push(token);
        if self.live.at.is_none_or(|at| at.elapsed() >= OFTEN) { self.pass_on() } else { Ok(()) }
    }

    fn finished(&mut self, sample: Sample) -> Result<()> {
        if self.live.of == Some((sample.row, sample.sample)) {
            // Short answers follow each other faster than anyone reads: only some of them are shown
            // whole.
            if self.live.passed > 0 {
                self.pass_on()?;
            }
            self.live.of = None;
        }
        self.listener.finished(Answer {
            row: sample.row,
            sample: sample.sample,
            text: self.local.tokenizer.decode(&sample.tokens, true)?,
            tokens: sample.tokens.len() as u32,
            finished: matches!(sample.finish, Finish::Stop | Finish::Said),
        })
    }
}
