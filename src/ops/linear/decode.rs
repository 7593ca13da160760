//! The kernels of `kernels/linear_decode.cu`: a few rows through a weight in bf16 or in the blocks
//! of GGUF files; and of `kernels/linear_dequantise.cu`: the values of such blocks, for products of
//! more rows.

use half::{bf16, f16};

use super::quantised::{self, Bits, Form, Row};
use super::weight::{Values, Weight};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of the products of few rows.
    struct FewRowsArgs {
        values: Pointer,
        scale: Pointer,
        minimum: Pointer,
        out: u32,
        depth: u32,
        stride_w: u32,
        x: Pointer,
        rows: u64,
        stride_x: u32,
        bias: Pointer,
        add: i32,
        y: Pointer,
        stride_y: u32,
    }
}

arguments! {
    /// Of `decode_step`.
    struct StepArgs {
        w: Pointer,
        out: u32,
        depth: u32,
        stride_w: u32,
        x: Pointer,
        rows: u64,
        stride_x: u32,
        b: Pointer,
        s: Pointer,
        rank: u32,
        stride_b: u32,
        stride_s: u32,
        bias: Pointer,
        add: i32,
        y: Pointer,
        stride_y: u32,
    }
}

/// Values of a block.
const BLOCK: usize = 32;
/// Rows of X and outputs that one block takes, where there are as many rows, and where there are
/// few.
const MANY: (usize, usize) = (32, 32);
const FEW: (usize, usize) = (8, 16);
/// Bytes of a block's values split into three bf16 planes.
const SPLIT: usize = 3 * 2 * BLOCK;
/// Bytes of a group of blocks: its four lanes load 16 each.
const GROUP: usize = 64;

/// How a quantised weight stores its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `d q`, q in -128 .. 127.
    Q8_0,
    /// `d (q - 8)`, q in 0 .. 15.
    Q4_0,
    /// `d q + m`, q in 0 .. 15.
    Q4_1,
}

impl Format {
    /// Bytes of a block in a file, and of its scale and minimum before the values.
    fn bytes(self) -> (usize, usize) {
        match self {
            Format::Q8_0 => (34, 2),
            Format::Q4_0 => (18, 2),
            Format::Q4_1 => (20, 4),
        }
    }

    /// Blocks of a group, and bytes of a lane's share of one.
    fn group(self) -> (usize, usize) {
        match self {
            Format::Q8_0 => (2, 8),
            Format::Q4_0 | Format::Q4_1 => (4, 4),
        }
    }

