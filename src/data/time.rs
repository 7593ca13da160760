//! Times as files write them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time as Clock};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sets::fields::LATEST;

const NANOS: i128 = 1_000_000_000;
/// Rows that are looked at to find out how times are written.
pub const LOOKED_AT: usize = 2000;

/// A point in time from 1970 to 2100, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds beside them. They decide about order and are not kept.
    pub nanos: u32,
}

impl Time {
    /// From nanoseconds since 1970, if it lies within the range.
    pub fn of(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok().filter(|s| (0..=LATEST).contains(s))?;
        Some(Self { seconds, nanos: nanos.rem_euclid(NANOS) as u32 })
    }

    fn utc(time: DateTime) -> Option<Self> {
        Self::of(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond())
    }
}

/// How times are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// Whatever the first rows fit.
    #[default]
    Auto,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
    /// `2024-05-17`, `2024-05-17 12:30:00`, `2024-05-17T12:30:00Z`; UTC where no zone is given.
    Iso,
    /// `20240517`, `202405171230`, `20240517123000`.
    Digits,
    /// `2024`: the first second of the year.
    Year,
    /// Days since 1899-12-30, with fractions: Excel's serial numbers.
    Excel,
    /// As `strptime` has it: `%d.%m.%Y %H:%M`.
    Pattern(String),
}

const NAMES: [(&str, TimeFormat); 9] = [
    ("auto", TimeFormat::Auto),
    ("seconds", TimeFormat::Seconds),
    ("milliseconds", TimeFormat::Milliseconds),
    ("microseconds", TimeFormat::Microseconds),
    ("nanoseconds", TimeFormat::Nanoseconds),
    ("iso", TimeFormat::Iso),
    ("yyyymmdd", TimeFormat::Digits),
    ("year", TimeFormat::Year),
    ("excel", TimeFormat::Excel),
];

/// Dates that are tried on text that is not ISO 8601, and clocks behind them.
const DATES: [&str; 16] = [
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y.%m.%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%d-%b-%Y",
    "%m %d, %Y",
    "%m/%d/%y",
    "%d.%m.%y",
];
const CLOCKS: [&str; 7] = ["", " %H:%M:%S%.f", " %H:%M", ", %H:%M:%S", ", %H:%M", " %I:%M:%S %p", " %I:%M %p"];
/// Whole patterns: of mail, of Twitter, of C's `ctime`, of web servers.
const WHOLE: [&str; 5] = [
    "%a, %d %b %Y %H:%M:%S",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
];

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => f.write_str(pattern),
            named => f.write_str(NAMES.iter().find(|(_, format)| format == named).map_or("", |(name, _)| name)),
        }
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, format)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(format.clone());
        }
        if text.contains('%') {
            // A conversion that does not exist is told before any row is read.
            return match strtime::format(
                text,
                Date::constant(2001, 2, 3).at(4, 5, 6, 0).to_zoned(TimeZone::UTC).ok().as_ref().ok_or("no time")?,
            ) {
                Ok(_) => Ok(Self::Pattern(text.to_owned())),
                Err(e) => Err(format!("`{text}` is not a pattern of times: {e}")),
            };
        }
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(format!("`{text}` is none of {}, nor a pattern such as `%d.%m.%Y %H:%M`", names.join(", ")))
    }
}

impl Serialize for TimeFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for TimeFormat {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeFormat".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// What [`TimeFormat::of_all`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A format that all fields fit, or at least the first one.
    One(TimeFormat),
    /// Two that all fields fit, with other times.
    Two(TimeFormat, TimeFormat),
    /// None.
    None,
}

impl TimeFormat {
    /// The format that a field fits.
    pub fn of(field: &str) -> Option<Self> {
        match Self::of_all(&[field]) {
            Found::One(format) | Found::Two(format, _) => Some(format),
            Found::None => None,
        }
    }

