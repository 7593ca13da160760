//! Works of products that are measured.

use std::sync::Arc;

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear::decode::{Format, Quantised, product as few, step};
use crate::ops::linear::int8::{self, Codes};
use crate::ops::linear::kernel::{Epilogue, Form, gemm};
use crate::ops::linear::quantised::{Bits, Form as Blocks, Quantised as OnCpu};
use crate::ops::linear::{self, Storage as Stored, Weight, matmul_nt};
use crate::ops::registry::{Case, Prepared, Scale, Units, copies, host_sets, normals, rows, sets};
use crate::tensor::Dtype;
use half::{bf16, f16};

/// Products with weights.
pub(super) const CASES: &[Case] = &[
    Case::cpu("linear", "decode M=1, 1536 x 576, bf16", || product(1, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "decode M=1, 1536 x 576, f16", || product(1, 1536, 576, Dtype::F16)),
    Case::cpu("linear", "decode M=1, 1536 x 576, f32", || product(1, 1536, 576, Dtype::F32)),
    Case::cpu("linear", "decode M=1, 4096 x 4096, bf16", || product(1, 4096, 4096, Dtype::Bf16)),
    Case::cpu("linear", "decode M=1, 4096 x 4096, Q8_0", || in_blocks(1, 4096, 4096, Bits::Eight, false)),
    Case::cpu("linear", "decode M=1, 4096 x 4096, Q4_1", || in_blocks(1, 4096, 4096, Bits::Four, true)),
    Case::cpu("linear", "decode M=4, 1536 x 576, bf16", || product(4, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "decode M=16, 1536 x 576, bf16", || product(16, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "decode M=16, 1536 x 576, f32", || product(16, 1536, 576, Dtype::F32)),
    Case::cpu("linear", "prefill M=512, 1536 x 576, bf16", || product(512, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "prefill M=512, 1536 x 576, f32", || product(512, 1536, 576, Dtype::F32)),
    Case::cpu("linear", "head M=1, 49152 x 576, bf16", || product(1, 49_152, 576, Dtype::Bf16)),
    Case::kernels("linear", "A B^T", |d, s| square::<bf16>(d, s, Form::Nt)),
    Case::kernels("linear", "A B", |d, s| square::<bf16>(d, s, Form::Nn)),
    Case::kernels("linear", "A^T B", |d, s| square::<bf16>(d, s, Form::Tn)),
    Case::kernels("linear", "A B^T", |d, s| square::<f32>(d, s, Form::Nt)),
    Case::kernels("linear", "A B", |d, s| square::<f32>(d, s, Form::Nn)),
    Case::kernels("linear", "A^T B", |d, s| square::<f32>(d, s, Form::Tn)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[
    Case::cpu("linear", "M=1, 1536 x 576, bf16", || product(1, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "M=1, 1536 x 576, f32", || product(1, 1536, 576, Dtype::F32)),
    Case::cpu("linear", "M=1, 1024 x 1024, Q4_1", || in_blocks(1, 1024, 1024, Bits::Four, true)),
    Case::cpu("linear", "M=1, 1024 x 1024, Q8_0", || in_blocks(1, 1024, 1024, Bits::Eight, false)),
    Case::cpu("linear", "M=16, 1536 x 576, bf16", || product(16, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "M=64, 1536 x 576, bf16", || product(64, 1536, 576, Dtype::Bf16)),
    Case::cpu("linear", "M=64, 1024 x 1024, Q4_1", || in_blocks(64, 1024, 1024, Bits::Four, true)),
];

/// Products in bf16.
pub(super) const BF16: &[Case] = &[
    Case::cpu("linear_bf16", "decode M=1, 1536 x 576", || product_bf16(1, 1536, 576)),
    Case::cpu("linear_bf16", "decode M=1, 4096 x 4096", || product_bf16(1, 4096, 4096)),
    Case::cpu("linear_bf16", "decode M=16, 1536 x 576", || product_bf16(16, 1536, 576)),
    Case::cpu("linear_bf16", "M=64, 1536 x 576", || product_bf16(64, 1536, 576)),
    Case::cpu("linear_bf16", "head M=1, 49152 x 576", || product_bf16(1, 49_152, 576)),
    Case::cpu("linear_bf16", "prefill M=512, 576 x 1536", || product_bf16(512, 576, 1536)),
    Case::cpu("linear_bf16", "prefill M=512, 4096 x 4096", || product_bf16(512, 4096, 4096)),
    Case::cpu("linear_bf16", "prefill M=512, 1536 x 576", || product_bf16(512, 1536, 576)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED_BF16: &[Case] =
    &[Case::cpu("linear_bf16", "M=16, 1536 x 576", || product_bf16(16, 1536, 576))];

/// Products in 8 bits.
pub(super) const INT8: &[Case] = &[
    Case::cpu("linear_int8", "decode M=1, 1536 x 576", || product_int8(1, 1536, 576)),
    Case::cpu("linear_int8", "decode M=16, 1536 x 576", || product_int8(16, 1536, 576)),
    Case::cpu("linear_int8", "prefill M=512, 1536 x 576", || product_int8(512, 1536, 576)),
    Case::cpu("linear_int8", "decode M=1, 4096 x 4096, Q4_1", || blocks_int8(1, 4096, 4096, Bits::Four, true)),
    Case::cpu("linear_int8", "decode M=1, 4096 x 4096, Q8_0", || blocks_int8(1, 4096, 4096, Bits::Eight, false)),
    Case::cpu("linear_int8", "prefill M=512, 4096 x 4096, Q4_1", || blocks_int8(512, 4096, 4096, Bits::Four, true)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED_INT8: &[Case] = &[
    Case::cpu("linear_int8", "M=1, 1536 x 576", || product_int8(1, 1536, 576)),
    Case::cpu("linear_int8", "M=16, 1536 x 576", || product_int8(16, 1536, 576)),
    Case::cpu("linear_int8", "M=1, 1024 x 1024, Q4_1", || blocks_int8(1, 1024, 1024, Bits::Four, true)),
    Case::cpu("linear_int8", "M=1, 1024 x 1024, Q8_0", || blocks_int8(1, 1024, 1024, Bits::Eight, false)),
];

/// Few rows at a time, bound by the weight's bytes.
pub(super) const DECODE: &[Case] = &[
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
];

/// Quantised weights as f32.
pub(super) const DEQUANTISE: &[Case] = &[
    Case::kernels("dequantise", "Q8_0 to f32", |d, s| dequantised(d, s, Format::Q8_0)),
    Case::kernels("dequantise", "Q4_0 to f32", |d, s| dequantised(d, s, Format::Q4_0)),
    Case::kernels("dequantise", "Q4_1 to f32", |d, s| dequantised(d, s, Format::Q4_1)),
];

fn weight(rows: usize, cols: usize, dtype: Dtype, stream: u32) -> Result<Weight> {
    let values = normals(cols, stream);
    let all = (0..rows).flat_map(|r| values.iter().map(move |v| v * (1.0 + r as f32 / 1e4)));
    match dtype {
        Dtype::Bf16 => Weight::new(rows, cols, Stored::Bf16(Arc::new(all.map(bf16::from_f32).collect()))),
        Dtype::F16 => Weight::new(rows, cols, Stored::F16(Arc::new(all.map(f16::from_f32).collect()))),
        Dtype::F32 => Weight::from_f32(rows, cols, all.collect()),
    }
}

fn product(m: usize, out: usize, inp: usize, dtype: Dtype) -> Result<Prepared> {
    products(m, |stream| weight(out, inp, dtype, stream))
}

/// The blocks of GGUF files: a scale, and perhaps a minimum, for 32 values.
fn in_file(out: usize, inp: usize, bits: Bits, minimum: bool, stream: u32) -> Result<Weight> {
    let form = Blocks { group: 32, bits, centre: 0, minimum, shared: 0 };
    let matrix = OnCpu::build(out, inp, form, |row, parts| {
        parts.codes.iter_mut().enumerate().for_each(|(i, c)| *c = ((row + i + stream as usize) % 16) as i8);
        parts.scales.fill(0.125);
        parts.minima.fill(-1.0);
    })?;
    Weight::new(out, inp, Stored::Quantised(Arc::new(matrix)))
}

fn in_blocks(m: usize, out: usize, inp: usize, bits: Bits, minimum: bool) -> Result<Prepared> {
    products(m, |stream| in_file(out, inp, bits, minimum, stream))
}

fn products(m: usize, weight: impl Fn(u32) -> Result<Weight>) -> Result<Prepared> {
    let one = weight(0)?;
    let (cost, out, inp) = (linear::cost(&one, m), one.rows(), one.cols());
    let n = host_sets(one.bytes() as f64);
    let weights = (0..n as u32).map(weight).collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Prepared::of(cost, n, move |i| {
        matmul_nt(&x, &weights[i], &mut y, false);
        Ok(())
    }))
}

fn product_bf16(m: usize, out: usize, inp: usize) -> Result<Prepared> {
    let one = weight(out, inp, Dtype::Bf16, 0)?;
    let cost = linear::bf16::cost(std::iter::once(&one), m);
    let weights = (0..host_sets(one.bytes() as f64) as u32)
        .map(|s| weight(out, inp, Dtype::Bf16, s))
        .collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Prepared::of(cost, weights.len(), move |i| {
        let product = linear::Product { weight: &weights[i], y: &mut y, bias: None, accumulate: false };
        linear::bf16::matmul_nt_many(&x, inp, &mut [product]);
        Ok(())
    })
    .on(Units::Bf16))
}

fn product_int8(m: usize, out: usize, inp: usize) -> Result<Prepared> {
    products_int8(m, |stream| weight(out, inp, Dtype::F32, stream))
}

fn blocks_int8(m: usize, out: usize, inp: usize, bits: Bits, minimum: bool) -> Result<Prepared> {
    products_int8(m, |stream| in_file(out, inp, bits, minimum, stream))
}

fn products_int8(m: usize, weight: impl Fn(u32) -> Result<Weight>) -> Result<Prepared> {
    let one = Codes::new(&weight(0)?);
    let (cost, out, inp) = (int8::cost(std::iter::once(&one), m), one.rows(), one.cols());
    let n = host_sets(one.bytes() as f64) as u32;
    let weights = (0..n).map(|s| Ok(Codes::new(&weight(s)?))).collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Prepared::of(cost, weights.len(), move |i| {
        let product = int8::Product { weight: &weights[i], y: &mut y, bias: None, accumulate: false };
        int8::matmul_nt_many(&x, inp, &mut [product]);
        Ok(())
    })
    .on(Units::Int8))
}

fn square<T: Storage>(device: &KernelDevice, scale: Scale, form: Form) -> Result<Prepared> {
    let n = scale.of(4096, 70);
    let (a, b) = (rows::<T>(device, n, n, 1)?, rows::<T>(device, n, n, 2)?);
    let mut out = DeviceRows::zeros(device, n, n, "out")?;
    let run = move |_| gemm(form, &a, &b, &Epilogue::default(), &mut out).map(drop);
    Ok(Prepared::new(T::NAME, &[("m", n), ("n", n), ("k", n)], run))
}

/// Output and input width of an 8B model's up projection.
const UP: [usize; 2] = [14_336, 4096];

/// SmolLM2's head.
const HEAD: [usize; 2] = [49_152, 576];

fn size(scale: Scale, [out, inp]: [usize; 2]) -> (usize, usize) {
    (scale.of(out, 40), scale.of(inp, 64))
}

fn plain<T: Storage>(device: &KernelDevice, scale: Scale, m: usize, full: [usize; 2]) -> Result<Prepared> {
    let (out, inp) = size(scale, full);
    let n = sets(scale, 2 * out * inp);
    let w = copies(rows::<bf16>(device, out, inp, 1)?, n)?;
    let (x, mut y) = (rows::<T>(device, m, inp, 2)?, DeviceRows::<f32>::zeros(device, m, out, "y")?);
    let run = move |i: usize| few(&x, &w[i], None, false, &mut y).map(drop);
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

fn dequantised(device: &KernelDevice, scale: Scale, format: Format) -> Result<Prepared> {
    let (out, inp) = size(scale, UP);
    let n = sets(scale, out * inp / 2);
    let w = (0..n).map(|_| quantised(device, format, out, inp)).collect::<Result<Vec<_>>>()?;
    let run = move |i: usize| w[i].widen().map(drop);
    Ok(Prepared::new("f32", &[("in", inp), ("out", out)], run).sets(n))
}

/// A weight of any bytes with a scale of 1 in each block, which keeps numbers finite.
pub(crate) fn quantised(device: &KernelDevice, format: Format, out: usize, inp: usize) -> Result<Quantised> {
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
