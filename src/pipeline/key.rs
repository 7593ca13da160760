//! Keys of artifacts: what a stage's result follows from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content::{Content, Digest};

/// The identity of an artifact, 32 hexadecimal digits of BLAKE3 over all that its stage sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The first 12 digits, as used in folder names.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }

    /// One key for several.
    pub fn of_all<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let mut hash = Digest::new("keys");
        keys.into_iter().for_each(|key| hash.part("key", key.0.as_bytes()));
        Self(hash.hex())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a stage: its name and part, its code's version, the settings that it sees, the
/// content of its inputs.
pub fn key(stage: &str, part: &str, version: u32, settings: &Content, inputs: &[(&'static str, Content)]) -> Key {
    let mut hash = Digest::new("key");
    hash.part("stage", stage.as_bytes());
    hash.part("part", part.as_bytes());
    hash.part("version", &version.to_le_bytes());
    hash.part("settings", settings.as_str().as_bytes());
    for (name, content) in inputs {
        hash.part(name, content.as_str().as_bytes());
    }
    Key(hash.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_every_part_and_on_nothing_else() {
        let content = |n: u32| Content::of(&n).unwrap();
        let of = |part: &str, version, settings: u32, input: u32| {
            key("graph", part, version, &content(settings), &[("data", content(input))])
        };
        assert_eq!(of("", 1, 1, 1), of("", 1, 1, 1));
        for other in [of("a", 1, 1, 1), of("", 2, 1, 1), of("", 1, 2, 1), of("", 1, 1, 2)] {
            assert_ne!(other, of("", 1, 1, 1));
        }
        assert_ne!(key("graph", "", 1, &content(1), &[]), key("align", "", 1, &content(1), &[]));
        let named = |name: &'static str| key("graph", "", 1, &content(1), &[(name, content(1))]);
        assert_ne!(named("a"), named("b"));
    }
}
