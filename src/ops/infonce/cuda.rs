//! The kernels of `kernels/infonce.cu`.

use super::{Params, Similarity};
use crate::device::{Arg, DeviceRows, Launch, Storage};
use crate::error::{Error, Result};
use crate::ops::Cost;
use crate::ops::merge::cuda::sum_rows;

const THREADS: u32 = 128;
const TILE: usize = 64;
const WARPS: usize = 4;

/// Loss and gradients on the device.
#[derive(Debug)]
pub struct DeviceGradients {
    /// The loss.
    pub loss: f64,
    /// By x.
    pub x: DeviceRows<f32>,
    /// By y.
    pub y: DeviceRows<f32>,
    /// By tau.
    pub tau: f64,
    /// What it took at least.
    pub cost: Cost,
}

/// Bytes of a tile's two stages: 64 rows of 40 values of 16 bits, two operands, one plane for bf16 and three for f32.
fn tile_bytes<T: Storage>() -> usize {
    2 * 2 * planes::<T>() * TILE * 40 * 2
}

fn planes<T: Storage>() -> usize {
    if T::NAME == "f32" { 3 } else { 1 }
}

/// Loss and gradients as [`super::infonce`].
pub fn infonce<T: Storage>(x: &DeviceRows<T>, y: &DeviceRows<T>, params: &Params) -> Result<DeviceGradients> {
    let (n, d) = (x.rows(), x.dim());
    if (y.rows(), y.dim()) != (n, d) || params.tau.is_nan() || params.tau <= 0.0 {
        let what = format!("x is {n} x {d}, y {} x {}, tau {}", y.rows(), y.dim(), params.tau);
        return Err(Error::failed("infonce", what));
    }
    let device = x.device();
    let mut out = DeviceGradients {
        loss: 0.0,
        x: DeviceRows::zeros(device, n, d, "gradient by x")?,
        y: DeviceRows::zeros(device, n, d, "gradient by y")?,
        tau: 0.0,
        cost: Cost::default(),
    };
    if n == 0 {
        return Ok(out);
    }
    let vector = |label| device.alloc::<f32>(n, label);
    let (inv_x, inv_y) = (vector("norms")?, vector("norms")?);
    let (lse_x, lse_y, diagonal, by_tau) =
        (vector("log-sums")?, vector("log-sums")?, vector("diagonal")?, vector("by tau")?);
    let terms = device.alloc::<f64>(2 * n, "loss terms")?;
    let mut sums = device.alloc::<f64>(2, "loss")?;
    let cosine = Arg::I32(i32::from(params.similarity == Similarity::Cosine));
    let scale = Arg::F32(std::f32::consts::LOG2_E / params.tau);
    let weight = params.weight / n as f32;
    let (nf, df, s) = (n as f64, d as f64, size_of::<T>() as f64);
    let by_row = |kernel, cost| Launch::new(kernel, n.div_ceil(WARPS), THREADS, cost);
    let shape = [x.rows_arg(), x.dim_arg(), x.stride_arg()];
    let null = Arg::Pointer(0);
    // SAFETY, of every launch here: x and y are n x d of one stride (one width), vectors have n values, outputs are n x d,
    // terms 2 n.
    for (rows, inv) in [(x, &inv_x), (y, &inv_y)] {
        let kernel = T::pick("infonce_norms_f32", "infonce_norms_bf16");
        let cost = Cost { bytes: nf * (df * s + 4.0), flops: 2.0 * nf * df };
        let args = [rows.arg(), shape[0], shape[1], shape[2], cosine, inv.arg()];
        // SAFETY: see above.
        out.cost += unsafe { device.launch(&by_row(kernel, cost), &args)? };
    }
    let blocks = n.div_ceil(TILE);
    let (forward, xy, yx) = (T::pick("infonce_lse_f32", "infonce_lse_bf16"), (x, y), (y, x));
    for ((a, b), (inv_a, inv_b), lse, diagonal) in
        [(xy, (&inv_x, &inv_y), &lse_x, diagonal.arg()), (yx, (&inv_y, &inv_x), &lse_y, null)]
    {
        let cost = Cost { bytes: nf * (2.0 * df * s + 8.0), flops: 2.0 * nf * nf * df };
        let launch = Launch::new(forward, blocks, THREADS, cost).shared(tile_bytes::<T>());
        let args =
            [a.arg(), b.arg(), shape[0], shape[1], shape[2], inv_a.arg(), inv_b.arg(), scale, lse.arg(), diagonal];
        // SAFETY: see above.
        out.cost += unsafe { device.launch(&launch, &args)? };
    }
    let rows_bytes = planes::<T>() * TILE * (TILE + 8) * 2;
    let backward = T::pick("infonce_backward_f32", "infonce_backward_bf16");
    for ((a, b), (inv_a, inv_b), (lse_a, lse_b), to, by_tau) in [
        (xy, (&inv_x, &inv_y), (&lse_x, &lse_y), &out.x, by_tau.arg()),
        (yx, (&inv_y, &inv_x), (&lse_y, &lse_x), &out.y, null),
    ] {
        let cost = Cost { bytes: nf * (2.0 * df * s + 4.0 * df), flops: 4.0 * nf * nf * df };
        let columns = d.div_ceil(TILE).max(1);
        let launch = Launch::new(backward, blocks, THREADS, cost).by(columns).shared(tile_bytes::<T>() + rows_bytes);
        let head = [a.arg(), b.arg(), shape[0], shape[1], shape[2], inv_a.arg(), inv_b.arg(), lse_a.arg(), lse_b.arg()];
        let tail = [scale, Arg::F32(weight), to.arg(), to.stride_arg(), by_tau];
        // SAFETY: see above.
        out.cost += unsafe { device.launch(&launch, &[&head[..], &tail].concat())? };
    }
    for (rows, inv, to) in [(x, &inv_x, &out.x), (y, &inv_y, &out.y)] {
        let kernel = T::pick("infonce_finish_f32", "infonce_finish_bf16");
        let cost = Cost { bytes: nf * df * (s + 8.0), flops: 5.0 * nf * df };
        let inv_tau = Arg::F32(1.0 / params.tau);
        let args = [rows.arg(), shape[0], shape[1], shape[2], cosine, inv_tau, inv.arg(), to.arg(), to.stride_arg()];
        // SAFETY: see above.
        out.cost += unsafe { device.launch(&by_row(kernel, cost), &args)? };
    }
    let cost = Cost { bytes: 32.0 * nf, flops: 6.0 * nf };
    let launch = Launch::new("infonce_terms", n.div_ceil(THREADS as usize), THREADS, cost);
    let args = [lse_x.arg(), lse_y.arg(), diagonal.arg(), by_tau.arg(), x.rows_arg(), terms.arg()];
    // SAFETY: see above.
    out.cost += unsafe { device.launch(&launch, &args)? };
    out.cost += sum_rows(&terms, 2, 1.0, &mut sums)?;
    let sums = device.download(&sums)?;
    out.loss = f64::from(weight) * sums[0];
    out.tau = sums[1] / f64::from(params.tau);
    Ok(out)
}
