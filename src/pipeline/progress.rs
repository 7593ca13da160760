//! What a person sees of a run without the dashboard: on a terminal one line with a bar, rate and
//! ETA; elsewhere one line when a stage starts and one when it ends, and one every half minute
//! between.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::terminal::say;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing but errors.
    Quiet,
    /// Bars on a terminal, lines elsewhere.
    Normal,
}

/// The line of the stage that is running.
pub struct Progress {
    verbosity: Verbosity,
    terminal: bool,
    current: Mutex<Option<Current>>,
}

struct Current {
    stage: String,
    bar: Option<ProgressBar>,
    started: Instant,
    first: Option<(Instant, u64)>,
    printed: Instant,
    drawn: Instant,
}

impl Progress {
    /// Draws on standard error when that is a terminal.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, terminal: std::io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        match self.current.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// A stage begins.
    pub fn start(&self, stage: &str) {
        let mut current = self.lock();
        let bar = (self.terminal && self.verbosity == Verbosity::Normal).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style("{prefix:<10} {spinner} {msg}"));
            bar.set_prefix(stage.to_string());
            bar.set_message("starting");
            bar
        });
        if bar.is_none() && self.verbosity == Verbosity::Normal {
            say!("{stage:<10} started");
        }
        let now = Instant::now();
        *current = Some(Current { stage: stage.into(), bar, started: now, first: None, printed: now, drawn: now });
    }

    /// `done` of `total` units.
    pub fn update(&self, done: u64, total: u64, unit: &str) {
        let mut guard = self.lock();
        let Some(current) = guard.as_mut() else { return };
        let now = Instant::now();
        let first = current.first.is_none();
        if !first && done < total && now - current.drawn < Duration::from_millis(120) {
            return;
        }
        current.drawn = now;
        // Work found from an earlier process must not count into the rate.
        let (since, base) = *current.first.get_or_insert((now, done));
        let rate = (done.saturating_sub(base)) as f64 / (now - since).as_secs_f64().max(1e-3);
        let eta = if rate > 0.0 { (total.saturating_sub(done)) as f64 / rate } else { f64::INFINITY };
        let text =
            format!("{} / {} {unit}, {} {unit}/s, {} left", thousands(done), thousands(total), short(rate), clock(eta));
        if let Some(bar) = &current.bar {
            if first {
                bar.set_style(style("{prefix:<10} {bar:24} {msg}"));
            }
            bar.set_length(total.max(1));
            bar.set_position(done);
            bar.set_message(text);
        } else if self.verbosity == Verbosity::Normal && now - current.printed > Duration::from_secs(30) {
            current.printed = now;
            say!("{:<10} {text}", current.stage);
        }
    }

    /// The stage is through.
    pub fn finish(&self, stage: &str, cached: bool, seconds: f64, note: &str) {
        let current = self.lock().take();
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let how = if cached { "reused".to_string() } else { format!("done in {}", clock(seconds)) };
        let line = format!("{stage:<10} {how}{}{note}", if note.is_empty() { "" } else { "  " });
        match current.and_then(|c| c.bar) {
            Some(bar) => {
                bar.finish_and_clear();
                say!("{line}");
            }
            None => say!("{line}"),
        }
    }

    /// Clears the bar, e.g. before an error is printed.
    pub fn abandon(&self) {
        if let Some(bar) = self.lock().take().and_then(|c| c.bar) {
            bar.finish_and_clear();
        }
    }

    /// Prints a line without tearing the bar.
    pub fn line(&self, text: &str) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        match self.lock().as_ref().and_then(|c| c.bar.as_ref()) {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// Seconds since the stage began.
    pub fn elapsed(&self) -> f64 {
        self.lock().as_ref().map_or(0.0, |c| c.started.elapsed().as_secs_f64())
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are constants; a wrong one would show as the default bar, never as a
    // failure.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// `1234567` -> `1,234,567`.
pub fn thousands(n: u64) -> String {
    HumanCount(n).to_string()
}

/// A rate in at most four digits: `0.52`, `41.3`, `812`, `7.1k`, `1.2M`.
pub fn short(rate: f64) -> String {
    match rate {
        r if !r.is_finite() => "-".into(),
        r if r < 10.0 => format!("{r:.2}"),
        r if r < 100.0 => format!("{r:.1}"),
        r if r < 1e4 => format!("{r:.0}"),
        r if r < 1e6 => format!("{:.1}k", r / 1e3),
        r => format!("{:.1}M", r / 1e6),
    }
}

/// Seconds for people: `0.4 s`, `12 s`, `3:05`, `2:03:04`.
pub fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3599 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_naturally() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000_209), "1,000,209");
        assert_eq!(short(0.5), "0.50");
        assert_eq!(short(412.0), "412");
        assert_eq!(short(48_123.0), "48.1k");
        assert_eq!(short(f64::NAN), "-");
        assert_eq!(clock(0.44), "0.4 s");
        assert_eq!(clock(185.0), "3:05");
        assert_eq!(clock(7384.0), "2:03:04");
        assert_eq!(clock(f64::INFINITY), "?");
    }
}
