//! Consistency merging of experts: mean and variance of each row's samples, then the weighted mean of the experts.
//!
//! Contract, for `rows` rows:
//! - [`moments`]: `x` is rows x stride, row-major; of row r the first `min(counts[r], limit)` values are used, at
//!   least one. Writes mean and *population* variance (divided by the number used). Sums run in the order of the
//!   samples, so every implementation and thread count gives the same bits for the same arithmetic.
//! - [`merge`]: per row and expert e a mean, a variance and a weight `alpha_e / (var_e / tau_e + epsilon)`; writes
//!   `p = sum w_e mean_e / sum w_e` and the share `w_0 / sum w_e` of the first expert. epsilon > 0, alpha >= 0 with
//!   at least one above 0, tau > 0, variances >= 0 (+inf allowed: weight 0).
//!
//! Bad shapes are a programming error and panic with the shapes; values are checked by `crate::merge`.

mod cpu;
pub mod cuda;
pub mod oracle;

pub use cpu::{merge, moments};

use crate::tensor::Cost;

/// Weight parameters of one expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trust {
    /// Numerator of the weight: how much the expert is trusted a priori.
    pub alpha: f64,
    /// Divisor of its variance.
    pub tau: f64,
}

/// Cost of [`moments`] over `values` used samples in `rows` rows: every sample is read once.
pub fn moments_cost(rows: usize, values: usize) -> Cost {
    Cost { bytes: 8.0 * (values + 2 * rows) as f64 + 4.0 * rows as f64, flops: 4.0 * values as f64 }
}

/// Cost of [`merge`] of `experts` experts over `rows` rows.
pub fn merge_cost(rows: usize, experts: usize) -> Cost {
    let (r, e) = (rows as f64, experts as f64);
    Cost { bytes: 8.0 * r * (2.0 * e + 2.0), flops: r * (6.0 * e + 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn moments_meet_the_oracle(
            rows in proptest::collection::vec(proptest::collection::vec(0f64..1.0, 1..20), 1..50), limit in 1usize..20
        ) {
            let stride = rows.iter().map(Vec::len).max().unwrap();
            // What lies beyond a row's count must not be read into the result.
            let mut x = vec![f64::NAN; rows.len() * stride];
            for (to, from) in x.chunks_mut(stride).zip(&rows) {
                to[..from.len()].copy_from_slice(from);
            }
            let counts: Vec<u32> = rows.iter().map(|r| r.len() as u32).collect();
            let n = rows.len();
            let (mut mean, mut var, mut om, mut ov) = (vec![0.0; n], vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            moments(&x, stride, &counts, limit, &mut mean, &mut var);
            oracle::moments(&x, stride, &counts, limit, &mut om, &mut ov);
            for r in 0..n {
                prop_assert!((mean[r] - om[r]).abs() <= 1e-14, "row {}: {} {}", r, mean[r], om[r]);
                prop_assert!((var[r] - ov[r]).abs() <= 1e-14 && var[r] >= 0.0, "row {}: {} {}", r, var[r], ov[r]);
            }
        }

        #[test]
        fn merge_meets_the_oracle(
            rows in proptest::collection::vec((0f64..1.0, 0f64..0.3, 0f64..1.0, 0f64..0.3, 0f64..1.0, 0f64..0.3), 1..50),
            alpha in 0.01f64..10.0, tau in 0.1f64..10.0, epsilon in 1e-6f64..1e-1
        ) {
            let n = rows.len();
            let means = [rows.iter().map(|r| r.0).collect(), rows.iter().map(|r| r.2).collect::<Vec<_>>(),
                rows.iter().map(|r| r.4).collect()];
            let vars = [rows.iter().map(|r| r.1).collect(), rows.iter().map(|r| r.3).collect::<Vec<_>>(),
                rows.iter().map(|r| r.5).collect()];
            let trust = [Trust { alpha, tau }, Trust { alpha: 1.0, tau: 1.0 }, Trust { alpha: 0.5, tau: 2.0 }];
            for experts in 1..=3 {
                let m: Vec<&[f64]> = means[..experts].iter().map(Vec::as_slice).collect();
                let v: Vec<&[f64]> = vars[..experts].iter().map(Vec::as_slice).collect();
                let (mut p, mut share, mut op, mut os) = (vec![0.0; n], vec![0.0; n], vec![0.0; n], vec![0.0; n]);
                merge(&m, &v, &trust[..experts], epsilon, &mut p, &mut share);
                oracle::merge(&m, &v, &trust[..experts], epsilon, &mut op, &mut os);
                for r in 0..n {
                    prop_assert!((p[r] - op[r]).abs() <= 1e-13, "row {}: {} {}", r, p[r], op[r]);
                    prop_assert!((share[r] - os[r]).abs() <= 1e-13, "row {}: {} {}", r, share[r], os[r]);
                }
            }
        }
    }
}
