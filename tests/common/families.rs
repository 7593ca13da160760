//! The small random models whose logits `tests/goldens/families.json` has, as transformers computes
//! them in f32.

use rallrec::models::decoder::{Config, Family};
use rallrec::store::fixture;

/// Of the vocabulary, every so-many-th logit is kept.
pub const STEP: usize = 6;

/// Shorter and longer than the window of 5.
pub fn prompts() -> Vec<Vec<u32>> {
    vec![vec![72, 101, 97, 116], vec![1, 90, 40, 2, 7, 11, 130], (0..40).map(|i| 5 + i * 37 % 250).collect()]
}

/// Three layers: with a window in the first and the last, where not all have one.
pub fn config(family: &'static Family) -> Config {
    Config { hidden: 64, layers: 3, ..fixture::config(family) }
}

/// Seed of the weights.
pub const SEED: u64 = 5;
