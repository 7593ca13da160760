//! Prompts that are too long: drop history items until they fit.

use serde::{Deserialize, Serialize};

use super::Prompt;
use crate::error::{Error, Result};

/// Which end of the shown list is worth least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drop {
    /// The first items: lists that are oldest first, or least similar first.
    Front,
    /// The last items: lists that are most similar first.
    Back,
}

/// Positions of a list of `n` items, the least valuable first.
pub fn drop_order(drop: Drop, n: usize) -> Vec<usize> {
    match drop {
        Drop::Front => (0..n).collect(),
        Drop::Back => (0..n).rev().collect(),
    }
}

/// A prompt within its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// The prompt.
    pub prompt: Prompt,
    /// Its tokens.
    pub tokens: usize,
    /// History items that had to go.
    pub dropped: usize,
}

/// How often prompts had to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CutReport {
    /// Prompts made.
    pub prompts: u64,
    /// Of which some items were dropped, or tokens cut.
    pub cut: u64,
    /// Items dropped in all.
    pub items: u64,
}

impl CutReport {
    /// Counts one prompt.
    pub fn add(&mut self, dropped: usize) {
        self.prompts += 1;
        self.cut += u64::from(dropped > 0);
        self.items += dropped as u64;
    }
}

/// The prompt with the most history items that has at most `limit` tokens. `least_valuable_first`
/// holds all positions of the shown list (see [`drop_order`]); `build` is given the positions to
/// show, ascending; `count` counts the tokens of a whole prompt (template included). Fewer items
/// must not make a prompt longer: then log2(items) prompts are built and counted.
///
/// # Errors
/// Those of `build` and `count`; a prompt that is too long even without history.
pub fn fit(
    build: &dyn Fn(&[usize]) -> Result<Prompt>,
    least_valuable_first: &[usize],
    count: &dyn Fn(&Prompt) -> Result<usize>,
    limit: usize,
) -> Result<Fitted> {
    let without = |dropped: usize| -> Result<Fitted> {
        let mut keep = least_valuable_first[dropped..].to_vec();
        keep.sort_unstable();
        let prompt = build(&keep)?;
        Ok(Fitted { tokens: count(&prompt)?, prompt, dropped })
    };
    let whole = without(0)?;
    if whole.tokens <= limit {
        return Ok(whole);
    }
    let n = least_valuable_first.len();
    let mut best = without(n)?;
    if best.tokens > limit {
        let what = format!("{} tokens without any history, but only {limit} are allowed", best.tokens);
        return Err(Error::usage("prompt budget", what).next("allow more tokens a prompt"));
    }
    // Dropping `low` items is too few, dropping `best.dropped` is enough.
    let mut low = 0;
    while best.dropped - low > 1 {
        let middle = without(low + (best.dropped - low) / 2)?;
        if middle.tokens <= limit {
            best = middle;
        } else {
            low = middle.dropped;
        }
    }
    Ok(best)
}
