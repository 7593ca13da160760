//! Soft tokens: vectors that stand where a token's embedding would, under ids that no tokenizer
//! gives.
//!
//! Ids from the vocabulary's size on are soft. That keeps a prompt a plain list of ids: prompts
//! with the same soft tokens in the same places begin alike, and whatever compares, shares or cuts
//! token lists needs to know nothing of vectors.

use crate::error::{Error, Result};
use crate::ops::linear::Weight;
use crate::tensor::Matrix;

/// Vectors of soft tokens, by id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SoftTokens {
    /// Ascending.
    ids: Vec<u32>,
    /// (ids, hidden).
    vectors: Matrix,
}

impl SoftTokens {
    /// `vectors` (ids, hidden) has the vector of `ids[i]` in row `i`. Ids ascend and lie beyond the
    /// vocabulary of the model that reads them.
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

/// The input embedding of a token that has passed the checks: a row of the model's table, or a soft
/// token's vector.
pub(crate) fn read(embed: &Weight, soft: Option<&SoftTokens>, token: u32, out: &mut [f32]) {
    match soft.and_then(|s| s.get(token)) {
        Some(vector) => out.copy_from_slice(vector),
        None => embed.read_rows(token as usize, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::scoring::{Bundle, common_prefix, score};
    use crate::models::decoder::{Config, Family, Model, Weights, families};
    use crate::rng::{Rng, Use};
    use crate::store::fixture;
    use crate::tensor::Dtype;

    const IDS: [u32; 3] = [264, 265, 266];

    fn soft(hidden: usize) -> SoftTokens {
        let mut rng = Rng::new(8, Use::Synthetic, 0, 0);
        let values = (0..3 * hidden).map(|_| rng.normal() * 0.5).collect();
        SoftTokens::new(IDS.to_vec(), Matrix::from_vec(3, hidden, values).unwrap()).unwrap()
    }

    fn model(family: &'static Family) -> Model {
        let config = fixture::config(family);
        let weights = fixture::weights(&config, 3, Dtype::F32).unwrap();
        let soft = soft(config.hidden);
        Model::new(config, weights).unwrap().with_soft(Some(soft)).unwrap()
    }

    /// The same model whose tables (tied or not) have the soft tokens as further rows.
    fn extended(model: &Model) -> Model {
        let (c, w, soft) = (model.config(), model.weights(), model.soft().unwrap());
        let longer = |table: &Weight| {
            let mut values = vec![0.0; (c.vocab + 3) * c.hidden];
            table.read_rows(0, &mut values[..c.vocab * c.hidden]);
            for (row, &id) in values[c.vocab * c.hidden..].chunks_exact_mut(c.hidden).zip(&IDS) {
                row.copy_from_slice(soft.get(id).unwrap());
            }
            Weight::from_f32(c.vocab + 3, c.hidden, values).unwrap()
        };
        let weights = Weights { embed: longer(&w.embed), head: w.head.as_ref().map(longer), ..w.clone() };
        Model::new(Config { vocab: c.vocab + 3, ..c.clone() }, weights).unwrap()
    }

    #[test]
    fn reading_soft_tokens_is_reading_further_rows_of_the_table() {
        for family in families::ALL {
            let model = model(family);
            let other = extended(&model);
            let tokens = [5, 264, 7, 266, 266, 9, 265, 11];
            let logits = |m: &Model| m.all_logits(&tokens).unwrap();
            let (got, want) = (logits(&model), logits(&other));
            for row in 0..tokens.len() {
                let bits = |m: &Matrix| m.row(row)[..264].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&want), "{family:?}, row {row}");
            }
            let bundles: Vec<Bundle> = vec![vec![tokens.to_vec(), vec![5, 265]], vec![vec![264]]];
            let logits = |m: &Model| -> Vec<[u32; 2]> {
                let scored = score(m, &bundles, [10, 11], 64).unwrap();
                scored.iter().flatten().map(|c| c.logits.map(f32::to_bits)).collect()
            };
            assert_eq!(logits(&model), logits(&other));
        }
    }

    #[test]
    fn a_bundle_with_soft_tokens_equals_single_prompts() {
        let model = model(Family::LLAMA);
        let mut beginning: Vec<u32> = (0..40).map(|i| i * 5 % 200).collect();
        beginning[0] = 266;
        beginning[17] = 264;
        let with = |tail: &[u32]| [&beginning[..], tail].concat();
        let bundle = vec![with(&[1, 264, 3]), with(&[265]), with(&[1, 265, 7, 7])];
        assert_eq!(common_prefix(&bundle), 40);
        let alone: Vec<Bundle> = bundle.iter().map(|p| vec![p.clone()]).collect();
        let together = score(&model, std::slice::from_ref(&bundle), [10, 11], 64).unwrap();
        let single = score(&model, &alone, [10, 11], 1).unwrap();
        for (a, b) in together[0].iter().zip(single.iter().map(|s| &s[0])) {
            for (x, y) in a.logits.iter().zip(&b.logits) {
                assert!((x - y).abs() <= 1e-5, "{x} {y}");
            }
            assert!((a.log_sum_exp - b.log_sum_exp).abs() <= 1e-5);
        }
        // Prompts that differ in one soft token do not begin alike behind it, and are not scored
        // alike.
        let mut other = bundle.clone();
        other[1][17] = 265;
        assert_eq!(common_prefix(&other), 17);
        let changed = score(&model, &[other], [10, 11], 64).unwrap();
        assert!((changed[0][1].logits[0] - together[0][1].logits[0]).abs() > 1e-4);
        assert!((changed[0][0].logits[0] - together[0][0].logits[0]).abs() <= 1e-5);
    }

    #[test]
    fn soft_tokens_that_do_not_fit_are_refused() {
        let model = model(Family::LLAMA);
        let read = |model: &Model, token: u32| score(model, &[vec![vec![1, token]]], [10, 11], 64).map(drop);
        read(&model, 266).unwrap();
        assert!(read(&model, 267).unwrap_err().to_string().contains("267"));
        assert!(read(&model.with_soft(None).unwrap(), 264).is_err());
        assert!(model.with_soft(Some(soft(model.config().hidden + 1))).is_err(), "another width");
        let low = SoftTokens::new(vec![263], Matrix::zeros(1, model.config().hidden)).unwrap();
        assert!(model.with_soft(Some(low)).is_err(), "an id of the vocabulary");
        assert!(SoftTokens::new(vec![270, 269], Matrix::zeros(2, 4)).is_err(), "ids that do not ascend");
    }
}
