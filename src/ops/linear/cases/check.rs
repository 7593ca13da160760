//! Random cases of products.

use super::{FORMATS, shifted, tolerance};
use crate::device::{Device, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear::decode::{Format, Quantised};
use crate::ops::linear::{self, int8};
use crate::ops::registry::{Check, On, Shape, both, dot, draw, errors, kernels_of, narrow, wide};
use crate::rng::{Rng, Use};
use half::f16;

/// `A B^T`.
pub(super) const CASES: &[Check] = &[Check::new("linear", ["m", "n", "k"], both!(product))];

/// In bf16.
pub(super) const BF16: &[Check] =
    &[Check::new("linear_bf16", ["m", "n", "k"], |_, shape, _, seed| product_bf16(shape, seed))
        .one_storage()
        .only(On::Cpu)];

/// In 8 bits.
pub(super) const INT8: &[Check] =
    &[Check::new("linear_int8", ["m", "n", "k"], |_, shape, _, seed| product_int8(shape, seed))
        .one_storage()
        .only(On::Cpu)];

/// Few rows.
pub(super) const DECODE: &[Check] = &[Check::new("linear_decode", ["rows", "out", "in"], both!(blocks))];

/// The values of blocks.
pub(super) const DEQUANTISE: &[Check] = &[Check::new("dequantise", ["-", "out", "in"], |device, shape, _, seed| {
    dequantise(kernels_of(device)?, shape, seed)
})
.one_storage()
.only(On::Kernels)];

fn product<T: Storage>(device: &Device, [m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    use linear::kernel::{Epilogue, Form, gemm};
    let (a, b): (Vec<T>, Vec<T>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let (fa, fb) = (wide(&a), wide(&b));
    let dot = |i: usize, j: usize| (0..k).map(move |l| (i * k + l, j * k + l));
    let cells = || (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
    let want: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| fa[l] * fb[r]).sum()).collect();
    let size: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| (fa[l] * fb[r]).abs()).sum()).collect();
    let got = match device {
        Device::Cpu => {
            let mut out = vec![0.0; m * n];
            linear::matmul_nt(&narrow(&a), &linear::Weight::from_f32(n, k, narrow(&b))?, &mut out, false);
            out
        }
        Device::Kernels(device) => {
            let (a, b) = (DeviceRows::upload(device, k, &a, "a")?, DeviceRows::upload(device, k, &b, "b")?);
            let mut out = DeviceRows::zeros(device, m, n, "out")?;
            gemm(Form::Nt, &a, &b, &Epilogue::default(), &mut out)?;
            out.download()?
        }
    };
    Ok(errors(&got, &want, |i| tolerance(false, want[i], size[i])))
}

