//! The knowledge hint (RALLRec+): the tuned model's opinion in words, for the reasoning model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::eval::Score;
use crate::settings::{Checked, Faults};

/// How the hint says what the tuned model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HintWording {
    /// The answer "is", "may be" or "might be" Yes or No, by how sure the tuned model is, as in the
    /// authors' code. The default.
    #[default]
    Graded,
    /// The answer "might be" Yes or No, however sure the tuned model is: the one sentence of the
    /// paper.
    Might,
}

/// How the hint is worded, and how sure the tuned model must be for the stronger wordings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HintSettings {
    /// By how sure the tuned model is, as the authors' code has it, or the one sentence of the
    /// paper.
    pub wording: HintWording,
    /// Distance of the tuned model's probability from 0.5 above which the hint says that the answer
    /// "is" Yes or No. Not set:
    /// 0.424 for `predict.score = "two_way"` and 0.2 for `double_softmax`, which is the same cut.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub strong: Option<f64>,
    /// Distance above which it "may be", else it "might be". Not set: 0.203 and 0.1.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub middle: Option<f64>,
}

impl HintSettings {
    /// (strong, middle) for scores of this kind.
    pub fn thresholds(&self, score: Score) -> (f64, f64) {
        let (strong, middle) = match score {
            Score::TwoWay => (0.424, 0.203),
            Score::DoubleSoftmax => (0.2, 0.1),
        };
        (self.strong.unwrap_or(strong), self.middle.unwrap_or(middle))
    }
}

impl Checked for HintSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        for (key, value) in [("strong", self.strong), ("middle", self.middle)] {
            let finite = value.is_none_or(f64::is_finite);
            faults.unless(finite, key, "the value is not a finite number", "set it to a number, 0 to 0.5");
        }
        faults
    }
}

/// The sentence, with a line break before and after; it goes between the task and the think tag.
///
/// # Errors
/// p is no probability, thresholds out of range or in the wrong order.
pub fn hint(p: f64, score: Score, settings: &HintSettings) -> Result<String> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::input("hint", format!("{p} is not a probability")).next("score the row again"));
    }
    let (strong, middle) = settings.thresholds(score);
    if !(0.0 <= middle && middle <= strong && strong <= 0.5) {
        return Err(Error::usage("hint", format!("strong = {strong}, middle = {middle}"))
            .next("choose 0 <= middle <= strong <= 0.5"));
    }
    let side = if p > 0.5 { "Yes" } else { "No" };
    let certainty = match (p - 0.5).abs() {
        _ if settings.wording == HintWording::Might => "might be",
        d if d > strong => "is",
        d if d > middle => "may be",
        _ => "might be",
    };
    Ok(format!("\nSomeone else thinks the answer {certainty} {side}.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wording() {
        let say = |p, score| hint(p, score, &HintSettings::default()).unwrap();
        for (p, score, want) in [
            (0.95, Score::TwoWay, "is Yes"),
            (0.92, Score::TwoWay, "may be Yes"),
            (0.71, Score::TwoWay, "may be Yes"),
            (0.70, Score::TwoWay, "might be Yes"),
            (0.5, Score::TwoWay, "might be No"),
            (0.29, Score::TwoWay, "may be No"),
            (0.07, Score::TwoWay, "is No"),
            (0.71, Score::DoubleSoftmax, "is Yes"),
            (0.69, Score::DoubleSoftmax, "may be Yes"),
            (0.59, Score::DoubleSoftmax, "might be Yes"),
            (0.28, Score::DoubleSoftmax, "is No"),
        ] {
            assert_eq!(say(p, score), format!("\nSomeone else thinks the answer {want}.\n"), "{p} {score:?}");
        }
    }

    #[test]
    fn the_papers_sentence_is_one_for_every_probability() {
        let settings = HintSettings { wording: HintWording::Might, ..HintSettings::default() };
        for (p, side) in [(0.99, "Yes"), (0.6, "Yes"), (0.5, "No"), (0.01, "No")] {
            let said = hint(p, Score::TwoWay, &settings).unwrap();
            assert_eq!(said, format!("\nSomeone else thinks the answer might be {side}.\n"));
        }
    }

    /// The two pairs of thresholds are the same cut when P(Yes) + P(No) = 1, up to their three
    /// digits.
    #[test]
    fn both_scales_cut_at_the_same_place() {
        for (two, double) in [(0.424, 0.2), (0.203, 0.1)] {
            let yes = 0.5 + two;
            let on_double = Score::DoubleSoftmax.from_probabilities(yes, 1.0 - yes).unwrap() - 0.5;
            assert!((on_double - double).abs() <= 5e-4, "{on_double} {double}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        assert!(hint(f64::NAN, Score::TwoWay, &HintSettings::default()).is_err());
        assert!(hint(1.2, Score::TwoWay, &HintSettings::default()).is_err());
        let crossed = HintSettings { strong: Some(0.1), middle: Some(0.2), ..HintSettings::default() };
        assert!(hint(0.5, Score::TwoWay, &crossed).unwrap_err().next_step().contains("middle"));
    }
}
