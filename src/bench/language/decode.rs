//! Few rows through a weight in bf16 or in quantised blocks: bound by the weight's bytes.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear::decode::{Format, Quantised, product, step};
use crate::ops::registry::{Case, Prepared, Scale, copies, rows, sets};
use half::{bf16, f16};

/// Output and input width of an 8B model's up projection.
const UP: [usize; 2] = [14_336, 4096];
/// SmolLM2's head.
const HEAD: [usize; 2] = [49_152, 576];

pub(super) const CASES: &[Case] = &[
    Case::kernels("linear_decode", "bf16 weight", |d, s| plain::<bf16>(d, s, 1, UP)),
    Case::kernels("linear_decode", "bf16 weight", |d, s| plain::<bf16>(d, s, 16, UP)),
    Case::kernels("linear_decode", "bf16 weight", |d, s| plain::<bf16>(d, s, 64, UP)),
    Case::kernels("linear_decode", "bf16 weight, SmolLM2's head", |d, s| plain::<bf16>(d, s, 16, HEAD)),
    Case::kernels("linear_decode", "bf16 weight", |d, s| plain::<f32>(d, s, 1, UP)),
    Case::kernels("linear_decode", "bf16 weight", |d, s| plain::<f32>(d, s, 16, UP)),
    Case::kernels("linear_decode", "bf16 weight, result in bf16", |d, s| in_bf16(d, s, 1, 0)),
    Case::kernels("linear_decode", "bf16 weight, result in bf16", |d, s| in_bf16(d, s, 16, 0)),
    Case::kernels("linear_decode", "bf16 weight and adapter, result in bf16", |d, s| in_bf16(d, s, 16, 16)),
    Case::kernels("linear_decode", "bf16 weight, result in bf16", |d, s| in_bf16(d, s, 64, 0)),
    Case::kernels("linear_decode", "Q8_0 weight", |d, s| blocks::<bf16>(d, s, 1, Format::Q8_0)),
    Case::kernels("linear_decode", "Q8_0 weight", |d, s| blocks::<bf16>(d, s, 16, Format::Q8_0)),
    Case::kernels("linear_decode", "Q8_0 weight", |d, s| blocks::<f32>(d, s, 1, Format::Q8_0)),
    Case::kernels("linear_decode", "Q8_0 weight", |d, s| blocks::<f32>(d, s, 16, Format::Q8_0)),
    Case::kernels("linear_decode", "Q4_0 weight", |d, s| blocks::<bf16>(d, s, 1, Format::Q4_0)),
    Case::kernels("linear_decode", "Q4_0 weight", |d, s| blocks::<bf16>(d, s, 16, Format::Q4_0)),
    Case::kernels("linear_decode", "Q4_0 weight", |d, s| blocks::<f32>(d, s, 1, Format::Q4_0)),
    Case::kernels("linear_decode", "Q4_0 weight", |d, s| blocks::<f32>(d, s, 16, Format::Q4_0)),
    Case::kernels("linear_decode", "Q4_1 weight", |d, s| blocks::<bf16>(d, s, 1, Format::Q4_1)),
    Case::kernels("linear_decode", "Q4_1 weight", |d, s| blocks::<bf16>(d, s, 16, Format::Q4_1)),
    Case::kernels("linear_decode", "Q4_1 weight", |d, s| blocks::<f32>(d, s, 1, Format::Q4_1)),
    Case::kernels("linear_decode", "Q4_1 weight", |d, s| blocks::<f32>(d, s, 16, Format::Q4_1)),
    Case::kernels("dequantise", "Q8_0 to f32", |d, s| widened(d, s, Format::Q8_0)),
    Case::kernels("dequantise", "Q4_0 to f32", |d, s| widened(d, s, Format::Q4_0)),
    Case::kernels("dequantise", "Q4_1 to f32", |d, s| widened(d, s, Format::Q4_1)),
];

fn size(scale: Scale, [out, inp]: [usize; 2]) -> (usize, usize) {
    (scale.of(out, 40), scale.of(inp, 64))
}

fn plain<T: Storage>(device: &KernelDevice, scale: Scale, m: usize, full: [usize; 2]) -> Result<Prepared> {
    let (out, inp) = size(scale, full);
    let n = sets(scale, 2 * out * inp);
    let w = copies(rows::<bf16>(device, out, inp, 1)?, n)?;
    let (x, mut y) = (rows::<T>(device, m, inp, 2)?, DeviceRows::<f32>::zeros(device, m, out, "y")?);
    let run = move |i: usize| product(&x, &w[i], None, false, &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", m), ("in", inp), ("out", out)], run).sets(n))
}

fn in_bf16(device: &KernelDevice, scale: Scale, m: usize, rank: usize) -> Result<Prepared> {
    let (out, inp) = size(scale, UP);
    let n = sets(scale, 2 * out * inp);
    let w = copies(rows::<bf16>(device, out, inp, 1)?, n)?;
    let (x, mut y) = (rows::<bf16>(device, m, inp, 2)?, DeviceRows::<bf16>::zeros(device, m, out, "y")?);
    let (s, b) = (rows::<bf16>(device, m, rank.max(1), 3)?, rows::<bf16>(device, out, rank.max(1), 4)?);
    let run = move |i: usize| step(&x, &w[i], (rank > 0).then_some((&s, &b)), None, false, &mut y).map(drop);
    Ok(Prepared::new("bf16", &[("rows", m), ("in", inp), ("out", out), ("rank", rank)], run).sets(n))
}

fn widened(device: &KernelDevice, scale: Scale, format: Format) -> Result<Prepared> {
    let (out, inp) = size(scale, UP);
    let n = sets(scale, out * inp / 2);
    let w = (0..n).map(|_| quantised(device, format, out, inp)).collect::<Result<Vec<_>>>()?;
    let run = move |i: usize| w[i].widen().map(drop);
    Ok(Prepared::new("f32", &[("in", inp), ("out", out)], run).sets(n))
}

/// A weight of any bytes with a scale of 1 in each block, which keeps numbers finite.
pub(in crate::bench) fn quantised(device: &KernelDevice, format: Format, out: usize, inp: usize) -> Result<Quantised> {
    let (size, head) = match format {
        Format::Q8_0 => (34, 1),
        Format::Q4_0 => (18, 1),
        Format::Q4_1 => (20, 2),
    };
    let mut block = vec![0x5au8; size];
    for half in block.chunks_exact_mut(2).take(head) {
        half.copy_from_slice(&f16::ONE.to_le_bytes());
    }
    Quantised::upload(device, format, (out, inp), &block.repeat(out * (inp / 32)))
}

fn blocks<T: Storage>(device: &KernelDevice, scale: Scale, m: usize, format: Format) -> Result<Prepared> {
    let (out, inp) = size(scale, UP);
    // Half a byte a weight at least.
    let n = sets(scale, out * inp / 2);
    let w = (0..n).map(|_| quantised(device, format, out, inp)).collect::<Result<Vec<_>>>()?;
    let (x, mut y) = (rows::<T>(device, m, inp, 2)?, DeviceRows::<f32>::zeros(device, m, out, "y")?);
    let run = move |i: usize| w[i].product(&x, None, false, &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", m), ("in", inp), ("out", out)], run).sets(n))
}
