//! Numbers and texts as people read them, in as few columns as they need.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A value with about three significant figures: `0.6931`, `12.3`, `4.1k`, `2.5e-5`, `n/a` when not
/// finite.
pub fn value(x: f64) -> String {
    if !x.is_finite() {
        return "n/a".into();
    }
    let a = x.abs();
    match a {
        0.0 => "0".into(),
        _ if a >= 999.5 => scaled(x),
        _ if a >= 99.95 => format!("{x:.0}"),
        _ if a >= 9.995 => format!("{x:.1}"),
        _ if a >= 0.9995 => format!("{x:.3}"),
        _ if a >= 0.001 => format!("{x:.4}"),
        _ => format!("{x:.1e}"),
    }
}

/// A place on an axis: whole numbers without decimals.
pub fn axis(x: f64) -> String {
    if x.is_finite() && (x.fract() == 0.0 || x.abs() >= 100.0) && x.abs() < 99_999.5 {
        format!("{x:.0}")
    } else {
        value(x)
    }
}

/// A round number on an axis whose numbers are `step` apart: as many decimals as tell them apart.
pub fn tick(x: f64, step: f64) -> String {
    let decimals = if step > 0.0 { (-step.log10().floor()).clamp(0.0, 12.0) as usize } else { 2 };
    match x.abs() {
        a if !a.is_finite() || a >= 9_999.5 || decimals > 5 => value(x),
        _ => format!("{x:.decimals$}"),
    }
}

/// A count or rate with a decimal prefix: `812`, `4.1k`, `2.5M`.
pub fn scaled(x: f64) -> String {
    if !x.is_finite() {
        return "n/a".into();
    }
    let a = x.abs();
    for (scale, prefix) in [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if a >= scale * 0.9995 {
            let y = x / scale;
            return if y.abs() >= 99.95 { format!("{y:.0}{prefix}") } else { format!("{y:.1}{prefix}") };
        }
    }
    match a {
        _ if a >= 99.95 || x.fract() == 0.0 => format!("{x:.0}"),
        // A slow rate must not read as none at all.
        _ if a < 0.95 => format!("{x:.2}"),
        _ => format!("{x:.1}"),
    }
}

/// Bytes with a binary prefix: `812 B`, `4.1 KiB`.
pub fn bytes(n: u64) -> String {
    let mut x = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if x < 1023.95 || unit == "TiB" {
            return if unit == "B" { format!("{n} B") } else { format!("{x:.1} {unit}") };
        }
        x /= 1024.0;
    }
    String::new()
}

/// A duration: `0.04s`, `12s`, `3m20s`, `2h05m`, `4d03h`.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return "n/a".into();
    }
    if s < 1.0 {
        return format!("{s:.2}s");
    }
    if s < 9.95 {
        return format!("{s:.1}s");
    }
    let n = s.round() as u64;
    match n {
        0..60 => format!("{n}s"),
        60..3600 => format!("{}m{:02}s", n / 60, n % 60),
        3600..86_400 => format!("{}h{:02}m", n / 3600, n / 60 % 60),
        _ => format!("{}d{:02}h", n / 86_400, n / 3600 % 24),
    }
}

/// A share of 1 as per cent: `0.02 %`, `9.1 %`, `45 %`.
pub fn percent(x: f64) -> String {
    if !x.is_finite() {
        return "n/a".into();
    }
    let p = x * 100.0;
    match p.abs() {
        a if a >= 99.95 || a == 0.0 => format!("{p:.0} %"),
        a if a >= 1.0 => format!("{p:.1} %"),
        a if a >= 0.01 => format!("{p:.2} %"),
        _ => format!("{p:.0e} %"),
    }
}

