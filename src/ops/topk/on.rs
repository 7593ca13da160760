//! The search on whatever device a run uses.

use super::{Hit, Seen, cuda};
use crate::device::{Device, DeviceRows};
use crate::error::Result;

/// As [`super::topk`], on `device`.
pub fn topk_on(
    device: &Device,
    queries: &[f32],
    items: &[f32],
    dim: usize,
    k: usize,
    seen: &impl Seen,
) -> Result<Vec<Vec<Hit>>> {
    let usable = dim > 0 && k > 0 && queries.iter().chain(items).all(|v| v.is_finite());
    let kernels = match device {
        Device::Kernels(kernels) if usable => kernels,
        // The CPU says what is wrong with values that cannot be ranked.
        _ => return super::topk(queries, items, dim, k, seen),
    };
    let count = queries.len() / dim;
    let masks = cuda::DeviceSeen::new(kernels, (0..count).map(|q| seen.of(q)))?;
    let queries = DeviceRows::upload(kernels, dim, queries, "queries")?;
    let items = DeviceRows::upload(kernels, dim, items, "items")?;
    Ok(cuda::topk(&queries, &items, k, Some(&masks))?.0)
}
