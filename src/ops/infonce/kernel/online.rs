//! `kernels/infonce.cu`: any similarity, temperature and width. A pass of log-sum-exps a direction
//! with running maxima, and a backward that makes scores again for every 64 columns of the
//! gradient.

use super::{Pairs, Sums, THREADS};
use crate::device::{Buffer, DeviceRows, Launch, Pointer, Storage, arguments};
use crate::error::Result;
use crate::ops::linear::kernel::{TILE, planes, tile_shared};
use crate::tensor::Cost;

arguments! {
    /// Of `infonce_lse`.
    struct LseArgs {
        a: Pointer,
        b: Pointer,
        rows: u64,
        dim: u32,
        stride: u32,
        inv_a: Pointer,
        inv_b: Pointer,
        scale: f32,
        out: Pointer,
        diagonal: Pointer,
    }
}

arguments! {
    /// Of `infonce_backward`.
    struct ContrastBackwardArgs {
        a: Pointer,
        b: Pointer,
        rows: u64,
        dim: u32,
        stride: u32,
        inv_a: Pointer,
        inv_b: Pointer,
        lse_a: Pointer,
        lse_b: Pointer,
        scale: f32,
        weight: f32,
        out: Pointer,
        out_stride: u32,
        by_tau: Pointer,
    }
}

/// Shared memory of a block of the gradient: a tile, and its rows of the streamed side in planes.
pub(in crate::ops) const fn shared<T: Storage>() -> usize {
    tile_shared::<T>() + planes::<T>() * TILE * (TILE + 8) * 2
}

pub(super) fn sums<T: Storage>(pairs: &Pairs<'_, T>) -> Result<(Sums, Cost)> {
    let device = pairs.x.device();
    let vector = |label| pairs.vector(label);
    let sums =
        Sums { lse_x: vector("log-sums")?, lse_y: vector("log-sums")?, diagonal: vector("diagonal")?, parts: None };
    let mut taken = Cost::default();
    for (a, b, inv_a, inv_b, lse, diagonal) in [
        (pairs.x, pairs.y, &pairs.inv_x, &pairs.inv_y, &sums.lse_x, sums.diagonal.pointer()),
        (pairs.y, pairs.x, &pairs.inv_y, &pairs.inv_x, &sums.lse_y, Pointer::NULL),
    ] {
        let cost = Cost { bytes: pairs.n() as f64 * (2.0 * pairs.row_bytes() + 8.0), flops: pairs.products(2.0) };
        let kernel = T::pick("infonce_lse_f32", "infonce_lse_bf16");
        let launch = Launch::new(kernel, pairs.n().div_ceil(TILE), THREADS, cost).shared(tile_shared::<T>());
        let args = LseArgs {
            a: a.pointer(),
            b: b.pointer(),
            rows: a.rows() as u64,
            dim: a.dim_u32(),
            stride: a.stride_u32(),
            inv_a: inv_a.pointer(),
            inv_b: inv_b.pointer(),
            scale: pairs.scale(),
            out: lse.pointer(),
            diagonal,
        };
        // SAFETY: rows of the shape that is passed, a value a row in each vector.
        taken += unsafe { device.launch(&launch, &[args.arg()])? };
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
    let d = pairs.x.dim();
    let mut taken = Cost::default();
    for (a, b, inv_a, inv_b, lse_a, lse_b, to, by_tau) in [
        (pairs.x, pairs.y, &pairs.inv_x, &pairs.inv_y, &sums.lse_x, &sums.lse_y, x, by_tau.pointer()),
        (pairs.y, pairs.x, &pairs.inv_y, &pairs.inv_x, &sums.lse_y, &sums.lse_x, y, Pointer::NULL),
    ] {
        let bytes = pairs.n() as f64 * (2.0 * pairs.row_bytes() + 4.0 * d as f64);
        let cost = Cost { bytes, flops: pairs.products(4.0) };
        let kernel = T::pick("infonce_backward_f32", "infonce_backward_bf16");
        let launch = Launch::new(kernel, pairs.n().div_ceil(TILE), THREADS, cost)
            .by(d.div_ceil(TILE).max(1))
            .shared(shared::<T>());
        let args = ContrastBackwardArgs {
            a: a.pointer(),
            b: b.pointer(),
            rows: a.rows() as u64,
            dim: a.dim_u32(),
            stride: a.stride_u32(),
            inv_a: inv_a.pointer(),
            inv_b: inv_b.pointer(),
            lse_a: lse_a.pointer(),
            lse_b: lse_b.pointer(),
            scale: pairs.scale(),
            weight: pairs.weight(),
            out: to.pointer(),
            out_stride: to.stride_u32(),
            by_tau,
        };
        // SAFETY: rows of the shape that is passed, a value a row in each vector, a gradient of
        // that shape.
        taken += unsafe { pairs.x.device().launch(&launch, &[args.arg()])? };
    }
    Ok((by_tau, taken))
}
