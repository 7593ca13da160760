//! Linear layers of one input with their adapters: several products a call, forward and backward.
//! Which kernel or CPU routine does a product follows from where the weight is, how it is stored,
//! and whether the rows are a decode step.

use half::bf16;

use crate::device::{Buffer, Device, DeviceRows, KernelDevice, List, Rows, Storage, mixed};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::{Epilogue, Form, gemm};
use crate::ops::linear::{
    self, Product, add_column_sums, add_low_rank, bf16 as pairs, decode, int8, matmul_nn_many, matmul_nt_many,
    matmul_tn,
};
use crate::ops::lora::kernel::{self, Adapters, Batch, Beside, Segment};
use crate::ops::lora::{Dropout, Low, cpu, mask};
use crate::tensor::{Cost, Matrix};

/// A weight (out, in) where it is, perhaps with a bias.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// In this process, in whatever storage it came in.
    Cpu(&'a linear::Weight, Option<&'a [f32]>),
    /// In this process, in bf16, and multiplied with x rounded to bf16. It is frozen: a backward
    /// gives the gradient of x, and those of an adapter beside it.
    Rounded(&'a linear::Weight, Option<&'a [f32]>),
    /// In this process, as 8-bit codes; for forwards alone.
    Codes(&'a int8::Codes, Option<&'a [f32]>),
    /// On a device with kernels.
    Kernels(&'a DeviceRows<f32>, Option<&'a Buffer<f32>>),
    /// In bf16 on a device with kernels; for forwards alone.
    Bf16(&'a DeviceRows<bf16>, Option<&'a Buffer<f32>>),
    /// In the blocks of its file on a device with kernels, beside values in f32; for forwards
    /// alone. Decode steps, which are bound by bytes, multiply with the blocks; products of more
    /// rows dequantise them for as long as they take.
    Blocks(&'a decode::Quantised, Option<&'a Buffer<f32>>),
}

/// The adapter's pair of a layer, where it is: `scale x A^T B^T` is added to the layer's result.
#[derive(Clone, Copy)]
pub enum Pair<'a> {
    /// In this process.
    Cpu {
        /// (r x in).
        a: &'a [f32],
        /// (out x r).
        b: &'a [f32],
        /// Rank.
        rank: usize,
        /// `alpha / r`.
        scale: f32,
    },
    /// In this process, for forwards alone: what no backward follows needs no low-rank rows.
    Transposed {
        /// (r x in).
        a: &'a linear::Weight,
        /// (r x out): B transposed.
        b: &'a [f32],
        /// `alpha / r`.
        scale: f32,
    },
    /// On a device with kernels.
    Kernels(&'a Adapters<f32>),
    /// In bf16 on a device with kernels; for forwards alone.
    Bf16(&'a Adapters<bf16>),
}

/// A linear layer: `y = x W^T + b + scale drop(x) A^T B^T`.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// W and b.
    pub weight: Weight<'a>,
    /// A and B, if the layer has an adapter.
    pub pair: Option<Pair<'a>>,
    /// The mask of the adapter's input.
    pub dropout: Option<Dropout>,
}

/// Rows that pass through layers side by side: their names, which address the dropout, and their
/// tiles on a device.
#[derive(Debug)]
pub struct Side {
    rows: usize,
    /// There in training.
    names: Option<List<u64>>,
    /// Without an adapter and with one.
    tiles: Option<[Batch; 2]>,
    /// Whether the rows are a decode step.
    step: bool,
}

