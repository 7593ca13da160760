//! How long it will still take: the stage at work by its own rate, the stages after it by what they
//! took before, in this run or in others of the same recipe.

use rallrec_events::view::{Stage, State as StageState};

use crate::format;
use crate::state::{Doing, OpenRun};
use crate::theme::Theme;

/// What is left of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Left {
    /// Seconds.
    pub seconds: f64,
    /// Nothing is known of some stage: it takes longer.
    pub at_least: bool,
}

impl Left {
    /// In a word.
    pub fn words(self, theme: Theme) -> String {
        let sign = match (self.at_least, theme.ascii) {
            (false, _) => "",
            (true, false) => "≥",
            (true, true) => ">=",
        };
        format!("{sign}{}", format::seconds(self.seconds))
    }
}

/// Seconds left of a stage at work; they count down between its reports.
pub fn of_stage(stage: &Stage, now_ms: u64) -> Option<f64> {
    let since = stage.updated_ms.map_or(0, |t| now_ms.saturating_sub(t));
    stage.eta().map(|eta| (eta - since as f64 / 1e3).max(0.0))
}

/// Seconds left of a run at work; `None` where nothing is known.
pub fn of_run(run: &OpenRun, now_ms: u64) -> Option<Left> {
    if run.doing() != Doing::Running {
        return None;
    }
    let before = |stage: &Stage| {
        let former = || run.status.former.iter().find(|f| f.0 == stage.name).map(|f| f64::from(f.1));
        stage.seconds.or_else(former)
    };
    let mut left = Left { seconds: 0.0, at_least: false };
    for stage in &run.view.stages.list {
        let seconds = match stage.state {
            StageState::Waiting => before(stage),
            StageState::Running => of_stage(stage, now_ms).or_else(|| {
                let gone = stage.started_ms.map_or(0.0, |t| now_ms.saturating_sub(t) as f64 / 1e3);
                before(stage).map(|all| (all - gone).max(0.0))
            }),
            _ => Some(0.0),
        };
        match seconds {
            Some(seconds) => left.seconds += seconds,
            None => left.at_least = true,
        }
    }
    (left.seconds > 0.0).then_some(left)
}

#[cfg(test)]
mod tests {
    use rallrec_events::{Event, Record, VERSION};

    use super::*;

    fn run() -> OpenRun {
        let mut run = OpenRun::new(1, "run".into());
        run.opened = true;
        let stages = ["tune", "reason"].map(String::from).to_vec();
        let events = [
            (0, Event::Plan { stages }),
            (0, Event::StageStarted { stage: "tune".into(), key: "k".into() }),
            (1_000, Event::StageProgress { stage: "tune".into(), done: 1, total: 101, unit: String::new() }),
            (2_000, Event::StageProgress { stage: "tune".into(), done: 2, total: 101, unit: String::new() }),
        ];
        for (t_ms, event) in events {
            run.view.apply(&Record { v: VERSION, t_ms, event });
        }
        run
    }

    /// It once stood still between reports, and was the stage's though it read as the run's.
    #[test]
    fn what_is_left_counts_down_and_knows_former_runs() {
        let mut run = run();
        let stage = |run: &OpenRun, now| of_stage(run.view.stages.get("tune").unwrap(), now);
        assert_eq!(stage(&run, 2_000), Some(99.0));
        assert_eq!(stage(&run, 12_000), Some(89.0));
        assert_eq!(stage(&run, 999_000), Some(0.0));
        assert_eq!(of_run(&run, 12_000), Some(Left { seconds: 89.0, at_least: true }));
        run.status.former = vec![("reason".into(), 600)];
        assert_eq!(of_run(&run, 12_000), Some(Left { seconds: 689.0, at_least: false }));
        run.status.alive = Some(false);
        assert_eq!(of_run(&run, 12_000), None, "a killed run takes no time");
    }
}
