//! Merging: its name, its kernels, what it is checked on and measured with.

use super::{Experts, Samples, Trust, kernel, merge, moments, moments_cost, oracle, sweep};
use crate::device::{Buffer, Device, KernelDevice};
use crate::error::Result;
use crate::ops::registry::{Case, Check, ONE, Operator, Prepared, Scale, Shape, host_sets, kernels, normals, sets};
use crate::rng::{Rng, Use};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "merge",
    room: "merge",
    sources: &["merge"],
    arguments: &[kernel::SweepArgs::LAYOUT],
    kernels: kernels! {
        "merge_moments" ONE ["rows / 128"] 128 "8 samples + 20 rows B, 4 samples FLOP" "merge: mean and variance of a row's samples"
        "merge_rows" ONE ["rows / 256"] 256 "16 (experts + 1) rows B" "merge: the weighted mean and the first expert's share"
        "merge_sweep" ONE ["rows / 256 x points"] 256 "16 experts rows B, (6 experts + 8) rows points FLOP" "merge: log loss over a grid of alpha and epsilon"
        "sum_f64" ONE ["rows x pieces of 8192"] 256 "8 values B" "every loss: a sum in fixed order"
    },
    checks: &[Check::new("merge", ["rows", "samples", "points"], check).one_storage()],
    cases: &[
        Case::cpu("merge", "10,000 rows of 16 samples", || on_cpu(10_000, 16)),
        Case::kernels("merge", "moments", |d, s| of_samples(d, s, s.of(1_000_000, 300), 16)),
        Case::kernels("merge", "moments", |d, s| of_samples(d, s, s.of(10_000, 30), 16)),
        Case::kernels("merge", "rows", |d, s| join(d, s, s.of(4_000_000, 300), 3)),
        Case::kernels("merge", "sweep", |d, s| points(d, s.of(1_000_000, 300), 3, s.of(64, 3))),
        Case::kernels("merge", "sweep", |d, s| points(d, s.of(10_000, 300), 2, s.of(15, 3))),
        Case::kernels("merge", "sum", |d, s| total(d, s, s.of(64, 3), s.of(1 << 20, 300))),
    ],
    counted: &[Case::cpu("merge", "200 rows of 16 samples", || on_cpu(200, 16))],
    ..Operator::BARE
};

/// What a value may be off by; all of it is f64.
pub fn tolerance(want: f64) -> f64 {
    1e-13 * (1.0 + want.abs())
}

fn check(device: &Device, [rows, samples, points]: Shape, _: bool, seed: u64) -> Result<Vec<f64>> {
    let mut rng = Rng::new(seed, Use::Synthetic, 3, 0);
    let x: Vec<f64> = (0..rows * samples).map(|_| rng.uniform_f64()).collect();
    let counts: Vec<u32> = (0..rows).map(|_| 1 + rng.below(samples as u32)).collect();
    let zeros = || vec![0.0; rows];
    let (mut mean, mut var, mut m, mut v) = (zeros(), zeros(), zeros(), zeros());
    oracle::moments(&x, samples, &counts, samples, &mut mean, &mut var);
    moments(device, Samples { values: &x, stride: samples, counts: &counts }, samples, &mut m, &mut v)?;
    let mut all = Vec::new();
    let mut compare = |got: &[f64], want: &[f64]| {
        all.extend(got.iter().zip(want).map(|(got, want)| (got - want).abs() / tolerance(*want)));
    };
    compare(&m, &mean);
    compare(&v, &var);
    let second: Vec<f64> = (0..rows).map(|_| 0.01 + 0.98 * rng.uniform_f64()).collect();
    let labels: Vec<u8> = (0..rows).map(|_| rng.below(2) as u8).collect();
    let (means, vars): ([&[f64]; 2], [&[f64]; 2]) = ([&second, &mean], [&var, &var]);
    let grid: Vec<(f64, f64)> = (0..points.min(9)).map(|p| (0.3 * (p + 1) as f64, 1e-3)).collect();
    let mut losses = Vec::new();
    for &(alpha, epsilon) in &grid {
        let trust = [Trust { alpha, tau: 2.0 }, Trust { alpha: 1.0, tau: 1.0 }];
        let (mut p, mut share, mut got_p, mut got_share) = (zeros(), zeros(), zeros(), zeros());
        oracle::merge(&means, &vars, &trust, epsilon, &mut p, &mut share);
        merge(device, Experts { means: &means, vars: &vars, trust: &trust }, epsilon, &mut got_p, &mut got_share)?;
        compare(&got_p, &p);
        compare(&got_share, &share);
        let clip = |p: f64| p.clamp(super::CLIP, 1.0 - super::CLIP);
        let each = p.iter().zip(&labels).map(|(&p, &y)| -(if y == 1 { clip(p) } else { 1.0 - clip(p) }).ln());
        losses.push(each.sum::<f64>() / rows as f64);
    }
    let trust = [Trust { alpha: 1.0, tau: 2.0 }, Trust { alpha: 1.0, tau: 1.0 }];
    let (got, _) = sweep(device, Experts { means: &means, vars: &vars, trust: &trust }, &grid, &labels)?;
    compare(&got, &losses);
    Ok(all)
}

