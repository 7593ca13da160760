//! Numbers and texts as people read them, in as few columns as they need.

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

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` cut to `columns`, with `mark` where something is missing.
pub fn cut(text: &str, columns: usize, mark: char) -> String {
    if width(text) <= columns {
        return text.into();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > columns {
            break;
        }
        out.push(c);
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
            for c in word.chars() {
                let w = c.width().unwrap_or(0);
                if used + w > columns && used > 0 {
                    out.push(std::mem::take(&mut current));
                    used = 0;
                }
                current.push(c);
                used += w;
            }
        }
        out.push(current);
    }
    out
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
    }
}