    /// Writes block `at` of a group as the kernels read it (`kernels/common/blocks.cuh`): the eight
    /// values of a lane side by side, pairs at the same place of both halves of a register.
    fn place(self, block: &[u8], at: usize, group: &mut [u8]) {
        let share = self.group().1;
        for lane in 0..4 {
            let to = &mut group[16 * lane + share * at..][..share];
            for within in 0..8 {
                let value = 8 * lane + within;
                let (pair, upper) = (within / 2, 2 * (within % 2));
                match self {
                    Format::Q8_0 => to[4 * (pair / 2) + upper + pair % 2] = block[value],
                    Format::Q4_0 | Format::Q4_1 => {
                        let nibble = block[value % 16] >> (4 * (value / 16)) & 15;
                        to[upper + pair / 2] |= nibble << (4 * (pair % 2));
                    }
                }
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Q8_0 => "q8_0",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
        }
    }
}

/// A weight (out x in) in quantised blocks: values, scales and minima in arrays of their own, in
/// whole groups a row, so that a lane loads 16 bytes of values at once. What fills up the last
/// group of a row is zero.
#[derive(Debug)]
pub struct Quantised {
    format: Format,
    out: usize,
    inp: usize,
    values: Buffer<u8>,
    scale: Buffer<u16>,
    minimum: Buffer<u16>,
}

/// The format of a weight's blocks, if it is one of these.
fn format(form: Form) -> Option<Format> {
    match form {
        Form { group: BLOCK, bits: Bits::Eight, minimum: false, shared: 0, .. } => Some(Format::Q8_0),
        Form { group: BLOCK, bits: Bits::Four, centre: 8, minimum: false, shared: 0 } => Some(Format::Q4_0),
        Form { group: BLOCK, bits: Bits::Four, centre: 0, minimum: true, shared: 0 } => Some(Format::Q4_1),
        _ => None,
    }
}

/// A row of a weight as the bytes of a file.
fn blocks(of: &quantised::Quantised, row: usize, format: Format, bytes: &mut Vec<u8>) {
    let (cols, centre) = (of.cols(), of.form().centre);
    let (mut codes, mut scales, mut minima) = (vec![0; cols], vec![0.0; cols / BLOCK], vec![0.0; cols / BLOCK]);
    of.read_row(row, Row { codes: &mut codes, scales: &mut scales, minima: &mut minima, steps: &mut [] });
    for (block, (scale, minimum)) in codes.chunks_exact(BLOCK).zip(scales.iter().zip(&minima)) {
        bytes.extend(f16::from_f32(*scale).to_le_bytes());
        if format == Format::Q4_1 {
            bytes.extend(f16::from_f32(*minimum).to_le_bytes());
        }
        match format {
            Format::Q8_0 => bytes.extend(block.iter().map(|&c| c as u8)),
            // The lower half of the values in the lower four bits.
            _ => bytes.extend((0..BLOCK / 2).map(|j| {
                let nibble = |j: usize| (block[j] + centre) as u8 & 15;
                nibble(j) | nibble(j + BLOCK / 2) << 4
            })),
        }
    }
}

impl Quantised {
    /// Weights of one input, one below the other, with the blocks that they have in memory. `None`
    /// where they have none, or not all the same, or others than [`Format`] names.
    ///
    /// # Errors
    /// Out of memory.
    pub fn stack(device: &KernelDevice, weights: &[&Weight]) -> Result<Option<Self>> {
        let parts: Option<Vec<&quantised::Quantised>> = weights
            .iter()
            .map(|w| match w.values() {
                Values::Quantised(q) => Some(q),
                _ => None,
            })
            .collect();
        let Some(parts) = parts.filter(|parts| parts.windows(2).all(|w| w[0].form() == w[1].form())) else {
            return Ok(None);
        };
        let Some((first, format)) = parts.first().and_then(|q| Some((q, format(q.form())?))) else { return Ok(None) };
        let mut bytes = Vec::new();
        for part in &parts {
            (0..part.rows()).for_each(|row| blocks(part, row, format, &mut bytes));
        }
        let out = parts.iter().map(|q| q.rows()).sum();
        Self::upload(device, format, (out, first.cols()), &bytes).map(Some)
    }

    /// From the bytes of a file: `out` rows of `inp / 32` blocks.
    pub fn upload(device: &KernelDevice, format: Format, (out, inp): (usize, usize), bytes: &[u8]) -> Result<Self> {
        let (size, head) = format.bytes();
        let blocks = out * (inp / BLOCK);
        if inp % BLOCK != 0 || bytes.len() != blocks * size || u32::try_from(out.max(inp)).is_err() {
            let what = format!("{} bytes are not {out} x {inp} in {}", bytes.len(), format.name());
            return Err(Error::failed("quantised weight", what).next("rows must be whole blocks of 32 values"));
        }
        let (of_row, of_group) = (inp / BLOCK, format.group().0);
        let groups = of_row.div_ceil(of_group);
        let mut values = vec![0; out * groups * GROUP];
        let mut scale = vec![0; out * groups * of_group];
        let mut minimum = vec![0; if head == 4 { scale.len() } else { 0 }];
        for (i, block) in bytes.chunks_exact(size).enumerate() {
            let (row, at) = (i / of_row, i % of_row);
            let place = row * groups * of_group + at;
            scale[place] = u16::from_le_bytes([block[0], block[1]]);
            if head == 4 {
                minimum[place] = u16::from_le_bytes([block[2], block[3]]);
            }
            let group = &mut values[(row * groups + at / of_group) * GROUP..][..GROUP];
            format.place(&block[head..], at % of_group, group);
        }
        Ok(Self {
            format,
            out,
            inp,
            values: device.upload(&values, "quantised values")?,
            scale: device.upload(&scale, "block scales")?,
            minimum: device.upload(&minimum, "block minima")?,
        })
    }

    /// Output width.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Input width.
    pub fn inp(&self) -> usize {
        self.inp
    }

