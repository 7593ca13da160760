//! Linear layers of one input with their adapters, in training: several products a call, forward and backward.

use super::cuda::{self, Adapters, Batch, Beside, Segment};
use super::{Dropout, Low, cpu, mask};
use crate::device::{Buffer, Device, DeviceRows, KernelDevice, List, Rows, mixed};
use crate::error::{Error, Result};
use crate::ops::linear::cuda::{Epilogue, Form, gemm};
use crate::ops::linear::{self, Product, add_column_sums, matmul_nn_many, matmul_nt_many, matmul_tn};
use crate::tensor::Cost;

/// A weight (out, in) where it is, perhaps with a bias.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// In this process, in whatever storage it came in.
    Cpu(&'a linear::Weight, Option<&'a [f32]>),
    /// On a device with kernels.
    Kernels(&'a DeviceRows<f32>, Option<&'a Buffer<f32>>),
}

/// The adapter's pair of a layer, where it is: `scale x A^T B^T` is added to the layer's result.
#[derive(Debug, Clone, Copy)]
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
    /// On a device with kernels.
    Kernels(&'a Adapters<f32>),
}

/// A linear layer in training: `y = x W^T + b + scale drop(x) A^T B^T`.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// W and b.
    pub weight: Weight<'a>,
    /// A and B, if the layer has an adapter.
    pub pair: Option<Pair<'a>>,
    /// The mask of the adapter's input.
    pub dropout: Option<Dropout>,
}

/// Rows that pass through layers side by side: their names, which address the dropout, and their tiles on a device.
#[derive(Debug)]
pub struct Side {
    names: List<u64>,
    /// Without an adapter and with one.
    tiles: Option<[Batch; 2]>,
}

impl Side {
    /// A row for each name.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(device: &Device, names: &[u64]) -> Result<Self> {
        let tiles = |d: &KernelDevice| -> Result<[Batch; 2]> {
            let rows = names.len();
            Ok([Batch::plain(d, rows)?, Batch::new(d, &[Segment { rows, adapter: Some(0) }])?])
        };
        Ok(Self {
            names: List::upload(device, names, "names of rows")?,
            tiles: match device {
                Device::Cpu => None,
                Device::Kernels(d) => Some(tiles(d)?),
            },
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.names.len()
    }
}

/// One product of a forward.
pub struct Forward<'a> {
    /// The layer.
    pub layer: Layer<'a>,
    /// Result, (rows x out).
    pub y: &'a mut Rows,
    /// What the backward wants of the pair, (rows x r): its low-rank rows. Takes that shape where there is a pair.
    pub low: &'a mut Rows,
}

