//! Do the probabilities mean what they say? Reliability over bins of equal mass, and its mean gap.

use serde::{Deserialize, Serialize};

use super::check;
use crate::error::{Error, Result};

/// One bin of the reliability table.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bin {
    /// Rows in it.
    pub rows: usize,
    /// Mean prediction.
    pub predicted: f64,
    /// Share of positives.
    pub observed: f64,
}

/// Rows sorted by prediction, ready to be binned under any row weights (as a bootstrap needs).
pub(super) struct Sorted {
    /// (original row, prediction, label), ascending in prediction.
    rows: Vec<(u32, f64, bool)>,
}

impl Sorted {
    pub(super) fn new(labels: &[bool], p: &[f64]) -> Self {
        let mut rows: Vec<_> = labels.iter().zip(p).enumerate().map(|(i, (&y, &p))| (i as u32, p, y)).collect();
        rows.sort_by(|a, b| a.1.total_cmp(&b.1));
        Self { rows }
    }

    /// Sums per bin: (weight, weighted predictions, weighted positives). Rows with the same
    /// prediction go to the same bin, the one that the middle of their mass falls in, so the order
    /// of rows cannot matter.
    pub(super) fn sums(&self, bins: usize, weight: impl Fn(usize) -> u64) -> Vec<(u64, f64, u64)> {
        let total: u64 = self.rows.iter().map(|r| weight(r.0 as usize)).sum();
        let mut out = vec![(0u64, 0.0, 0u64); bins];
        let (mut before, mut from) = (0u64, 0);
        while from < self.rows.len() {
            let p = self.rows[from].1;
            let (mut mass, mut positives, mut to) = (0, 0, from);
            while to < self.rows.len() && self.rows[to].1 == p {
                let w = weight(self.rows[to].0 as usize);
                mass += w;
                positives += if self.rows[to].2 { w } else { 0 };
                to += 1;
            }
            if mass > 0 {
                let bin = ((2 * before + mass) * bins as u64 / (2 * total)) as usize;
                let bin = &mut out[bin.min(bins - 1)];
                *bin = (bin.0 + mass, bin.1 + mass as f64 * p, bin.2 + positives);
            }
            before += mass;
            from = to;
        }
        out
    }
}

/// Mean over rows of |mean prediction - share of positives| of the row's bin.
pub(super) fn gap(sums: &[(u64, f64, u64)]) -> f64 {
    let total: u64 = sums.iter().map(|s| s.0).sum();
    sums.iter().map(|s| (s.1 - s.2 as f64).abs()).sum::<f64>() / total as f64
}

pub(super) fn check_bins(bins: u32) -> Result<usize> {
    if (1..=10_000).contains(&bins) {
        Ok(bins as usize)
    } else {
        Err(Error::usage("evaluate.bins", format!("{bins} bins")).next("choose 1 to 10000; 15 is usual"))
    }
}

/// The reliability table: `bins` bins of (nearly) equal mass, ascending; empty ones are left out.
///
/// # Errors
/// Empty input, different lengths, a value that is no probability, a number of bins outside
/// 1..=10000.
pub fn reliability(labels: &[bool], p: &[f64], bins: u32) -> Result<Vec<Bin>> {
    check::probabilities("calibration", labels, p)?;
    let sums = Sorted::new(labels, p).sums(check_bins(bins)?, |_| 1);
    let bin = |s: &(u64, f64, u64)| {
        let n = s.0 as f64;
        Bin { rows: s.0 as usize, predicted: s.1 / n, observed: s.2 as f64 / n }
    };
    Ok(sums.iter().filter(|s| s.0 > 0).map(bin).collect())
}

/// Expected calibration error over `bins` bins of equal mass. It is biased upwards for few rows a
/// bin.
///
/// # Errors
/// As [`reliability`].
pub fn ece(labels: &[bool], p: &[f64], bins: u32) -> Result<f64> {
    check::probabilities("calibration", labels, p)?;
    Ok(gap(&Sorted::new(labels, p).sums(check_bins(bins)?, |_| 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let y = [false, true, false, true];
        let p = [0.1, 0.2, 0.7, 0.9];
        // Bins {0.1, 0.2} and {0.7, 0.9}: gaps |0.15 - 0.5| and |0.8 - 0.5|.
        assert!((ece(&y, &p, 2).unwrap() - 0.325).abs() <= 1e-12);
        assert!((ece(&y, &p, 1).unwrap() - (0.475f64 - 0.5).abs()).abs() <= 1e-12);
        let table = reliability(&y, &p, 2).unwrap();
        assert_eq!(table.iter().map(|b| b.rows).collect::<Vec<_>>(), [2, 2]);
        assert!((table[1].predicted - 0.8).abs() <= 1e-12 && (table[1].observed - 0.5).abs() <= 1e-12);
        // A constant is one bin.
        assert!((ece(&y, &[0.3; 4], 10).unwrap() - 0.2).abs() <= 1e-12);
        assert_eq!(reliability(&y, &[0.3; 4], 10).unwrap().len(), 1);
        assert!(ece(&y, &p, 0).is_err() && ece(&[], &[], 5).is_err());
    }

    proptest! {
        #[test]
        fn bins_hold_every_row_once_and_order_is_irrelevant(
            rows in proptest::collection::vec((any::<bool>(), 0u8..20), 1..120), bins in 1u32..30
        ) {
            let split = |rows: &[(bool, u8)]| -> (Vec<bool>, Vec<f64>) {
                rows.iter().map(|r| (r.0, f64::from(r.1) / 20.0)).unzip()
            };
            let (y, p) = split(&rows);
            let table = reliability(&y, &p, bins).unwrap();
            prop_assert_eq!(table.iter().map(|b| b.rows).sum::<usize>(), y.len());
            prop_assert!(table.windows(2).all(|w| w[0].predicted < w[1].predicted));
            let mut turned = rows.clone();
            turned.reverse();
            let (yt, pt) = split(&turned);
            prop_assert!((ece(&y, &p, bins).unwrap() - ece(&yt, &pt, bins).unwrap()).abs() <= 1e-12);
        }
    }
}
