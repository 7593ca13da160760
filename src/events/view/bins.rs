//! Histograms and what is counted in them: fixed bins, so that memory does not grow with the run.

use serde::Serialize;

use super::bounded::{Footprint, flat};

/// How values are spread over bins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal widths from `low` to `high`.
    Linear,
    /// Equal ratios; `low` above 0.
    Log,
}

/// One bin.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// Entries.
    pub n: u64,
    /// Of them right (or positive).
    pub hits: u64,
    /// Sum of what was put in beside the place (for a reliability diagram the probabilities).
    pub sum: f64,
}
flat!(Bin);

/// Equal bins over a range; what lies outside falls into the first or last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bins {
    low: f64,
    high: f64,
    scale: Scale,
    bins: Vec<Bin>,
    /// Sum of the places themselves.
    places: f64,
}

impl Bins {
    /// `count` bins of equal width.
    pub fn linear(low: f64, high: f64, count: usize) -> Self {
        Self { low, high, scale: Scale::Linear, bins: vec![Bin::default(); count.max(1)], places: 0.0 }
    }

    /// `count` bins of equal ratio; `low` above 0.
    pub fn log(low: f64, high: f64, count: usize) -> Self {
        Self { low, high, scale: Scale::Log, bins: vec![Bin::default(); count.max(1)], places: 0.0 }
    }

    fn place(&self, x: f64) -> Option<usize> {
        let share = match self.scale {
            _ if x.is_nan() => return None,
            Scale::Linear => (x - self.low) / (self.high - self.low),
            Scale::Log => (x.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        Some(((share * self.bins.len() as f64) as usize).min(self.bins.len() - 1))
    }

    /// Counts an entry at `x`.
    pub fn add(&mut self, x: f64, hit: bool, value: f64) {
        if let Some(bin) = self.place(x).and_then(|i| self.bins.get_mut(i)) {
            bin.n = bin.n.saturating_add(1);
            bin.hits = bin.hits.saturating_add(u64::from(hit));
            bin.sum += if value.is_finite() { value } else { 0.0 };
            self.places += if x.is_finite() { x } else { 0.0 };
        }
    }

    /// Takes back what [`Bins::add`] counted.
    pub fn take_back(&mut self, x: f64, hit: bool, value: f64) {
        if let Some(bin) = self.place(x).and_then(|i| self.bins.get_mut(i)) {
            bin.n = bin.n.saturating_sub(1);
            bin.hits = bin.hits.saturating_sub(u64::from(hit));
            bin.sum -= if value.is_finite() { value } else { 0.0 };
            self.places -= if x.is_finite() { x } else { 0.0 };
        }
    }

    /// The bins in order.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// From where to where bin `i` reaches.
    pub fn edges(&self, i: usize) -> (f64, f64) {
        let at = |i: usize| {
            let share = i as f64 / self.bins.len() as f64;
            match self.scale {
                Scale::Linear => self.low + share * (self.high - self.low),
                Scale::Log => self.low * (self.high / self.low).powf(share),
            }
        };
        (at(i), at(i + 1))
    }

    /// Middle of bin `i`.
    pub fn middle(&self, i: usize) -> f64 {
        let (a, b) = self.edges(i);
        if self.scale == Scale::Log { (a * b).sqrt() } else { 0.5 * (a + b) }
    }

    /// Entries in all.
    pub fn n(&self) -> u64 {
        self.bins.iter().map(|b| b.n).sum()
    }

    /// Mean of the places, exactly, where there is an entry.
    pub fn mean(&self) -> Option<f64> {
        (self.n() > 0).then(|| self.places / self.n() as f64)
    }

    /// Share of hits around every filled bin: (middle, share, entries), over the nearest bins that
    /// together hold at least `window` entries (all of them, when there are fewer).
    pub fn moving(&self, window: u64) -> Vec<(f64, f64, u64)> {
        let mut out = Vec::new();
        for i in (0..self.bins.len()).filter(|&i| self.bins[i].n > 0) {
            let (mut n, mut hits, mut step) = (self.bins[i].n, self.bins[i].hits, 1);
            while n < window && (i >= step || i + step < self.bins.len()) {
                for bin in [i.checked_sub(step), Some(i + step)].into_iter().flatten().filter_map(|j| self.bins.get(j))
                {
                    n += bin.n;
                    hits += bin.hits;
                }
                step += 1;
            }
            out.push((self.middle(i), hits as f64 / n as f64, n));
        }
        out
    }
}

impl Footprint for Bins {
    fn held(&self) -> usize {
        self.bins.held()
    }
}

/// Alone the counts of [`Bins`].
pub type Histogram = Bins;

/// Predicted against observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability(pub Bins);

impl Default for Reliability {
    fn default() -> Self {
        Self(Bins::linear(0.0, 1.0, 15))
    }
}

impl Reliability {
    /// One prediction.
    pub fn add(&mut self, p: f64, label: bool) {
        self.0.add(p, label, p);
    }

    /// (mean prediction, observed share, entries) of every filled bin.
    pub fn points(&self) -> Vec<(f64, f64, u64)> {
        let filled = self.0.bins().iter().filter(|b| b.n > 0);
        filled.map(|b| (b.sum / b.n as f64, b.hits as f64 / b.n as f64, b.n)).collect()
    }

    /// Expected calibration error: mean distance of the two, weighted by entries.
    pub fn ece(&self) -> Option<f64> {
        let n = self.0.n();
        let sum: f64 = self.points().iter().map(|(p, seen, n)| (p - seen).abs() * *n as f64).sum();
        (n > 0).then(|| sum / n as f64)
    }
}

impl Footprint for Reliability {
    fn held(&self) -> usize {
        self.0.held()
    }
}

/// A running mean.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Mean {
    /// Entries.
    pub n: u64,
    /// Their sum.
    pub sum: f64,
    /// Largest of them.
    pub max: Option<f64>,
    /// Smallest of them.
    pub min: Option<f64>,
}
flat!(Mean);

impl Mean {
    /// Counts `x`, unless it is no number.
    pub fn add(&mut self, x: f64) {
        if x.is_finite() {
            self.n += 1;
            self.sum += x;
            self.max = Some(self.max.map_or(x, |m| m.max(x)));
            self.min = Some(self.min.map_or(x, |m| m.min(x)));
        }
    }