fn on_cpu(rows: usize, samples: usize) -> Result<Prepared> {
    let count = host_sets(8.0 * (rows * samples) as f64);
    let x: Vec<Vec<f64>> =
        (0..count as u32).map(|s| normals(rows * samples, s).iter().map(|v| f64::from(*v)).collect()).collect();
    let counts = vec![samples as u32; rows];
    let (mut mean, mut var) = (vec![0.0; rows], vec![0.0; rows]);
    Ok(Prepared::of(moments_cost(rows, rows * samples), count, move |i| {
        let of = Samples { values: &x[i], stride: samples, counts: &counts };
        moments(&Device::Cpu, of, samples, &mut mean, &mut var).map(drop)
    }))
}

/// Probabilities.
fn values(n: usize, stream: u32) -> Vec<f64> {
    normals(n, stream).into_iter().map(|x| 1.0 / (1.0 + f64::from(-x).exp())).collect()
}

fn places(device: &KernelDevice, scale: Scale, values: &[f64]) -> Result<Vec<Buffer<f64>>> {
    (0..sets(scale, 8 * values.len())).map(|_| device.upload(values, "values")).collect()
}

fn of_samples(device: &KernelDevice, scale: Scale, rows: usize, samples: usize) -> Result<Prepared> {
    let x = places(device, scale, &values(rows * samples, 1))?;
    let counts = device.upload(&vec![samples as u32; rows], "counts")?;
    let (mut mean, mut var) = (device.alloc(rows, "mean")?, device.alloc(rows, "var")?);
    let n = x.len();
    let run = move |i: usize| kernel::moments(&x[i], samples, &counts, samples, &mut mean, &mut var).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("samples", samples)], run).sets(n))
}

fn experts(device: &KernelDevice, rows: usize, count: usize) -> Result<kernel::DeviceExperts> {
    let lists: Vec<Vec<f64>> = (0..2 * count as u32).map(|e| values(rows, e)).collect();
    let lists: Vec<&[f64]> = lists.iter().map(Vec::as_slice).collect();
    let (means, vars) = lists.split_at(count);
    kernel::DeviceExperts::new(device, means, vars, &vec![Trust { alpha: 0.5, tau: 1.0 }; count])
}

fn join(device: &KernelDevice, scale: Scale, rows: usize, count: usize) -> Result<Prepared> {
    let first = || experts(device, rows, count);
    let all = (0..sets(scale, 16 * rows * count)).map(|_| first()).collect::<Result<Vec<_>>>()?;
    let (mut p, mut share) = (device.alloc(rows, "p")?, device.alloc(rows, "share")?);
    let n = all.len();
    let run = move |i: usize| kernel::merge(&all[i], 1e-3, &mut p, &mut share).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("experts", count)], run).sets(n))
}

/// Bound by the arithmetic in f64 of its points, which has no ceiling here: per cent of the memory
/// it must read are not what it lacks.
fn points(device: &KernelDevice, rows: usize, count: usize, points: usize) -> Result<Prepared> {
    let of = experts(device, rows, count)?;
    let labels = device.upload(&(0..rows).map(|r| (r % 3 == 0) as u8).collect::<Vec<_>>(), "labels")?;
    let grid: Vec<(f64, f64)> = (0..points).map(|p| (0.01 * (p + 1) as f64, 1e-3)).collect();
    let run = move |_| kernel::sweep(&of, &grid, &labels, None).map(drop);
    let sizes = [("rows", rows), ("experts", count), ("points", points)];
    Ok(Prepared::new("f64", &sizes, run).floor((rows * (16 * count + 1)) as f64, 0.0))
}

fn total(device: &KernelDevice, scale: Scale, rows: usize, columns: usize) -> Result<Prepared> {
    let x = places(device, scale, &values(rows * columns, 1))?;
    let mut out = device.alloc(rows, "sums")?;
    let n = x.len();
    let run = move |i: usize| kernel::sum_rows(&x[i], rows, 1.0, &mut out).map(drop);
    Ok(Prepared::new("f64", &[("rows", rows), ("columns", columns)], run).sets(n))
}
