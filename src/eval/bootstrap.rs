//! Resampling with replacement, of rows or of whole clusters of rows. Replicate `b` is a pure
//! function of (seed, b, number of clusters), so every model of a table is measured on the same
//! resamples (differences are paired) and threads do not matter.
//!
//! Where rows are clustered by user and by item, users and items are drawn apart, and a row is
//! there as often as its user times as often as its item: the pigeonhole bootstrap of Owen (Annals
//! of Applied Statistics 1, 2007). It counts what is a row's own three times, so it is a little
//! wide where users and items have few rows each.

use rayon::prelude::*;

use super::clusters::{Clusters, Partition};
use crate::rng::{Rng, Use};

/// How often each of `n` groups (n > 0) is drawn in replicate `b`. `way`: 0 for users (or rows), 1
/// for items, whose draws are independent.
fn counts(seed: u64, b: u32, way: u32, n: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed, Use::Bootstrap, b, way);
    let mut counts = vec![0; n];
    for _ in 0..n {
        counts[rng.below(n as u32) as usize] += 1;
    }
    counts
}

/// `statistic(counts)` for each replicate, in order, where `counts` says how often each row is
/// drawn: as often as its cluster. With items it can be that no row is drawn at all.
pub fn replicates<T: Send>(
    seed: u64,
    clusters: &Clusters,
    replicates: u32,
    statistic: impl Fn(&[u32]) -> T + Sync,
) -> Vec<T> {
    let drawn = |b| {
        let drawn = |way: u32, part: &Partition| -> Vec<u32> {
            let of_group = counts(seed, b, way, part.count());
            part.of_rows().iter().map(|&group| of_group[group as usize]).collect()
        };
        let mut of_row = drawn(0, clusters.users());
        if let Some(crossed) = clusters.crossed() {
            of_row.iter_mut().zip(drawn(1, &crossed.items)).for_each(|(row, item)| *row *= item);
        }
        statistic(&of_row)
    };
    (0..replicates).into_par_iter().map(drawn).collect()
}

/// The mean of `rows` under `counts`, which draw at least one of them.
pub fn mean(counts: &[u32], rows: &[f64]) -> f64 {
    let drawn: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    counts.iter().zip(rows).map(|(&c, &x)| f64::from(c) * x).sum::<f64>() / drawn as f64
}

/// Quantile `q` of `values` by linear interpolation; `None` when there are none.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = q * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Two-sided p value that the true difference is zero: the share of replicates that stray from the
/// observed difference by at least as much as that differs from zero; never below 1 / (replicates +
/// 1).
pub fn p_value(observed: f64, replicates: &[f64]) -> f64 {
    // A hair of slack, so that a replicate equal to zero up to rounding counts.
    let bar = observed.abs() * (1.0 - 1e-12);
    let beyond = replicates.iter().filter(|&&d| (d - observed).abs() >= bar).count();
    (beyond + 1) as f64 / (replicates.len() + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_are_fixed_by_the_seed_and_spread_as_they_should() {
        assert_eq!(counts(1, 3, 0, 50), counts(1, 3, 0, 50));
        assert_ne!(counts(1, 3, 0, 50), counts(2, 3, 0, 50));
        assert_ne!(counts(1, 3, 0, 50), counts(1, 3, 1, 50));
        assert_eq!(counts(1, 0, 0, 50).iter().sum::<u32>(), 50);
        // The mean's standard error is sd / sqrt(n): 100 rows of which half are 1 give 0.05.
        let rows: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let means = replicates(7, &Clusters::single(100), 2000, |c| mean(c, &rows));
        let centre = means.iter().sum::<f64>() / 2000.0;
        let sd = (means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / 2000.0).sqrt();
        assert!((centre - 0.5).abs() <= 0.005 && (sd - 0.05).abs() <= 0.004, "{centre} {sd}");
        // Ten users whose ten rows are all alike: the error is that of ten values.
        let users: Vec<u32> = (0..100).map(|i| i / 10).collect();
        let rows: Vec<f64> = users.iter().map(|user| f64::from(user % 2)).collect();
        let means = replicates(7, &Clusters::by_user(&users), 2000, |c| mean(c, &rows));
        let sd = (means.iter().map(|m| (m - 0.5).powi(2)).sum::<f64>() / 2000.0).sqrt();
        assert!((sd - 0.5 / 10f64.sqrt()).abs() <= 0.01, "{sd}");
        // 30 users by 20 items, each pair once; a row is its user's value plus its item's. The
        // variance of the mean is the sum of both means' variances.
        let (users, items): (Vec<u32>, Vec<u32>) = (0..600).map(|i| (i % 30, i / 30)).unzip();
        let rows: Vec<f64> = users.iter().zip(&items).map(|(u, i)| f64::from(u % 2 + 2 * (i % 2))).collect();
        let means = replicates(7, &Clusters::by_user_and_item(&users, &items), 4000, |c| mean(c, &rows));
        let centre = means.iter().sum::<f64>() / 4000.0;
        let sd = (means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / 4000.0).sqrt();
        let want = (0.25 / 30.0 + 1.0 / 20.0f64).sqrt();
        assert!((centre - 1.5).abs() <= 0.02 && (sd / want - 1.0).abs() <= 0.05, "{centre} {sd} {want}");
    }

    #[test]
    fn quantiles_and_p_values() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.25), Some(1.25));
        assert_eq!(quantile(&[], 0.5), None);
        assert!((p_value(0.0, &[0.1, -0.1]) - 1.0).abs() <= 1e-12);
        assert!((p_value(5.0, &[4.9, 5.0, 5.1]) - 0.25).abs() <= 1e-12);
    }
}
