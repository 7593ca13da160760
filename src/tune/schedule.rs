//! The learning rate of each step.

use super::{LoraSettings, Schedule};

/// Learning rate of step `step` (from 0) of `total`: a linear rise over the warm-up, then the
/// schedule; the rule of `get_linear_schedule_with_warmup` in transformers.
pub fn learning_rate(settings: &LoraSettings, step: u64, total: u64) -> f64 {
    let warmup = settings.warmup_steps;
    let share = if step < warmup {
        step as f64 / warmup as f64
    } else {
        match settings.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64,
        }
    };
    settings.learning_rate * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_zero() {
        let s = LoraSettings { learning_rate: 2.0, warmup_steps: 2, ..LoraSettings::default() };
        let rates: Vec<f64> = (0..=6).map(|i| learning_rate(&s, i, 6)).collect();
        assert_eq!(rates, [0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        let s = LoraSettings { learning_rate: 2.0, schedule: Schedule::Constant, ..s };
        assert_eq!(learning_rate(&s, 5, 6), 2.0);
        let s = LoraSettings { learning_rate: 1.0, ..LoraSettings::default() };
        assert_eq!(learning_rate(&s, 0, 4), 1.0, "without warm-up the first step has the full rate");
    }
}
