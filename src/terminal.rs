//! What reaches a terminal: texts without escapes in them, on a standard error that may be gone.
//!
//! Titles, names, headers of files and errors of libraries are other people's text. A control
//! character among them could move the cursor, write into the clipboard or turn a line around.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

/// Neither a line's end, a tab, nor a character that has a shape.
fn is_escape(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Marks, embeddings, overrides and isolates of direction; separators of lines.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    }
}

/// The text with every control character written out, as `\u{1b}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    written_out(text, |out, c| write!(out, "\\u{{{c:x}}}"))
}

/// The JSON text with every control character inside of its strings written as JSON writes them.
pub fn clean_json(text: &str) -> Cow<'_, str> {
    written_out(text, |out, c| write!(out, "\\u{c:04x}"))
}

fn written_out(text: &str, write: impl Fn(&mut String, u32) -> std::fmt::Result) -> Cow<'_, str> {
    if !text.contains(is_escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escape(c) {
            // Writing into a text does not fail.
            let _ = write(&mut out, u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A moment, milliseconds since the Unix epoch, as lines of logs have it: in UTC.
pub fn moment(t_ms: u64) -> String {
    match i64::try_from(t_ms).map(jiff::Timestamp::from_millisecond) {
        Ok(Ok(time)) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        _ => t_ms.to_string(),
    }
}

/// Prints a line on standard error. One that is closed or full is no reason to end: what is said
/// there also stands in the run's log or in the exit code.
pub fn print_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", clean(text));
}

/// [`print_line`] of a text that is put together as by `format!`.
macro_rules! say {
    ($($part:tt)*) => { $crate::terminal::print_line(&format!($($part)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_title_is_an_escape() {
        for hostile in ["\u{1b}]52;c;aGk=\u{7}", "\u{9b}31m", "a\u{202e}b", "x\rY", "\u{2066}", "\u{7f}", "a\u{0}b"] {
            let shown = clean(hostile);
            assert!(!shown.contains(is_escape) && shown.contains("\\u{"), "{shown:?}");
            let json = serde_json::to_string(hostile).unwrap();
            let shown = clean_json(&json);
            assert!(!shown.contains(is_escape), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), hostile);
        }
        for plain in ["Amélie (2001)", "千と千尋の神隠し", "שלום", "a\n\tb", "👩‍👩‍👧"] {
            assert_eq!(clean(plain), plain);
        }
    }
}
