//! For each query the `k` items of the largest inner product, items already seen left out.
//!
//! Order: score descending, then index ascending. Scores are made a tile at a time and compared with the query's
//! k-th best so far; no `queries x items` matrix is kept. A few more than `k` are carried and scored again in one
//! fixed order of additions, so a score does not depend on where its tile began.
//!
//! Cost: `2 Q N d` FLOP, `4 d (Q + N)` bytes beside tiles that stay in cache.

mod cpu;
pub mod cuda;
mod on;
pub mod oracle;

pub(crate) use cpu::dot;
pub use cpu::topk;
pub use on::topk_on;

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
