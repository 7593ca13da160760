//! The kernels of `kernels/rmsnorm.cu`.

use crate::device::{Arg, Buffer, DeviceRows, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of `rmsnorm`.
    struct NormArgs {
        x: Pointer,
        add: Pointer,
        w: Pointer,
        eps: f32,
        rows: u64,
        heads: u32,
        dim: u32,
        stride: u32,
        y: Pointer,
        rstd: Pointer,
    }
}

arguments! {
    /// Of `rmsnorm_backward`.
    struct NormBackwardArgs {
        x: Pointer,
        w: Pointer,
        rstd: Pointer,
        dy: Pointer,
        rows: u64,
        heads: u32,
        dim: u32,
        stride: u32,
        add: i32,
        dx: Pointer,
    }
}

/// Rows (heads) whose part of the weight's gradient is one partial sum.
pub(super) const CHUNK: usize = 256;

/// How rows are cut into heads that are normed each for itself.
struct Shape {
    rows: usize,
    heads: usize,
    dim: usize,
    stride: usize,
}

impl Shape {
    /// `x` holds heads of the width of `w`, side by side.
    fn new<T: Storage>(x: &DeviceRows<T>, w: &DeviceRows<f32>) -> Result<Self> {
        let dim = w.dim();
        let heads = x.dim().checked_div(dim).unwrap_or(0);
        if w.rows() != 1 || dim == 0 || heads * dim != x.dim() || (heads > 1 && !dim.is_multiple_of(T::VECTOR)) {
            let what = format!("rows of {} values with a weight of {} x {dim}", x.dim(), w.rows());
            return Err(Error::failed("rmsnorm", what).next("heads side by side must be whole 16-byte vectors"));
        }
        Ok(Self { rows: x.rows(), heads, dim, stride: x.stride() })
    }

    fn units(&self) -> usize {
        self.rows * self.heads
    }

    /// Blocks, and threads of a block, and whether a whole block takes a row.
    fn blocks(&self) -> (usize, u32, bool) {
        if self.dim > 1024 { (self.units(), 256, true) } else { (self.units().div_ceil(4), 128, false) }
    }

    fn args(&self) -> [Arg; 4] {
        [
            Arg::U64(self.rows as u64),
            Arg::U32(self.heads as u32),
            Arg::U32(self.dim as u32),
            Arg::U32(self.stride as u32),
        ]
    }
}

fn same<T: Storage>(a: &DeviceRows<T>, b: &DeviceRows<T>) -> Result<()> {
    if (a.rows(), a.dim()) != (b.rows(), b.dim()) {
        let what = format!("{} x {} beside {} x {}", a.rows(), a.dim(), b.rows(), b.dim());
        return Err(Error::failed("rmsnorm", what));
    }
    Ok(())
}

fn rstd_fits(rstd: &Buffer<f32>, shape: &Shape) -> Result<()> {
    if rstd.len() != shape.units() {
        return Err(Error::failed("rmsnorm", format!("{} scales for {} rows", rstd.len(), shape.units())));
    }
    Ok(())
}

/// `y = rmsnorm(x)`, after `x += add` where that is given. `w` is one row; where it is narrower
/// than `x`, every head of its width is normed alone. `rstd` (rows x heads) gets what the backward
/// needs. Bytes: `s (2 M W)`, with `add` twice that.
pub fn forward<T: Storage>(
    x: &mut DeviceRows<T>,
    add: Option<&DeviceRows<T>>,
    w: &DeviceRows<f32>,
    eps: f32,
    y: &mut DeviceRows<T>,
    rstd: Option<&mut Buffer<f32>>,
) -> Result<Cost> {
    let shape = Shape::new(x, w)?;
    same(x, y)?;
    if let Some(add) = add {
        same(x, add)?;
    }
    if let Some(rstd) = &rstd {
        rstd_fits(rstd, &shape)?;
    }
    let (blocks, threads, wide) = shape.blocks();
    let kernel = match wide {
        true => T::pick("rmsnorm_f32_256", "rmsnorm_bf16_256"),
        false => T::pick("rmsnorm_f32_32", "rmsnorm_bf16_32"),
    };
    let values = (x.rows() * x.dim()) as f64;
    let streams = if add.is_some() { 4.0 } else { 2.0 };
    let cost = Cost { bytes: size_of::<T>() as f64 * streams * values + 4.0 * w.dim() as f64, flops: 4.0 * values };
    let args = NormArgs {
        x: x.pointer(),
        add: add.map_or(Pointer::NULL, DeviceRows::pointer),
        w: w.pointer(),
        eps,
        rows: shape.rows as u64,
        heads: shape.heads as u32,
        dim: shape.dim as u32,
        stride: shape.stride as u32,
        y: y.pointer(),
        rstd: rstd.map_or(Pointer::NULL, |r| r.pointer()),
    };
    // SAFETY: all rows have x's shape, and so its stride; a scale a head.
    unsafe { x.device().launch(&Launch::new(kernel, blocks, threads, cost), &[args.arg()]) }
}

