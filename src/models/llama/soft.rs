//! Soft tokens: vectors that stand where a token's embedding would, under ids that no tokenizer gives.
//!
//! Ids from the vocabulary's size on are soft. That keeps a prompt a plain list of ids: prompts with the same soft tokens
//! in the same places begin alike, and whatever compares, shares or cuts token lists needs to know nothing of vectors.

use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::ops::linear::Weight;

/// Vectors of soft tokens, by id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SoftTokens {
    /// Ascending.
    ids: Vec<u32>,
    /// (ids, hidden).
    vectors: Matrix,
}

impl SoftTokens {
    /// `vectors` (ids, hidden) has the vector of `ids[i]` in row `i`. Ids ascend and lie beyond the vocabulary of the model
    /// that reads them.
    ///
    /// # Errors
    /// Ids that do not ascend, or another number of rows.
    pub fn new(ids: Vec<u32>, vectors: Matrix) -> Result<Self> {
        if ids.len() != vectors.rows() || !ids.is_sorted_by(|a, b| a < b) {
            let what = format!("{} ids, which must ascend, for {} vectors", ids.len(), vectors.rows());
            return Err(Error::failed("soft tokens", what));
        }
        Ok(Self { ids, vectors })
    }

    /// Fails unless these are soft tokens of a model of this vocabulary and width.
    pub(crate) fn check(&self, vocab: usize, hidden: usize) -> Result<()> {
        if self.ids.is_empty() || (self.vectors.cols() == hidden && self.ids[0] as usize >= vocab) {
            return Ok(());
        }
        let what = format!(
            "vectors of {} values from id {} on; the model has {hidden} and a vocabulary of {vocab}",
            self.vectors.cols(),
            self.ids[0]
        );
        Err(Error::input("soft tokens", what).next("use the projector that was trained on this model"))
    }

    /// All ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Row of a token's vector, `None` for any other token.
    pub fn row(&self, token: u32) -> Option<usize> {
        self.ids.binary_search(&token).ok()
    }

    /// The vector of a token, `None` for any other token.
    pub fn get(&self, token: u32) -> Option<&[f32]> {
        self.row(token).map(|row| self.vectors.row(row))
    }

    /// Number of values in all.
    pub fn values(&self) -> usize {
        self.vectors.as_slice().len()
    }
}

/// The input embedding of a token that has passed the checks: a row of the model's table, or a soft token's vector.
pub(crate) fn read(embed: &Weight, soft: Option<&SoftTokens>, token: u32, out: &mut [f32]) {
    match soft.and_then(|s| s.get(token)) {
        Some(vector) => out.copy_from_slice(vector),
        None => embed.read_rows(token as usize, out),
    }
}
