//! Random cases of layers with adapters.

use super::masked_tolerance;
use crate::device::{Device, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear;
use crate::ops::linear::cases::tolerance;
use crate::ops::lora::kernel::{self as lora, Adapters, Batch, Beside, Segment};
use crate::ops::lora::{Dropout, mask, wgmma};
use crate::ops::registry::{Check, Class, On, Shape, both, dot, draw, errors, kernels_of, narrow, wide};
use half::bf16;

/// A layer with several adapters.
pub(super) const CASES: &[Check] = &[Check::new("lora", ["rows", "out", "in"], both!(adapted))];

/// Masks.
pub(super) const DROPOUT: &[Check] = &[Check::new("dropout", ["rows", "-", "columns"], |device, shape, _, seed| {
    dropped(kernels_of(device)?, shape, seed)
})
.one_storage()
.only(On::Kernels)];

/// By wgmma.
pub(super) const SM90A: &[Check] = &[Check::new("lora_sm90a", ["m", "n", "k"], |device, shape, _, seed| {
    product_wgmma(kernels_of(device)?, shape, seed)
})
.one_storage()
.only(On::Hopper)
.shapes(DEEP)];

/// With an inner dimension that goes round the four stages of 64 twice.
const DEEP: &[Class] = &[
    ("small", [(1, 9), (1, 9), (1, 9)]),
    ("tile edges", [(127, 129), (127, 129), (63, 65)]),
    ("larger", [(120, 400), (120, 400), (500, 700)]),
];

/// Two adapters and rows without one, forward.
fn adapted<T: Storage>(device: &Device, [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (rank, scale, count) = (8, 0.5f32, 2);
    let (x, w): (Vec<T>, Vec<T>) = (draw(rows * inp, seed, 0), draw(out * inp, seed, 1));
    let (a, b): (Vec<T>, Vec<T>) = (draw(count * rank * inp, seed, 2), draw(count * out * rank, seed, 3));
    let (third, rest) = (rows / 3, rows - rows / 3 * 2);
    let segments = [(third, Some(1)), (third, None), (rest, Some(0))].map(|(rows, adapter)| Segment { rows, adapter });
    let of_row: Vec<Option<usize>> =
        segments.iter().flat_map(|s| std::iter::repeat_n(s.adapter.map(|a| a as usize), s.rows)).collect();
    let [fx, fw, fa, fb] = [&x, &w, &a, &b].map(|m| wide(m));
    let (mut want, mut size) = (Vec::new(), Vec::new());
    for (i, adapter) in of_row.iter().enumerate() {
        let s: Vec<(f64, f64)> = (0..rank)
            .map(|j| adapter.map_or((0.0, 0.0), |n| dot(inp, |k| fx[i * inp + k] * fa[(n * rank + j) * inp + k])))
            .collect();
        for o in 0..out {
            let base = dot(inp, |k| fx[i * inp + k] * fw[o * inp + k]);
            let of_b = |j: usize| adapter.map_or(0.0, |n| fb[(n * out + o) * rank + j] * f64::from(scale));
            let low = dot(rank, |j| s[j].0 * of_b(j));
            want.push(base.0 + low.0);
            size.push(base.1 + (0..rank).map(|j| s[j].1 * of_b(j).abs()).sum::<f64>());
        }
    }
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; rows * out];
            linear::matmul_nt(&narrow(&x), &linear::Weight::from_f32(out, inp, narrow(&w))?, &mut y, false);
            let mut first = 0;
            for s in &segments {
                let rows = first..first + s.rows;
                first += s.rows;
                let Some(n) = s.adapter.map(|a| a as usize) else { continue };
                let (a, b) = (narrow(&a), narrow(&b));
                let (a, b) = (&a[n * rank * inp..][..rank * inp], &b[n * out * rank..][..out * rank]);
                let low = crate::ops::lora::Low { a, b, rank, scale, dropout: None };
                let (x, y) = (&narrow(&x)[rows.start * inp..rows.end * inp], &mut y[rows.start * out..rows.end * out]);
                crate::ops::lora::forward(low, x, y, &mut vec![0.0; s.rows * rank]);
            }
            y
        }
        Device::Kernels(device) => {
            let batch = Batch::new(device, &segments)?;
            let (x, w) = (DeviceRows::upload(device, inp, &x, "x")?, DeviceRows::upload(device, inp, &w, "w")?);
            let low = Adapters {
                a: DeviceRows::upload(device, inp, &a, "a")?,
                b: DeviceRows::upload(device, rank, &b, "b")?,
                count,
                scale,
            };
            let mut s = DeviceRows::zeros(device, rows, rank, "s")?;
            let mut y = DeviceRows::<f32>::zeros(device, rows, out, "y")?;
            lora::shrink(&batch, &x, &low, &mut s)?;
            lora::forward(&batch, &x, &w, &Beside { low: Some((&s, &low)), ..Beside::default() }, &mut y)?;
            y.download()?
        }
    };
    // In bf16 `S` is stored once between the two products.
    Ok(errors(&got, &want, |i| tolerance(T::NAME == "bf16", size[i], size[i])))
}

