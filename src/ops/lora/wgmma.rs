//! The forward of a layer with its adapter by `kernels/gemm_sm90a.cu`: TMA brings tiles, wgmma multiplies them. For devices of compute
//! capability 9.0 alone.
//!
//! `rallrec check wgmma --device cuda` holds it to the f64 oracle. It has never been run; until it has, the products of a run go through it
//! only where `RALLREC_WGMMA=1` says so.

use std::any::Any;
use std::sync::LazyLock;

use half::bf16;

use super::cuda::{Batch, Beside};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Storage};
use crate::error::{Error, Result};
use crate::ops::Cost;

/// Rows and columns of Y that a block makes.
const TILE: usize = 128;
const THREADS: u32 = 384;
/// Four stages of a tile of X and one of W, 128 x 64 values each.
const SHARED: usize = 4 * 2 * TILE * 64 * 2;

/// What `RALLREC_WGMMA` says.
static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var("RALLREC_WGMMA").is_ok_and(|v| v == "1"));

/// Whether the device can run it.
pub fn is_there(device: &KernelDevice) -> bool {
    device.capability() == Some((9, 0))
}

/// [`forward`], if this product is one for it: asked for, in bf16, of a whole tile of rows at least, one adapter for all of them.
pub(super) fn instead<T: Storage, U: Storage>(
    batch: &Batch,
    x: &DeviceRows<T>,
    w: &DeviceRows<T>,
    beside: &Beside<'_, T>,
    y: &mut DeviceRows<U>,
) -> Option<Result<Cost>> {
    let single = batch.is_uniform() && beside.low.is_none_or(|(_, low)| low.count == 1);
    if !*WANTED || !single || x.rows() < TILE || !is_there(x.device()) {
        return None;
    }
    let narrow = |rows| (rows as &dyn Any).downcast_ref::<DeviceRows<bf16>>();
    let low = match beside.low {
        Some((s, low)) => Some((narrow(s)?, narrow(&low.b)?)),
        None => None,
    };
    Some(forward(narrow(x)?, narrow(w)?, low, beside.bias, beside.accumulate, y))
}

/// `Y (M, N) = X (M, K) W (N, K)^T + S (M, r) B (N, r)^T (+ bias) (+ Y)`, sums in f32; Y in bf16 or f32.
///
/// # Errors
/// Another device; shapes that do not fit; more columns than a grid's second side holds blocks of 128.
pub fn forward<U: Storage>(
    x: &DeviceRows<bf16>,
    w: &DeviceRows<bf16>,
    low: Option<(&DeviceRows<bf16>, &DeviceRows<bf16>)>,
    bias: Option<&Buffer<f32>>,
    accumulate: bool,
    y: &mut DeviceRows<U>,
) -> Result<Cost> {
    let (m, n, k) = (x.rows(), w.rows(), x.dim());
    let rank = low.map_or(0, |(s, _)| s.dim());
    let beside = low.is_none_or(|(s, b)| (s.rows(), b.rows(), b.dim()) == (m, n, rank));
    if w.dim() != k || (y.rows(), y.dim()) != (m, n) || !beside || bias.is_some_and(|b| b.len() != n) {
        let what = format!("{m} x {k} times {n} x {} into {} x {}, its adapter or bias", w.dim(), y.rows(), y.dim());
        return Err(Error::failed("wgmma", what));
    }
    let device = y.device().clone();
    if !is_there(&device) {
        return Err(Error::failed("wgmma", "needs a GPU of compute capability 9.0"));
    }
    if m == 0 || n == 0 {
        return Ok(Cost::default());
    }
    // Without an adapter its two descriptors are there and not read.
    let (s, b) = low.unwrap_or((x, w));
    let maps = [x, w, s, b].map(|rows| device.tensor_map(rows, TILE as u32));
    let maps = maps.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let maps = device.upload(&maps, "tensor maps")?;
    let (mf, nf, depth) = (m as f64, n as f64, (k + rank) as f64);
    let outputs = size_of::<U>() as f64 * mf * nf * if accumulate { 2.0 } else { 1.0 };
    let cost = Cost { bytes: 2.0 * depth * (mf + nf) + outputs, flops: 2.0 * mf * nf * depth };
    let kernel = U::pick("lora_forward_bf16_f32_sm90a", "lora_forward_bf16_sm90a");
    let launch = Launch::new(kernel, m.div_ceil(TILE), THREADS, cost).by(n.div_ceil(TILE)).shared(SHARED);
    // SAFETY: four descriptors, whose loads stay inside their matrices; bias and Y have the shapes that are read and written. The
    // descriptors' memory is used again only by work behind this launch, on the same stream.
    unsafe {
        device.launch(
            &launch,
            &[
                maps.arg(),
                Arg::U64(m as u64),
                Arg::U64(n as u64),
                // They fit: rows of a device's matrix are shorter than 2^32.
                Arg::U32(k as u32),
                Arg::U32(rank as u32),
                bias.map_or(Arg::Pointer(0), Buffer::arg),
                Arg::I32(i32::from(accumulate)),
                y.arg(),
                y.stride_arg(),
            ],
        )
    }
}
