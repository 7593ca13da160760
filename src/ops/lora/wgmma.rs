//! The products of a layer with its adapter, forward and for the gradient of its input, by
//! `kernels/lora_sm90a.cu`: TMA brings tiles, wgmma multiplies them. For devices of compute
//! capability 9.0, and for the host build, which has twins of these instructions.
//!
//! `rallrec check wgmma --device cuda` holds it to the f64 oracle. No GPU has run it; until one
//! has, the products of a run go through it only where `RALLREC_WGMMA=1` says so.

use std::ops::Range;
use std::sync::LazyLock;

use half::bf16;

use super::kernel::{Batch, Beside};
use crate::device::{Buffer, DeviceRows, KernelDevice, Kind, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of the products by wgmma, beside their descriptors.
    struct HopperArgs {
        rows: u64,
        columns: u64,
        depth: u32,
        rank: u32,
        bias: Pointer,
        accumulate: i32,
        y: Pointer,
        stride: u32,
    }
}

/// Rows and columns of the result that a block makes.
pub(super) const TILE: usize = 128;
/// Rows of a box of the right operand, where the depth is along its rows.
const TURNED: usize = 64;
const THREADS: u32 = 384;
/// Four stages of a tile of each operand, 128 x 64 values.
pub(super) const SHARED: usize = 4 * 2 * TILE * 64 * 2;

/// What `RALLREC_WGMMA` says.
static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var("RALLREC_WGMMA").is_ok_and(|v| v == "1"));

/// Whether the device can run it.
pub fn is_there(device: &KernelDevice) -> bool {
    device.kind() == Kind::Host || device.capability() == Some((9, 0))
}

/// A matrix of bf16, some rows of it.
type Part<'a> = (&'a DeviceRows<bf16>, Range<usize>);

fn all(matrix: &DeviceRows<bf16>) -> Part<'_> {
    (matrix, 0..matrix.rows())
}

/// Whether a product is one for these kernels: asked for, of a whole tile of rows at least, one
/// adapter for all of them or none.
fn is_for_it<T: Storage>(batch: &Batch, x: &DeviceRows<T>, beside: &Beside<'_, T>) -> bool {
    let single = match beside.low {
        Some((_, low)) => batch.is_uniform() && low.count == 1,
        None => batch.is_plain(),
    };
    *WANTED && single && x.rows() >= TILE && is_there(x.device())
}

/// [`forward`], if this product is one for it.
pub(super) fn instead_of_forward<T: Storage, U: Storage>(
    batch: &Batch,
    x: &DeviceRows<T>,
    w: &DeviceRows<T>,
    beside: &Beside<'_, T>,
    y: &mut DeviceRows<U>,
) -> Option<Result<Cost>> {
    if !is_for_it(batch, x, beside) {
        return None;
    }
    let low = match beside.low {
        Some((s, low)) => Some((T::narrow(s)?, T::narrow(&low.b)?)),
        None => None,
    };
    Some(forward(T::narrow(x)?, T::narrow(w)?, low, beside.bias, beside.accumulate, y))
}

/// [`backward`] with some rows of W, if this product is one for it.
pub(super) fn instead_of_backward<T: Storage, U: Storage>(
    batch: &Batch,
    dy: &DeviceRows<T>,
    w: (&DeviceRows<T>, Range<usize>),
    beside: &Beside<'_, T>,
    dx: &mut DeviceRows<U>,
) -> Option<Result<Cost>> {
    if !is_for_it(batch, dy, beside) || beside.bias.is_some() {
        return None;
    }
    let low = match beside.low {
        Some((ds, low)) => Some((T::narrow(ds)?, T::narrow(&low.a)?)),
        None => None,
    };
    Some(backward(T::narrow(dy)?, (T::narrow(w.0)?, w.1), low, beside.accumulate, dx))
}