/// Time of day, UTC, from milliseconds since the epoch.
pub fn clock(t_ms: u64) -> String {
    let s = t_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// A whole number with separators.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Characters without a picture of their own: joiners, marks of direction, choosers of a form.
/// Terminals differ in what they make of them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(c, '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` as it is drawn: what terminals measure differently is reduced to what they agree on. Base
/// letters keep their accents and vowel signs; a family of emoji becomes its first member.
pub fn drawable(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for cluster in text.graphemes(true) {
        let joined = cluster.contains('\u{200d}');
        let kept: String = cluster.chars().filter(|c| !is_invisible(*c)).collect();
        let sum: usize = kept.chars().map(|c| c.width().unwrap_or(0)).sum();
        match kept.chars().next() {
            // A mark without a letter would join whatever stands before it on the screen.
            Some(c) if c.width() == Some(0) => {
                out.push('\u{25cc}');
                out.push_str(&kept);
            }
            Some(c) if (joined && c.width() == Some(2)) || sum != UnicodeWidthStr::width(kept.as_str()) => out.push(c),
            _ => out.push_str(&kept),
        }
    }
    Cow::Owned(out)
}

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    drawable(text).chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text` cut to `columns`, with `mark` where something is missing.
pub fn cut(text: &str, columns: usize, mark: char) -> String {
    let text = drawable(text);
    if width(&text) <= columns {
        return text.into();
    }
    let mut out = String::new();
    let mut used = 0;
    for cluster in text.graphemes(true) {
        let w = width(cluster);
        if used + w + 1 > columns {
            break;
        }
        out.push_str(cluster);
        used += w;
    }
    out.truncate(out.trim_end().len());
    if columns > 0 {
        out.push(mark);
    }
    out
}

/// Lines of at most `columns` columns, broken at spaces where there are any; line breaks of the
/// text are kept.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let text = drawable(text);
    let mut out = Vec::new();
    for line in text.split('\n') {
        let mut current = String::new();
        let mut used = 0;
        for word in line.split(' ') {
            let w = width(word);
            if used > 0 && used + 1 + w > columns {
                out.push(std::mem::take(&mut current));
                used = 0;
            }
            if used > 0 {
                current.push(' ');
                used += 1;
            }
            for cluster in word.graphemes(true) {
                let w = width(cluster);
                if used + w > columns && used > 0 {
                    out.push(std::mem::take(&mut current));
                    used = 0;
                }
                current.push_str(cluster);
                used += w;
            }
        }
        out.push(current);
    }
    out
}

/// The first `lines` lines of [`wrap`]; the last one says so where there are more.
pub fn wrap_at_most(text: &str, columns: usize, lines: usize, mark: char) -> Vec<String> {
    // What cannot be shown need not be wrapped.
    let most = (columns.max(1) + 1).saturating_mul(lines.max(1)).saturating_mul(4);
    let start: String = text.chars().take(most).collect();
    let mut out = wrap(&start, columns);
    if out.len() > lines || start.len() < text.len() {
        out.truncate(lines.max(1));
        if let Some(last) = out.last_mut() {
            *last = cut(&format!("{last}{}", " ".repeat(columns)), columns, mark);
        }
    }
    out
}

/// A number with a decimal prefix and its unit: `30.2 GFLOP/s`.
pub fn with_unit(x: f64, unit: &str) -> String {
    let text = scaled(x);
    match text.strip_suffix(['k', 'M', 'G', 'T', 'P']) {
        Some(digits) => format!("{digits} {}{unit}", &text[digits.len()..]),
        None => format!("{text} {unit}"),
    }
}

/// Text from outside made safe to draw: control characters (escape sequences above all) become
/// spaces.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(value(0.712_345), "0.7123");
        assert_eq!(value(1.5), "1.500");
        assert_eq!(value(123.4), "123");
        assert_eq!(value(1234.0), "1.2k");
        assert_eq!(value(2.5e-5), "2.5e-5");
        assert_eq!(value(f64::NAN), "n/a");
        assert_eq!(scaled(403_914.0), "404k");
        assert_eq!((scaled(0.031), scaled(0.5), scaled(0.0)), ("0.03".into(), "0.50".into(), "0".into()));
        assert_eq!(scaled(999_600.0), "1.0M");
        assert_eq!(bytes(1_251_074), "1.2 MiB");
        assert_eq!(seconds(200.0), "3m20s");
        assert_eq!(seconds(59.7), "1m00s");
        assert_eq!(seconds(f64::INFINITY), "n/a");
        assert_eq!(percent(0.0909), "9.1 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(clock(3_661_000), "01:01:01");
    }

    #[test]
    fn text_is_cut_and_wrapped_by_columns() {
        assert_eq!(cut("hello", 5, '…'), "hello");
        assert_eq!(cut("hello", 4, '…'), "hel…");
        assert_eq!(cut("日本語", 4, '…'), "日…");
        assert_eq!(cut("abc", 0, '…'), "");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert!(wrap("日本語 text", 3).iter().all(|l| width(l) <= 3));
        assert_eq!(clean("a\x1b[31mb"), "a [31mb");
        assert_eq!((tick(0.25, 0.05), tick(400.0, 200.0), tick(1.0, 0.5)), ("0.25".into(), "400".into(), "1.0".into()));
        assert_eq!(with_unit(30.2e9, "FLOP/s"), "30.2 GFLOP/s");
        assert_eq!(with_unit(12.0, "B/s"), "12 B/s");
        assert_eq!(wrap_at_most("one two three four", 7, 2, '…'), ["one two", "three…"]);
        assert_eq!(wrap_at_most("one two", 7, 2, '…'), ["one two"]);
    }

    /// Joiners, vowel signs and marks of direction once left ghosts on the screen: ours and the
    /// terminal's idea of their width differed.
    #[test]
    fn texts_of_every_script_have_the_width_that_they_are_drawn_with() {
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        assert_eq!((drawable(family).as_ref(), width(family)), ("\u{1f468}", 2));
        assert_eq!(width("\u{1f44d}\u{1f3fd}"), 2, "a skin tone");
        assert_eq!(width("\u{2764}\u{fe0f}"), 1, "a heart with a chooser of its form");
        assert_eq!(drawable("a\u{200d}b\u{202e}c").as_ref(), "abc");
        assert_eq!(drawable("e\u{301}").as_ref(), "e\u{301}", "an accent stays");
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("\u{301}"), 1, "a mark alone gets a letter of its own");
        assert_eq!(width("\u{644}\u{627}"), 2, "lam and alef are two cells");
        for text in ["ภาษาไทย", "हिन्दी क्षत्रिय", "தமிழ்", "العربية", "עברית", "日本語", family]
        {
            for columns in 0..12 {
                let cut = cut(text, columns, '…');
                assert!(width(&cut) <= columns, "{text} {columns}");
                let drawn: usize = cut.graphemes(true).map(UnicodeWidthStr::width).sum();
                assert_eq!(drawn, width(&cut), "{text}: each cluster is drawn as wide as it was measured");
            }
        }
    }
}
