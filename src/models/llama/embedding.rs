//! Vectors of many texts: each distinct text is read once, and so is the beginning that many of them share.
//!
//! A catalogue's templated texts begin alike ("Here is a movie. Its title is"), and an item without a description is embedded by
//! one text twice. Hidden states of a beginning do not depend on what follows, so nothing is lost but the order of a sum.

use std::collections::HashMap;

use super::{Model, Part, Pooling, Prefix, Sequence};
use crate::error::Result;
use crate::tensor::Matrix;

/// Longest beginning that is looked for.
const LONGEST: usize = 32;
/// Tokens that a beginning must save to be worth a pass of its own.
const WORTH: usize = 256;

/// What is to be read, in order: distinct texts, short ones first, so that a pass holds texts of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<'a> {
    /// The distinct texts.
    pub distinct: Vec<&'a [u32]>,
    /// Which of them each text is.
    pub place: Vec<usize>,
    /// The beginning that saves most tokens when it is read once; empty if none saves any.
    pub head: &'a [u32],
}

impl<'a> Plan<'a> {
    /// Of these texts (tokens).
    pub fn new(texts: &'a [Vec<u32>]) -> Self {
        let mut distinct: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let head = head(&distinct);
        distinct.sort_by_key(|text| text.len());
        let at: HashMap<&[u32], usize> = distinct.iter().enumerate().map(|(n, text)| (*text, n)).collect();
        let place = texts.iter().map(|text| at[text.as_slice()]).collect();
        Self { distinct, place, head }
    }

    /// Tokens that a model reads for a text.
    pub fn cost(&self, text: &[u32]) -> usize {
        text.len() - behind(self.head, text).map_or(0, |_| self.head.len())
    }
}

/// The beginning, of at most [`LONGEST`] tokens, that saves most; texts are sorted and distinct.
fn head<'a>(texts: &[&'a [u32]]) -> &'a [u32] {
    let mut best: (usize, &[u32]) = (WORTH - 1, &[]);
    for length in 1..=LONGEST {
        let longer = texts.iter().filter(|text| text.len() > length).copied().collect::<Vec<_>>();
        for alike in longer.chunk_by(|a, b| a[..length] == b[..length]) {
            let saved = length * (alike.len() - 1);
            if saved > best.0 {
                best = (saved, &alike[0][..length]);
            }
        }
    }
    best.1
}

/// What follows the head, where a text begins with it and goes on.
pub(super) fn behind<'a>(head: &[u32], text: &'a [u32]) -> Option<&'a [u32]> {
    text.strip_prefix(head).filter(|rest| !head.is_empty() && !rest.is_empty())
}

/// A model that has read a beginning.
pub struct Embedder<'a> {
    model: &'a Model,
    pooling: Pooling,
    head: &'a [u32],
    prefix: Prefix,
    /// The beginning's states, pooled.
    pooled: Vec<f32>,
}

impl<'a> Embedder<'a> {
    /// Reads `head`, which may be empty.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn new(model: &'a Model, head: &'a [u32], pooling: Pooling) -> Result<Self> {
        let mut sequence = Sequence::new();
        let pooled = if head.is_empty() {
            Vec::new()
        } else {
            model.pooled(&mut [Part { tokens: head, sequence: &mut sequence }], pooling)?.into_vec()
        };
        Ok(Self { model, pooling, head, prefix: sequence.freeze(), pooled })
    }

    /// One vector (hidden) a text, in one pass; a text without a token has a zero vector.
    ///
    /// # Errors
    /// A token outside the vocabulary, a text beyond the model's context.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Matrix> {
        let none = Prefix::default();
        let rest: Vec<Option<&[u32]>> = texts.iter().map(|text| behind(self.head, text)).collect();
        let mut sequences: Vec<Sequence> =
            rest.iter().map(|rest| Sequence::scratch(if rest.is_some() { &self.prefix } else { &none })).collect();
        let read = texts.iter().zip(&rest).map(|(text, rest)| rest.unwrap_or(text));
        let mut parts: Vec<Part<'_>> = (read.zip(&mut sequences))
            .filter(|(tokens, _)| !tokens.is_empty())
            .map(|(tokens, sequence)| Part { tokens, sequence })
            .collect();
        let mut out = Matrix::zeros(texts.len(), self.model.config().hidden);
        if parts.is_empty() {
            return Ok(out);
        }
        let pooled = self.model.pooled(&mut parts, self.pooling)?;
        let filled = (0..texts.len()).filter(|&n| !texts[n].is_empty());
        for (from, n) in filled.enumerate() {
            out.row_mut(n).copy_from_slice(pooled.row(from));
            if let (Pooling::Mean, Some(rest)) = (self.pooling, rest[n]) {
                let (h, r) = (self.head.len() as f64, rest.len() as f64);
                for (x, head) in out.row_mut(n).iter_mut().zip(&self.pooled) {
                    *x = ((h * f64::from(*head) + r * f64::from(*x)) / (h + r)) as f32;
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::models::llama::Family;
    use crate::store::fixture;
    use crate::tensor::Dtype;

    #[test]
    fn the_plan_reads_each_text_once_and_finds_what_saves_most() {
        let begin: Vec<u32> = (10..18).collect();
        let mut texts: Vec<Vec<u32>> = (0..60).map(|n| [&begin[..], &[n, 1, 2]].concat()).collect();
        texts.extend((0..40).map(|n| vec![3, 4, n]));
        texts.push(Vec::new());
        texts.push(begin.clone());
        texts.push(texts[5].clone());
        let plan = Plan::new(&texts);
        assert_eq!((plan.distinct.len(), plan.head), (102, &begin[..]));
        assert_eq!(plan.place[5], plan.place[102]);
        assert!(plan.distinct.is_sorted_by_key(|text| text.len()));
        assert!(texts.iter().zip(&plan.place).all(|(text, &n)| plan.distinct[n] == &text[..]));
        let costs = [&texts[0], &texts[60], &begin, &Vec::new()].map(|text| plan.cost(text));
        assert_eq!(costs, [3, 3, 8, 0], "a text that is the beginning and no more is read whole");
    }

    #[test]
    fn too_little_to_share_is_not_shared() {
        assert_eq!(Plan::new(&[vec![1, 2, 3], vec![1, 2, 4]]).head, &[] as &[u32]);
        assert_eq!(Plan::new(&[]).distinct.len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// With the beginning read once or with every text: the same vectors, but for the order of sums.
        #[test]
        fn sharing_a_beginning_changes_no_vector(
            head in prop::collection::vec(0u32..200, 1..12), tails in prop::collection::vec(prop::collection::vec(0u32..200, 0..9), 1..6),
            last in any::<bool>(),
        ) {
            let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
            let model = Model::new(loaded.config, loaded.weights).unwrap();
            let pooling = if last { Pooling::Last } else { Pooling::Mean };
            let mut texts: Vec<Vec<u32>> = tails.iter().map(|tail| [&head[..], tail].concat()).collect();
            texts.extend([Vec::new(), vec![7, 8]]);
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let shared = Embedder::new(&model, &head, pooling).unwrap().embed(&texts).unwrap();
            let alone = Embedder::new(&model, &[], pooling).unwrap();
            for (n, text) in texts.iter().enumerate() {
                let want = alone.embed(&[text]).unwrap();
                for (a, b) in shared.row(n).iter().zip(want.row(0)) {
                    prop_assert!((a - b).abs() <= 1e-5, "text {}: {} and not {}", n, a, b);
                }
            }
            prop_assert!(shared.row(texts.len() - 2).iter().all(|v| *v == 0.0));
        }
    }
}