/// `dx = d rmsnorm(x)` from `dy`, or `dx +=` with `accumulate`.
pub fn backward<T: Storage>(
    x: &DeviceRows<T>,
    w: &DeviceRows<f32>,
    rstd: &Buffer<f32>,
    dy: &DeviceRows<T>,
    accumulate: bool,
    dx: &mut DeviceRows<T>,
) -> Result<Cost> {
    let shape = Shape::new(x, w)?;
    same(x, dy)?;
    same(x, dx)?;
    rstd_fits(rstd, &shape)?;
    let (blocks, threads, wide) = shape.blocks();
    let kernel = match wide {
        true => T::pick("rmsnorm_backward_f32_256", "rmsnorm_backward_bf16_256"),
        false => T::pick("rmsnorm_backward_f32_32", "rmsnorm_backward_bf16_32"),
    };
    let values = (x.rows() * x.dim()) as f64;
    let streams = if accumulate { 4.0 } else { 3.0 };
    let cost = Cost { bytes: size_of::<T>() as f64 * streams * values, flops: 8.0 * values };
    let args = NormBackwardArgs {
        x: x.pointer(),
        w: w.pointer(),
        rstd: rstd.pointer(),
        dy: dy.pointer(),
        rows: shape.rows as u64,
        heads: shape.heads as u32,
        dim: shape.dim as u32,
        stride: shape.stride as u32,
        add: i32::from(accumulate),
        dx: dx.pointer(),
    };
    // SAFETY: as in `forward`.
    unsafe { x.device().launch(&Launch::new(kernel, blocks, threads, cost), &[args.arg()]) }
}

/// `dw += sum over rows and heads of dy x rstd`, rows in a fixed order.
pub fn weight_gradient<T: Storage>(
    x: &DeviceRows<T>,
    rstd: &Buffer<f32>,
    dy: &DeviceRows<T>,
    dw: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let shape = Shape::new(x, dw)?;
    same(x, dy)?;
    rstd_fits(rstd, &shape)?;
    let device = x.device();
    let chunks = shape.units().div_ceil(CHUNK);
    let partials = device.alloc::<f32>(chunks * shape.dim, "partial gradients of a norm")?;
    let values = (x.rows() * x.dim()) as f64;
    let cost = Cost { bytes: 2.0 * size_of::<T>() as f64 * values, flops: 3.0 * values };
    let kernel = T::pick("rmsnorm_weight_f32", "rmsnorm_weight_bf16");
    let launch = Launch::new(kernel, chunks, 256, cost).by(shape.dim.div_ceil(32 * T::VECTOR));
    let [rows, heads, dim, stride] = shape.args();
    // SAFETY: a partial row a chunk.
    unsafe {
        let mut cost =
            device.launch(&launch, &[x.arg(), rstd.arg(), dy.arg(), rows, heads, dim, stride, partials.arg()])?;
        let bytes = 4.0 * (chunks * shape.dim) as f64;
        let launch =
            Launch::new("rmsnorm_weight_sum", shape.dim.div_ceil(256), 256, Cost { bytes, flops: bytes / 4.0 });
        cost += device.launch(&launch, &[partials.arg(), Arg::U64(chunks as u64), dim, dw.arg()])?;
        Ok(cost)
    }
}