impl Side {
    /// A row for each name: for training.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(device: &Device, names: &[u64]) -> Result<Self> {
        let side = Self::of(device, names.len())?;
        Ok(Self { names: Some(List::upload(device, names, "names of rows")?), ..side })
    }

    /// Rows without a name.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(device: &Device, rows: usize) -> Result<Self> {
        let tiles = |d: &KernelDevice| -> Result<[Batch; 2]> {
            Ok([Batch::plain(d, rows)?, Batch::new(d, &[Segment { rows, adapter: Some(0) }])?])
        };
        let tiles = match device {
            Device::Cpu => None,
            Device::Kernels(d) => Some(tiles(d)?),
        };
        Ok(Self { rows, names: None, tiles, step: false })
    }

    /// Rows of a decode step. It is bound by the bytes of weights: on kernels there, whatever the
    /// number of rows, products read them once, so that a row's numbers do not depend on those
    /// beside it.
    ///
    /// # Errors
    /// Out of memory.
    pub fn step(device: &Device, rows: usize) -> Result<Self> {
        Ok(Self { step: true, ..Self::of(device, rows)? })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn names(&self) -> Result<&List<u64>> {
        self.names.as_ref().ok_or_else(|| Error::failed("lora", "dropout asked of rows without names"))
    }
}

/// One product of a forward.
pub struct Forward<'a> {
    /// The layer.
    pub layer: Layer<'a>,
    /// Result, (rows x out).
    pub y: &'a mut Rows,
    /// What a backward wants of the pair, (rows x r): its low-rank rows. Takes that shape where
    /// there is a pair.
    pub low: Option<&'a mut Rows>,
}

/// Where the gradients of what is trained are added.
pub enum By<'a> {
    /// Of A and B, in this process.
    Pair(&'a mut [f32], &'a mut [f32]),
    /// Of A and B, on a device with kernels.
    Kernels(&'a mut kernel::Gradients),
    /// Of W and b, in this process.
    Weight(&'a mut [f32], Option<&'a mut [f32]>),
}

/// One product of a backward.
pub struct Backward<'a> {
    /// The layer, as in the forward.
    pub layer: Layer<'a>,
    /// Gradient of its result.
    pub dy: &'a Rows,
    /// What the forward left of the pair.
    pub low: &'a Rows,
    /// Where the gradients of its weights go, if they are wanted.
    pub by: Option<By<'a>>,
}

fn pair_of<'a>(layer: &Layer<'a>, names: &'a [u64]) -> Result<Option<Low<'a>>> {
    let dropout = layer.dropout.map(|mask| (mask, names));
    match (layer.weight, layer.pair) {
        (_, None) => Ok(None),
        (Weight::Cpu(w, _) | Weight::Rounded(w, _), Some(Pair::Cpu { a, b, rank, scale })) => {
            if rank == 0 || a.len() != rank * w.cols() || b.len() != rank * w.rows() {
                let shape = format!("{} x {}", w.rows(), w.cols());
                let what = format!("pair of {} and {} values, rank {rank}, on {shape}", a.len(), b.len());
                return Err(Error::failed("lora", what));
            }
            Ok(Some(Low { a, b, rank, scale, dropout }))
        }
        _ => Err(Error::failed("lora", "an adapter and its layer in different places")),
    }
}

