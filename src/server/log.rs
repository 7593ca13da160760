//! A line of JSON for each request, on standard error.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::terminal;

/// Longest text of other people's in a line, in characters.
const LONGEST: usize = 200;

/// What a line says.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When the answer was ready, UTC.
    pub time: String,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// Milliseconds from the head of the request to the answer.
    pub ms: f64,
    /// Of them, milliseconds of waiting for a thread.
    pub waited_ms: f64,
    /// Bytes of the bodies.
    pub bytes_in: usize,
    pub bytes_out: usize,
    /// Lists or pairs that were asked for.
    pub entries: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

/// The time now, as lines have it.
pub fn now() -> String {
    terminal::moment(rallrec_events::now_ms())
}

/// Milliseconds with three digits behind the point.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Milliseconds since then.
pub fn ms_since(begun: Instant) -> f64 {
    ms(begun.elapsed())
}

/// A text of other people's, shortened.
pub fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

impl Line<'_> {
    /// The line as text: valid JSON, without a character that a terminal obeys.
    pub fn text(&self) -> String {
        // A line holds numbers and texts alone, which always can be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        terminal::clean_json(&json).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_no_escape() {
        let path = short(&("/\u{1b}]0;x\u{7}\u{202e}\u{9b}".to_owned() + &"y".repeat(1000)));
        let line = Line {
            time: now(),
            method: "GET",
            path: &path,
            status: 404,
            ms: ms(Duration::from_micros(1500)),
            waited_ms: 0.0,
            bytes_in: 0,
            bytes_out: 1,
            entries: 0,
            error: Some("a\nb"),
        };
        let text = line.text();
        assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((back["path"].as_str().unwrap().chars().count(), &back["ms"]), (LONGEST, &1.5.into()));
    }
}
