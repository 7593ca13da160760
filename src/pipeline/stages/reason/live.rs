//! One sampled thought, told while it is written.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::events::Event;
use crate::generate::{Listener, Sample};
use crate::monitor::Monitor;
use crate::pipeline::stages::language::Language;

/// Keeps the answers and lets one of them be read while it is written.
pub(super) struct Answers<'a> {
    /// Finished answers, as they come.
    pub all: Vec<Sample>,
    /// What of them has been told; outlives the answers of one bundle of prompts.
    pub live: &'a mut Live,
    /// For the text.
    pub language: &'a Language,
    /// Where it is told.
    pub monitor: &'a dyn Monitor,
}

/// The sample whose text is told as it comes.
#[derive(Default)]
pub(super) struct Live {
    /// (row, sample); `None` before the first and after the end of one.
    of: Option<(u32, u32)>,
    tokens: Vec<u32>,
    /// Bytes of the text that are told already.
    told: usize,
    at: Option<Instant>,
}

/// The text is told about this often.
const LIVE: Duration = Duration::from_millis(200);

impl Answers<'_> {
    fn tell(&mut self) -> Result<()> {
        let Some((row, sample)) = self.live.of else { return Ok(()) };
        let text = self.language.tokenizer.decode(&self.live.tokens, true)?;
        // A character that is not whole yet, or a tokenizer that takes back what it said: wait for more.
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(new) = whole.get(self.live.told..).filter(|new| !new.is_empty()) {
            let start = self.live.told == 0;
            self.monitor.emit(Event::TextChunk { row: row.into(), sample, start, text: new.into() });
            self.live.told = whole.len();
        }
        self.live.at = Some(Instant::now());
        Ok(())
    }
}

impl Listener for Answers<'_> {
    fn token(&mut self, row: u32, sample: u32, token: u32) -> Result<()> {
        if self.live.of.is_none() {
            *self.live = Live { of: Some((row, sample)), at: self.live.at, ..Live::default() };
        }
        if self.live.of != Some((row, sample)) {
            return Ok(());
        }
        self.live.tokens.push(token);
        if self.live.at.is_none_or(|at| at.elapsed() >= LIVE) { self.tell() } else { Ok(()) }
    }

    fn finished(&mut self, sample: Sample) -> Result<()> {
        if self.live.of == Some((sample.row, sample.sample)) {
            // Short answers follow each other faster than anyone reads: only some of them are shown whole.
            if self.live.told > 0 {
                self.tell()?;
            }
            self.live.of = None;
        }
        self.all.push(sample);
        Ok(())
    }
}
