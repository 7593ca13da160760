//! Three kinds of id that cannot be mixed up. The authors' code compared 0-based rows with 1-based movie ids
//! (defect D1); here that does not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An id as the data set writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawId(pub String);

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