    /// The format that these fields fit.
    pub fn of_all(fields: &[&str]) -> Found {
        let Some(first) = fields.first() else { return Found::None };
        if let Some(own) = of_number(first) {
            // Digits and years only where all are so: a number of seconds may look like either.
            if matches!(own, Self::Digits | Self::Year) && !fields.iter().all(|f| of_number(f) == Some(own.clone())) {
                return of_magnitude(first).map_or(Found::None, Found::One);
            }
            // Fractions of days since 1899, and not of seconds in the first hours of 1970.
            let number = |field: &&str| field.trim().parse::<f64>().unwrap_or(0.0);
            let serial = own == Self::Seconds && fields.iter().all(|f| (25_570.0..73_415.0).contains(&number(f)));
            if serial && fields.iter().any(|f| number(f).fract() != 0.0) {
                return Found::One(Self::Excel);
            }
            return Found::One(own);
        }
        let mut candidates = vec![Self::Iso];
        candidates.extend(
            DATES.iter().flat_map(|date| CLOCKS.iter().map(move |clock| format!("{date}{clock}"))).map(Self::Pattern),
        );
        candidates.extend(WHOLE.iter().map(|&pattern| Self::Pattern(pattern.into())));
        candidates.retain(|format| format.time(first).is_some());
        let all: Vec<&Self> =
            candidates.iter().filter(|format| fields.iter().all(|f| format.time(f).is_some())).collect();
        let differ = |a: &Self, b: &Self| fields.iter().any(|f| a.time(f) != b.time(f));
        match (all.as_slice(), candidates.first()) {
            ([one, others @ ..], _) => match others.iter().find(|other| differ(one, other)) {
                Some(other) => Found::Two((*one).clone(), (*other).clone()),
                None => Found::One((*one).clone()),
            },
            ([], Some(of_first)) => Found::One(of_first.clone()),
            ([], None) => Found::None,
        }
    }

    /// The time that a field writes, if it is one from 1970 to 2100.
    pub fn time(&self, field: &str) -> Option<Time> {
        let field = field.trim();
        match self {
            Self::Auto => Self::of(field)?.time(field),
            Self::Seconds => number(field, 1),
            Self::Milliseconds => number(field, 1_000),
            Self::Microseconds => number(field, 1_000_000),
            Self::Nanoseconds => number(field, NANOS),
            Self::Iso => iso(field),
            Self::Digits => digits(field),
            Self::Year => Time::utc(Date::new(field.parse().ok()?, 1, 1).ok()?.to_datetime(Clock::midnight())),
            Self::Excel => {
                let days: f64 = field.parse().ok()?;
                // 1970-01-01 is day 25569; a hundred thousandth of a second is all that a serial
                // number holds.
                let micros = ((days - 25_569.0) * 86_400e5).round() * 10.0;
                if micros.is_finite() { Time::of(micros as i128 * 1000) } else { None }
            }
            Self::Pattern(pattern) => patterned(pattern, field),
        }
    }
}

/// A number of `unit`s a second.
fn number(field: &str, unit: i128) -> Option<Time> {
    let (whole, part) = field.split_once('.').unwrap_or((field, ""));
    if whole.len() < 20
        && !whole.is_empty()
        && part.bytes().all(|b| b.is_ascii_digit())
        && let Ok(whole) = whole.parse::<i64>()
    {
        let part = &part[..part.len().min(9)];
        let billionths =
            if part.is_empty() { 0 } else { part.parse::<i128>().ok()? * 10i128.pow(9 - part.len() as u32) };
        return Time::of(i128::from(whole) * (NANOS / unit) + billionths / unit);
    }
    let number: f64 = field.parse().ok()?;
    let nanos = number * (NANOS / unit) as f64;
    if nanos.is_finite() && nanos.abs() < 1e30 { Time::of(nanos as i128) } else { None }
}

/// What a number that is a time looks like.
fn of_number(field: &str) -> Option<TimeFormat> {
    let field = field.trim();
    let plain = field.bytes().all(|b| b.is_ascii_digit());
    if plain && field.len() == 4 && (1970..=2100).contains(&field.parse::<i32>().unwrap_or(0)) {
        return Some(TimeFormat::Year);
    }
    if plain && matches!(field.len(), 8 | 12 | 14) && digits(field).is_some() {
        return Some(TimeFormat::Digits);
    }
    of_magnitude(field)
}

/// The unit in which a number lies in 1970 to 2100.
fn of_magnitude(field: &str) -> Option<TimeFormat> {
    [TimeFormat::Seconds, TimeFormat::Milliseconds, TimeFormat::Microseconds, TimeFormat::Nanoseconds]
        .into_iter()
        .find(|format| format.time(field).is_some())
}