/// Every `y (+)= x W^T + b + scale drop(x) A^T B^T` of one x (rows x in).
///
/// # Errors
/// Shapes that do not fit, operands in different places; out of memory.
pub fn forward(side: &Side, x: &Rows, products: &mut [Forward<'_>], accumulate: bool) -> Result<Cost> {
    if x.rows() != side.rows {
        return Err(Error::failed("linear", format!("{} rows, laid out for {}", x.rows(), side.rows)));
    }
    let mut cost = Cost::default();
    match (x, &side.tiles) {
        (Rows::Cpu(x), None) => {
            cost += plain_on_cpu(x, products, accumulate)?;
            adapt_on_cpu(side, x, products, &mut cost)?;
        }
        (Rows::F32(x), Some(tiles)) => {
            for p in products {
                let Rows::F32(y) = &mut *p.y else { return Err(mixed("linear", &[p.y.place()])) };
                cost += forward_on_kernels(side, tiles, &p.layer, x, accumulate, y, p.low.as_deref_mut())?;
            }
        }
        (Rows::Bf16(x), Some(tiles)) => {
            for p in products {
                let Rows::Bf16(y) = &mut *p.y else { return Err(mixed("linear", &[p.y.place()])) };
                cost += forward_in_bf16(side, tiles, &p.layer, x, accumulate, y)?;
            }
        }
        _ => return Err(mixed("linear", &[x.place()])),
    }
    Ok(cost)
}

/// Whether `y` (rows, out) is what a weight makes of `x`.
fn fits(x: &Matrix, (out, inp): (usize, usize), bias: Option<&[f32]>, y: &Matrix) -> Result<()> {
    if (y.rows(), y.cols(), inp) == (x.rows(), out, x.cols()) && bias.is_none_or(|b| b.len() == out) {
        return Ok(());
    }
    let what = format!("{} x {} through {out} x {inp} to {} x {}", x.rows(), x.cols(), y.rows(), y.cols());
    Err(Error::failed("linear", format!("{what}, or a bias")))
}

/// The products without adapters, all in one parallel region.
fn plain_on_cpu(x: &Matrix, products: &mut [Forward<'_>], accumulate: bool) -> Result<Cost> {
    let (mut plain, mut rounded, mut codes) = (Vec::with_capacity(products.len()), Vec::new(), Vec::new());
    let mut cost = Cost::default();
    for p in products.iter_mut() {
        let Rows::Cpu(y) = &mut *p.y else { return Err(mixed("linear", &[p.y.place()])) };
        match p.layer.weight {
            Weight::Cpu(weight, bias) => {
                fits(x, (weight.rows(), weight.cols()), bias, y)?;
                cost += linear::cost(weight, x.rows());
                plain.push(Product { weight, y: y.as_mut_slice(), bias, accumulate });
            }
            Weight::Rounded(weight, bias) => {
                fits(x, (weight.rows(), weight.cols()), bias, y)?;
                cost += pairs::cost(std::iter::once(weight), x.rows());
                rounded.push(Product { weight, y: y.as_mut_slice(), bias, accumulate });
            }
            Weight::Codes(weight, bias) => {
                fits(x, (weight.rows(), weight.cols()), bias, y)?;
                cost += int8::cost(std::iter::once(weight), x.rows());
                codes.push(Product { weight, y: y.as_mut_slice(), bias, accumulate });
            }
            _ => return Err(Error::failed("linear", "a layer in another place than its input")),
        }
    }
    if !plain.is_empty() {
        matmul_nt_many(x.as_slice(), x.cols(), &mut plain);
    }
    if !rounded.is_empty() {
        pairs::matmul_nt_many(x.as_slice(), x.cols(), &mut rounded);
    }
    if !codes.is_empty() {
        int8::matmul_nt_many(x.as_slice(), x.cols(), &mut codes);
    }
    Ok(cost)
}

/// Adds what the adapters say to the products.
fn adapt_on_cpu(side: &Side, x: &Matrix, products: &mut [Forward<'_>], cost: &mut Cost) -> Result<()> {
    let (rows, inp) = (x.rows(), x.cols());
    // Those that no backward follows: the narrow halves of all in one parallel region.
    let mut carried = Vec::new();
    for p in products.iter_mut() {
        let Some(pair) = p.layer.pair else { continue };
        let Rows::Cpu(y) = &mut *p.y else { return Err(mixed("lora", &[p.y.place()])) };
        if let Pair::Transposed { a, b, scale } = pair {
            if a.cols() != inp || b.len() != a.rows() * y.cols() {
                let what =
                    format!("pair of {} x {} and {} values on {inp} to {}", a.rows(), a.cols(), b.len(), y.cols());
                return Err(Error::failed("lora", what));
            }
            carried.push((a, b, scale, y, vec![0.0f32; rows * a.rows()]));
            continue;
        }
        let names: &[u64] = if p.layer.dropout.is_some() { side.names()?.cpu("lora")? } else { &[] };
        let Some(low) = pair_of(&p.layer, names)? else { continue };
        let Some(Rows::Cpu(z)) = p.low.as_deref_mut() else {
            return Err(Error::failed("lora", "a pair of training has no place for its low-rank rows"));
        };
        z.fit(rows, low.rank);
        *cost += low.cost(x.as_slice().len(), 1.0);
        cpu::forward(low, x.as_slice(), y.as_mut_slice(), z.as_mut_slice());
    }
    if carried.is_empty() {
        return Ok(());
    }
    let mut narrow: Vec<Product<'_>> =
        carried.iter_mut().map(|(a, _, _, _, s)| Product { weight: *a, y: s, bias: None, accumulate: false }).collect();
    matmul_nt_many(x.as_slice(), inp, &mut narrow);
    for (a, b, scale, y, mut s) in carried {
        s.iter_mut().for_each(|s| *s *= scale);
        add_low_rank(&s, a.rows(), b, y.as_mut_slice());
    }
    Ok(())
}

/// `y = x W^T + b` in f32, whatever x is stored in: logits from an output head.
///
/// # Errors
/// Shapes that do not fit, operands in different places; out of memory.
pub fn project(side: &Side, x: &Rows, weight: Weight<'_>, y: &mut Rows) -> Result<Cost> {
    let place = x.place();
    match (x, weight, y, &side.tiles) {
        (Rows::Cpu(x), Weight::Cpu(weight, bias), Rows::Cpu(y), None) => {
            fits(x, (weight.rows(), weight.cols()), bias, y)?;
            let product = Product { weight, y: y.as_mut_slice(), bias, accumulate: false };
            matmul_nt_many(x.as_slice(), x.cols(), &mut [product]);
            Ok(linear::cost(weight, x.rows()))
        }
        (Rows::F32(x), Weight::Kernels(w, bias), Rows::F32(y), Some([plain, _])) => {
            kernel::forward(plain, x, w, &Beside { low: None, bias, accumulate: false }, y)
        }
        (Rows::Bf16(x), Weight::Bf16(w, bias), Rows::F32(y), Some([plain, _])) => {
            kernel::forward(plain, x, w, &Beside { low: None, bias, accumulate: false }, y)
        }
        (Rows::F32(x), Weight::Blocks(w, bias), Rows::F32(y), Some(_)) => w.product(x, bias, false, y),
        _ => Err(mixed("linear", &[place])),
    }
}

/// Adds the gradients of what is trained (that needs `x`), and writes the gradient of x, the sum
/// over the products, to `dx`.
///
/// # Errors
/// Shapes that do not fit, operands in different places; something to train whose input is not
/// given, or that its place cannot train; out of memory.
pub fn backward(
    side: &Side,
    x: Option<&Rows>,
    products: &mut [Backward<'_>],
    mut dx: Option<&mut Rows>,
) -> Result<Cost> {
    match &side.tiles {
        None => backward_on_cpu(side, x, products, dx),
        Some(tiles) => {
            let (names, mut cost) = (side.names()?.kernels("lora backward")?, Cost::default());
            for (n, p) in products.iter_mut().enumerate() {
                let dx = match dx.as_deref_mut() {
                    None => None,
                    Some(Rows::F32(dx)) => Some((dx, n > 0)),
                    Some(other) => return Err(mixed("lora backward", &[other.place()])),
                };
                cost += backward_on_kernels(tiles, names, x, p, dx)?;
            }
            Ok(cost)
        }
    }
}

fn matrix<'a>(rows: &'a Rows, what: &str) -> Result<&'a Matrix> {
    match rows {
        Rows::Cpu(m) => Ok(m),
        other => Err(Error::failed("lora backward", format!("{what} is {}, the layer on the CPU", other.place()))),
    }
}

fn backward_on_cpu(
    side: &Side,
    x: Option<&Rows>,
    products: &mut [Backward<'_>],
    dx: Option<&mut Rows>,
) -> Result<Cost> {
    let (names, rows) = (side.names()?.cpu("lora backward")?, side.rows());
    let x = x.map(|x| matrix(x, "x")).transpose()?;
    let mut dx = match dx {
        None => None,
        Some(Rows::Cpu(dx)) => Some(dx),
        Some(other) => return Err(mixed("lora backward", &[other.place()])),
    };
    let (mut cost, mut plain, mut rounded) = (Cost::default(), Vec::with_capacity(products.len()), Vec::new());
    for p in products.iter() {
        let (weight, list) = match p.layer.weight {
            Weight::Cpu(weight, _) => (weight, &mut plain),
            Weight::Rounded(weight, _) => (weight, &mut rounded),
            _ => return Err(Error::failed("lora backward", "a layer in another place than its rows")),
        };
        let dy = matrix(p.dy, "dy")?;
        let shapes = [
            Some(dy).map(|m| (m, weight.rows())),
            x.map(|m| (m, weight.cols())),
            dx.as_deref().map(|m| (m, weight.cols())),
        ];
        for (m, width) in shapes.into_iter().flatten() {
            if (m.rows(), m.cols()) != (rows, width) {
                let what = format!("{} x {}, not {rows} x {width}", m.rows(), m.cols());
                return Err(Error::failed("lora backward", what));
            }
        }
        cost += match p.layer.weight {
            Weight::Rounded(..) => pairs::cost(std::iter::once(weight), rows),
            _ => linear::cost(weight, rows),
        };
        list.push((dy.as_slice(), weight));
    }
    if let Some(dx) = dx.as_deref_mut() {
        if !plain.is_empty() {
            matmul_nn_many(&plain, dx.as_mut_slice(), false);
        }
        if !rounded.is_empty() {
            pairs::matmul_nn_many(&rounded, dx.as_mut_slice(), !plain.is_empty());
        }
    }
    for p in products {
        let dy = matrix(p.dy, "dy")?.as_slice();
        let (weight, frozen) = match p.layer.weight {
            Weight::Cpu(weight, _) => (weight, false),
            Weight::Rounded(weight, _) => (weight, true),
            _ => continue,
        };
        let inputs = || x.ok_or_else(|| Error::failed("lora backward", "weights are trained whose input is not given"));
        let pairs = match &mut p.by {
            Some(By::Weight(..)) if frozen => {
                return Err(Error::failed("lora backward", "weights are trained that are rounded to bf16"));
            }
            Some(By::Weight(w, bias)) => {
                let bias = bias.as_deref_mut();
                if w.len() != weight.rows() * weight.cols() || bias.as_ref().is_some_and(|b| b.len() != weight.rows()) {
                    let what = format!("gradient of {} values for {} x {}", w.len(), weight.rows(), weight.cols());
                    return Err(Error::failed("lora backward", what));
                }
                cost += linear::cost(weight, rows);
                matmul_tn(dy, weight.rows(), inputs()?.as_slice(), weight.cols(), w, 1.0, true);
                if let Some(bias) = bias {
                    add_column_sums(dy, bias);
                }
                continue;
            }
            Some(By::Kernels(_)) => {
                return Err(Error::failed("lora backward", "gradients on a device, the layer on the CPU"));
            }
            Some(By::Pair(a, b)) => Some((inputs()?, &mut **a, &mut **b)),
            None => None,
        };
        let Some(low) = pair_of(&p.layer, names)? else { continue };
        let pairs = match pairs {
            None => None,
            Some((x, a, b)) => {
                let z = matrix(p.low, "low-rank rows")?;
                if (a.len(), b.len()) != (low.a.len(), low.b.len()) || (z.rows(), z.cols()) != (rows, low.rank) {
                    let what =
                        format!("gradients of {} and {} values, {} x {} kept", a.len(), b.len(), z.rows(), z.cols());
                    return Err(Error::failed("lora backward", what));
                }
                Some(cpu::Pairs { x: x.as_slice(), z: z.as_slice(), a, b })
            }
        };
        let dx = dx.as_deref_mut().map(Matrix::as_mut_slice);
        if dx.is_some() || pairs.is_some() {
            cost += low.cost(rows * weight.cols(), 3.0);
            cpu::backward(low, dy, dx, pairs);
        }
    }
    Ok(cost)
}

fn zeros<T: Storage>(like: &DeviceRows<T>, width: usize) -> Result<DeviceRows<T>> {
    DeviceRows::zeros(like.device(), like.rows(), width, "low-rank rows")
}

/// The adapter's input, where a mask makes it another than the layer's.
fn dropped(mask: Option<Dropout>, names: &Buffer<u64>, x: &DeviceRows<f32>) -> Result<Option<DeviceRows<f32>>> {
    let Some(mask) = mask else { return Ok(None) };
    let mut dropped = zeros(x, x.dim())?;
    mask::apply(mask, names, x, false, &mut dropped)?;
    Ok(Some(dropped))
}

/// A layer's weight, bias and adapter on a device with kernels.
type OnKernels<'a> = (&'a DeviceRows<f32>, Option<&'a Buffer<f32>>, Option<&'a Adapters<f32>>);

fn on_kernels<'a>(layer: &Layer<'a>) -> Result<OnKernels<'a>> {
    match (layer.weight, layer.pair) {
        (Weight::Kernels(w, bias), None) => Ok((w, bias, None)),
        (Weight::Kernels(w, bias), Some(Pair::Kernels(pair))) => Ok((w, bias, Some(pair))),
        _ => Err(Error::failed("lora", "an adapter or its layer in another place than its rows")),
    }
}

