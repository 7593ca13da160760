//! `kernels/infonce.cu`: any similarity, temperature and width. A pass of log-sum-exps a direction with running maxima, and a backward that
//! makes scores again for every 64 columns of the gradient.

use super::{Pairs, Sums, THREADS, planes};
use crate::device::{Arg, Buffer, DeviceRows, Launch, Storage};
use crate::error::Result;
use crate::tensor::Cost;

/// Rows and columns of a tile.
const TILE: usize = 64;

/// Bytes of a tile's two stages: 64 rows of 40 values of 16 bits, two operands, one plane for bf16 and three for f32.
fn tile_bytes<T: Storage>() -> usize {
    2 * 2 * planes::<T>() * TILE * 40 * 2
}

pub(super) fn sums<T: Storage>(pairs: &Pairs<'_, T>) -> Result<(Sums, Cost)> {
    let device = pairs.x.device();
    let vector = |label| pairs.vector(label);
    let sums =
        Sums { lse_x: vector("log-sums")?, lse_y: vector("log-sums")?, diagonal: vector("diagonal")?, parts: None };
    let [n, dim, stride] = pairs.shape();
    let mut taken = Cost::default();
    for (a, b, inv_a, inv_b, lse, diagonal) in [
        (pairs.x, pairs.y, &pairs.inv_x, &pairs.inv_y, &sums.lse_x, sums.diagonal.arg()),
        (pairs.y, pairs.x, &pairs.inv_y, &pairs.inv_x, &sums.lse_y, Arg::Pointer(0)),
    ] {
        let cost = Cost { bytes: pairs.n() as f64 * (2.0 * pairs.row_bytes() + 8.0), flops: pairs.products(2.0) };
        let kernel = T::pick("infonce_lse_f32", "infonce_lse_bf16");
        let launch = Launch::new(kernel, pairs.n().div_ceil(TILE), THREADS, cost).shared(tile_bytes::<T>());
        let vectors = [inv_a.arg(), inv_b.arg(), pairs.scale(), lse.arg(), diagonal];
        // SAFETY: rows of the shape that is passed, a value a row in each vector.
        taken += unsafe { device.launch(&launch, &[&[a.arg(), b.arg(), n, dim, stride][..], &vectors].concat())? };
    }
    Ok((sums, taken))
}

pub(super) fn gradients<T: Storage>(
    pairs: &Pairs<'_, T>,
    sums: &Sums,
    x: &DeviceRows<f32>,
    y: &DeviceRows<f32>,
) -> Result<(Buffer<f32>, Cost)> {
    let by_tau = pairs.vector("by tau")?;
    let [n, dim, stride] = pairs.shape();
    let d = pairs.x.dim();
    let mut taken = Cost::default();
    for (a, b, inv_a, inv_b, lse_a, lse_b, to, by_tau) in [
        (pairs.x, pairs.y, &pairs.inv_x, &pairs.inv_y, &sums.lse_x, &sums.lse_y, x, by_tau.arg()),
        (pairs.y, pairs.x, &pairs.inv_y, &pairs.inv_x, &sums.lse_y, &sums.lse_x, y, Arg::Pointer(0)),
    ] {
        let bytes = pairs.n() as f64 * (2.0 * pairs.row_bytes() + 4.0 * d as f64);
        let cost = Cost { bytes, flops: pairs.products(4.0) };
        let kernel = T::pick("infonce_backward_f32", "infonce_backward_bf16");
        let launch = Launch::new(kernel, pairs.n().div_ceil(TILE), THREADS, cost)
            .by(d.div_ceil(TILE).max(1))
            .shared(tile_bytes::<T>() + planes::<T>() * TILE * (TILE + 8) * 2);
        let rows = [a.arg(), b.arg(), n, dim, stride];
        let vectors = [inv_a.arg(), inv_b.arg(), lse_a.arg(), lse_b.arg(), pairs.scale()];
        let tail = [Arg::F32(pairs.weight()), to.arg(), to.stride_arg(), by_tau];
        // SAFETY: rows of the shape that is passed, a value a row in each vector, a gradient of that shape.
        taken += unsafe { pairs.x.device().launch(&launch, &[&rows[..], &vectors, &tail].concat())? };
    }
    Ok((by_tau, taken))
}
