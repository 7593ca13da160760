//! Moments of samples, the merge, the sweep over its settings; f64.

use super::{Case, case, sets};
use crate::bench::cases::normals;
use crate::bench::kernels::{Prepared, Scale};
use crate::device::{Buffer, KernelDevice};
use crate::error::Result;
use crate::ops::merge::{Trust, kernel as merge};

pub(super) const CASES: &[Case] = &[
    case("merge", "moments", |d, s| moments(d, s, s.of(1_000_000, 300), 16)),
    case("merge", "moments", |d, s| moments(d, s, s.of(10_000, 30), 16)),
    case("merge", "rows", |d, s| join(d, s, s.of(4_000_000, 300), 3)),
    case("merge", "sweep", |d, s| sweep(d, s.of(1_000_000, 300), 3, s.of(64, 3))),
    case("merge", "sweep", |d, s| sweep(d, s.of(10_000, 300), 2, s.of(15, 3))),
    case("merge", "sum", |d, s| total(d, s, s.of(64, 3), s.of(1 << 20, 300))),
];

/// Probabilities.
fn values(n: usize, stream: u32) -> Vec<f64> {
    normals(n, stream).into_iter().map(|x| 1.0 / (1.0 + f64::from(-x).exp())).collect()
}

fn places(device: &KernelDevice, scale: Scale, values: &[f64]) -> Result<Vec<Buffer<f64>>> {
    (0..sets(scale, 8 * values.len())).map(|_| device.upload(values, "values")).collect()
}

fn moments(device: &KernelDevice, scale: Scale, rows: usize, samples: usize) -> Result<Prepared> {
    let x = places(device, scale, &values(rows * samples, 1))?;
    let counts = device.upload(&vec![samples as u32; rows], "counts")?;
    let (mut mean, mut var) = (device.alloc(rows, "mean")?, device.alloc(rows, "var")?);
    let n = x.len();
    let run = move |i: usize| merge::moments(&x[i], samples, &counts, samples, &mut mean, &mut var).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("samples", samples)], run).sets(n))
}

fn experts(device: &KernelDevice, rows: usize, count: usize) -> Result<merge::DeviceExperts> {
    let lists: Vec<Vec<f64>> = (0..2 * count as u32).map(|e| values(rows, e)).collect();
    let lists: Vec<&[f64]> = lists.iter().map(Vec::as_slice).collect();
    let (means, vars) = lists.split_at(count);
    merge::DeviceExperts::new(device, means, vars, &vec![Trust { alpha: 0.5, tau: 1.0 }; count])
}

fn join(device: &KernelDevice, scale: Scale, rows: usize, count: usize) -> Result<Prepared> {
    let first = || experts(device, rows, count);
    let all = (0..sets(scale, 16 * rows * count)).map(|_| first()).collect::<Result<Vec<_>>>()?;
    let (mut p, mut share) = (device.alloc(rows, "p")?, device.alloc(rows, "share")?);
    let n = all.len();
    let run = move |i: usize| merge::merge(&all[i], 1e-3, &mut p, &mut share).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("experts", count)], run).sets(n))
}

/// Bound by the arithmetic in f64 of its points, which has no ceiling here: per cent of the memory it must read are not what it lacks.
fn sweep(device: &KernelDevice, rows: usize, count: usize, points: usize) -> Result<Prepared> {
    let of = experts(device, rows, count)?;
    let labels = device.upload(&(0..rows).map(|r| (r % 3 == 0) as u8).collect::<Vec<_>>(), "labels")?;
    let grid: Vec<(f64, f64)> = (0..points).map(|p| (0.01 * (p + 1) as f64, 1e-3)).collect();
    let run = move |_| merge::sweep(&of, &grid, &labels, None).map(drop);
    let sizes = [("rows", rows), ("experts", count), ("points", points)];
    Ok(Prepared::new("f64", &sizes, run).floor((rows * (16 * count + 1)) as f64, 0.0))
}

fn total(device: &KernelDevice, scale: Scale, rows: usize, columns: usize) -> Result<Prepared> {
    let x = places(device, scale, &values(rows * columns, 1))?;
    let mut out = device.alloc(rows, "sums")?;
    let n = x.len();
    let run = move |i: usize| merge::sum_rows(&x[i], rows, 1.0, &mut out).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("columns", columns)], run).sets(n))
}
