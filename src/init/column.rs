//! What the values of one column have in common.

use std::collections::{BTreeMap, HashSet};

use crate::data::table::{Missing, Sample, TableSettings, Written};
use crate::data::time::{Found, LOOKED_AT, TimeFormat};

/// Different values that are counted one by one.
const FEW: usize = 64;
/// Share of the values that must fit for a column to be of numbers or times.
const MOST: f64 = 0.95;

/// A column of a table, as its sampled values show it.
#[derive(Debug, Clone)]
pub struct Column {
    /// As the file writes it.
    pub written: String,
    /// In lower case, without the type that RecBole's files have behind a colon.
    pub name: String,
    /// Rows, and how many of them have a value here.
    pub rows: usize,
    pub known: usize,
    /// Different values.
    pub distinct: usize,
    /// Each value with its count, where there are few.
    pub words: BTreeMap<String, usize>,
    /// What is known of its numbers, where nearly all values are numbers.
    pub numbers: Option<Numbers>,
    /// How its values are written as times, where nearly all are times.
    pub time: Option<Found>,
    /// The unit, where the file says that these are times.
    pub typed: Option<TimeFormat>,
    /// Mean length of a value, in characters.
    pub length: f64,
    /// Share of values with letters in them.
    pub letters: f64,
    /// A value.
    pub example: String,
}

/// Numbers of a column.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub low: f64,
    pub high: f64,
    /// All of them are whole.
    pub whole: bool,
    /// All of them are whole or end in .5.
    pub halves: bool,
    /// What they are written as a share of: 100 for `80%`, 5 for `4/5` and stars.
    pub of: Option<f64>,
}

impl Column {
    /// The columns of a sample.
    pub fn all(sample: &Sample) -> Vec<Self> {
        let missing = Missing::new(&TableSettings::default().missing);
        let column = |at: usize| Self::new(&sample.names[at], &sample.columns[at], sample.typed[at].clone(), &missing);
        (0..sample.width()).map(column).collect()
    }

    fn new(written: &str, all: &[String], typed: Option<TimeFormat>, missing: &Missing) -> Self {
        let lower = written.trim().to_lowercase();
        let name = lower.rsplit_once(':').filter(|(before, _)| !before.is_empty()).map_or(&*lower, |(name, _)| name);
        let values: Vec<&str> = all.iter().map(|v| v.trim()).filter(|v| !missing.is(v.as_bytes())).collect();
        let different: HashSet<&str> = values.iter().copied().collect();
        let mut words = BTreeMap::new();
        if different.len() <= FEW {
            values.iter().for_each(|v| *words.entry((*v).to_owned()).or_insert(0) += 1);
        }
        let count = values.len().max(1) as f64;
        let numbers = Numbers::of(&values);
        let time = if typed.is_some() { None } else { time(&values) };
        Self {
            written: written.trim().to_owned(),
            name: name.to_owned(),
            rows: all.len(),
            known: values.len(),
            distinct: different.len(),
            words,
            numbers,
            time,
            typed,
            length: values.iter().map(|v| v.chars().count()).sum::<usize>() as f64 / count,
            letters: values.iter().filter(|v| v.chars().any(char::is_alphabetic)).count() as f64 / count,
            example: values.first().copied().unwrap_or_default().chars().take(40).collect(),
        }
    }

    /// Share of rows with a value.
    pub fn filled(&self) -> f64 {
        self.known as f64 / self.rows.max(1) as f64
    }

    /// Whether every value is another one.
    pub fn is_key(&self) -> bool {
        self.distinct == self.known && self.known >= 30
    }

    /// Whether all values are one.
    pub fn is_constant(&self) -> bool {
        self.distinct < 2
    }

    /// Whether its values are or may be times.
    pub fn is_time(&self) -> bool {
        self.typed.is_some() || self.time.is_some()
    }

    /// Whether its times cannot be anything else: they are typed, or have the form of a date.
    pub fn is_surely_time(&self) -> bool {
        let plain = |found: &Found| match found {
            Found::One(format) => !matches!(
                format,
                TimeFormat::Seconds
                    | TimeFormat::Milliseconds
                    | TimeFormat::Microseconds
                    | TimeFormat::Nanoseconds
                    | TimeFormat::Year
                    | TimeFormat::Excel
                    | TimeFormat::Digits
            ),
            Found::Two(..) => true,
            Found::None => false,
        };
        self.typed.is_some() || self.time.as_ref().is_some_and(plain)
    }

