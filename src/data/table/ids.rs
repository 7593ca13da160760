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

/// What is noticed of the ids of a column while it is read.
#[derive(Default)]
pub struct Noticed {
    /// Rows whose id is written as `7.0`, and as `7`; one of the former.
    pub with_point: u64,
    pub plain: u64,
    pub example: String,
}

impl Noticed {
    /// Takes a field and the id that it writes.
    pub fn see(&mut self, field: &[u8], id: &[u8]) {
        let written = field.trim_ascii();
        if written.len() == id.len() {
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
    }
}
