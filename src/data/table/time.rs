//! Times as tables write them.

use serde::{Deserialize, Serialize};

use crate::data::sets::fields::LATEST;

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Whatever the first row fits.
    #[default]
    Auto,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// `2024-05-17`, `2024-05-17 12:30:00`, `2024-05-17T12:30:00Z`; UTC where no zone is given.
    Iso,
}

impl TimeFormat {
    /// The format that a field fits.
    pub fn of(field: &str) -> Option<Self> {
        [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Iso]
            .into_iter()
            .find(|format| format.seconds(field).is_some())
    }

    /// The time in seconds since 1970, UTC, if it is one from 1970 to 2100.
    pub fn seconds(self, field: &str) -> Option<i64> {
        let field = field.trim();
        let number = |unit: f64| -> Option<i64> {
            let whole: Option<i64> = field.parse().ok();
            let time = match whole {
                Some(time) => time.div_euclid(unit as i64),
                None => {
                    let time: f64 = field.parse().ok()?;
                    if !time.is_finite() {
                        return None;
                    }
                    (time / unit).floor() as i64
                }
            };
            Some(time)
        };
        let time = match self {
            Self::Auto => return Self::of(field)?.seconds(field),
            Self::Seconds => number(1.0)?,
            Self::Milliseconds => number(1e3)?,
            Self::Microseconds => number(1e6)?,
            Self::Iso => match field.parse::<jiff::Timestamp>() {
                Ok(time) => time.as_second(),
                Err(_) => {
                    let civil: jiff::civil::DateTime = field.parse().ok()?;
                    civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()
                }
            },
        };
        (0..=LATEST).contains(&time).then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_writing_a_time_is_known() {
        for (text, format, seconds) in [
            ("978300760", TimeFormat::Seconds, 978_300_760),
            ("978300760.75", TimeFormat::Seconds, 978_300_760),
            ("1602133857705", TimeFormat::Milliseconds, 1_602_133_857),
            ("1602133857705000", TimeFormat::Microseconds, 1_602_133_857),
            ("2004-04-04", TimeFormat::Iso, 1_081_036_800),
            ("2004-04-04 00:01:00", TimeFormat::Iso, 1_081_036_860),
            ("2004-04-04T02:00:00+02:00", TimeFormat::Iso, 1_081_036_800),
            ("2004-04-04T00:00:00Z", TimeFormat::Iso, 1_081_036_800),
        ] {
            assert_eq!(TimeFormat::of(text), Some(format), "{text}");
            assert_eq!(format.seconds(text), Some(seconds), "{text}");
        }
        for bad in ["", "-5", "yesterday", "NaN", "inf", "1e300", "2104-01-01", "1969-12-31", "99999999999999999999"] {
            assert_eq!(TimeFormat::of(bad), None, "{bad}");
        }
    }
}
