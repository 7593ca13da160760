//! The learning rate over the steps of a training.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line to 0 at the last step.
    Linear,
    /// Not at all.
    Constant,
}

impl Schedule {
    /// Share of the learning rate at step `step` (from 0) of `total`: a linear rise over the
    /// warm-up, then the schedule; the rule of `get_linear_schedule_with_warmup` in transformers.
    pub fn share(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        match self {
            Self::Constant => 1.0,
            Self::Linear => total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule::{Constant, Linear};

    #[test]
    fn rises_then_falls_to_zero() {
        let shares: Vec<f64> = (0..=6).map(|i| Linear.share(i, 2, 6)).collect();
        assert_eq!(shares, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Constant.share(5, 2, 6), 1.0);
        assert_eq!(Linear.share(0, 0, 4), 1.0, "without warm-up the first step has the full rate");
    }
}
