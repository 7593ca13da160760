//! Consistency merging of experts: mean and variance of each row's samples, then the weighted mean
//! of the experts.
//!
//! Contract, for `rows` rows:
//! - [`moments`]: `x` is rows x stride, row-major; of row r the first `min(counts[r], limit)`
//!   values are used, at least one. Writes mean and *population* variance (divided by the number
//!   used). Sums run in the order of the samples, so every implementation and thread count gives
//!   the same bits for the same arithmetic.
//! - [`merge`]: per row and expert e a mean, a variance and a weight `alpha_e / (var_e / tau_e +
//!   epsilon)`; writes `p = sum w_e mean_e / sum w_e` and the share `w_0 / sum w_e` of the first
//!   expert. epsilon > 0, alpha >= 0 with at least one above 0, tau > 0, variances >= 0 (+inf
//!   allowed: weight 0).
//!
//! - [`sweep`]: the mean log loss of the merged rows for every point (alpha of the first expert,
//!   epsilon) of a grid.
//!
//! Bad shapes are errors that name them; values are checked by `crate::merge`. Values come from the
//! CPU and go back there; on a device with kernels they are copied.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Weight parameters of one expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trust {
    /// Numerator of the weight: how much the expert is trusted a priori.
    pub alpha: f64,
    /// Divisor of its variance.
    pub tau: f64,
}

/// Samples of rows: `rows x stride` values, of row r the first `counts[r]`.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// Row-major.
    pub values: &'a [f64],
    /// Values from one row to the next.
    pub stride: usize,
    /// Samples of each row.
    pub counts: &'a [u32],
}

/// Mean and population variance of the first `min(counts[r], limit)` samples of each row.
///
/// # Errors
/// Shapes that do not fit, a row without samples, a limit of 0, a device that fails.
pub fn moments(device: &Device, of: Samples<'_>, limit: usize, mean: &mut [f64], var: &mut [f64]) -> Result<Cost> {
    let Samples { values, stride, counts } = of;
    let n = counts.len();
    if (values.len(), mean.len(), var.len()) != (n * stride, n, n) || limit == 0 {
        let what = format!("{} samples for {n} rows of {stride}, limit {limit}", values.len());
        return Err(Error::failed("moments", what));
    }
    let fits = |&c: &u32| (1..=stride).contains(&(c as usize).min(limit));
    if let Some(r) = counts.iter().position(|c| !fits(c)) {
        return Err(Error::failed("moments", format!("row {r} has {} samples of {stride}", counts[r])));
    }
    match device {
        Device::Cpu => {
            cpu::moments(values, stride, counts, limit, mean, var);
            Ok(moments_cost(n, values.len()))
        }
        Device::Kernels(device) => {
            let (x, counts) = (device.upload(values, "samples")?, device.upload(counts, "sample counts")?);
            let (mut m, mut v) = (device.alloc(n, "means")?, device.alloc(n, "variances")?);
            let cost = kernel::moments(&x, stride, &counts, limit, &mut m, &mut v)?;
            mean.copy_from_slice(&device.download(&m)?);
            var.copy_from_slice(&device.download(&v)?);
            Ok(cost)
        }
    }
}

/// What experts say of the same rows: means and variances, one list an expert, and how far each is
/// trusted.
#[derive(Debug, Clone, Copy)]
pub struct Experts<'a> {
    /// Means.
    pub means: &'a [&'a [f64]],
    /// Variances.
    pub vars: &'a [&'a [f64]],
    /// One an expert.
    pub trust: &'a [Trust],
}

impl Experts<'_> {
    fn rows(&self) -> Result<usize> {
        let Experts { means, vars, trust } = self;
        let rows = means.first().map_or(0, |m| m.len());
        let whole = means.iter().chain(*vars).all(|v| v.len() == rows);
        if means.is_empty() || vars.len() != means.len() || trust.len() != means.len() || !whole {
            return Err(Error::failed("merge", format!("{} experts of {rows} rows with unequal lists", means.len())));
        }
        Ok(rows)
    }

    fn upload(&self, device: &crate::device::KernelDevice) -> Result<kernel::DeviceExperts> {
        kernel::DeviceExperts::new(device, self.means, self.vars, self.trust)
    }
}

