//! How much the tuned model's answer counts beside the ranker's score: the weight that orders the
//! validation rows best, which the model has answered already.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::Result;
use crate::eval::auc::auc;

/// Weights that are tried.
const STEPS: [f64; 14] = [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0];

/// A larger weight has to bring this share at least: what is less is chance.
const GAIN: f64 = 0.002;

/// A validation row: the ranker's score at mean 0 and deviation 1 over the user's items, the
/// model's probability, and whether the user liked the item.
pub(super) struct Row {
    pub score: f64,
    pub p: f64,
    pub label: bool,
}

/// What the tuned model's answer counts beside the ranker's score. A candidate's merged score is
/// `score + weight * answer`: the ranker's score at mean 0 and deviation 1 over the user's items,
/// and the log-odds of the model's probability at mean 0 and deviation 1 over the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct ModelWeight {
    /// 0: the model's answers improve nothing on the validation rows, and the ranker's order stays.
    pub weight: f64,
    /// Validation rows that chose it.
    pub rows: usize,
    /// AUC on these rows with this weight.
    pub auc: f64,
    /// Of the ranker alone.
    pub ranker_auc: f64,
    /// Of the model alone.
    pub model_auc: f64,
    #[serde(skip)]
    mean: f64,
    #[serde(skip)]
    deviation: f64,
}

/// The log-odds, held where a probability is as good as 0 or 1.
fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

impl ModelWeight {
    /// The best weight on these rows; `None` where there are none, or all of one class, which order
    /// nothing.
    pub(super) fn choose(rows: &[Row]) -> Result<Option<Self>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let labels: Vec<bool> = rows.iter().map(|row| row.label).collect();
        let odds: Vec<f64> = rows.iter().map(|row| log_odds(row.p)).collect();
        let n = odds.len().max(1) as f64;
        let mean = odds.iter().sum::<f64>() / n;
        let deviation = (odds.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let none = Self { weight: 0.0, rows: rows.len(), auc: 0.0, ranker_auc: 0.0, model_auc: 0.0, mean, deviation };
        let reached = |weight: f64| {
            let of = Self { weight, ..none };
            auc(&labels, &rows.iter().map(|row| of.merged(row.score, row.p)).collect::<Vec<_>>())
        };
        let (Some(ranker_auc), Some(model_auc)) = (reached(0.0)?, auc(&labels, &odds)?) else { return Ok(None) };
        let mut best = Self { auc: ranker_auc, ranker_auc, model_auc, ..none };
        for weight in STEPS {
            if let Some(auc) = reached(weight)?
                && auc > best.auc * (1.0 + GAIN)
            {
                best = Self { weight, auc, ..best };
            }
        }
        Ok(Some(best))
    }

    /// What a candidate is ordered by.
    pub(super) fn merged(&self, score: f64, p: f64) -> f64 {
        let scale = if self.deviation > 0.0 { 1.0 / self.deviation } else { 0.0 };
        score + self.weight * (log_odds(p) - self.mean) * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred rows: the ranker's score and the model's log-odds as functions of row and label.
    fn rows(score: impl Fn(usize, bool) -> f64, odds: impl Fn(usize, bool) -> f64) -> Vec<Row> {
        let row = |n: usize| {
            let label = n.is_multiple_of(2);
            Row { score: score(n, label), p: 1.0 / (1.0 + (-odds(n, label)).exp()), label }
        };
        (0..100).map(row).collect()
    }

    fn noise(n: usize) -> f64 {
        ((n * 37 + 11) % 50) as f64 / 25.0 - 1.0
    }

    #[test]
    fn an_answer_that_says_nothing_has_no_weight() {
        let useless = rows(|_, label| f64::from(u8::from(label)), |n, _| noise(n));
        let chosen = ModelWeight::choose(&useless).unwrap().unwrap();
        assert_eq!((chosen.weight, chosen.auc), (0.0, 1.0));
        let flat = rows(|n, label| noise(n) + 0.3 * f64::from(u8::from(label)), |_, _| 0.0);
        let chosen = ModelWeight::choose(&flat).unwrap().unwrap();
        assert_eq!((chosen.weight, chosen.model_auc), (0.0, 0.5));
        assert_eq!(chosen.merged(1.5, 0.9), 1.5);
    }

    #[test]
    fn two_halves_of_the_truth_weigh_both() {
        // Each knows one half of the rows.
        let knows = |half: usize| {
            move |n: usize, label: bool| if n % 4 / 2 == half { if label { 2.0 } else { -2.0 } } else { noise(n) }
        };
        let chosen = ModelWeight::choose(&rows(knows(0), knows(1))).unwrap().unwrap();
        assert!(chosen.weight > 0.0 && chosen.auc > chosen.ranker_auc && chosen.auc > chosen.model_auc, "{chosen:?}");
        assert!(chosen.merged(0.0, 0.9) > chosen.merged(0.0, 0.1));
    }

    #[test]
    fn a_model_that_alone_knows_has_all_the_weight_and_one_class_has_none() {
        let knows = rows(|n, _| 0.1 * noise(n), |_, label| if label { 1.0 } else { -1.0 });
        assert_eq!(ModelWeight::choose(&knows).unwrap().unwrap().auc, 1.0);
        let likes: Vec<Row> = knows.into_iter().filter(|row| row.label).collect();
        assert!(ModelWeight::choose(&likes).unwrap().is_none());
        assert!(ModelWeight::choose(&[]).unwrap().is_none());
    }
}
