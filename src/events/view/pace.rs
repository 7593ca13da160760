//! How far training had come at each step: epochs, seconds of work, units of work. Curves over
//! steps are shown over one of these by it.

use serde::Serialize;

use super::bounded::Footprint;
use super::series::Series;

/// Over steps. All three grow with the steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pace {
    /// Epochs that were through.
    pub epochs: Series,
    /// Seconds of work since the first step that was told; pauses and the time between two
    /// processes are not counted.
    pub seconds: Series,
    /// Units (tokens, edges) since then, from the rates.
    pub units: Series,
    /// Time and step of the latest record; `None` where work does not go on from it.
    #[serde(skip)]
    latest: Option<(u64, u64)>,
}

impl Pace {
    /// A step was told at time `t`.
    pub(super) fn step(&mut self, t: u64, step: u64, rate: Option<f64>) {
        let x = step as f64;
        let worked = self.latest.filter(|(_, before)| step > *before);
        let seconds = worked.map_or(0.0, |(since, _)| t.saturating_sub(since) as f64 / 1e3);
        let units = seconds * rate.filter(|r| r.is_finite()).unwrap_or(0.0).max(0.0);
        for (series, more) in [(&mut self.seconds, seconds), (&mut self.units, units)] {
            // Training that goes on from a checkpoint goes on with the time of that step.
            let before = match series.last() {
                Some((end, y)) if x > end => y,
                _ => along(&points(series), x).unwrap_or(0.0),
            };
            series.push(x, before + more);
        }
        self.latest = Some((t, step));
    }

    /// `epoch` was through after `step` steps.
    pub(super) fn epoch(&mut self, step: u64, epoch: u32) {
        if step > 0 && epoch > 0 {
            self.epochs.push(step as f64, f64::from(epoch));
        }
    }

    /// Work has been held up: what comes next is not counted from here.
    pub(super) fn interrupt(&mut self) {
        self.latest = None;
    }

    /// (step, epochs) with the beginning in front.
    pub fn epoch_points(&self) -> Vec<(f64, f64)> {
        std::iter::once((0.0, 0.0)).chain(self.epochs.points()).collect()
    }
}

impl Footprint for Pace {
    fn held(&self) -> usize {
        self.epochs.held() + self.seconds.held() + self.units.held()
    }
}

/// The points of a series.
pub fn points(series: &Series) -> Vec<(f64, f64)> {
    series.points().collect()
}

/// The value at `x` on the straight lines between the points, and on the first and last line beyond
/// them; `None` without two points, or where `x` does not grow.
pub fn along(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|p| p.0 < x).clamp(1, points.len().checked_sub(1).filter(|last| *last > 0)?);
    let ((x0, y0), (x1, y1)) = (points[after - 1], points[after]);
    (x1 > x0).then(|| y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn seconds_and_units_grow_with_the_steps_and_not_with_pauses() {
        let mut pace = Pace::default();
        for i in 0..5u64 {
            pace.step(1_000 + i * 2_000, i * 10, Some(100.0));
        }
        // A pause of an hour, which is not counted, and on.
        pace.interrupt();
        pace.step(3_600_000, 50, Some(100.0));
        pace.step(3_602_000, 60, Some(100.0));
        assert!(close(along(&points(&pace.seconds), 50.0), 8.0), "{:?}", pace.seconds);
        assert!(close(along(&points(&pace.seconds), 60.0), 10.0), "{:?}", pace.seconds);
        // An hour later, from a checkpoint at step 20 on.
        pace.interrupt();
        for i in 0..3u64 {
            pace.step(7_200_000 + i * 2_000, 30 + i * 10, Some(50.0));
        }
        assert!(close(along(&points(&pace.seconds), 20.0), 4.0));
        assert!(close(along(&points(&pace.seconds), 50.0), 10.0), "{:?}", pace.seconds);
        assert!(close(along(&points(&pace.units), 40.0), 700.0), "{:?}", pace.units);
    }

    #[test]
    fn between_two_points_lies_a_straight_line() {
        let points = [(0.0, 0.0), (10.0, 1.0), (30.0, 2.0)];
        for (x, y) in [(5.0, 0.5), (20.0, 1.5), (50.0, 3.0), (-10.0, -1.0)] {
            assert!(close(along(&points, x), y), "{x}");
        }
        assert_eq!(along(&points[..1], 3.0), None);
        assert_eq!(along(&[(1.0, 2.0), (1.0, 3.0)], 1.0), None);
    }
}