    /// The mean, where there is an entry.
    pub fn value(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dashboard once showed the mean of the bins' middles.
    #[test]
    fn the_mean_is_that_of_the_entries() {
        let mut bins = Bins::linear(0.0, 0.25, 50);
        assert_eq!(bins.mean(), None);
        for x in [0.0, 0.0, 0.0, 0.004] {
            bins.add(x, false, 0.5);
        }
        bins.add(0.2, false, 0.5);
        bins.take_back(0.2, false, 0.5);
        assert!(bins.mean().is_some_and(|m| (m - 0.001).abs() < 1e-12), "{:?}", bins.mean());
    }

    #[test]
    fn bins_hold_their_range_and_take_back_what_they_got() {
        let mut bins = Bins::linear(0.0, 1.0, 10);
        for (x, hit) in [(0.0, true), (0.05, false), (0.95, true), (1.0, true), (-3.0, false), (7.0, true)] {
            bins.add(x, hit, x);
        }
        bins.add(f64::NAN, true, 1.0);
        assert_eq!(bins.n(), 6);
        assert_eq!((bins.bins()[0].n, bins.bins()[0].hits), (3, 1));
        assert_eq!((bins.bins()[9].n, bins.bins()[9].hits), (3, 3));
        bins.take_back(0.05, false, 0.05);
        assert_eq!((bins.bins()[0].n, bins.bins()[0].hits), (2, 1));
        let log = Bins::log(1.0, 1024.0, 10);
        let (a, b) = log.edges(3);
        assert!((a - 8.0).abs() < 1e-9 && (b - 16.0).abs() < 1e-9, "{a} {b}");
        assert_eq!(log.place(9.0), Some(3));
    }

    #[test]
    fn a_moving_share_takes_neighbours_until_there_are_enough() {
        let mut bins = Bins::linear(0.0, 1.0, 10);
        (0..10).for_each(|_| bins.add(0.05, true, 0.0));
        (0..10).for_each(|_| bins.add(0.95, false, 0.0));
        let near = bins.moving(10);
        assert_eq!(near.iter().map(|p| p.1).collect::<Vec<_>>(), [1.0, 0.0]);
        let wide = bins.moving(11);
        assert_eq!(wide.iter().map(|p| (p.1, p.2)).collect::<Vec<_>>(), [(0.5, 20), (0.5, 20)]);
        assert_eq!(bins.moving(1000).len(), 2);
    }

    #[test]
    fn calibration_error_is_that_of_the_definition() {
        let mut r = Reliability::default();
        for i in 0..10 {
            r.add(0.9, i < 5);
        }
        r.add(0.1, false);
        // (10 x |0.9 - 0.5| + 1 x |0.1 - 0|) / 11.
        assert!((r.ece().unwrap() - 4.1 / 11.0).abs() < 1e-12);
    }
}