/// The weighted mean of the experts and the first expert's share.
///
/// # Errors
/// Lists of different lengths, no expert, a device that fails.
pub fn merge(device: &Device, of: Experts<'_>, epsilon: f64, p: &mut [f64], share: &mut [f64]) -> Result<Cost> {
    let rows = of.rows()?;
    if (p.len(), share.len()) != (rows, rows) {
        return Err(Error::failed("merge", format!("results of {} and {} rows for {rows}", p.len(), share.len())));
    }
    match device {
        Device::Cpu => {
            cpu::merge(of.means, of.vars, of.trust, epsilon, p, share);
            Ok(merge_cost(rows, of.means.len()))
        }
        Device::Kernels(device) => {
            let experts = of.upload(device)?;
            let (mut on_p, mut on_share) = (device.alloc(rows, "merged")?, device.alloc(rows, "shares")?);
            let cost = kernel::merge(&experts, epsilon, &mut on_p, &mut on_share)?;
            p.copy_from_slice(&device.download(&on_p)?);
            share.copy_from_slice(&device.download(&on_share)?);
            Ok(cost)
        }
    }
}

/// Probabilities are held this far from 0 and 1 in the log loss.
const CLIP: f64 = 1e-15;

/// The mean log loss against `labels` (0 or 1) of the rows merged with every point (alpha of the
/// first expert, epsilon) of `grid`.
///
/// # Errors
/// As [`merge`]; not a label a row.
pub fn sweep(device: &Device, of: Experts<'_>, grid: &[(f64, f64)], labels: &[u8]) -> Result<(Vec<f64>, Cost)> {
    let rows = of.rows()?;
    if labels.len() != rows {
        return Err(Error::failed("merge sweep", format!("{} labels for {rows} rows", labels.len())));
    }
    match device {
        Device::Cpu => Ok((cpu::sweep(of, grid, labels), sweep_cost(rows, of.means.len(), grid.len()))),
        Device::Kernels(device) => kernel::sweep(&of.upload(device)?, grid, &device.upload(labels, "labels")?, None),
    }
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

/// Cost of [`sweep`] of `experts` experts over `rows` rows at `points` points.
pub fn sweep_cost(rows: usize, experts: usize, points: usize) -> Cost {
    let (r, e, p) = (rows as f64, experts as f64, points as f64);
    Cost { bytes: 16.0 * r * e + r, flops: p * r * (6.0 * e + 8.0) }
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
            let samples = Samples { values: &x, stride, counts: &counts };
            moments(&Device::Cpu, samples, limit, &mut mean, &mut var).unwrap();
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
                let of = Experts { means: &m, vars: &v, trust: &trust[..experts] };
                merge(&Device::Cpu, of, epsilon, &mut p, &mut share).unwrap();
                let labels: Vec<u8> = (0..n).map(|r| (r % 2) as u8).collect();
                let (losses, _) = sweep(&Device::Cpu, of, &[(alpha, epsilon)], &labels).unwrap();
                let each = |(p, &y): (&f64, &u8)| -(if y == 1 { *p } else { 1.0 - p }).max(CLIP).ln();
                let loss = p.iter().zip(&labels).map(each).sum::<f64>() / n as f64;
                prop_assert!((losses[0] - loss).abs() <= 1e-12 * (1.0 + loss), "loss {} and not {}", losses[0], loss);
                oracle::merge(&m, &v, &trust[..experts], epsilon, &mut op, &mut os);
                for r in 0..n {
                    prop_assert!((p[r] - op[r]).abs() <= 1e-13, "row {}: {} {}", r, p[r], op[r]);
                    prop_assert!((share[r] - os[r]).abs() <= 1e-13, "row {}: {} {}", r, share[r], os[r]);
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let moments = |values: &[f64], counts: &[u32], limit| {
            let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
            super::moments(&Device::Cpu, Samples { values, stride: 2, counts }, limit, &mut m, &mut v).is_err()
        };
        assert!(!moments(&[1.0; 4], &[1, 2], 2) && !moments(&[1.0; 4], &[9, 2], 1));
        assert!(moments(&[1.0; 3], &[1, 2], 2) && moments(&[1.0; 4], &[1, 2], 0));
        assert!(moments(&[1.0; 4], &[0, 2], 2) && moments(&[1.0; 4], &[3, 2], 9));
        let (row, trust) = ([0.5; 2], [Trust { alpha: 1.0, tau: 1.0 }]);
        let (means, short): ([&[f64]; 1], [&[f64]; 1]) = ([&row], [&row[..1]]);
        let (mut p, mut share) = ([0.0; 2], [0.0; 2]);
        let mut of = |means, vars, trust| {
            super::merge(&Device::Cpu, Experts { means, vars, trust }, 0.1, &mut p, &mut share).is_err()
        };
        assert!(!of(&means, &means, &trust));
        assert!(
            of(&means, &short, &trust) && of(&short, &short, &trust) && of(&[], &[], &[]) && of(&means, &means, &[])
        );
        let of = Experts { means: &means, vars: &means, trust: &trust };
        assert!(super::sweep(&Device::Cpu, of, &[(1.0, 0.1)], &[1]).is_err());
    }
}
