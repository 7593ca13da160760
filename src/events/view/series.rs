//! A curve of any length in bounded memory: the whole of it as buckets, the recent part point by
//! point.

use std::collections::VecDeque;

use serde::Serialize;

use super::bounded::{Footprint, flat, push};

/// Most buckets of the whole curve.
pub const BUCKETS: usize = 512;
/// Points of the recent part.
pub const RECENT: usize = 512;

/// Neighbouring points of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// Of the first point.
    pub first: f64,
    /// Of the last point.
    pub last: f64,
    /// Points.
    pub n: u64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Sum of the values.
    pub sum: f64,
}
flat!(Bucket);

impl Bucket {
    fn of(x: f64, y: f64) -> Self {
        Self { first: x, last: x, n: 1, min: y, max: y, sum: y }
    }

    fn with(self, other: Self) -> Self {
        Self {
            first: self.first,
            last: other.last,
            n: self.n + other.n,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
        }
    }

    /// Mean of the values.
    pub fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }

    /// Middle of the bucket.
    pub fn x(&self) -> f64 {
        0.5 * (self.first + self.last)
    }
}

/// A curve over steps, epochs or seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    buckets: Vec<Bucket>,
    /// Points that a full bucket holds; doubles each time the buckets run out.
    stride: u64,
    recent: VecDeque<(f64, f64)>,
    /// Points that were no numbers; they are counted, never drawn.
    pub not_finite: u64,
    /// Where the first and the latest of them stood.
    #[serde(skip)]
    pub lost: Option<(f64, f64)>,
}

impl Default for Series {
    fn default() -> Self {
        Self { buckets: Vec::new(), stride: 1, recent: VecDeque::new(), not_finite: 0, lost: None }
    }
}

impl Series {
    /// Adds a point. When `x` lies before the end, the curve was taken up again from there
    /// (training went on from a checkpoint): what it replaces is dropped.
    pub fn push(&mut self, x: f64, y: f64) {
        if !x.is_finite() || !y.is_finite() {
            self.not_finite += 1;
            if x.is_finite() {
                self.lost = Some((self.lost.map_or(x, |l| l.0), x));
            }
            return;
        }
        if self.last().is_some_and(|(end, _)| x <= end) {
            self.rewind(x);
        }
        match self.buckets.last_mut() {
            Some(bucket) if bucket.n < self.stride => *bucket = bucket.with(Bucket::of(x, y)),
            _ => {
                if self.buckets.len() == BUCKETS {
                    self.halve();
                }
                match self.buckets.last_mut() {
                    Some(bucket) if bucket.n < self.stride => *bucket = bucket.with(Bucket::of(x, y)),
                    _ => self.buckets.push(Bucket::of(x, y)),
                }
            }
        }
        push(&mut self.recent, RECENT, (x, y));
    }

    fn rewind(&mut self, x: f64) {
        while self.buckets.last().is_some_and(|b| b.first >= x) {
            self.buckets.pop();
        }
        // A bucket that straddles the place keeps its values: they cannot be separated any more.
        if let Some(bucket) = self.buckets.last_mut() {
            bucket.last = bucket.last.min(x);
        }
        while self.recent.back().is_some_and(|(at, _)| *at >= x) {
            self.recent.pop_back();
        }
    }

    fn halve(&mut self) {
        self.stride = self.stride.saturating_mul(2);
        self.buckets = self
            .buckets
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => a.with(*b),
                rest => rest[0],
            })
            .collect();
    }

    /// The whole curve, oldest first.
    pub fn whole(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The latest points, exactly, oldest first.
    pub fn recent(&self) -> &VecDeque<(f64, f64)> {
        &self.recent
    }

    /// The curve as points: the middles of the buckets, and the recent part exactly.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let from = self.recent.front().map_or(f64::INFINITY, |p| p.0);
        let before = self.buckets.iter().filter(move |b| b.last < from).map(|b| (b.x(), b.mean()));
        before.chain(self.recent.iter().copied())
    }

    /// The latest point.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.recent.back().copied().or_else(|| self.buckets.last().map(|b| (b.last, b.mean())))
    }

    /// The latest point was no number.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some_and(|(_, latest)| self.last().is_none_or(|(end, _)| latest >= end))
    }

    /// Points in all.
    pub fn len(&self) -> u64 {
        self.buckets.iter().map(|b| b.n).sum()
    }

    /// No point yet.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Smallest and largest value.
    pub fn range(&self) -> Option<(f64, f64)> {
        let low = self.buckets.iter().map(|b| b.min).reduce(f64::min)?;
        let high = self.buckets.iter().map(|b| b.max).reduce(f64::max)?;
        Some((low, high))
    }
}

impl Footprint for Series {
    fn held(&self) -> usize {
        self.buckets.held() + self.recent.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_extremes_its_mean_and_its_end() {
        let mut series = Series::default();
        let value = |i: u64| if i == 40_000 { 9.0 } else { (i % 10) as f64 * 0.1 };
        for i in 0..100_000 {
            series.push(i as f64, value(i));
        }
        assert_eq!(series.len(), 100_000);
        assert!(series.whole().len() <= BUCKETS && series.whole().len() >= BUCKETS / 4);
        assert_eq!(series.range(), Some((0.0, 9.0)));
        let sum: f64 = series.whole().iter().map(|b| b.sum).sum();
        let exact: f64 = (0..100_000).map(value).sum();
        assert!((sum - exact).abs() < 1e-6, "{sum} {exact}");
        assert_eq!(series.recent().len(), RECENT);
        assert_eq!(series.last(), Some((99_999.0, value(99_999))));
        assert!(series.whole().windows(2).all(|w| w[0].last < w[1].first));
    }

    #[test]
    fn training_that_goes_on_from_a_checkpoint_replaces_what_came_after_it() {
        let mut series = Series::default();
        (1..=100).for_each(|i| series.push(f64::from(i), 1.0));
        (51..=80).for_each(|i| series.push(f64::from(i), 2.0));
        assert_eq!(series.len(), 80);
        assert_eq!(series.last(), Some((80.0, 2.0)));
        assert_eq!(series.recent().iter().filter(|p| p.1 == 1.0).count(), 50);
    }

    #[test]
    fn what_is_no_number_is_counted_and_not_drawn() {
        let mut series = Series::default();
        series.push(1.0, f64::NAN);
        series.push(f64::INFINITY, 1.0);
        assert!(series.is_empty() && series.last().is_none() && series.range().is_none());
        assert_eq!(series.not_finite, 2);
        assert!(series.is_lost());
        series.push(2.0, 1.0);
        assert_eq!((series.is_lost(), series.lost), (false, Some((1.0, 1.0))));
    }
}