/// `y (+)= x W^T + b + S B^T` with `S = scale drop(x) A^T`, which is kept in `low` where that is
/// given.
fn forward_on_kernels(
    side: &Side,
    [plain, adapted]: &[Batch; 2],
    layer: &Layer<'_>,
    x: &DeviceRows<f32>,
    accumulate: bool,
    y: &mut DeviceRows<f32>,
    low: Option<&mut Rows>,
) -> Result<Cost> {
    let pair = match layer.pair {
        None => None,
        Some(Pair::Kernels(pair)) => Some(pair),
        Some(_) => return Err(Error::failed("lora", "an adapter in another place than its layer's rows")),
    };
    let mut cost = Cost::default();
    let mut made = None;
    let s = match (pair, low) {
        (None, _) => None,
        (Some(pair), low) => {
            let s = match low {
                Some(Rows::F32(s)) => {
                    if (s.rows(), s.dim()) != (x.rows(), pair.rank()) {
                        *s = zeros(x, pair.rank())?;
                    }
                    s
                }
                Some(other) => return Err(mixed("lora", &[other.place()])),
                None => made.insert(zeros(x, pair.rank())?),
            };
            let dropped = match layer.dropout {
                None => None,
                mask => dropped(mask, side.names()?.kernels("lora")?, x)?,
            };
            cost += kernel::shrink(adapted, dropped.as_ref().unwrap_or(x), pair, s)?;
            Some((&*s, pair))
        }
    };
    let batch = if s.is_some() { adapted } else { plain };
    match layer.weight {
        Weight::Kernels(w, bias) => cost += kernel::forward(batch, x, w, &Beside { low: s, bias, accumulate }, y)?,
        Weight::Blocks(blocks, bias) if side.step => {
            cost += blocks.product(x, bias, accumulate, y)?;
            if let Some((s, pair)) = s {
                cost += gemm(Form::Nt, s, &pair.b, &Epilogue { beta: 1.0, ..Epilogue::default() }, y)?;
            }
        }
        Weight::Blocks(blocks, bias) => {
            cost += kernel::forward(batch, x, &blocks.widen()?, &Beside { low: s, bias, accumulate }, y)?;
        }
        _ => return Err(Error::failed("linear", "a layer in another place or storage than its rows")),
    }
    Ok(cost)
}

