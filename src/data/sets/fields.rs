//! Fields of text lines, parsed from bytes: no allocation a field.

use crate::data::Field;
use crate::data::delimited::Records;
use crate::data::json::Objects;
use crate::data::lines::Lines;
use crate::error::{Error, Result};

/// A cursor that knows where it stands in a file.
pub trait At {
    /// An input error at the current line.
    fn error(&self, what: String) -> Error;
}

impl At for Lines {
    fn error(&self, what: String) -> Error {
        Lines::error(self, what)
    }
}

impl At for Objects {
    fn error(&self, what: String) -> Error {
        Objects::error(self, what)
    }
}

impl At for Records {
    fn error(&self, what: String) -> Error {
        Records::error(self, what)
    }
}

/// Latest time that is believed: 2100-01-01. Later ones are milliseconds or a wrong column.
pub const LATEST: i64 = 4_102_444_800;

/// A decimal number of at most 18 digits.
pub fn unsigned(field: &[u8]) -> Option<u64> {
    if field.is_empty() || field.len() > 18 {
        return None;
    }
    field.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// An id without what is no part of it: white space and invisible characters around it, and the
/// `.0` of a whole number.
pub fn id(field: &[u8]) -> &[u8] {
    let mut field = field.trim_ascii();
    if [field.first(), field.last()].into_iter().flatten().any(|byte| !byte.is_ascii())
        && let Ok(text) = std::str::from_utf8(field)
    {
        field = text.trim_matches(is_invisible).as_bytes();
    }
    if field.last() == Some(&b'0')
        && let Some(point) = memchr::memchr(b'.', field)
        && point > 0
        && field[..point].iter().all(u8::is_ascii_digit)
        && field[point + 1..].iter().all(|&b| b == b'0')
    {
        return &field[..point];
    }
    field
}

/// White space of any script, joiners and marks of zero width, and the byte order mark.
fn is_invisible(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// A finite decimal number; words such as `NaN` and `inf` are refused.
pub fn decimal(field: &[u8]) -> Option<f32> {
    if let [digit @ b'0'..=b'9'] = field {
        return Some(f32::from(digit - b'0'));
    }
    let number: f32 = std::str::from_utf8(field).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// Splits at the first `separator`.
pub fn cut<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|w| w == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// Splits at the last `separator`.
pub fn cut_last<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).rposition(|w| w == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// The part of a field that goes into a message.
pub fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(&field[..field.len().min(40)]).escape_debug().to_string();
    if field.len() > 40 { format!("`{text}...`") } else { format!("`{text}`") }
}

/// Text as UTF-8. The published catalogues are ISO-8859-1 (read as windows-1252, which adds only
/// printable characters); a line whose other-than-ASCII bytes are sound UTF-8 comes from a
/// converted copy and is taken as such, as accented letters followed by ASCII never form UTF-8 by
/// chance.
pub fn text(field: &[u8]) -> String {
    decoded(field).trim().to_owned()
}

/// As [`text`], but white space around it stays.
pub fn decoded(field: &[u8]) -> String {
    match std::str::from_utf8(field) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(field).0.into_owned(),
    }
}

/// Text with the few character references that web pages leave behind (`&amp;`, `&#39;`) put right.
pub fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(10).position(|b| b == b';');
        let found = end.and_then(|end| {
            let c = match &rest[1..end] {
                "amp" => '&',
                "quot" => '"',
                "apos" => '\'',
                "lt" => '<',
                "gt" => '>',
                "nbsp" => ' ',
                name => {
                    let number = name.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code).filter(|c| !c.is_control())?
                }
            };
            Some((c, end + 1))
        });
        let (c, used) = found.unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[used..];
    }
    out.push_str(rest);
    out
}

