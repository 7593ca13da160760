//! Causal grouped-query attention over runs of cached keys: `softmax(q K^T / sqrt(d)) V` for each
//! query row, where row i of an item with n rows and T keys sees the first `T - n + i + 1` keys.
//!
//! An item is one sequence: its new rows, and its keys and values as consecutive *runs*, one view
//! for each kv head. Runs can be shared: S samples of one prompt name the same first run, and its
//! tiles are then read once for all of them. Query head h reads kv head `h / (heads / kv_heads)`.
//!
//! Shapes: q, out (rows of all items, heads, head_dim). Keys of one kv head are stored in blocks of
//! [`BLOCK`] positions, (block, head_dim, BLOCK), so that a vector holds one coordinate of BLOCK
//! keys; values are (position, head_dim). Preconditions: head_dim > 0, kv_heads divides heads,
//! every item has at least as many keys as rows.
//!
//! A row's result has the same bits however its keys are cut into runs, whichever items are beside
//! it and whatever the number of threads: tiles of [`TILE`] keys are counted from the sequence's
//! first key.
//!
//! Cost: 4 FLOP for each (query head row, visible key, coordinate); bytes: q, out, and each
//! distinct run once.

pub mod cached;
pub mod cases;
mod cpu;
pub mod decode;
pub(crate) mod gradient;
pub mod kernel;
pub mod oracle;
pub mod packed;
mod spans;
mod tiles;

pub(crate) use cpu::{attend, causal};
pub use packed::Packed;

use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Positions in one block of stored keys.
pub const BLOCK: usize = 16;

/// Keys between two updates of the running softmax.
pub const TILE: usize = 64;

/// Numbers of heads and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    /// Query heads of one kv head.
    pub fn group(&self) -> usize {
        self.query / self.kv
    }
}

/// A window as kernels take it: below 2^31, and `u32::MAX` for none or for one that is wider than
/// any keys.
///
/// # Errors
/// A window of nothing: a row sees itself at least.
fn window_arg(window: Option<usize>) -> Result<u32> {
    match window {
        Some(0) => Err(Error::failed("attention", "a window of 0 keys").next("a row sees itself at least")),
        Some(keys) if keys < kernel::ALL as usize / 2 => Ok(keys as u32),
        _ => Ok(u32::MAX),
    }
}

/// What kernels say of a soft cap.
fn no_cap() -> Error {
    Error::failed("attention", "no kernel has a soft cap of the scores")
        .next("run this model on the CPU: device = \"cpu\"")
}

/// Fails on a span whose last row sees keys that do not exist.
fn check_span(s: &kernel::Span) -> Result<()> {
    let nothing = s.past.is_empty() && s.visible == 0;
    let large = s.past.len().saturating_add(s.own.len()).saturating_add(s.visible) >= kernel::ALL as usize / 2;
    if large || nothing || s.visible + s.rows.len() - 1 > s.own.len() {
        let what = format!("rows {:?} see {} of {:?} first, after {:?}", s.rows, s.visible, s.own, s.past);
        return Err(Error::failed("attention", what).next("the last row's keys must exist"));
    }
    Ok(())
}

/// Consecutive keys and values of one kv head.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// (len rounded up to blocks, head_dim, BLOCK).
    pub keys: &'a [f32],
    /// (len, head_dim).
    pub values: &'a [f32],
    /// Number of positions.
    pub len: usize,
}

/// One sequence of a batch.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// Number of query rows; they are the sequence's last positions.
    pub rows: usize,
    /// `runs[kv_head][j]`: the sequence's keys, oldest first; the same lengths for every head.
    pub runs: Vec<Vec<Run<'a>>>,
}

impl Item<'_> {
    /// All keys.
    pub fn keys(&self) -> usize {
        self.runs.first().map_or(0, |r| r.iter().map(|r| r.len).sum())
    }
}

/// Appends rows of one kv head: `rows` rows of `dim` values at `stride` in `k` and `v`, behind
/// `len` positions.
#[allow(clippy::too_many_arguments)]
pub fn append(keys: &mut Vec<f32>, values: &mut Vec<f32>, len: usize, k: &[f32], v: &[f32], stride: usize, dim: usize) {
    if dim == 0 || k.len() < dim {
        return;
    }
    let rows = (k.len() - dim) / stride + 1;
    let blocks = (len + rows).div_ceil(BLOCK);
    keys.resize(blocks * BLOCK * dim, 0.0);
    values.reserve(rows * dim);
    for row in 0..rows {
        let from = row * stride;
        values.extend_from_slice(&v[from..from + dim]);
        let position = len + row;
        let block = &mut keys[position / BLOCK * BLOCK * dim..][..BLOCK * dim];
        for (i, &value) in k[from..from + dim].iter().enumerate() {
            block[i * BLOCK + position % BLOCK] = value;
        }
    }
}

/// Cost of rows that see `visible` keys in all (summed over rows), with `stored` distinct keys and
/// `rows` rows.
pub fn cost(heads: Heads, rows: usize, visible: usize, stored: usize) -> Cost {
    let (q, kv) = ((heads.query * heads.dim) as f64, (heads.kv * heads.dim) as f64);
    Cost { bytes: 8.0 * rows as f64 * q + 8.0 * stored as f64 * kv, flops: 4.0 * visible as f64 * q }
}

/// Cost of a batch: the last row of an item sees all its keys, each earlier one a key fewer.
fn cost_of(heads: Heads, items: &[Item<'_>]) -> Cost {
    let visible = |i: &Item<'_>| i.rows * i.keys() - i.rows * i.rows.saturating_sub(1) / 2;
    let sum = |f: &dyn Fn(&Item<'_>) -> usize| items.iter().map(f).sum::<usize>();
    cost(heads, sum(&|i| i.rows), sum(&|i| if i.keys() < i.rows { 0 } else { visible(i) }), sum(&|i| i.keys()))
}

#[cfg(test)]
mod tests;
