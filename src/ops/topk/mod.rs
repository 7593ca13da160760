//! For each query the `k` items of the largest inner product, items already seen left out.
//!
//! Order: score descending, then index ascending. Scores are made a tile at a time and compared
//! with the query's k-th best so far; no `queries x items` matrix is kept. A few more than `k` are
//! carried and scored again in one fixed order of additions, so a score does not depend on where
//! its tile began.
//!
//! Cost: `2 Q N d` FLOP, `4 d (Q + N)` bytes beside tiles that stay in cache.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

pub(crate) use cpu::dot;

use crate::device::{Device, DeviceRows, KernelDevice, Place, Storage, View, mixed};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Largest `k`.
pub const MAX_K: usize = 256;

/// One hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Row of the items.
    pub index: u32,
    /// Inner product.
    pub score: f32,
}

/// Items that a query must not get: ascending item rows of query `q`.
pub trait Seen: Sync {
    /// Ascending, distinct.
    fn of(&self, query: usize) -> &[u32];
}

/// No mask.
pub struct Nothing;

impl Seen for Nothing {
    fn of(&self, _: usize) -> &[u32] {
        &[]
    }
}

impl Seen for Vec<Vec<u32>> {
    fn of(&self, query: usize) -> &[u32] {
        &self[query]
    }
}

/// The best `k` (1 to [`MAX_K`]) of `items` for each of `queries`, fewer where fewer are unseen.
///
/// Rows of the CPU are copied to a device with kernels; rows there must be finite and of one
/// storage.
///
/// # Errors
/// Shapes that do not fit, a `k` out of range, scores that are not a number (infinite ones are
/// ordered as such), rows at another place, a device that fails.
pub fn topk(
    device: &Device,
    queries: View<'_>,
    items: View<'_>,
    k: usize,
    seen: &dyn Seen,
) -> Result<(Vec<Vec<Hit>>, Cost)> {
    let ((q, dim), (n, width)) = (queries.shape(), items.shape());
    let whole = |view: &View<'_>, rows: usize, dim: usize| match view {
        View::Cpu { values, .. } => values.len() == rows * dim,
        _ => true,
    };
    if k == 0 || k > MAX_K {
        return Err(Error::usage("k", format!("{k} is outside 1 to {MAX_K}")));
    }
    if dim == 0 || dim != width || !whole(&queries, q, dim) || !whole(&items, n, dim) {
        return Err(Error::failed("top-k", format!("queries and items are not rows of one width: {dim} and {width}")));
    }
    if n >= u32::MAX as usize {
        return Err(Error::failed("top-k", "more than 2^32 items"));
    }
    match (device, queries, items) {
        (Device::Cpu, View::Cpu { values: queries, .. }, View::Cpu { values: items, .. }) => {
            Ok((cpu::topk(queries, items, dim, k, seen)?, cost(q, n, dim)))
        }
        (Device::Kernels(device), View::Cpu { values: queries, .. }, View::Cpu { values: items, .. }) => {
            if !queries.iter().chain(items).all(|v| v.is_finite()) {
                // The CPU says what is wrong with values that cannot be ranked.
                return Ok((cpu::topk(queries, items, dim, k, seen)?, cost(q, n, dim)));
            }
            let queries = DeviceRows::upload(device, dim, queries, "queries")?;
            on_device(device, &queries, &DeviceRows::upload(device, dim, items, "items")?, k, seen)
        }
        (Device::Kernels(device), View::F32(queries), View::F32(items)) => on_device(device, queries, items, k, seen),
        (Device::Kernels(device), View::Bf16(queries), View::Bf16(items)) => on_device(device, queries, items, k, seen),
        _ => Err(mixed("top-k", &[Place::of(device), queries.place(), items.place()])),
    }
}

fn on_device<T: Storage>(
    device: &KernelDevice,
    queries: &DeviceRows<T>,
    items: &DeviceRows<T>,
    k: usize,
    seen: &dyn Seen,
) -> Result<(Vec<Vec<Hit>>, Cost)> {
    let lists = kernel::DeviceSeen::new(device, (0..queries.rows()).map(|q| seen.of(q)))?;
    kernel::topk(queries, items, k, Some(&lists))
}

/// Cost of `queries` against `items` rows of width `dim`.
pub fn cost(queries: usize, items: usize, dim: usize) -> Cost {
    let (q, n, d) = (queries as f64, items as f64, dim as f64);
    Cost { bytes: 4.0 * d * (q + n), flops: 2.0 * q * n * d }
}

/// Sorts so: larger scores first, ties by the lower index. Zeros of both signs tie.
pub(crate) fn key(score: f32, index: u32) -> u64 {
    let bits = (score + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!index)
}

/// Undoes [`key`].
pub(crate) fn unkey(key: u64) -> Hit {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    Hit { index: !(key as u32), score: f32::from_bits(bits) }
}