    /// The values, each rounded to f32 once: exactly what the CPU reads from the same blocks.
    ///
    /// # Errors
    /// Out of memory.
    pub fn widen(&self) -> Result<DeviceRows<f32>> {
        let device = self.values.device();
        let to = DeviceRows::unwritten(device, self.out, self.inp, "dequantised weight")?;
        let shares = self.out * self.inp / 8;
        if shares == 0 {
            return Ok(to);
        }
        let kernel = match self.format {
            Format::Q8_0 => "dequantise_q8_0",
            Format::Q4_0 => "dequantise_q4_0",
            Format::Q4_1 => "dequantise_q4_1",
        };
        let values = (self.out * self.inp) as f64;
        let launch = Launch::new(
            kernel,
            shares.div_ceil(256),
            256,
            Cost { bytes: self.bytes() as f64 + 4.0 * values, flops: 2.0 * values },
        );
        // They fit: `upload` refuses larger ones.
        let shape = [Arg::U32(self.out as u32), Arg::U32(self.inp as u32), to.stride_arg()];
        let arrays = [self.values.arg(), self.scale.arg(), self.minimum.arg()];
        // SAFETY: arrays of out rows of whole groups, sized by the constructor; out x inp values.
        unsafe { device.launch(&launch, &[&arrays[..], &shape, &[to.arg()]].concat())? };
        Ok(to)
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.values.len() + 2 * (self.scale.len() + self.minimum.len())
    }

