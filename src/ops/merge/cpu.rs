//! CPU versions: rows in parallel, samples in order.

use rayon::prelude::*;

use super::{CLIP, Experts, Trust};
use crate::tensor::profile::timed;

/// Rows a task: small enough to balance, large enough to be worth a task.
const ROWS: usize = 1024;

/// Mean and population variance of the first `min(counts[r], limit)` samples of each row, as
/// [`super::moments`].
pub(super) fn moments(x: &[f64], stride: usize, counts: &[u32], limit: usize, mean: &mut [f64], var: &mut [f64]) {
    let _timed = timed("merge", || super::moments_cost(mean.len(), x.len()));
    let chunks = mean.par_chunks_mut(ROWS).zip(var.par_chunks_mut(ROWS)).enumerate();
    chunks.for_each(|(c, (mean, var))| {
        for (i, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
            let r = c * ROWS + i;
            let used = (counts[r] as usize).min(limit);
            let row = &x[r * stride..][..used];
            // Two passes over values that are in cache: no cancellation, and exactly 0 for equal
            // samples.
            let first = row[0];
            let m = first + row.iter().map(|v| v - first).sum::<f64>() / used as f64;
            *mean = m;
            *var = row.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / used as f64;
        }
    });
}

/// The weighted mean of the experts and the first expert's share, as [`super::merge`].
///
/// Computed as a walk from the last expert's mean towards the others, which keeps equal means
/// exact, and held between the smallest and the largest mean against rounding.
pub(super) fn merge(
    means: &[&[f64]],
    vars: &[&[f64]],
    trust: &[Trust],
    epsilon: f64,
    p: &mut [f64],
    share: &mut [f64],
) {
    let _timed = timed("merge", || super::merge_cost(p.len(), means.len()));
    let experts = means.len();
    let chunks = p.par_chunks_mut(ROWS).zip(share.par_chunks_mut(ROWS)).enumerate();
    chunks.for_each(|(c, (p, share))| {
        for (i, (p, share)) in p.iter_mut().zip(share).enumerate() {
            let r = c * ROWS + i;
            let weight = |e: usize| trust[e].alpha / (vars[e][r] / trust[e].tau + epsilon);
            let total: f64 = (0..experts).map(weight).sum();
            let base = means[experts - 1][r];
            let (mut at, mut low, mut high) = (base, base, base);
            for (e, mean) in means.iter().enumerate().take(experts - 1) {
                at += weight(e) / total * (mean[r] - base);
                (low, high) = (low.min(mean[r]), high.max(mean[r]));
            }
            *p = at.clamp(low, high);
            *share = weight(0) / total;
        }
    });
}

/// As [`super::sweep`].
pub(super) fn sweep(of: Experts<'_>, grid: &[(f64, f64)], labels: &[u8]) -> Vec<f64> {
    let rows = labels.len();
    let (mut p, mut share, mut trust) = (vec![0.0; rows], vec![0.0; rows], of.trust.to_vec());
    let mut loss = |&(alpha, epsilon): &(f64, f64)| {
        trust[0].alpha = alpha;
        merge(of.means, of.vars, &trust, epsilon, &mut p, &mut share);
        let each = |(p, &label): (&f64, &u8)| {
            let p = p.clamp(CLIP, 1.0 - CLIP);
            -(if label == 1 { p } else { 1.0 - p }).ln()
        };
        p.iter().zip(labels).map(each).sum::<f64>() / rows.max(1) as f64
    };
    grid.iter().map(&mut loss).collect()
}