/// Where the gradients of what is trained are added.
pub enum By<'a> {
    /// Of A and B, in this process.
    Pair(&'a mut [f32], &'a mut [f32]),
    /// Of A and B, on a device with kernels.
    Kernels(&'a mut cuda::Gradients),
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
        (Weight::Cpu(w, _), Some(Pair::Cpu { a, b, rank, scale })) => {
            if rank == 0 || a.len() != rank * w.cols() || b.len() != rank * w.rows() {
                let what =
                    format!("pair of {} and {} values, rank {rank}, on {} x {}", a.len(), b.len(), w.rows(), w.cols());
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
    let mut cost = Cost::default();
    match (x, &side.tiles) {
        (Rows::Cpu(x), None) => {
            let names = side.names.cpu("lora")?;
            let (x, rows, inp) = (x.as_slice(), x.rows(), x.cols());
            let mut plain = Vec::with_capacity(products.len());
            for p in products.iter_mut() {
                let (Weight::Cpu(weight, bias), Rows::Cpu(y)) = (p.layer.weight, &mut *p.y) else {
                    return Err(Error::failed("lora", "a layer in another place than its input"));
                };
                let fits = (y.rows(), y.cols(), weight.cols(), names.len()) == (rows, weight.rows(), inp, rows);
                if !fits || bias.is_some_and(|b| b.len() != weight.rows()) {
                    let shapes = format!("{} x {} to {} x {}", weight.rows(), weight.cols(), y.rows(), y.cols());
                    let what = format!("{rows} x {inp} through {shapes}, {} names, or a bias", names.len());
                    return Err(Error::failed("lora", what));
                }
                cost += linear::cost(weight, rows);
                plain.push(Product { weight, y: y.as_mut_slice(), bias, accumulate });
            }
            matmul_nt_many(x, inp, &mut plain);
            for p in products {
                let (Some(low), Rows::Cpu(y), Rows::Cpu(z)) = (pair_of(&p.layer, names)?, &mut *p.y, &mut *p.low)
                else {
                    continue;
                };
                z.fit(rows, low.rank);
                cost += low.cost(x.len(), 1.0);
                cpu::forward(low, x, y.as_mut_slice(), z.as_mut_slice());
            }
        }
        (Rows::F32(x), Some(tiles)) => {
            let names = side.names.kernels("lora")?;
            for p in products {
                let (Rows::F32(y), Rows::F32(s)) = (&mut *p.y, &mut *p.low) else {
                    return Err(mixed("lora", &[p.y.place(), p.low.place()]));
                };
                cost += forward_on_kernels(&p.layer, tiles, names, x, accumulate, y, s)?;
            }
        }
        _ => return Err(mixed("lora", &[x.place()])),
    }
    Ok(cost)
}

/// Adds the gradients of what is trained (that needs `x`), and writes the gradient of x, the sum over the products, to `dx`.
///
/// # Errors
/// Shapes that do not fit, operands in different places; something to train whose input is not given, or that its place
/// cannot train; out of memory.
pub fn backward(
    side: &Side,
    x: Option<&Rows>,
    products: &mut [Backward<'_>],
    mut dx: Option<&mut Rows>,
) -> Result<Cost> {
    match &side.tiles {
        None => backward_on_cpu(side, x, products, dx),
        Some(tiles) => {
            let (names, mut cost) = (side.names.kernels("lora backward")?, Cost::default());
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

fn matrix<'a>(rows: &'a Rows, what: &str) -> Result<&'a crate::tensor::Matrix> {
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
    let (names, rows) = (side.names.cpu("lora backward")?, side.rows());
    let x = x.map(|x| matrix(x, "x")).transpose()?;
    let mut dx = match dx {
        None => None,
        Some(Rows::Cpu(dx)) => Some(dx),
        Some(other) => return Err(mixed("lora backward", &[other.place()])),
    };
    let (mut cost, mut plain) = (Cost::default(), Vec::with_capacity(products.len()));
    for p in products.iter() {
        let Weight::Cpu(weight, _) = p.layer.weight else {
            return Err(Error::failed("lora backward", "a layer in another place than its rows"));
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
        cost += linear::cost(weight, rows);
        plain.push((dy.as_slice(), weight));
    }
    if let Some(dx) = dx.as_deref_mut() {
        matmul_nn_many(&plain, dx.as_mut_slice(), false);
    }
    for p in products {
        let (dy, Weight::Cpu(weight, _)) = (matrix(p.dy, "dy")?.as_slice(), p.layer.weight) else { continue };
        let inputs = || x.ok_or_else(|| Error::failed("lora backward", "weights are trained whose input is not given"));
        let pairs = match &mut p.by {
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
        let dx = dx.as_deref_mut().map(crate::tensor::Matrix::as_mut_slice);
        if dx.is_some() || pairs.is_some() {
            cost += low.cost(rows * weight.cols(), 3.0);
            cpu::backward(low, dy, dx, pairs);
        }
    }
    Ok(cost)
}

fn zeros(like: &DeviceRows<f32>, width: usize) -> Result<DeviceRows<f32>> {
    DeviceRows::zeros(like.device(), like.rows(), width, "low-rank rows")
}

/// The adapter's input, where a mask makes it another than the layer's.
fn dropped(mask: Option<Dropout>, names: &Buffer<u64>, x: &DeviceRows<f32>) -> Result<Option<DeviceRows<f32>>> {
    let Some(mask) = mask else { return Ok(None) };
    let mut dropped = zeros(x, x.dim())?;
    mask::apply(mask, names, x, false, &mut dropped)?;
    Ok(Some(dropped))
}

fn on_kernels<'a>(
    layer: &Layer<'a>,
) -> Result<(&'a DeviceRows<f32>, Option<&'a Buffer<f32>>, Option<&'a Adapters<f32>>)> {
    match (layer.weight, layer.pair) {
        (Weight::Kernels(w, bias), None) => Ok((w, bias, None)),
        (Weight::Kernels(w, bias), Some(Pair::Kernels(pair))) => Ok((w, bias, Some(pair))),
        _ => Err(Error::failed("lora", "an adapter or its layer in another place than its rows")),
    }
}

/// `y (+)= x W^T + b + S B^T` with `S = scale drop(x) A^T`, which is kept in `s`.
fn forward_on_kernels(
    layer: &Layer<'_>,
    [plain, adapted]: &[Batch; 2],
    names: &Buffer<u64>,
    x: &DeviceRows<f32>,
    accumulate: bool,
    y: &mut DeviceRows<f32>,
    s: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let (weight, bias, pair) = on_kernels(layer)?;
    let Some(low) = pair else {
        return cuda::forward(plain, x, weight, &Beside { low: None, bias, accumulate }, y);
    };
    if (s.rows(), s.dim()) != (x.rows(), low.rank()) {
        *s = zeros(x, low.rank())?;
    }
    let mut cost = cuda::shrink(adapted, dropped(layer.dropout, names, x)?.as_ref().unwrap_or(x), low, s)?;
    cost += cuda::forward(adapted, x, weight, &Beside { low: Some((s, low)), bias, accumulate }, y)?;
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
        return cuda::backward(plain, dy, weight, &beside(accumulate), dx);
    };
    if dx.is_none() && p.by.is_none() {
        return Ok(Cost::default());
    }
    let mut ds = zeros(dy, low.rank())?;
    let mut cost = cuda::shrink_backward(adapted, dy, low, &mut ds)?;
    match &mut p.by {
        None => {}
        Some(By::Kernels(by)) => {
            let (Some(Rows::F32(x)), Rows::F32(s)) = (x, p.low) else {
                return Err(Error::failed("lora backward", "a pair is trained whose input is not given on the device"));
            };
            let dropped = dropped(p.layer.dropout, names, x)?;
            cost += cuda::gradients(adapted, low, (dropped.as_ref().unwrap_or(x), s), (dy, &ds), by)?;
        }
        Some(_) => return Err(Error::failed("lora backward", "gradients in this process, the layer on a device")),
    }
    let Some((dx, accumulate)) = dx else { return Ok(cost) };
    let Some(mask) = p.layer.dropout else {
        cost += cuda::backward(adapted, dy, weight, &Beside { low: Some((&ds, low)), bias: None, accumulate }, dx)?;
        return Ok(cost);
    };
    // dX = dY W + mask (dS A): the mask stands between the two, so that they cannot be one product.
    cost += cuda::backward(plain, dy, weight, &beside(accumulate), dx)?;
    let mut by_dropped = zeros(&ds, low.a.dim())?;
    cost += gemm(Form::Nn, &ds, &low.a, &Epilogue::default(), &mut by_dropped)?;
    cost += mask::apply(mask, names, &by_dropped, true, dx)?;
    Ok(cost)
}