/// `yyyymmdd`, with hours, minutes and seconds or without.
fn digits(field: &str) -> Option<Time> {
    if !matches!(field.len(), 8 | 10 | 12 | 14) || !field.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let of = |at: usize| field.get(at..at + 2).map_or(Some(0), |two| two.parse::<i8>().ok());
    let date = Date::new(field[..4].parse().ok()?, of(4)?, of(6)?).ok()?;
    Time::utc(date.to_datetime(Clock::new(of(8)?, of(10)?, of(12)?, 0).ok()?))
}

fn iso(field: &str) -> Option<Time> {
    // A number is none, whatever it looks like.
    if !field.contains(['-', ':', '/']) && !field.contains('T') {
        return None;
    }
    let field = field.strip_suffix(" UTC").or_else(|| field.strip_suffix(" GMT")).unwrap_or(field);
    if let Ok(civil) = field.parse::<DateTime>()
        && !field.ends_with(['Z', 'z'])
        && !has_offset(field)
    {
        return Time::utc(civil);
    }
    if let Ok(time) = field.parse::<jiff::Timestamp>() {
        return Time::of(time.as_nanosecond());
    }
    // A blank before the offset.
    let joined = field.replacen(" +", "+", 1).replacen(" -", "-", 1);
    joined.parse::<jiff::Timestamp>().ok().and_then(|time| Time::of(time.as_nanosecond()))
}

/// Whether an offset from UTC stands behind the clock.
fn has_offset(field: &str) -> bool {
    field.find(':').is_some_and(|clock| field[clock..].contains(['+', '-']))
}