/// A field, unless it has nothing to say.
pub fn known(name: &str, value: &str) -> Option<Field> {
    let value = value.trim();
    let nothing = value.is_empty() || ["unknown", "n/a", "none", "null", "nan"].contains(&&*value.to_lowercase());
    (!nothing).then(|| Field { name: name.into(), value: value.into() })
}

/// A rating within `scale`.
pub fn rating(lines: &impl At, field: &[u8], scale: (f32, f32)) -> Result<f32> {
    decimal(field).filter(|r| (scale.0..=scale.1).contains(r)).ok_or_else(|| {
        lines
            .error(format!("the rating {} is not a number from {} to {}", shown(field), scale.0, scale.1))
            .next("check the order of the columns: user, item, rating, time")
    })
}

/// A time in seconds since the Unix epoch, not before it and not after 2100.
pub fn time(lines: &impl At, field: &[u8]) -> Result<i64> {
    match unsigned(field).and_then(|t| i64::try_from(t).ok()) {
        Some(t) if t <= LATEST => Ok(t),
        Some(t) if t / 1000 <= LATEST => Err(lines
            .error(format!("the time {t} lies after the year 2100: it looks like milliseconds"))
            .next("divide the times by 1000")),
        _ => Err(lines
            .error(format!("the time {} is not a number of seconds from 1970 to 2100", shown(field)))
            .next("check the order of the columns: user, item, rating, time")),
    }
}

/// The seven age brackets of MovieLens; MovieLens 1M writes each bracket's lowest age, MovieLens
/// 100K the age.
pub fn age_bracket(age: u64) -> Option<&'static str> {
    Some(match age {
        0..18 => "under 18",
        18..25 => "18-24",
        25..35 => "25-34",
        35..45 => "35-44",
        45..50 => "45-49",
        50..56 => "50-55",
        56..=120 => "56+",
        _ => return None,
    })
}

/// `M` and `F` in words.
pub fn gender(field: &[u8]) -> Option<&'static str> {
    match field {
        b"M" | b"m" => Some("male"),
        b"F" | b"f" => Some("female"),
        _ => None,
    }
}

/// The four profile fields of MovieLens.
pub fn profile(gender: &str, age: &str, occupation: &str, zip: &str) -> Vec<Field> {
    [("gender", gender), ("age", age), ("occupation", occupation), ("zip", zip)]
        .into_iter()
        .map(|(name, value)| Field { name: name.into(), value: value.into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strict() {
        assert_eq!(unsigned(b"0042"), Some(42));
        for bad in [&b""[..], b"-1", b"+1", b"1.0", b" 1", b"1234567890123456789", "\u{0663}".as_bytes()] {
            assert_eq!(unsigned(bad), None, "{bad:?}");
        }
        assert_eq!(decimal(b"4.5"), Some(4.5));
        for bad in [&b"NaN"[..], b"nan", b"inf", b"1e99", b"", b"four"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn latin_and_utf8_titles_read_alike() {
        assert_eq!(text(b"Mis\xe9rables, Les (1995)"), "Misérables, Les (1995)");
        assert_eq!(text("Misérables, Les (1995)".as_bytes()), "Misérables, Les (1995)");
    }

    #[test]
    fn references_become_characters_and_nothing_else_changes() {
        for (text, want) in [
            ("Tom &amp; Jerry &#39;s", "Tom & Jerry 's"),
            ("&quot;A&quot; &lt;b&gt;", "\"A\" <b>"),
            ("AT&T; R&D & é&", "AT&T; R&D & é&"),
            ("&#x41;&#0;&#99999999;&;", "A&#0;&#99999999;&;"),
            ("&éééééé;", "&éééééé;"),
        ] {
            assert_eq!(unescaped(text), want);
        }
    }

    #[test]
    fn age_codes_fall_into_their_own_bracket() {
        let words: Vec<_> = [1, 18, 25, 35, 45, 50, 56].into_iter().filter_map(age_bracket).collect();
        assert_eq!(words, ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"]);
        assert_eq!(age_bracket(121), None);
    }
}
