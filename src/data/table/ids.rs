//! Ids as tables write them, and how ids of two files are joined.
//!
//! The rule: white space around an id is no part of it. A whole number is written without `.0`, so
//! `7.0` is `7`. Leading zeros are a part of an id. An id of a file of items or users that is not
//! among the ratings as it is written is looked for as a number: `007` then finds `7`, and `7`
//! finds `007`, unless two ids are the same number.

use std::collections::HashMap;

use crate::data::sets::Names;
use crate::data::sets::fields::id;

/// A number without leading zeros; `None` for any other id.
fn number(id: &[u8]) -> Option<&[u8]> {
    if id.is_empty() || !id.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = id.iter().take_while(|&&b| b == b'0').count().min(id.len() - 1);
    Some(&id[zeros..])
}

/// Whether an id is a number as `1.23457E+12`, which spreadsheets make of long ones.
fn has_exponent(id: &[u8]) -> bool {
    if !id.first().is_some_and(u8::is_ascii_digit) || !id.contains(&b'.') {
        return false;
    }
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    id.iter().position(|b| matches!(b, b'e' | b'E')).is_some_and(|at| {
        let (mantissa, exponent) = (&id[..at], &id[at + 1..]);
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        digits(exponent) && mantissa.split(|&b| b == b'.').count() == 2 && mantissa.split(|&b| b == b'.').all(digits)
    })
}

/// What is noticed of the ids of a column while it is read.
#[derive(Default)]
pub struct Noticed {
    /// Rows whose id is written as `7.0`, and as `7`; one of the former.
    pub with_point: u64,
    pub plain: u64,
    pub example: String,
    /// Rows whose id is a number with an exponent, which lost digits where it had more; one of
    /// them.
    pub with_exponent: u64,
    pub exponent_example: String,
}

impl Noticed {
    /// Takes a field and the id that it writes.
    pub fn see(&mut self, field: &[u8], id: &[u8]) {
        let written = field.trim_ascii();
        if has_exponent(id) {
            if self.with_exponent == 0 {
                self.exponent_example = String::from_utf8_lossy(id).into_owned();
            }
            self.with_exponent += 1;
        }
        if written.len() == id.len() || !written.ends_with(b"0") || !written.contains(&b'.') {
            self.plain += u64::from(id.first().is_some_and(u8::is_ascii_digit));
        } else {
            if self.with_point == 0 {
                self.example = String::from_utf8_lossy(written).into_owned();
            }
            self.with_point += 1;
        }
    }
}

/// Finds ids of another file among those of the ratings.
pub struct Join<'a> {
    known: &'a Names,
    /// Ids with leading zeros, by their numbers; `None` where there are two.
    zeros: HashMap<Vec<u8>, Option<u32>>,
    /// How many were found as numbers, and one of them as it is written in both files.
    pub by_number: u64,
    pub example: Option<(String, String)>,
}

impl<'a> Join<'a> {
    /// Over the ids of the ratings.
    pub fn new(known: &'a Names) -> Self {
        let mut zeros = HashMap::new();
        for at in 0..known.len() as u32 {
            let name = known.name(at);
            if let Some(number) = number(name).filter(|number| number.len() < name.len()) {
                zeros.entry(number.to_vec()).and_modify(|there| *there = None).or_insert(Some(at));
            }
        }
        Self { known, zeros, by_number: 0, example: None }
    }

    /// The place of an id.
    pub fn find(&mut self, field: &[u8]) -> Option<u32> {
        let id = id(field);
        if let Some(at) = self.known.get(id) {
            return Some(at);
        }
        let number = number(id)?;
        let at = self.known.get(number).or_else(|| self.zeros.get(number).copied().flatten())?;
        self.by_number += 1;
        if self.example.is_none() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.example = Some((text(id), text(self.known.name(at))));
        }
        Some(at)
    }
}

/// Two ids that are one number, and how many such there are.
pub fn alike(names: &Names) -> Option<(usize, String, String)> {
    let mut found = None;
    let mut count = 0;
    for at in 0..names.len() as u32 {
        let name = names.name(at);
        if let Some(short) = number(name).filter(|short| short.len() < name.len())
            && names.get(short).is_some()
        {
            count += 1;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.get_or_insert((text(name), text(short)));
        }
    }
    found.map(|(long, short)| (count, long, short))
}

/// Ids that differ from another in case alone: how many, and two of them.
pub fn alike_in_lower_case(names: &Names) -> Option<(usize, String, String)> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut found = None;
    let mut count = 0;
    for at in 0..names.len() as u32 {
        let name = names.name(at);
        if !name.iter().any(|b| b.is_ascii_alphabetic() || !b.is_ascii()) {
            continue;
        }
        let text = String::from_utf8_lossy(name);
        match seen.entry(text.to_lowercase()) {
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(at)),
            std::collections::hash_map::Entry::Occupied(other) => {
                count += 1;
                let other = String::from_utf8_lossy(names.name(*other.get())).into_owned();
                found.get_or_insert((other, text.into_owned()));
            }
        }
    }
    found.map(|(one, other)| (count, one, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_joined_by_the_rule() {
        for (field, want) in [
            ("7", "7"),
            (" 7.0 ", "7"),
            ("7.000", "7"),
            ("10", "10"),
            ("007", "007"),
            ("7.10", "7.10"),
            (".0", ".0"),
            ("v7.0", "v7.0"),
            ("7.0.0", "7.0.0"),
            ("1990.", "1990."),
            ("\u{a0}u7\u{200b}", "u7"),
            ("\u{feff}7.0\u{3000}", "7"),
            ("é", "é"),
        ] {
            assert_eq!(id(field.as_bytes()), want.as_bytes(), "{field}");
        }
        let mut names = Names::default();
        for id in ["7", "008", "09", "9", "0010", "010", "x"] {
            names.place(id.as_bytes());
        }
        let mut join = Join::new(&names);
        for (id, at) in [
            ("7", Some(0)),
            ("007", Some(0)),
            ("7.0", Some(0)),
            ("8", Some(1)),
            ("0008", Some(1)),
            ("09", Some(2)),
            ("9", Some(3)),
            ("10", None),
            ("x", Some(6)),
            ("0x", None),
        ] {
            assert_eq!(join.find(id.as_bytes()), at, "{id}");
        }
        assert_eq!((join.by_number, join.example), (3, Some(("007".into(), "7".into()))));
        assert_eq!(alike(&names), Some((1, "09".into(), "9".into())));
        assert_eq!(alike_in_lower_case(&names), None);
        for id in ["X", "é", "É", "7a"] {
            names.place(id.as_bytes());
        }
        assert_eq!(alike_in_lower_case(&names), Some((2, "x".into(), "X".into())));
        for (id, lost) in [
            ("1.23457E+12", true),
            ("1.0e9", true),
            ("1e5", false),
            ("1.5", false),
            ("1.2.3e4", false),
            ("1.2e", false),
            ("v1.2e4", false),
        ] {
            assert_eq!(has_exponent(id.as_bytes()), lost, "{id}");
        }
    }
}