fn patterned(pattern: &str, field: &str) -> Option<Time> {
    let utc = |field: &str| field.strip_suffix(" UTC").or_else(|| field.strip_suffix(" GMT")).map(str::to_owned);
    let parsed = strtime::parse(pattern, field).or_else(|e| match utc(field) {
        Some(field) => strtime::parse(pattern, field),
        None => Err(e),
    });
    let parsed = parsed.ok()?;
    if parsed.offset().is_some() {
        return Time::of(parsed.to_timestamp().ok()?.as_nanosecond());
    }
    let date = match parsed.to_date() {
        Ok(date) => date,
        Err(_) => Date::new(parsed.year()?, parsed.month().unwrap_or(1), parsed.day().unwrap_or(1)).ok()?,
    };
    let clock = if parsed.hour().is_some() { parsed.to_time().ok()? } else { Clock::midnight() };
    Time::utc(date.to_datetime(clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TimeFormat {
        TimeFormat::Pattern(text.into())
    }

    #[test]
    fn each_way_of_writing_a_time_is_known() {
        for (text, format, seconds, nanos) in [
            ("978300760", TimeFormat::Seconds, 978_300_760, 0),
            ("978300760.75", TimeFormat::Seconds, 978_300_760, 750_000_000),
            ("1.5e9", TimeFormat::Seconds, 1_500_000_000, 0),
            ("1602133857705", TimeFormat::Milliseconds, 1_602_133_857, 705_000_000),
            ("1602133857705.0", TimeFormat::Milliseconds, 1_602_133_857, 705_000_000),
            ("1602133857705000", TimeFormat::Microseconds, 1_602_133_857, 705_000_000),
            ("1500001875000000123", TimeFormat::Nanoseconds, 1_500_001_875, 123),
            ("2004-04-04", TimeFormat::Iso, 1_081_036_800, 0),
            ("2004-04-04 00:01:00", TimeFormat::Iso, 1_081_036_860, 0),
            ("2004-04-04 00:01", TimeFormat::Iso, 1_081_036_860, 0),
            ("2004-04-04 00:01:00.25", TimeFormat::Iso, 1_081_036_860, 250_000_000),
            ("2004-04-04 00:01:00 UTC", TimeFormat::Iso, 1_081_036_860, 0),
            ("2004-04-04T02:00:00+02:00", TimeFormat::Iso, 1_081_036_800, 0),
            ("2004-04-04 02:00:00 +0200", TimeFormat::Iso, 1_081_036_800, 0),
            ("2004-04-04 02:00:00+02", TimeFormat::Iso, 1_081_036_800, 0),
            ("2004-04-03T22:00:00-02:00", TimeFormat::Iso, 1_081_036_800, 0),
            ("2004-04-04T00:00:00Z", TimeFormat::Iso, 1_081_036_800, 0),
            ("20040404", TimeFormat::Digits, 1_081_036_800, 0),
            ("200404040001", TimeFormat::Digits, 1_081_036_860, 0),
            ("20040404000100", TimeFormat::Digits, 1_081_036_860, 0),
            ("2004", TimeFormat::Year, 1_072_915_200, 0),
            ("04/24/2004", pattern("%m/%d/%Y"), 1_082_764_800, 0),
            ("24/04/2004 00:01", pattern("%d/%m/%Y %H:%M"), 1_082_764_860, 0),
            ("4/24/2004 12:01:00 AM", pattern("%m/%d/%Y %I:%M:%S %p"), 1_082_764_860, 0),
            ("24.04.2004 00:01:00", pattern("%d.%m.%Y %H:%M:%S%.f"), 1_082_764_860, 0),
            ("24 Apr 2004", pattern("%d %b %Y"), 1_082_764_800, 0),
            ("April 24, 2004", pattern("%b %d, %Y"), 1_082_764_800, 0),
            ("04 24, 2004", pattern("%m %d, %Y"), 1_082_764_800, 0),
            ("Sat, 24 Apr 2004 02:01:00 +0200", pattern("%a, %d %b %Y %H:%M:%S %z"), 1_082_764_860, 0),
            ("Sat, 24 Apr 2004 00:01:00 GMT", pattern("%a, %d %b %Y %H:%M:%S"), 1_082_764_860, 0),
            ("Sat Apr 24 00:01:00 +0000 2004", pattern("%a %b %d %H:%M:%S %z %Y"), 1_082_764_860, 0),
        ] {
            let found = TimeFormat::of(text);
            assert!(found == Some(format.clone()) || text.starts_with("April"), "{text}: {found:?}");
            let format = found.unwrap_or_default();
            assert_eq!(format.time(text), Some(Time { seconds, nanos }), "{text}");
            assert_eq!(format.to_string().parse(), Ok(format), "{text}");
        }
        for bad in ["", "-5", "yesterday", "NaN", "inf", "1e300", "2104-01-01", "1969-12-31", "99999999999999999999"] {
            assert_eq!(TimeFormat::of(bad), None, "{bad}");
        }
        assert_eq!(TimeFormat::of_all(&["38101.5", "38101"]), Found::One(TimeFormat::Excel));
        assert_eq!(TimeFormat::of_all(&["38101", "38102"]), Found::One(TimeFormat::Seconds));
        assert_eq!(TimeFormat::Excel.time("38101.5"), Some(Time { seconds: 1_082_808_000, nanos: 0 }));
        assert_eq!(pattern("%Y %m").time("2004 04"), Some(Time { seconds: 1_080_777_600, nanos: 0 }));
        for bad in ["second", "%Q%Q%!", ""] {
            assert!(bad.parse::<TimeFormat>().is_err(), "{bad}");
        }
    }

    #[test]
    fn more_rows_decide_what_the_first_leaves_open() {
        let us = pattern("%m/%d/%Y");
        let british = pattern("%d/%m/%Y");
        assert_eq!(TimeFormat::of_all(&["01/02/2004", "01/13/2004"]), Found::One(us.clone()));
        assert_eq!(TimeFormat::of_all(&["01/02/2004", "13/02/2004"]), Found::One(british.clone()));
        assert_eq!(TimeFormat::of_all(&["01/02/2004", "03/02/2004"]), Found::Two(us.clone(), british));
        assert_eq!(TimeFormat::of_all(&["01/01/2004"]), Found::One(us));
        // Seconds that look like a date, but not all of them.
        assert_eq!(TimeFormat::of_all(&["20040404", "20040504"]), Found::One(TimeFormat::Digits));
        assert_eq!(TimeFormat::of_all(&["20040404", "20049904"]), Found::One(TimeFormat::Seconds));
        assert_eq!(TimeFormat::of_all(&["2004", "900"]), Found::One(TimeFormat::Seconds));
    }
}