/// The same in bf16, where nothing is kept.
fn forward_in_bf16(
    side: &Side,
    [plain, adapted]: &[Batch; 2],
    layer: &Layer<'_>,
    x: &DeviceRows<bf16>,
    accumulate: bool,
    y: &mut DeviceRows<bf16>,
) -> Result<Cost> {
    let Weight::Bf16(w, bias) = layer.weight else {
        return Err(Error::failed("linear", "a layer in another place or storage than its rows"));
    };
    let pair = match layer.pair {
        None => None,
        Some(Pair::Bf16(pair)) => Some(pair),
        Some(_) => return Err(Error::failed("lora", "an adapter in another place than its layer's rows")),
    };
    let mut cost = Cost::default();
    let s = match pair {
        None => None,
        Some(pair) => {
            let mut s = zeros(x, pair.rank())?;
            cost += kernel::shrink(adapted, x, pair, &mut s)?;
            Some((s, pair))
        }
    };
    if side.step {
        cost += decode::step(x, w, s.as_ref().map(|(s, pair)| (s, &pair.b)), bias, accumulate, y)?;
    } else {
        let batch = if s.is_some() { adapted } else { plain };
        let low = s.as_ref().map(|(s, pair)| (s, *pair));
        cost += kernel::forward(batch, x, w, &Beside { low, bias, accumulate }, y)?;
    }
    Ok(cost)
}