/// The masks of the CPU, added to what is there.
fn dropped(device: &KernelDevice, [count, _, columns]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (x, old): (Vec<f32>, Vec<f32>) = (draw(count * columns, seed, 0), draw(count * columns, seed, 1));
    let (of, names) =
        (Dropout::new(0.3, seed, 5, 3), (0..count as u64).map(|n| (n << 32) | (7 * n)).collect::<Vec<_>>());
    let (mut factors, mut masked) = (vec![0.0; columns], Vec::new());
    for (&name, x) in names.iter().zip(x.chunks_exact(columns)) {
        of.factors(name, &mut factors);
        masked.extend(factors.iter().zip(x).map(|(f, x)| f64::from(*f) * f64::from(*x)));
    }
    let (names, x) = (device.upload(&names, "names")?, DeviceRows::upload(device, columns, &x, "x")?);
    let mut y = DeviceRows::upload(device, columns, &old, "y")?;
    mask::apply(of, &names, &x, true, &mut y)?;
    let want: Vec<f64> = masked.iter().zip(&old).map(|(m, &o)| m + f64::from(o)).collect();
    Ok(errors(&y.download()?, &want, |i| masked_tolerance(want[i], masked[i]) + 1e-44))
}

/// Forward and backward with an adapter of rank 8, a bias in the forward, and adding to what is
/// there.
fn product_wgmma(device: &KernelDevice, [m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    const RANK: usize = 8;
    let of = |rows, dim, salt| -> Vec<bf16> { draw(rows * dim, seed, salt) };
    let (bias, before): (Vec<f32>, Vec<f32>) = (draw(n, seed, 4), draw(m * n, seed, 5));
    let up = |values: &[bf16], dim| DeviceRows::upload(device, dim, values, "operand");
    let (x, s) = (of(m, k, 0), of(m, RANK, 2));
    let mut all = Vec::new();
    // Rows of the right operands lie along the depth, then, in the backward, across it.
    for turned in [false, true] {
        let (w, b) = if turned { (of(k, n, 1), of(RANK, n, 3)) } else { (of(n, k, 1), of(n, RANK, 3)) };
        let product = |x: &[f32], w: &[f32], depth: usize| {
            let along: Vec<f32> =
                (0..n * depth).map(|i| if turned { w[i % depth * n + i / depth] } else { w[i] }).collect();
            linear::oracle::matmul_nt(x, &along, depth, None)
        };
        // The sums, and those of the sizes of their terms.
        let sums = |f: fn(f32) -> f32| -> Vec<f64> {
            let [x, w, s, b] = [&x, &w, &s, &b].map(|v| v.iter().map(|v| f(v.to_f32())).collect::<Vec<_>>());
            let (main, beside) = (product(&x, &w, k), product(&s, &b, RANK));
            let rest = |i: usize| f64::from(f(before[i])) + if turned { 0.0 } else { f64::from(f(bias[i % n])) };
            main.iter().zip(&beside).enumerate().map(|(i, (a, b))| a + b + rest(i)).collect()
        };
        let (want, size) = (sums(|v| v), sums(f32::abs));
        let (dx, ds) = (up(&x, k)?, up(&s, RANK)?);
        let mut y = DeviceRows::upload(device, n, &before, "y")?;
        if turned {
            wgmma::backward(&dx, (&up(&w, n)?, 0..k), Some((&ds, &up(&b, n)?)), true, &mut y)?;
        } else {
            let bias = device.upload(&bias, "bias")?;
            wgmma::forward(&dx, &up(&w, k)?, Some((&ds, &up(&b, RANK)?)), Some(&bias), true, &mut y)?;
        }
        all.extend(errors(&y.download()?, &want, |i| tolerance(false, want[i], size[i])));
    }
    Ok(all)
}