/// `Y (M, N) = X (M, K) W (N, K)^T + S (M, r) B (N, r)^T (+ bias) (+ Y)`, sums in f32; Y in bf16 or
/// f32. `low` is S and B.
///
/// # Errors
/// A device that has neither the instructions nor twins of them; shapes that do not fit; more
/// columns than a grid's second side holds blocks of 128.
pub fn forward<U: Storage>(
    x: &DeviceRows<bf16>,
    w: &DeviceRows<bf16>,
    low: Option<(&DeviceRows<bf16>, &DeviceRows<bf16>)>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<U>,
) -> Result<Cost> {
    let (m, n, k) = (x.rows(), w.rows(), x.dim());
    let beside = low.is_none_or(|(s, b)| (s.rows(), b.rows(), b.dim()) == (m, n, s.dim()));
    if w.dim() != k || (y.rows(), y.dim()) != (m, n) || !beside || bias.is_some_and(|b| b.len() != n) {
        let what = format!("{m} x {k} times {n} x {} into {} x {}, its adapter or bias", w.dim(), y.rows(), y.dim());
        return Err(Error::failed("wgmma forward", what));
    }
    let kernel = U::pick("lora_forward_bf16_f32_sm90a", "lora_forward_bf16_sm90a");
    let low = low.map(|(s, b)| (s, all(b)));
    product(kernel, TILE, (x, all(w)), low, bias, accumulate, y)
}

/// `dX (M, K) = dY (M, N) W (N, K) + dS (M, r) A (r, K) (+ dX)`, sums in f32; dX in bf16 or f32. W
/// may be some rows of a matrix; `low` is dS and A.
///
/// # Errors
/// As [`forward`].
pub fn backward<U: Storage>(
    dy: &DeviceRows<bf16>,
    (w, rows): (&DeviceRows<bf16>, Range<usize>),
    low: Option<(&DeviceRows<bf16>, &DeviceRows<bf16>)>,
    accumulate: bool,
    dx: &mut DeviceRows<U>,
) -> Result<Cost> {
    let (m, n, k) = (dy.rows(), dy.dim(), w.dim());
    let beside = low.is_none_or(|(ds, a)| (ds.rows(), a.rows(), a.dim()) == (m, ds.dim(), k));
    if rows.len() != n || rows.end > w.rows() || (dx.rows(), dx.dim()) != (m, k) || !beside {
        let what = format!("{m} x {n} times rows {rows:?} of {} x {k}", w.rows());
        let what = format!("{what} into {} x {}, or its adapter", dx.rows(), dx.dim());
        return Err(Error::failed("wgmma backward", what));
    }
    let kernel = U::pick("lora_backward_bf16_f32_sm90a", "lora_backward_bf16_sm90a");
    let low = low.map(|(ds, a)| (ds, all(a)));
    product(kernel, TURNED, (dy, (w, rows)), low, None, accumulate, dx)
}

/// A launch on operands whose shapes were checked; boxes of the right ones have `box_rows` rows.
fn product<U: Storage>(
    kernel: &'static str,
    box_rows: usize,
    (left, right): (&DeviceRows<bf16>, Part<'_>),
    low: Option<(&DeviceRows<bf16>, Part<'_>)>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<U>,
) -> Result<Cost> {
    let device = y.device().clone();
    if !is_there(&device) {
        return Err(Error::failed("wgmma", "needs a GPU of compute capability 9.0"));
    }
    let (m, n, k, rank) = (y.rows(), y.dim(), left.dim(), low.as_ref().map_or(0, |(s, _)| s.dim()));
    if m == 0 || n == 0 {
        return Ok(Cost::default());
    }
    let mut maps = Vec::with_capacity(4);
    for (left, (right, rows)) in [Some((left, right)), low].into_iter().flatten() {
        maps.push(device.tensor_map(left, 0..left.rows(), TILE as u32)?);
        maps.push(device.tensor_map(right, rows, box_rows as u32)?);
    }
    // Without an adapter its two are there and not read.
    maps.resize(4, maps[0]);
    let (mf, nf, depth) = (m as f64, n as f64, (k + rank) as f64);
    let outputs = size_of::<U>() as f64 * mf * nf * if accumulate { 2.0 } else { 1.0 };
    let cost = Cost { bytes: 2.0 * depth * (mf + nf) + outputs, flops: 2.0 * mf * nf * depth };
    let launch = Launch::new(kernel, m.div_ceil(TILE), THREADS, cost).by(n.div_ceil(TILE)).shared(SHARED);
    // They fit: rows of a device's matrix are shorter than 2^32.
    let args = HopperArgs {
        rows: m as u64,
        columns: n as u64,
        depth: k as u32,
        rank: rank as u32,
        bias: bias.map_or(Pointer::NULL, Buffer::pointer),
        accumulate: i32::from(accumulate),
        y: y.pointer(),
        stride: y.stride_u32(),
    };
    // SAFETY: four descriptors, whose loads stay inside their matrices; bias and Y have the shapes
    // that are read and written.
    unsafe { device.launch(&launch, &[maps[0], maps[1], maps[2], maps[3], args.arg()]) }
}