fn backward_on_kernels(
    [plain, adapted]: &[Batch; 2],
    names: &Buffer<u64>,
    x: Option<&Rows>,
    p: &mut Backward<'_>,
    dx: Option<(&mut DeviceRows<f32>, bool)>,
) -> Result<Cost> {
    let (Rows::F32(dy), (weight, _, pair)) = (p.dy, on_kernels(&p.layer)?) else {
        return Err(mixed("lora backward", &[p.dy.place()]));
    };
    let beside = |accumulate| Beside { accumulate, ..Beside::default() };
    let Some(low) = pair else {
        if p.by.is_some() {
            return Err(Error::failed("lora backward", "on a device, adapters alone are trained"));
        }
        let Some((dx, accumulate)) = dx else { return Ok(Cost::default()) };
        return kernel::backward(plain, dy, weight, &beside(accumulate), dx);
    };
    if dx.is_none() && p.by.is_none() {
        return Ok(Cost::default());
    }
    let mut ds = zeros(dy, low.rank())?;
    let mut cost = kernel::shrink_backward(adapted, dy, low, &mut ds)?;
    match &mut p.by {
        None => {}
        Some(By::Kernels(by)) => {
            let (Some(Rows::F32(x)), Rows::F32(s)) = (x, p.low) else {
                return Err(Error::failed("lora backward", "a pair is trained whose input is not given on the device"));
            };
            let dropped = dropped(p.layer.dropout, names, x)?;
            cost += kernel::gradients(adapted, low, (dropped.as_ref().unwrap_or(x), s), (dy, &ds), by)?;
        }
        Some(_) => return Err(Error::failed("lora backward", "gradients in this process, the layer on a device")),
    }
    let Some((dx, accumulate)) = dx else { return Ok(cost) };
    let Some(mask) = p.layer.dropout else {
        cost += kernel::backward(adapted, dy, weight, &Beside { low: Some((&ds, low)), bias: None, accumulate }, dx)?;
        return Ok(cost);
    };
    // dX = dY W + mask (dS A): the mask stands between the two, so that they cannot be one product.
    cost += kernel::backward(plain, dy, weight, &beside(accumulate), dx)?;
    let mut by_dropped = zeros(&ds, low.a.dim())?;
    cost += gemm(Form::Nn, &ds, &low.a, &Epilogue::default(), &mut by_dropped)?;
    cost += mask::apply(mask, names, &by_dropped, true, dx)?;
    Ok(cost)
}
