//! Goals, and whether they were reached.

use serde::Serialize;

use crate::ops::registry::Goal;

/// A goal beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// In words.
    pub goal: String,
    /// The share that is wanted: a speed in units of what it is held against.
    pub wanted: f64,
    /// The share that was reached; nothing where times mean nothing.
    pub got: Option<f64>,
    /// Whether it was reached.
    pub reached: Option<bool>,
}

/// Judges `seconds`; `beside` is the work beside it, with what it is called. `None` of the seconds
/// leaves it open.
pub(super) fn judge(goal: Goal, seconds: Option<f64>, floor: f64, beside: Option<(&str, f64)>) -> Verdict {
    let (goal, wanted, held) = match goal {
        Goal::Floor(share) => (format!("{:.0} % of the floor", 100.0 * share), share, Some(floor)),
        Goal::Beside(share) => {
            let (what, time) = beside.map_or(("nothing", None), |(what, time)| (what, Some(time)));
            (format!("{share:.2} x the speed of {what}"), share, time)
        }
        Goal::Seconds(most) => (format!("{:.3} ms", 1e3 * most), 1.0, Some(most)),
    };
    let got = seconds.and_then(|seconds| Some(held? / seconds)).filter(|share| share.is_finite());
    Verdict { goal, wanted, got, reached: got.map(|got| got >= wanted) }
}

impl Verdict {
    /// `reached (91 %)`, `missed (71 %, 0.78 of it)`, or that nothing can be said.
    pub fn text(&self) -> String {
        let held = match (self.got, self.reached) {
            (Some(got), Some(true)) => format!("reached ({:.0} %)", 100.0 * got),
            (Some(got), _) => format!("missed ({:.0} %, {:.2} of the goal)", 100.0 * got, got / self.wanted),
            (None, _) => "not judged here".to_owned(),
        };
        format!("{}: {held}", self.goal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_border_and_missed_below() {
        let judge = |goal: Goal, seconds| super::judge(goal, Some(seconds), 0.5, Some(("the other", 0.75)));
        let at = judge(Goal::Floor(0.5), 1.0);
        assert_eq!((at.got, at.reached), (Some(0.5), Some(true)));
        let below = judge(Goal::Floor(0.5), 2.0);
        assert_eq!((below.got, below.reached), (Some(0.25), Some(false)));
        assert_eq!(below.text(), "50 % of the floor: missed (25 %, 0.50 of the goal)");
        assert_eq!(judge(Goal::Beside(0.75), 1.0).reached, Some(true));
        assert_eq!(judge(Goal::Beside(0.76), 1.0).reached, Some(false));
        assert_eq!(judge(Goal::Seconds(1.5e-3), 1.4e-3).reached, Some(true));
        assert_eq!(judge(Goal::Seconds(1.5e-3), 1.6e-3).reached, Some(false));
        // A time that is no number reaches nothing, and neither does one that means nothing.
        assert_eq!(judge(Goal::Floor(0.5), f64::NAN).reached, None);
        assert_eq!(super::judge(Goal::Floor(0.5), None, 0.5, None).reached, None);
        assert_eq!(super::judge(Goal::Beside(0.5), Some(1.0), 0.5, None).reached, None);
    }
}
