//! A progress line on standard error for commands that are no runs; silent where nobody looks.
//! Warnings are printed in either case.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use crate::events::Event;
use crate::monitor::Monitor;
use crate::pipeline::control;
use crate::terminal::say;

/// The line.
pub struct Bar {
    name: &'static str,
    bar: ProgressBar,
    unit: Mutex<String>,
}

impl Bar {
    /// Named after the command.
    pub fn new(name: &'static str) -> Self {
        let bar = ProgressBar::no_length();
        Self { name, bar, unit: Mutex::default() }
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for Bar {
    fn emit(&self, event: Event) {
        if let Event::Warning { what, next, .. } = event {
            self.bar.suspend(|| say!("warning: {what}\n  next: {next}"));
        }
    }

    fn progress(&self, done: u64, total: u64, unit: &str) {
        if let Ok(mut known) = self.unit.lock()
            && *known != unit
        {
            let amount = if unit == "bytes" { "{bytes} of {total_bytes}" } else { "{human_pos} of {human_len}" };
            let template = format!(
                "{:<8} {{bar:30}} {amount} {} {{eta}} left",
                self.name,
                if unit == "bytes" { "" } else { unit }
            );
            if let Ok(style) = ProgressStyle::with_template(&template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
            unit.clone_into(&mut known);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn stop_requested(&self) -> bool {
        control::interrupted()
    }

    fn stage(&self) -> &str {
        self.name
    }
}
