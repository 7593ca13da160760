//! Three kinds of id that cannot be mixed up. The authors' code compared 0-based rows with 1-based
//! movie ids (defect D1); here that does not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An id as the data set writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawId(pub String);

impl RawId {
    /// The order of tables: numbers by value, then everything else as text, numbers first.
    pub fn natural_cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |id: &Self| id.number().map_or((1, 0), |n| (0, n));
        key(self).cmp(&key(other)).then_with(|| self.0.cmp(&other.0))
    }

    /// The id as a number, when it is written in decimal digits only and fits.
    pub fn number(&self) -> Option<u64> {
        if self.0.bytes().all(|b| b.is_ascii_digit()) { self.0.parse().ok() } else { None }
    }
}

/// Position of a user in [`Dataset::users`](super::Dataset).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserIdx(pub u32);

/// Position of an item in [`Dataset::items`](super::Dataset).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemIdx(pub u32);

impl UserIdx {
    /// As an array index.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

impl ItemIdx {
    /// As an array index.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
