//! Random cases of layers with adapters.

use std::ops::Range;

use super::masked_tolerance;
use crate::device::{Device, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear;
use crate::ops::linear::cases::tolerance;
use crate::ops::lora::cpu::{self, Low, Pairs};
use crate::ops::lora::kernel::{self, Adapters, Batch, Beside, Gradients, Segment};
use crate::ops::lora::{Dropout, mask, wgmma};
use crate::ops::registry::{Check, Class, On, Shape, both, dot, draw, errors, kernels_of, narrow, wide};
use half::bf16;

/// A layer with several adapters, and its backward.
pub(super) const CASES: &[Check] = &[
    Check::new("lora", ["rows", "out", "in"], both!(forward)),
    Check::new("lora_backward", ["rows", "out", "in"], both!(backward)),
];

/// Rank, scale and number of the adapters.
const RANK: usize = 8;
const SCALE: f32 = 0.5;
const COUNT: usize = 2;

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

/// Two adapters, and rows without one.
struct Layer<T> {
    x: Vec<T>,
    w: Vec<T>,
    a: Vec<T>,
    b: Vec<T>,
    segments: [Segment; 3],
    /// Adapter of each row.
    of_row: Vec<Option<usize>>,
}

impl<T: Storage> Layer<T> {
    fn draw([rows, out, inp]: Shape, seed: u64) -> Self {
        let (third, rest) = (rows / 3, rows - rows / 3 * 2);
        let segments =
            [(third, Some(1)), (third, None), (rest, Some(0))].map(|(rows, adapter)| Segment { rows, adapter });
        let rows_of = |s: &Segment| std::iter::repeat_n(s.adapter.map(|a| a as usize), s.rows);
        Self {
            x: draw(rows * inp, seed, 0),
            w: draw(out * inp, seed, 1),
            a: draw(COUNT * RANK * inp, seed, 2),
            b: draw(COUNT * out * RANK, seed, 3),
            of_row: segments.iter().flat_map(rows_of).collect(),
            segments,
        }
    }

    /// `S = scale X A^T`, with the sizes of its terms.
    fn low(&self, inp: usize) -> Vec<(f64, f64)> {
        let (x, a, scale) = (wide(&self.x), wide(&self.a), f64::from(SCALE));
        let value = |i: usize, j: usize| match self.of_row[i] {
            Some(n) => dot(inp, |k| scale * x[i * inp + k] * a[(n * RANK + j) * inp + k]),
            None => (0.0, 0.0),
        };
        (0..self.of_row.len() * RANK).map(|at| value(at / RANK, at % RANK)).collect()
    }

    /// The rows of each adapter, with the adapter.
    fn of_adapters(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let mut first = 0;
        self.segments.iter().filter_map(move |s| {
            let rows = first..first + s.rows;
            first += s.rows;
            s.adapter.map(|n| (rows, n as usize))
        })
    }

    fn adapters(&self, device: &KernelDevice, inp: usize) -> Result<Adapters<T>> {
        Ok(Adapters {
            a: DeviceRows::upload(device, inp, &self.a, "a")?,
            b: DeviceRows::upload(device, RANK, &self.b, "b")?,
            count: COUNT,
            scale: SCALE,
        })
    }
}

/// `Y = X W^T + S B^T`.
fn forward<T: Storage>(device: &Device, shape @ [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let layer = Layer::<T>::draw(shape, seed);
    let [x, w, b] = [&layer.x, &layer.w, &layer.b].map(|m| wide(m));
    let s = layer.low(inp);
    let (mut want, mut size) = (Vec::new(), Vec::new());
    for (i, adapter) in layer.of_row.iter().enumerate() {
        for o in 0..out {
            let base = dot(inp, |k| x[i * inp + k] * w[o * inp + k]);
            let of_b = |j: usize| adapter.map_or(0.0, |n| b[(n * out + o) * RANK + j]);
            want.push(base.0 + dot(RANK, |j| s[i * RANK + j].0 * of_b(j)).0);
            size.push(base.1 + dot(RANK, |j| s[i * RANK + j].1 * of_b(j)).1);
        }
    }
    let got = match device {
        Device::Cpu => {
            let [x, a, b] = [&layer.x, &layer.a, &layer.b].map(|m| narrow(m));
            let mut y = vec![0.0; rows * out];
            linear::matmul_nt(&x, &linear::Weight::from_f32(out, inp, narrow(&layer.w))?, &mut y, false);
            for (rows, n) in layer.of_adapters() {
                let low = cpu_pair(&a, &b, n, inp, out);
                let mut z = vec![0.0; rows.len() * RANK];
                let (x, y) = (&x[rows.start * inp..rows.end * inp], &mut y[rows.start * out..rows.end * out]);
                cpu::forward(low, x, y, &mut z);
            }
            y
        }
        Device::Kernels(device) => {
            let (batch, low) = (Batch::new(device, &layer.segments)?, layer.adapters(device, inp)?);
            let (x, w) =
                (DeviceRows::upload(device, inp, &layer.x, "x")?, DeviceRows::upload(device, inp, &layer.w, "w")?);
            let mut s = DeviceRows::zeros(device, rows, RANK, "s")?;
            let mut y = DeviceRows::<f32>::zeros(device, rows, out, "y")?;
            kernel::shrink(&batch, &x, &low, &mut s)?;
            kernel::forward(&batch, &x, &w, &Beside { low: Some((&s, &low)), ..Beside::default() }, &mut y)?;
            y.download()?
        }
    };
    // In bf16 `S` is stored once between the two products.
    Ok(errors(&got, &want, |i| tolerance(T::NAME == "bf16", size[i], size[i])))
}

/// The adapter `n` as the CPU takes it.
fn cpu_pair<'a>(a: &'a [f32], b: &'a [f32], n: usize, inp: usize, out: usize) -> Low<'a> {
    let (a, b) = (&a[n * RANK * inp..][..RANK * inp], &b[n * out * RANK..][..out * RANK]);
    Low { a, b, rank: RANK, scale: SCALE, dropout: None }
}

/// `dX = dY W + dS A`, `dA = dS^T X`, `dB = dY^T S`, where `dS = scale dY B`.
fn backward<T: Storage>(device: &Device, shape @ [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let layer = Layer::<T>::draw(shape, seed);
    let dy: Vec<T> = draw(rows * out, seed, 4);
    let (want, size) = backward_oracle(&layer, &wide(&dy), shape);
    let got = match device {
        Device::Cpu => {
            let [x, a, b, dy] = [&layer.x, &layer.a, &layer.b, &dy].map(|m| narrow(m));
            let mut dx = vec![0.0; rows * inp];
            linear::matmul_nn(&dy, &linear::Weight::from_f32(out, inp, narrow(&layer.w))?, &mut dx, false);
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for (rows, n) in layer.of_adapters() {
                let low = cpu_pair(&a, &b, n, inp, out);
                let (x, mut z) = (&x[rows.start * inp..rows.end * inp], vec![0.0; rows.len() * RANK]);
                cpu::forward(low, x, &mut vec![0.0; rows.len() * out], &mut z);
                let (da, db) = (&mut da[n * RANK * inp..][..RANK * inp], &mut db[n * out * RANK..][..out * RANK]);
                let dx = &mut dx[rows.start * inp..rows.end * inp];
                let dy = &dy[rows.start * out..rows.end * out];
                cpu::backward(low, dy, Some(dx), Some(Pairs { x, z: &z, a: da, b: db }));
            }
            [dx, da, db].concat()
        }
        Device::Kernels(device) => {
            let (batch, low) = (Batch::new(device, &layer.segments)?, layer.adapters(device, inp)?);
            let up = |values: &[T], dim, label| DeviceRows::upload(device, dim, values, label);
            let (x, w, dy) = (up(&layer.x, inp, "x")?, up(&layer.w, inp, "w")?, up(&dy, out, "dy")?);
            let mut s = DeviceRows::zeros(device, rows, RANK, "s")?;
            let mut ds = DeviceRows::zeros(device, rows, RANK, "ds")?;
            let mut dx = DeviceRows::<f32>::zeros(device, rows, inp, "dx")?;
            kernel::shrink(&batch, &x, &low, &mut s)?;
            kernel::shrink_backward(&batch, &dy, &low, &mut ds)?;
            kernel::backward(&batch, &dy, &w, &Beside { low: Some((&ds, &low)), ..Beside::default() }, &mut dx)?;
            let mut g = Gradients {
                a: DeviceRows::zeros(device, COUNT * RANK, inp, "da")?,
                b: DeviceRows::zeros(device, COUNT * out, RANK, "db")?,
            };
            kernel::gradients(&batch, &low, (&x, &s), (&dy, &ds), &mut g)?;
            [dx.download()?, g.a.download()?, g.b.download()?].concat()
        }
    };
    // In bf16 `S` and `dS` are stored once between two products.
    Ok(errors(&got, &want, |i| tolerance(T::NAME == "bf16", size[i], size[i])))
}

/// dX, dA and dB one behind another, with the sizes of their terms.
fn backward_oracle<T: Storage>(layer: &Layer<T>, dy: &[f64], [rows, out, inp]: Shape) -> (Vec<f64>, Vec<f64>) {
    let [x, w, a, b] = [&layer.x, &layer.w, &layer.a, &layer.b].map(|m| wide(m));
    let (s, scale) = (layer.low(inp), f64::from(SCALE));
    let ds = |i: usize, j: usize| match layer.of_row[i] {
        Some(n) => dot(out, |o| scale * dy[i * out + o] * b[(n * out + o) * RANK + j]),
        None => (0.0, 0.0),
    };
    let ds: Vec<(f64, f64)> = (0..rows * RANK).map(|at| ds(at / RANK, at % RANK)).collect();
    let mut all = Vec::with_capacity(rows * inp + COUNT * RANK * (inp + out));
    for (i, adapter) in layer.of_row.iter().enumerate() {
        for k in 0..inp {
            let base = dot(out, |o| dy[i * out + o] * w[o * inp + k]);
            let of_a = |j: usize| adapter.map_or(0.0, |n| a[(n * RANK + j) * inp + k]);
            let low = (0..RANK).map(|j| (ds[i * RANK + j].0 * of_a(j), ds[i * RANK + j].1 * of_a(j).abs()));
            all.push(low.fold(base, |sum, term| (sum.0 + term.0, sum.1 + term.1)));
        }
    }
    // A sum over the rows of adapter n of a low value times a wide one.
    let over = |n: usize, low: &[(f64, f64)], j: usize, wide: &[f64], width: usize, at: usize| {
        let mine = (0..rows).filter(|&i| layer.of_row[i] == Some(n));
        let terms = mine.map(|i| (low[i * RANK + j], wide[i * width + at]));
        terms.fold((0.0, 0.0), |sum, (l, v)| (sum.0 + l.0 * v, sum.1 + l.1 * v.abs()))
    };
    for n in 0..COUNT {
        all.extend((0..RANK * inp).map(|at| over(n, &ds, at / inp, &x, inp, at % inp)));
    }
    for n in 0..COUNT {
        all.extend((0..out * RANK).map(|at| over(n, &s, at % RANK, dy, out, at / RANK)));
    }
    all.into_iter().unzip()
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
