//! The definitions, in plain loops.

use super::Trust;

/// See the contract of [`super::moments`]: textbook two-pass mean and variance.
pub fn moments(x: &[f64], stride: usize, counts: &[u32], limit: usize, mean: &mut [f64], var: &mut [f64]) {
    for (r, &count) in counts.iter().enumerate() {
        let used = (count as usize).min(limit);
        let mut sum = 0.0;
        for s in 0..used {
            sum += x[r * stride + s];
        }
        mean[r] = sum / used as f64;
        let mut squares = 0.0;
        for s in 0..used {
            squares += (x[r * stride + s] - mean[r]) * (x[r * stride + s] - mean[r]);
        }
        var[r] = squares / used as f64;
    }
}

/// See the contract of [`super::merge`]: the weighted mean as written in the paper.
pub fn merge(means: &[&[f64]], vars: &[&[f64]], trust: &[Trust], epsilon: f64, p: &mut [f64], share: &mut [f64]) {
    for r in 0..p.len() {
        let (mut weights, mut sum) = (0.0, 0.0);
        for e in 0..means.len() {
            let w = trust[e].alpha / (vars[e][r] / trust[e].tau + epsilon);
            weights += w;
            sum += w * means[e][r];
        }
        p[r] = sum / weights;
        share[r] = trust[0].alpha / (vars[0][r] / trust[0].tau + epsilon) / weights;
    }
}
