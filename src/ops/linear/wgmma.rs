//! `Y = X W^T` by `kernels/gemm_sm90a.cu`: TMA brings tiles, wgmma multiplies them. For devices of compute capability 9.0 alone.
//!
//! It is held to the f64 oracle by `rallrec check wgmma --device cuda` and has never been run; until it has, no product of a run goes
//! through it.

use half::bf16;

use crate::device::{Arg, DeviceRows, KernelDevice, Launch};
use crate::error::{Error, Result};
use crate::ops::Cost;

/// Rows and columns of Y that a block makes.
const TILE: usize = 128;
const THREADS: u32 = 384;
/// Four stages of a tile of X and one of W, 128 x 64 values each.
const SHARED: usize = 4 * 2 * TILE * 64 * 2;

/// Whether the device can run it.
pub fn is_there(device: &KernelDevice) -> bool {
    device.capability() == Some((9, 0))
}

/// `y (M, N) = x (M, K) w (N, K)^T`, sums in f32.
///
/// # Errors
/// Another device; shapes that do not fit; more columns than a grid's second side holds blocks of 128.
pub fn product(x: &DeviceRows<bf16>, w: &DeviceRows<bf16>, y: &mut DeviceRows<f32>) -> Result<Cost> {
    let (m, n, k) = (x.rows(), w.rows(), x.dim());
    if w.dim() != k || (y.rows(), y.dim()) != (m, n) {
        let what = format!("{m} x {k} times {n} x {} into {} x {}", w.dim(), y.rows(), y.dim());
        return Err(Error::failed("wgmma", what));
    }
    let device = y.device().clone();
    if !is_there(&device) {
        return Err(Error::failed("wgmma", "needs a GPU of compute capability 9.0"));
    }
    let depth = u32::try_from(k).map_err(|_| Error::failed("wgmma", format!("depth {k} is more than 2^32 - 1")))?;
    let (mf, nf, kf) = (m as f64, n as f64, k as f64);
    let cost = Cost { bytes: 2.0 * kf * (mf + nf) + 4.0 * mf * nf, flops: 2.0 * mf * nf * kf };
    if m == 0 || n == 0 {
        return Ok(Cost::default());
    }
    let maps = [device.tensor_map(x, TILE as u32)?, device.tensor_map(w, TILE as u32)?].concat();
    let maps = device.upload(&maps, "tensor maps")?;
    let launch = Launch::new("gemm_nt_bf16_sm90a", m.div_ceil(TILE), THREADS, cost).by(n.div_ceil(TILE)).shared(SHARED);
    // SAFETY: two descriptors of X and W, whose loads stay inside them; Y has the shape that is written.
    // The descriptors' memory is used again only by work behind this launch, on the same stream.
    unsafe {
        let args = [maps.arg(), Arg::U64(m as u64), Arg::U64(n as u64), Arg::U32(depth), y.arg(), y.stride_arg()];
        device.launch(&launch, &args)
    }
}
