//! How long-running code speaks to whoever watches, and hears that it should stop.

use rallrec_events::Event;

use crate::error::{Error, Result};

/// Given to every long computation. Implementations must be cheap: `progress` may be called
/// thousands of times a second and is thinned by the receiver.
pub trait Monitor: Sync {
    /// Publishes an event.
    fn emit(&self, event: Event);

    /// `done` of `total` units (`edges`, `tokens`, `prompts`, ...) of the current stage are
    /// through.
    fn progress(&self, done: u64, total: u64, unit: &str);

    /// True when the user asked to stop: leave at the next clean point.
    fn stop_requested(&self) -> bool;

    /// True once when the user asked for a checkpoint that this stage can write: write it at the
    /// next clean point.
    fn checkpoint_requested(&self) -> bool {
        false
    }

    /// The name of the current stage, for events and messages.
    fn stage(&self) -> &str;

    /// `Err(stopped)` when a stop was asked for.
    fn check(&self) -> Result<()> {
        if self.stop_requested() { Err(Error::stopped(self.stage())) } else { Ok(()) }
    }

    /// A warning with its remedy.
    fn warn(&self, what: &str, next: &str) {
        self.emit(Event::Warning { stage: self.stage().into(), what: what.into(), next: next.into() });
    }
}

/// A monitor that hears nothing and never stops; for tests and library use.
pub struct Silent;

impl Monitor for Silent {
    fn emit(&self, _: Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        false
    }
    fn stage(&self) -> &str {
        "library"
    }
}

/// Passes everything on but progress: for a step whose stage counts in a unit of its own.
pub struct CountedElsewhere<'a>(pub &'a dyn Monitor);

impl Monitor for CountedElsewhere<'_> {
    fn emit(&self, event: Event) {
        self.0.emit(event);
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        self.0.stop_requested()
    }
    fn checkpoint_requested(&self) -> bool {
        self.0.checkpoint_requested()
    }
    fn stage(&self) -> &str {
        self.0.stage()
    }
}

/// Passes on progress and stops, and no event: for a first look at what is read again, and warned
/// of then.
pub struct Unwarned<'a>(pub &'a dyn Monitor);

impl Monitor for Unwarned<'_> {
    fn emit(&self, _: Event) {}
    fn progress(&self, done: u64, total: u64, unit: &str) {
        self.0.progress(done, total, unit);
    }
    fn stop_requested(&self) -> bool {
        self.0.stop_requested()
    }
    fn stage(&self) -> &str {
        self.0.stage()
    }
}