/// Against the product of the values: the bound of what rounding may change.
fn product_bf16([m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (x, w): (Vec<f32>, Vec<f32>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let rounded = linear::bf16::of(&linear::Weight::from_f32(n, k, w.clone())?)?;
    let mut y = vec![f32::NAN; m * n];
    let product = linear::Product { weight: &rounded, y: &mut y, bias: None, accumulate: false };
    linear::bf16::matmul_nt_many(&x, k, &mut [product]);
    let (fx, fw) = (wide(&x), wide(&w));
    let terms = |cell: usize| (0..k).map(move |l| (cell / n * k + l, cell % n * k + l));
    let want: Vec<f64> = (0..m * n).map(|c| terms(c).map(|(l, r)| fx[l] * fw[r]).sum()).collect();
    let size: Vec<f64> = (0..m * n).map(|c| terms(c).map(|(l, r)| (fx[l] * fw[r]).abs()).sum()).collect();
    Ok(errors(&y, &want, |i| linear::bf16::tolerance(k) * size[i] + 1e-36))
}

/// Against the product of the values: the bound of what codes may change, and f32's rounding.
fn product_int8([m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (x, w): (Vec<f32>, Vec<f32>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let codes = int8::Codes::new(&linear::Weight::from_f32(n, k, w.clone())?);
    let mut y = vec![f32::NAN; m * n];
    int8::matmul_nt_many(&x, k, &mut [int8::Product { weight: &codes, y: &mut y, bias: None, accumulate: false }]);
    let (want, bound): (Vec<f64>, Vec<f64>) = int8::oracle::matmul_nt(&x, &w, k).into_iter().unzip();
    Ok(errors(&y, &want, |i| bound[i] + 1e-5))
}

/// `count` blocks as a file holds them, and the values that they mean; scales are subnormal,
/// negative and zero as well.
pub fn drawn_blocks(format: Format, count: usize, seed: u64) -> (Vec<u8>, Vec<f64>) {
    let mut rng = Rng::new(seed, Use::Synthetic, 5, 0);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for block in 0..count {
        let d = f16::from_f32([3e-7, 0.0].get(block % 5).copied().unwrap_or_else(|| rng.normal() * 0.1));
        let m = f16::from_f32(rng.normal());
        bytes.extend(d.to_le_bytes());
        if format == Format::Q4_1 {
            bytes.extend(m.to_le_bytes());
        }
        let (d, m) = (f64::from(d.to_f32()), f64::from(m.to_f32()));
        let packed: Vec<u8> = (0..if format == Format::Q8_0 { 32 } else { 16 }).map(|_| rng.next_u32() as u8).collect();
        let nibbles = packed.iter().map(|p| p & 15).chain(packed.iter().map(|p| p >> 4)).map(f64::from);
        match format {
            Format::Q8_0 => values.extend(packed.iter().map(|&q| d * f64::from(q as i8))),
            Format::Q4_0 => values.extend(nibbles.map(|q| d * (q - 8.0))),
            Format::Q4_1 => values.extend(nibbles.map(|q| d * q + m)),
        }
        bytes.extend(packed);
    }
    (bytes, values)
}

/// Each value is the same f32: scale times integer is exact, and a minimum is added with one
/// rounding.
fn dequantise(device: &KernelDevice, [_, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (format, inp) = (FORMATS[seed as usize % FORMATS.len()], inp.next_multiple_of(32));
    let (bytes, values) = drawn_blocks(format, out * inp / 32, seed);
    let got = Quantised::upload(device, format, (out, inp), &bytes)?.widen()?.download()?;
    let want: Vec<f64> = values.iter().map(|&v| f64::from(v as f32)).collect();
    Ok(errors(&got, &want, |_| f64::MIN_POSITIVE))
}

/// Few rows through a weight in one of the formats of GGUF files.
fn blocks<T: Storage>(device: &Device, [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (format, inp) = (FORMATS[seed as usize % FORMATS.len()], inp.next_multiple_of(32));
    let (bytes, w) = drawn_blocks(format, out * inp / 32, seed);
    let x: Vec<T> = draw(rows * inp, seed, 0);
    let fx = wide(&x);
    let cells: Vec<(f64, f64)> =
        (0..rows * out).map(|at| dot(inp, |k| fx[at / out * inp + k] * w[at % out * inp + k])).collect();
    let want: Vec<f64> = cells.iter().map(|c| c.0).collect();
    let all: Vec<f64> = fx.chunks_exact(inp).map(|row| row.iter().map(|v| v.abs()).sum()).collect();
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; rows * out];
            let w = w.iter().map(|&v| v as f32).collect();
            linear::matmul_nt(&narrow(&x), &linear::Weight::from_f32(out, inp, w)?, &mut y, false);
            y
        }
        Device::Kernels(device) => {
            let w = Quantised::upload(device, format, (out, inp), &bytes)?;
            let x = DeviceRows::upload(device, inp, &x, "x")?;
            let mut y = DeviceRows::zeros(device, rows, out, "y")?;
            w.product(&x, None, false, &mut y)?;
            y.download()?
        }
    };
    Ok(errors(&got, &want, |i| tolerance(false, want[i], cells[i].1 + shifted(all[i / out]))))
}