    /// Whether numbers of it, read as times, lie between 1990 and 2040.
    pub fn is_recent(&self) -> bool {
        const YEARS: std::ops::Range<i64> = 631_152_000..2_208_988_800;
        match (&self.time, &self.numbers) {
            (Some(Found::One(format)), Some(numbers)) => [numbers.low, numbers.high]
                .iter()
                .all(|n| format.time(&format!("{n}")).is_some_and(|time| YEARS.contains(&time.seconds))),
            _ => self.is_surely_time(),
        }
    }

    /// Whether values may be ids: neither fractions nor long texts.
    pub fn may_be_ids(&self) -> bool {
        self.known > 0 && self.numbers.is_none_or(|n| n.whole) && self.length <= 80.0 && self.filled() >= 0.3
    }
}

/// A number, and what it is a share of.
fn share(text: &str) -> Option<(f64, Option<f64>)> {
    Some(match Written::of(text)? {
        Written::Number(number) => (number, None),
        Written::Share(part, whole) if part > whole => return None,
        Written::Share(part, whole) => (part, Some(whole)),
        Written::Stars(stars) => (stars, Some(5.0)),
    })
}

impl Numbers {
    fn of(values: &[&str]) -> Option<Self> {
        let read: Vec<(f64, Option<f64>)> = values.iter().filter_map(|v| share(v)).collect();
        if values.is_empty() || (read.len() as f64) < MOST * values.len() as f64 {
            return None;
        }
        let fold = |start: f64, pick: fn(f64, f64) -> f64| read.iter().map(|r| r.0).fold(start, pick);
        // What the numbers are a share of: where some are, all must be.
        let of = read[0].1;
        if read.iter().any(|r| r.1 != of) {
            return None;
        }
        Some(Self {
            low: fold(f64::INFINITY, f64::min),
            high: fold(f64::NEG_INFINITY, f64::max),
            whole: read.iter().all(|r| r.0.fract() == 0.0),
            halves: read.iter().all(|r| (2.0 * r.0).fract() == 0.0),
            of,
        })
    }
}

/// How values are written as times.
fn time(values: &[&str]) -> Option<Found> {
    let step = (values.len() / LOOKED_AT).max(1);
    let spread: Vec<&str> = values.iter().step_by(step).copied().collect();
    let found = match TimeFormat::of_all(&spread) {
        // Two forms fit the chosen values: all of them may tell.
        Found::Two(..) => TimeFormat::of_all(values),
        Found::None => return None,
        one => one,
    };
    let format = match &found {
        Found::One(format) | Found::Two(format, _) => format,
        Found::None => return None,
    };
    let fit = spread.iter().filter(|v| format.time(v).is_some()).count();
    (fit as f64 >= MOST * spread.len() as f64).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[&str]) -> Column {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        Column::new("x", &values, None, &Missing::new(&TableSettings::default().missing))
    }

    #[test]
    fn numbers_are_told_from_words_and_times() {
        let stars = column(&["4,5", "3", "0,5", "NaN", ""]);
        let numbers = stars.numbers.unwrap();
        assert_eq!((numbers.low, numbers.high, numbers.halves, numbers.whole), (0.5, 4.5, true, false));
        assert_eq!((stars.rows, stars.known), (5, 3));
        assert_eq!(column(&["80%", "20 %"]).numbers.unwrap().of, Some(100.0));
        assert_eq!(column(&["4/5", "3/5"]).numbers.unwrap().of, Some(5.0));
        assert_eq!(column(&["★★★", "★½"]).numbers.unwrap().high, 3.0);
        assert!(column(&["like", "dislike"]).numbers.is_none());
        let german = column(&["14.07.2017 03:11:15", "15.07.2017 03:25:13"]);
        assert!(german.is_surely_time() && german.numbers.is_none());
        assert!(matches!(column(&["3/4/2024", "5/6/2024"]).time, Some(Found::Two(..))));
        assert!(matches!(column(&["3/4/2024", "5/26/2024"]).time, Some(Found::One(_))));
        let epoch = column(&["1500001875000", "1500002713000"]);
        assert_eq!(epoch.time, Some(Found::One(TimeFormat::Milliseconds)));
        assert!(epoch.is_recent() && !epoch.is_surely_time());
        assert!(!column(&["17", "900"]).is_recent());
    }
}
