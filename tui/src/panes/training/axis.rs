//! What the curves of a stage run over: steps, epochs, units of work or time.

use rallrec_events::view::{Training, along, points};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Over {
    /// Steps of the optimiser.
    #[default]
    Steps,
    /// Epochs: runs with other batches stand one above the other.
    Epochs,
    /// What the stage counts, e.g. tokens.
    Units,
    /// Time at work.
    Time,
}

impl Over {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Over::Steps => Over::Epochs,
            Over::Epochs => Over::Units,
            Over::Units => Over::Time,
            Over::Time => Over::Steps,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Over::Steps => "steps",
            Over::Epochs => "epochs",
            Over::Units => "work",
            Over::Time => "time",
        }
    }
}

/// What can be shown of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// Steps.
    Steps,
    /// Epochs.
    Epochs,
    /// Units of work.
    Units,
    /// So many seconds each.
    Time(f64),
}

/// What the charts of a stage run over, and the word for it. A stage that tells no steps has its
/// epochs alone, and one that tells no rates or epochs is shown over steps.
pub fn shown<'a>(
    over: Over,
    own: &Training,
    all: impl Iterator<Item = &'a Training>,
    unit: impl Fn() -> String,
) -> (Shown, String) {
    if own.step == 0 {
        return (Shown::Epochs, "epochs".into());
    }
    let seconds = || all.filter_map(|t| Some(t.pace.seconds.last()?.1)).fold(0.0, f64::max);
    let grows = |series: &rallrec_events::view::Series| series.last().is_some_and(|(_, y)| y > 0.0);
    match over {
        Over::Epochs if own.epoch > 0 => (Shown::Epochs, "epochs".into()),
        Over::Units if grows(&own.pace.units) => (Shown::Units, unit()),
        Over::Time if grows(&own.pace.seconds) => match seconds() {
            0.0..180.0 => (Shown::Time(1.0), "s".into()),
            180.0..10_800.0 => (Shown::Time(60.0), "min".into()),
            _ => (Shown::Time(3600.0), "h".into()),
        },
        _ => (Shown::Steps, "steps".into()),
    }
}

/// From what a curve is told over to what it is shown over.
pub struct Scale {
    /// (step, epochs); empty where the stage tells no steps.
    epochs: Vec<(f64, f64)>,
    /// (step, what is shown); `None` for steps and epochs.
    over: Option<Vec<(f64, f64)>>,
    /// Epochs are shown.
    in_epochs: bool,
    /// What is shown is divided by this.
    unit: f64,
}

impl Scale {
    /// Of one run's stage.
    pub fn of(training: &Training, shown: Shown) -> Self {
        let mut epochs = Vec::new();
        if training.step > 0 {
            epochs = training.pace.epoch_points();
            if epochs.len() < 2 {
                // No epoch is through yet: this far into the first.
                epochs.push((training.step as f64, f64::from(training.epoch.max(1))));
            }
        }
        let (over, unit) = match shown {
            Shown::Steps | Shown::Epochs => (None, 1.0),
            Shown::Units => (Some(points(&training.pace.units)), 1.0),
            Shown::Time(unit) => (Some(points(&training.pace.seconds)), unit),
        };
        Self { epochs, over, in_epochs: shown == Shown::Epochs, unit }
    }

    /// Where what was told at `x` is shown.
    pub fn x(&self, x: f64, by_epoch: bool) -> f64 {
        if self.epochs.is_empty() || (by_epoch && self.in_epochs) {
            return x;
        }
        let step = if by_epoch {
            let steps: Vec<(f64, f64)> = self.epochs.iter().map(|p| (p.1, p.0)).collect();
            along(&steps, x).unwrap_or(x)
        } else {
            x
        };
        match &self.over {
            _ if self.in_epochs => along(&self.epochs, step).unwrap_or(step),
            // What was measured before the first step that was told lies at its place.
            Some(over) => along(over, step).map_or(0.0, |y| y.max(0.0)) / self.unit,
            None => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use rallrec_events::{Event, Record, RunView, VERSION};

    use super::*;

    /// 40 steps in 4 epochs, two seconds and 200 tokens each; a metric after each epoch.
    fn training() -> Training {
        let mut view = RunView::new();
        let mut apply = |t_ms, event| view.apply(&Record { v: VERSION, t_ms, event });
        for step in 1..=40u64 {
            let epoch = 1 + (step as u32 - 1) / 10;
            let (stage, steps, loss, learning_rate) = ("tune".to_string(), 40, 1.0, 0.1);
            let (gradient_norm, rate) = (None, Some(100.0));
            let t = step * 2_000;
            apply(t, Event::TrainStep { stage, epoch, step, steps, loss, learning_rate, gradient_norm, rate });
            if step % 10 == 0 {
                let (stage, name, split) = ("tune".to_string(), "log_loss".to_string(), "valid".to_string());
                apply(t, Event::Metric { stage, name, split, value: 0.5, epoch: Some(epoch), best: false });
            }
        }
        view.training.get("tune").expect("it trained").clone()
    }

    #[test]
    fn a_curve_is_shown_over_steps_epochs_tokens_and_time() {
        let training = training();
        let tokens = || "tokens".to_string();
        // Step 20, which is the end of the second epoch.
        for (over, unit, at) in [
            (Over::Steps, "steps", 20.0),
            (Over::Epochs, "epochs", 2.0),
            (Over::Units, "tokens", 19.0 * 200.0),
            (Over::Time, "s", 38.0),
        ] {
            let (shown, word) = shown(over, &training, std::iter::once(&training), tokens);
            assert_eq!(word, unit);
            let scale = Scale::of(&training, shown);
            for (x, by_epoch) in [(20.0, false), (2.0, true)] {
                let got = scale.x(x, by_epoch);
                assert!((got - at).abs() < 1e-6, "{over:?} {by_epoch}: {got} and not {at}");
            }
        }
    }

    #[test]
    fn a_stage_without_steps_has_its_epochs() {
        let training = Training::default();
        for over in [Over::Steps, Over::Epochs, Over::Units, Over::Time] {
            let (shown, word) = shown(over, &training, std::iter::once(&training), String::new);
            assert_eq!((word.as_str(), Scale::of(&training, shown).x(3.0, true)), ("epochs", 3.0));
        }
    }
}
