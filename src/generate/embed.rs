//! Vectors of many texts: each distinct text is read once, and so is the beginning that many of
//! them share.
//!
//! A catalogue's templated texts begin alike ("Here is a movie. Its title is"), and an item without
//! a description is embedded by one text twice. Hidden states of a beginning do not depend on what
//! follows, so nothing is lost but the order of a sum.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::Result;
use crate::models::decoder::{Model, Texts, Wanted};
use crate::tensor::Matrix;

/// Longest beginning that is looked for.
const LONGEST: usize = 32;
/// Tokens that a beginning must save to be worth a pass of its own.
const WORTH: usize = 256;

/// What is to be read, in order: distinct texts, short ones first, so that a pass holds texts of a
/// kind.
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
fn behind<'a>(head: &[u32], text: &'a [u32]) -> Option<&'a [u32]> {
    text.strip_prefix(head).filter(|rest| !head.is_empty() && !rest.is_empty())
}

/// How a text's hidden states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over the tokens.
    #[default]
    Mean,
    /// The last token's.
    Last,
}

/// One vector (hidden) a text, in one pass; a text without a token has a zero vector. `head` is the
/// beginning that texts may share, which the pass reads once; it may be empty. Means are taken on
/// the CPU, in f64.
///
/// # Errors
/// A token outside the vocabulary, a text beyond the model's context; out of memory.
pub fn embed(model: &Model, head: &[u32], texts: &[&[u32]], pooling: Pooling) -> Result<Matrix> {
    let hidden = model.config().hidden;
    let mut out = Matrix::zeros(texts.len(), hidden);
    let filled = || texts.iter().enumerate().filter(|(_, text)| !text.is_empty());
    filled().try_for_each(|(i, text)| model.check(text, 0, || format!("text {i}")))?;
    let mut packed = Texts::default();
    let (mut of_head, mut past) = (0..0, Vec::new());
    if filled().any(|(_, text)| behind(head, text).is_some()) {
        let (rows, places) = packed.pack(head, &[]);
        (of_head, past) = (rows, vec![places]);
    }
    // Each text's rows of the pass, and whether it stands behind the beginning.
    let mut rows = Vec::with_capacity(texts.len());
    for (n, text) in filled() {
        let rest = behind(head, text);
        let own = match rest {
            Some(rest) => packed.pack(rest, &past).0,
            None => packed.pack(text, &[]).0,
        };
        rows.push((n, own, rest.is_some()));
    }
    if rows.is_empty() {
        return Ok(out);
    }
    let last: Vec<u32> = rows.iter().map(|(_, own, _)| own.end as u32 - 1).collect();
    let wanted = if pooling == Pooling::Last { Wanted::These(&last) } else { Wanted::All };
    let states = model.read(&packed, &mut model.scratch(packed.cache_rows())?, wanted)?.into_matrix()?;
    if pooling == Pooling::Last {
        for (from, (n, _, _)) in rows.into_iter().enumerate() {
            out.row_mut(n).copy_from_slice(states.row(from));
        }
        return Ok(out);
    }
    let pooled = mean(&states, of_head.clone());
    for (n, own, behind_head) in rows {
        let (h, r) = (of_head.len() as f64, own.len() as f64);
        let row = out.row_mut(n);
        row.copy_from_slice(&mean(&states, own));
        if behind_head {
            for (x, head) in row.iter_mut().zip(&pooled) {
                *x = ((h * f64::from(*head) + r * f64::from(*x)) / (h + r)) as f32;
            }
        }
    }
    Ok(out)
}

/// The mean of some rows, summed in f64.
fn mean(states: &Matrix, rows: Range<usize>) -> Vec<f32> {
    let mut sum = vec![0.0f64; states.cols()];
    for row in rows.clone() {
        sum.iter_mut().zip(states.row(row)).for_each(|(s, &h)| *s += f64::from(h));
    }
    sum.into_iter().map(|s| (s / rows.len().max(1) as f64) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::models::decoder::Family;
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
        #![proptest_config(crate::testing::cases(12))]
        /// With the beginning read once or with every text: the same vectors, but for the order of
        /// sums.
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
            let shared = embed(&model, &head, &texts, pooling).unwrap();
            for (n, text) in texts.iter().enumerate() {
                let want = embed(&model, &[], &[text], pooling).unwrap();
                for (a, b) in shared.row(n).iter().zip(want.row(0)) {
                    prop_assert!((a - b).abs() <= 1e-5, "text {}: {} and not {}", n, a, b);
                }
            }
            prop_assert!(shared.row(texts.len() - 2).iter().all(|v| *v == 0.0));
        }
    }
}
