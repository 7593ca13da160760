//! The log.

use std::collections::VecDeque;

use serde::Serialize;

use super::bounded::{Footprint, NAME, TEXT, cut, push};
use crate::event::Event;

/// Lines that are kept.
pub const LINES: usize = 2000;
/// Bytes of a line that are kept.
const LENGTH: usize = 2048;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Milliseconds since the Unix epoch.
    pub t_ms: u64,
    /// `error`, `warn`, `info` or `debug`; as it came otherwise.
    pub level: String,
    /// Text.
    pub text: String,
}

impl Footprint for Line {
    fn held(&self) -> usize {
        self.level.held() + self.text.held()
    }
}

/// The latest lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Log {
    /// Oldest first.
    pub lines: VecDeque<Line>,
    /// Lines in all, also those that have been dropped.
    pub total: u64,
}

impl Log {
    /// Appends a line; also for what did not come as an event, e.g. the caught output of the
    /// process.
    pub fn add(&mut self, t_ms: u64, level: &str, text: &str) {
        self.total += 1;
        push(&mut self.lines, LINES, Line { t_ms, level: cut(level, NAME), text: cut(text, LENGTH.min(TEXT)) });
    }

    pub(super) fn apply(&mut self, t: u64, event: &Event) {
        match event {
            Event::RunStarted { recipe, resumed, .. } => {
                let how = if *resumed { "goes on" } else { "started" };
                self.add(t, "info", &format!("run {recipe} {how}"));
            }
            Event::StageStarted { stage, key } => self.add(t, "info", &format!("{stage}: started, key {key}")),
            Event::StageFinished { stage, cached: true, .. } => self.add(t, "info", &format!("{stage}: reused")),
            Event::StageFinished { stage, seconds, .. } => {
                self.add(t, "info", &format!("{stage}: done in {seconds:.1} s"));
            }
            Event::Warning { stage, what, next } => self.add(t, "warn", &format!("{stage}: {what}; next: {next}")),
            Event::Log { level, text } => self.add(t, level, text),
            Event::Control { word, effect } => self.add(t, "info", &format!("control: {word}: {effect}")),
            Event::Paused { stage } => self.add(t, "info", &format!("{stage}: paused")),
            Event::Resumed { stage, seconds } => {
                self.add(t, "info", &format!("{stage}: goes on after {seconds:.0} s"));
            }
            Event::CheckpointWritten { stage, step, why, .. } if why != "schedule" => {
                self.add(t, "info", &format!("{stage}: checkpoint at step {step} ({why})"));
            }
            Event::RunFinished { outcome, message, .. } => {
                let level = if outcome == "failed" { "error" } else { "info" };
                let colon = if message.is_empty() { "" } else { ": " };
                self.add(t, level, &format!("run {outcome}{colon}{message}"));
            }
            _ => {}
        }
    }
}

impl Footprint for Log {
    fn held(&self) -> usize {
        self.lines.held()
    }
}