    /// `y = x W^T (+ bias) (+ y)`.
    pub fn product<T: Storage>(
        &self,
        x: &DeviceRows<T>,
        bias: Option<&Buffer<f32>>,
        accumulate: bool,
        y: &mut DeviceRows<f32>,
    ) -> Result<Cost> {
        let few = x.rows() <= FEW.0;
        let kernel = match (self.format, few) {
            (Format::Q8_0, true) => T::pick("decode_q8_0_f32_8", "decode_q8_0_bf16_8"),
            (Format::Q8_0, false) => T::pick("decode_q8_0_f32_32", "decode_q8_0_bf16_32"),
            (Format::Q4_0, true) => T::pick("decode_q4_0_f32_8", "decode_q4_0_bf16_8"),
            (Format::Q4_0, false) => T::pick("decode_q4_0_f32_32", "decode_q4_0_bf16_32"),
            (Format::Q4_1, true) => T::pick("decode_q4_1_f32_8", "decode_q4_1_bf16_8"),
            (Format::Q4_1, false) => T::pick("decode_q4_1_f32_32", "decode_q4_1_bf16_32"),
        };
        let bytes = self.bytes();
        let weights = [self.values.pointer(), self.scale.pointer(), self.minimum.pointer()];
        launch(kernel, weights, (self.out, self.inp, self.inp, bytes), x, bias, accumulate, y)
    }
}

/// `y = x W^T (+ bias) (+ y)` for few rows of x: bound by the bytes of W.
pub fn product<T: Storage>(
    x: &DeviceRows<T>,
    w: &DeviceRows<bf16>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let kernel = match x.rows() <= FEW.0 {
        true => T::pick("decode_bf16_f32_8", "decode_bf16_bf16_8"),
        false => T::pick("decode_bf16_f32_32", "decode_bf16_bf16_32"),
    };
    let weights = [w.pointer(), Pointer::NULL, Pointer::NULL];
    launch(kernel, weights, (w.rows(), w.dim(), w.stride(), 2 * w.rows() * w.dim()), x, bias, accumulate, y)
}

/// `Y = X W^T (+ S B^T) (+ bias) (+ Y)` in bf16 for few rows of X, with an adapter's `(S, B)` where
/// there is one; sums in f32, rounded once. A row's bits do not depend on those beside it.
///
/// # Errors
/// Shapes that do not fit.
pub fn step(
    x: &DeviceRows<bf16>,
    w: &DeviceRows<bf16>,
    low: Option<(&DeviceRows<bf16>, &DeviceRows<bf16>)>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<bf16>,
) -> Result<Cost> {
    let (rows, out, inp) = (x.rows(), w.rows(), w.dim());
    let rank = low.map_or(0, |(s, _)| s.dim());
    let beside = low.is_none_or(|(s, b)| (s.rows(), b.rows(), b.dim()) == (rows, out, rank));
    check(x, (out, inp), beside, bias, y)?;
    let (m, n, k) = (rows as f64, out as f64, (inp + rank) as f64);
    let outputs = if accumulate { 4.0 } else { 2.0 } * m * n;
    let cost = Cost { bytes: 2.0 * (n * k + m * k) + outputs, flops: 2.0 * m * n * k };
    let few = rows <= FEW.0;
    let kernel = if few { "decode_step_bf16_8" } else { "decode_step_bf16_32" };
    // Without an adapter its two addresses are not read.
    let (s, b) = low.unwrap_or((x, w));
    // They fit: rows of a device's matrix are shorter than 2^32, and `grid` refuses more outputs.
    let args = StepArgs {
        w: w.pointer(),
        out: out as u32,
        depth: w.dim_u32(),
        stride_w: w.stride_u32(),
        x: x.pointer(),
        rows: rows as u64,
        stride_x: x.stride_u32(),
        b: b.pointer(),
        s: s.pointer(),
        rank: rank as u32,
        stride_b: b.stride_u32(),
        stride_s: s.stride_u32(),
        bias: bias.map_or(Pointer::NULL, Buffer::pointer),
        add: i32::from(accumulate),
        y: y.pointer(),
        stride_y: y.stride_u32(),
    };
    let launch = grid(kernel, rows, out, cost)?;
    // SAFETY: the shapes of all that is read and written were compared above.
    unsafe { y.device().launch(&launch, &[args.arg()]) }
}

/// Whether the shapes fit; `low` says it of the adapter's.
fn check<T: Storage, U: Storage>(
    x: &DeviceRows<T>,
    (out, inp): (usize, usize),
    low: bool,
    bias: Option<&Buffer<f32>>,
    y: &DeviceRows<U>,
) -> Result<()> {
    let rows = x.rows();
    if x.dim() == inp && (y.rows(), y.dim()) == (rows, out) && low && bias.is_none_or(|b| b.len() == out) {
        return Ok(());
    }
    let what =
        format!("{rows} x {} through {out} x {inp} into {} x {}, its adapter or bias", x.dim(), y.rows(), y.dim());
    Err(Error::failed("decode product", what))
}

/// Rows of X fastest, then outputs.
fn grid(kernel: &'static str, rows: usize, out: usize, cost: Cost) -> Result<Launch> {
    let (of_x, of_w) = if rows <= FEW.0 { FEW } else { MANY };
    let tiles = out.div_ceil(of_w);
    if tiles > 65_535 {
        return Err(Error::failed("decode product", format!("{out} outputs; {} are the most", 65_535 * of_w)));
    }
    Ok(Launch::new(kernel, rows.div_ceil(of_x), 256, cost).by(tiles))
}

/// f32 rows as planes of bf16, in the order in which the kernels of few rows take them: once for
/// all blocks of outputs.
fn split<T: Storage>(x: &DeviceRows<T>) -> Result<(DeviceRows<f32>, Cost)> {
    let (rows, blocks) = (x.rows(), x.dim().div_ceil(BLOCK));
    let planes = DeviceRows::unwritten(x.device(), rows, blocks * SPLIT / 4, "planes of few rows")?;
    let threads = rows * blocks * 4;
    if threads == 0 {
        return Ok((planes, Cost::default()));
    }
    let values = (rows * x.dim()) as f64;
    let cost = Cost { bytes: 4.0 * values + (rows * blocks * SPLIT) as f64, flops: 6.0 * values };
    let launch = Launch::new("decode_split", threads.div_ceil(256), 256, cost);
    let args = [x.arg(), x.rows_arg(), x.dim_arg(), x.stride_arg(), planes.arg()];
    // SAFETY: rows of x as it says, and room for three planes of whole blocks of each, without a
    // gap: 48 values a block are a multiple of eight.
    let cost = unsafe { x.device().launch(&launch, &args)? };
    Ok((planes, cost))
}

fn launch<T: Storage>(
    kernel: &'static str,
    [values, scale, minimum]: [Pointer; 3],
    (out, inp, stride, bytes): (usize, usize, usize, usize),
    x: &DeviceRows<T>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let rows = x.rows();
    check(x, (out, inp), true, bias, y)?;
    let (m, n, k) = (rows as f64, out as f64, inp as f64);
    let (planes, mut total) = match T::narrow(x) {
        None => split(x).map(|(planes, cost)| (Some(planes), cost))?,
        Some(_) => (None, Cost::default()),
    };
    let of_x = if planes.is_some() { 6.0 } else { 2.0 };
    let cost = Cost { bytes: bytes as f64 + of_x * m * k + 4.0 * m * n, flops: 2.0 * m * n * k };
    let launch = grid(kernel, rows, out, cost)?;
    // `grid` refuses more outputs than fit.
    let args = FewRowsArgs {
        values,
        scale,
        minimum,
        out: out as u32,
        depth: inp as u32,
        stride_w: stride as u32,
        x: planes.as_ref().map_or(x.pointer(), DeviceRows::pointer),
        rows: rows as u64,
        stride_x: x.stride_u32(),
        bias: bias.map_or(Pointer::NULL, Buffer::pointer),
        add: i32::from(accumulate),
        y: y.pointer(),
        stride_y: y.stride_u32(),
    };
    // SAFETY: the shapes of x and y are those of the weight, whose arrays were sized by its
    // constructor; `split` sized the planes.
    total += unsafe { y.device().launch(&launch, &[args.arg()])? };
    Ok(total)
}
