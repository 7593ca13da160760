//! The run as a whole.

use serde::Serialize;

use super::bounded::{Footprint, NAME, TEXT, cut};
use crate::event::Event;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// `done`, `failed` or `stopped`.
    pub word: String,
    /// Seconds of the process.
    pub seconds: f64,
    /// Why, where it is not `done`.
    pub message: String,
}

/// The latest word that the engine read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// When.
    pub t_ms: u64,
    /// `pause`, `run`, `checkpoint`, `stop`.
    pub word: String,
    /// What follows.
    pub effect: String,
}

/// Who runs what on which machine, since when, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunInfo {
    /// Name of the recipe.
    pub recipe: String,
    /// Device in words.
    pub device: String,
    /// Program version.
    pub program: String,
    /// Facts of the machine.
    pub machine: Vec<(String, String)>,
    /// Processes that have worked in the folder.
    pub processes: u64,
    /// Of the very first record.
    pub first_ms: u64,
    /// When the latest process began.
    pub started_ms: u64,
    /// Of the latest record.
    pub last_ms: u64,
    /// `None` while it runs (or was killed).
    pub outcome: Option<Outcome>,
    /// Since when it waits, when it is paused.
    pub paused_ms: Option<u64>,
    /// The latest word of control that the engine read.
    pub control: Option<Control>,
}

impl RunInfo {
    pub(super) fn at(&mut self, t: u64) {
        if self.first_ms == 0 {
            self.first_ms = t;
        }
        self.last_ms = self.last_ms.max(t);
    }

    pub(super) fn apply(&mut self, t: u64, event: &Event) {
        match event {
            Event::RunStarted { recipe, device, program, .. } => {
                self.recipe = cut(recipe, NAME);
                self.device = cut(device, 4 * NAME);
                self.program = cut(program, NAME);
                self.processes += 1;
                self.started_ms = t;
                (self.outcome, self.paused_ms, self.control) = (None, None, None);
            }
            Event::Machine { facts } => {
                self.machine =
                    facts.iter().take(64).map(|(name, value)| (cut(name, NAME), cut(value, 4 * NAME))).collect();
            }
            Event::Control { word, effect } => {
                self.control = Some(Control { t_ms: t, word: cut(word, NAME), effect: cut(effect, 4 * NAME) });
            }
            Event::Paused { .. } => self.paused_ms = Some(t),
            Event::Resumed { .. } => self.paused_ms = None,
            Event::RunFinished { outcome, seconds, message } => {
                self.paused_ms = None;
                self.outcome =
                    Some(Outcome { word: cut(outcome, NAME), seconds: *seconds, message: cut(message, TEXT) });
            }
            _ => {}
        }
    }

    /// Seconds from the first to the latest record.
    pub fn seconds(&self) -> f64 {
        self.last_ms.saturating_sub(self.first_ms) as f64 / 1e3
    }
}

impl Footprint for (String, String) {
    fn held(&self) -> usize {
        self.0.held() + self.1.held()
    }
}

impl Footprint for RunInfo {
    fn held(&self) -> usize {
        self.recipe.held()
            + self.device.held()
            + self.program.held()
            + self.machine.held()
            + self.outcome.as_ref().map_or(0, |o| o.word.held() + o.message.held())
            + self.control.as_ref().map_or(0, |c| c.word.held() + c.effect.held())
    }
}
