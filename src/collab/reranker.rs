//! A reranker that is learnt: which items of a history to show, by weights of a few features that
//! are fitted on pairs of history items of training rows (RankNet with a linear score: Burges et
//! al., ICML 2005).
//!
//! What should stand first is what tells the answer. In a training row an item of the history tells
//! it if the user liked it and the target alike, or neither. So of an item that does and one that
//! does not, the first should have the higher score. How the user rated an item is no feature: a
//! rule that shows what was liked would say nothing of likeness.

use super::logistic::Logistic;
use crate::error::{Error, Result};
use crate::retrieval::Retrieved;

/// Features of a history item.
pub const FEATURES: usize = 6;

/// Pairs of a row that are learnt from.
const PAIRS: usize = 12;

/// The features of items in the order of similarity: similarity to the target by each block (0
/// where there is none), the place in that order and in the order of time as shares of the history,
/// and whether it is among the five newest.
pub fn features(retrieved: &[Retrieved]) -> Vec<[f64; FEATURES]> {
    let n = retrieved.len();
    let mut newest: Vec<usize> = (0..n).collect();
    newest.sort_by_key(|&rank| std::cmp::Reverse(retrieved[rank].position));
    let mut age = vec![0; n];
    newest.iter().enumerate().for_each(|(place, &rank)| age[rank] = place);
    let share = |place: usize| if n > 1 { 1.0 - place as f64 / (n - 1) as f64 } else { 1.0 };
    let by = |part: Option<f32>| f64::from(part.unwrap_or(0.0));
    let one = |(rank, r): (usize, &Retrieved)| {
        let recent = if age[rank] < 5 { 1.0 } else { 0.0 };
        [by(r.parts.text), by(r.parts.colla), by(r.parts.ssl), share(rank), share(age[rank]), recent]
    };
    retrieved.iter().enumerate().map(one).collect()
}

/// Pairs to learn from.
#[derive(Debug, Default)]
pub struct Pairs {
    differences: Vec<f64>,
    labels: Vec<bool>,
}

impl Pairs {
    /// Adds those of a training row: `tells[n]` says whether the retrieved item n tells the answer.
    pub fn add(&mut self, retrieved: &[Retrieved], tells: &[bool]) {
        let features = features(retrieved);
        let of = |wanted: bool| (0..tells.len()).filter(move |&n| tells[n] == wanted);
        let (yes, no): (Vec<usize>, Vec<usize>) = (of(true).collect(), of(false).collect());
        if yes.is_empty() || no.is_empty() {
            return;
        }
        // Spread over both lists, the same each time.
        for k in 0..PAIRS.min(yes.len() * no.len()) {
            let (a, b) = (features[yes[k % yes.len()]], features[no[(k * 7 + k / yes.len()) % no.len()]]);
            // Each pair stands there both ways round, so that the fit has no intercept.
            for (sign, label) in [(1.0, true), (-1.0, false)] {
                self.differences.extend(a.iter().zip(&b).map(|(a, b)| sign * (a - b)));
                self.labels.push(label);
            }
        }
    }

    /// The weights of the features.
    ///
    /// # Errors
    /// No pair at all.
    pub fn fit(&self) -> Result<Learned> {
        if self.labels.is_empty() {
            let what = "no training row has both an item that tells the answer and one that does not";
            return Err(Error::input("retrieve.rule = \"learned\"", what).next("choose another rule, or use more data"));
        }
        let fit = Logistic::fit(&self.differences, FEATURES, &self.labels, 1.0)?;
        let mut weights = [0.0; FEATURES];
        weights.iter_mut().zip(&fit.weights).for_each(|(to, w)| *to = *w);
        Ok(Learned { weights })
    }
}

/// A fitted reranker.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    weights: [f64; FEATURES],
}

impl Learned {
    /// Retrieved items by score, the best first; of equal ones the more similar first.
    pub fn sorted(&self, retrieved: &[Retrieved]) -> Vec<Retrieved> {
        let score = |f: &[f64; FEATURES]| f.iter().zip(&self.weights).map(|(f, w)| f * w).sum::<f64>();
        let scores: Vec<f64> = features(retrieved).iter().map(score).collect();
        let mut order: Vec<usize> = (0..retrieved.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.into_iter().map(|n| retrieved[n]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ItemIdx;
    use crate::retrieval::Parts;
    use crate::rng::{Rng, Use};

    /// Six items whose similarity by text is drawn; the most similar by LightGCN first.
    fn row(seed: u64) -> Vec<Retrieved> {
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        let one = |n: u32| Retrieved {
            item: ItemIdx(n),
            position: (n * 5 + 2) % 6,
            similarity: 1.0 - n as f32 / 6.0,
            parts: Parts { text: Some(rng.uniform()), colla: Some(1.0 - n as f32 / 6.0), ssl: None },
        };
        (0..6).map(one).collect()
    }

    #[test]
    fn it_finds_the_feature_that_tells_the_answer() {
        let mut pairs = Pairs::default();
        for seed in 0..300 {
            let row = row(seed);
            let tells: Vec<bool> = row.iter().map(|r| r.parts.text.unwrap() > 0.5).collect();
            pairs.add(&row, &tells);
        }
        let learned = pairs.fit().unwrap();
        let others = learned.weights[1..].iter().map(|w| w.abs()).fold(0.0, f64::max);
        assert!(learned.weights[0] > 5.0 * others, "{learned:?}");
        let row = row(1000);
        let sorted = learned.sorted(&row);
        let text = |r: &Retrieved| r.parts.text.unwrap();
        assert!(text(&sorted[0]) > text(&sorted[5]) + 0.3, "{sorted:?}");
        assert_eq!(sorted.len(), 6);
    }

    #[test]
    fn without_weights_the_order_stays_and_without_pairs_there_is_nothing_to_learn() {
        let row = row(1);
        assert_eq!(Learned { weights: [0.0; FEATURES] }.sorted(&row), row);
        let mut pairs = Pairs::default();
        pairs.add(&row, &[true; 6]);
        pairs.add(&[], &[]);
        assert!(pairs.fit().unwrap_err().to_string().contains("retrieve.rule"));
    }

    #[test]
    fn features_are_places_and_similarities() {
        let row = row(2);
        let features = features(&row);
        assert!((features[0][3] - 1.0).abs() <= 1e-12 && features[5][3].abs() <= 1e-12);
        let newest = (0..6).max_by_key(|&n| row[n].position).unwrap();
        assert!((features[newest][4] - 1.0).abs() <= 1e-12);
        assert!((features[2][0] - f64::from(row[2].parts.text.unwrap())).abs() <= 1e-12);
        assert_eq!(features.iter().filter(|f| f[5] > 0.5).count(), 5);
    }
}
