//! From the logits after a prompt to the probability of "Yes" (RALLRec's way of scoring a sample).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How P(like) is formed from the two answers. Every stored prediction must say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// `sigmoid(logit Yes - logit No)`, in (0, 1). The default.
    #[default]
    TwoWay,
    /// The authors' softmax over the two *probabilities* (defect D4): in [0.2689, 0.7311].
    DoubleSoftmax,
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

impl Score {
    /// From the probabilities of the two answers. `None` for two_way when both are zero.
    pub fn from_probabilities(self, yes: f64, no: f64) -> Option<f64> {
        match self {
            Score::TwoWay => (yes + no > 0.0).then(|| yes / (yes + no)),
            Score::DoubleSoftmax => Some(sigmoid(yes - no)),
        }
    }
}

/// What the next-token logits say about the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reading {
    /// Logit of "Yes" minus logit of "No".
    pub margin: f64,
    /// P(Yes) over the whole vocabulary.
    pub yes: f64,
    /// P(No) over the whole vocabulary.
    pub no: f64,
}

impl Reading {
    /// Reads the ids `yes` and `no` from the logits of one position.
    ///
    /// # Errors
    /// An id outside the vocabulary, equal ids, a logit that is NaN or +inf, or no finite logit at
    /// all.
    pub fn new(logits: &[f32], yes: u32, no: u32) -> Result<Self> {
        let get = |name: &str, id: u32| {
            logits.get(id as usize).map(|&x| f64::from(x)).ok_or_else(|| {
                Error::input(format!("answer {name}"), format!("id {id} is outside the {} logits", logits.len()))
                    .next("take the answer ids from the tokenizer of the same model")
            })
        };
        let (y, n) = (get("Yes", yes)?, get("No", no)?);
        if yes == no {
            return Err(Error::input("answers", format!("Yes and No are the same token {yes}"))
                .next("choose answer words that the tokenizer keeps apart"));
        }
        let broken = |what: &str| {
            Error::failed("score", format!("the logits hold {what}"))
                .next("check the model's weights and precision: a finite prompt must give finite logits")
        };
        let mut top = f32::NEG_INFINITY;
        for &x in logits {
            if x.is_nan() || x == f32::INFINITY {
                return Err(broken(&x.to_string()));
            }
            top = top.max(x);
        }
        if !(top.is_finite() && (y.is_finite() || n.is_finite())) {
            return Err(broken("no finite value for the answers"));
        }
        let top = f64::from(top);
        let total: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        Ok(Self { margin: y - n, yes: (y - top).exp() / total, no: (n - top).exp() / total })
    }

    /// P(like).
    pub fn p(&self, score: Score) -> f64 {
        match score {
            Score::TwoWay => sigmoid(self.margin),
            Score::DoubleSoftmax => sigmoid(self.yes - self.no),
        }
    }

    /// P(Yes) + P(No): far below 1 the model wants to answer something else.
    pub fn mass(&self) -> f64 {
        self.yes + self.no
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nine_to_one() {
        assert!((Score::TwoWay.from_probabilities(0.9, 0.1).unwrap() - 0.9).abs() <= 1e-12);
        assert!((Score::DoubleSoftmax.from_probabilities(0.9, 0.1).unwrap() - 0.689_974).abs() <= 5e-7);
        assert_eq!(Score::TwoWay.from_probabilities(0.0, 0.0), None);
        let (y, n) = (0.9f64.ln() as f32, 0.1f64.ln() as f32);
        let r = Reading::new(&[f32::NEG_INFINITY, n, y], 2, 1).unwrap();
        assert!((r.p(Score::TwoWay) - 0.9).abs() <= 1e-6 && (r.mass() - 1.0).abs() <= 1e-12);
        assert!((r.p(Score::DoubleSoftmax) - 0.689_974).abs() <= 1e-6);
    }

    #[test]
    fn bad_logits_are_refused() {
        for (logits, yes, no) in [
            (vec![0.0, f32::NAN, 1.0], 0, 2),
            (vec![0.0, f32::INFINITY], 0, 1),
            (vec![f32::NEG_INFINITY; 2], 0, 1),
            (vec![0.0, 1.0], 0, 2),
            (vec![0.0, 1.0], 1, 1),
            (vec![], 0, 1),
        ] {
            assert!(!Reading::new(&logits, yes, no).unwrap_err().next_step().is_empty());
        }
    }

    proptest! {
        #[test]
        fn scores_stay_in_range_and_agree_on_the_side(logits in proptest::collection::vec(-80f32..80.0, 2..50)) {
            let r = Reading::new(&logits, 0, 1).unwrap();
            let (two, double) = (r.p(Score::TwoWay), r.p(Score::DoubleSoftmax));
            prop_assert!((0.0..=1.0).contains(&two) && r.mass() <= 1.0 + 1e-12);
            prop_assert!((0.268_941..=0.731_059).contains(&double));
            prop_assert!((two - 0.5) * (double - 0.5) >= 0.0);
            if r.mass() > 1e-200 {
                let again = Score::TwoWay.from_probabilities(r.yes, r.no).unwrap();
                prop_assert!((again - two).abs() <= 1e-9);
            }
        }
    }
}
