//! A first pass over tiles of scores finds candidates; these are scored again one by one.
//!
//! ```text
//!   queries, a block in the second-level cache      items, a tile at a time
//!   +------------------------------+                +----+
//!   | rows of bf16 pairs, or f32   |       x        | 48 |  -> scores; those below a query's floor
//!   +------------------------------+                +----+     are passed over, a vector at a time
//! ```
//!
//! A tile's scores are off by a known amount ([`bound`]), and every item that may be among the best
//! by that much is a candidate ([`best`]). So the hits are those of scoring all items with [`dot`]
//! and sorting, the order of ties included: neither the tiles nor the type of the first pass nor
//! the threads can be told from them. Where the processor multiplies pairs of bf16 the first pass
//! is in bf16, twice as fast; queries with too many candidates for that are looked through in f32,
//! and those with too many again (ties by the thousand) by [`dot`] alone.

mod best;
mod bound;

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use self::best::Best;
use self::bound::Norms;
use super::{Hit, Seen, key, unkey};
use crate::error::{Error, Result};
use crate::ops::linear::narrow::{Narrow, Unit};
use crate::ops::linear::tile::{Left, To, nt, nt_narrow};
use crate::tensor::profile::timed;
use crate::tensor::simd::pairs;
use crate::tensor::simd::{self, Simd, Task, cache, vectorized};

/// Most queries of a block.
const QUERIES: usize = 1024;
/// Queries of a block are a multiple of this.
const ROWS: usize = 8;
/// Up to so many queries all items are scored exactly: a first pass would cost more than it saves.
const FEW: usize = 3;
/// Least items that a thread looks through.
const SHARE: usize = 4096;

/// The sixteen-sum inner product: the same bits wherever it is called from.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..16 {
            sums[l] += a[l] * b[l];
        }
    }
    for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[l] += a * b;
    }
    let mut half = 8;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}

vectorized! {
    /// [`dot`] of a query and each of the items.
    fn score(query: &[f32], items: &[f32], to: &mut [f32]) {
        for (to, item) in to.iter_mut().zip(items.chunks_exact(query.len())) {
            *to = dot(query, item);
        }
    }

    /// Sort keys of a query and the items of these rows.
    fn keys(query: &[f32], items: &[f32], rows: &[u32]) -> Vec<u64> {
        let dim = query.len();
        rows.iter().map(|&row| key(dot(query, &items[row as usize * dim..][..dim]), row)).collect()
    }
}

impl First {
    /// Items that are multiplied together: a panel of the product, 64 at most.
    fn tile(self) -> usize {
        if self == Self::Bf16(Unit::Tiles) { 64 } else { 48 }
    }
}

/// What is searched.
#[derive(Clone, Copy)]
struct Search<'a> {
    queries: &'a [f32],
    items: &'a [f32],
    dim: usize,
    k: usize,
    seen: &'a dyn Seen,
}

/// Type of the first pass.
#[derive(Debug, Clone, Copy, PartialEq)]
enum First {
    Bf16(Unit),
    F32,
}

/// As [`super::topk`], which has checked the shapes.
///
/// Fails on scores that are not a number.
pub(super) fn topk(queries: &[f32], items: &[f32], dim: usize, k: usize, seen: &dyn Seen) -> Result<Vec<Vec<Hit>>> {
    let search = Search { queries, items, dim, k, seen };
    let (many, rows) = (queries.len() / dim, items.len() / dim);
    let _timed = timed("topk", || super::cost(many, rows, dim));
    let mut hits: Vec<Option<Vec<Hit>>> = vec![None; many];
    if many > FEW && rows > 0 {
        let norms = Norms::largest(items, dim);
        for first in Unit::best().map(First::Bf16).into_iter().chain([First::F32]) {
            search.pass(first, norms, &mut hits)?;
        }
    }
    // By item index, so that the first score that is no number is the one that is told.
    let left: Vec<usize> = (0..many).filter(|&q| hits[q].is_none()).collect();
    for q in left {
        hits[q] = Some(search.exact(q)?);
    }
    Ok(hits.into_iter().flatten().collect())
}

impl Search<'_> {
    fn query(&self, q: usize) -> &[f32] {
        &self.queries[q * self.dim..][..self.dim]
    }

    /// Finds the hits of queries that have none yet, of those that can be told by this type.
    fn pass(&self, first: First, norms: Norms, hits: &mut [Option<Vec<Hit>>]) -> Result<()> {
        let bound = |q: usize| {
            let query = Norms::of(self.query(q));
            if first == First::F32 { query.in_f32(norms, self.dim) } else { query.in_bf16(norms, self.dim) }
        };
        let wanted: Vec<(usize, f32)> = (0..hits.len())
            .filter(|&q| hits[q].is_none())
            .collect::<Vec<_>>()
            .into_par_iter()
            .filter_map(|q| Some((q, bound(q)?)))
            .collect();
        let size = if first == First::F32 { 4 } else { 2 };
        let fits = cache::second_level() / 2 / (size * self.dim);
        let threads = rayon::current_num_threads();
        let most = fits.min(wanted.len().div_ceil(threads)).clamp(ROWS, QUERIES) / ROWS * ROWS;
        let blocks = wanted.len().div_ceil(most);
        // Blocks of one size, as nearly as can be.
        let block = wanted.len().div_ceil(blocks.max(1)).next_multiple_of(ROWS).max(ROWS);
        let rows = self.items.len() / self.dim;
        let shares = (2 * threads).div_ceil(blocks.max(1)).min(rows.div_ceil(SHARE)).max(1);
        let share = rows.div_ceil(shares).next_multiple_of(first.tile());
        let (tried, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let found: Vec<Vec<(usize, Vec<Hit>)>> = wanted
            .par_chunks(block)
            .map(|block| {
                // Rows so alike that bf16 cannot tell them: f32 looks through the rest.
                if first != First::F32 && 4 * lost.load(Ordering::Relaxed) > tried.load(Ordering::Relaxed) {
                    return Ok(Vec::new());
                }
                let rows = Block::new(self, first, block);
                let parts: Vec<Vec<Best>> =
                    (0..shares).into_par_iter().map(|s| rows.scan(s * share, share)).collect::<Result<_>>()?;
                let mut parts = parts.into_iter();
                let mut all = parts.next().unwrap_or_default();
                for part in parts {
                    all.iter_mut().zip(part).for_each(|(all, part)| all.join(part));
                }
                let found: Vec<_> = all
                    .into_iter()
                    .zip(block)
                    .filter_map(|(b, &(q, _))| Some((q, self.rank(q, b.finish()?))))
                    .collect();
                tried.fetch_add(block.len(), Ordering::Relaxed);
                lost.fetch_add(block.len() - found.len(), Ordering::Relaxed);
                Ok(found)
            })
            .collect::<Result<_>>()?;
        for (q, of) in found.into_iter().flatten() {
            hits[q] = Some(of);
        }
        Ok(())
    }

    /// The best of some items.
    fn rank(&self, q: usize, candidates: impl Iterator<Item = u32>) -> Vec<Hit> {
        let mut keys = keys(self.query(q), self.items, &candidates.collect::<Vec<_>>());
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(self.k);
        keys.into_iter().map(unkey).collect()
    }

    /// The best of all items, each scored exactly.
    fn exact(&self, q: usize) -> Result<Vec<Hit>> {
        let mask = self.seen.of(q);
        let share = |(s, items): (usize, &[f32])| -> Result<Vec<u64>> {
            let mut scores = vec![0.0f32; items.len() / self.dim];
            score(self.query(q), items, &mut scores);
            let mut keys = Vec::with_capacity(2 * self.k);
            let mut floor = 0;
            for (i, &score) in scores.iter().enumerate() {
                let index = (s * SHARE + i) as u32;
                if score.is_nan() {
                    return Err(no_number(q, index));
                }
                let key = key(score, index);
                if key > floor && mask.binary_search(&index).is_err() {
                    keys.push(key);
                    if keys.len() == 2 * self.k {
                        keys.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
                        keys.truncate(self.k);
                        floor = keys[self.k - 1];
                    }
                }
            }
            Ok(keys)
        };
        let shares: Vec<Result<Vec<u64>>> = self.items.par_chunks(SHARE * self.dim).enumerate().map(share).collect();
        let mut keys = Vec::new();
        for share in shares {
            keys.extend(share?);
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(self.k);
        Ok(keys.into_iter().map(unkey).collect())
    }
}

fn no_number(query: usize, item: u32) -> Error {
    Error::input(format!("top-k: query {query}, item {item}"), "the score is not a number")
        .next("check the embeddings for NaN or infinite values; a smaller learning rate may help")
}

/// Rows as the first pass multiplies them.
enum Rows {
    F32(Vec<f32>),
    Bf16(Narrow),
}

/// Queries of one piece of work.
struct Block<'a> {
    search: &'a Search<'a>,
    /// Queries and what their scores may be off by.
    queries: &'a [(usize, f32)],
    rows: Rows,
    /// Items of a tile.
    tile: usize,
}

impl<'a> Block<'a> {
    fn new(search: &'a Search<'a>, first: First, queries: &'a [(usize, f32)]) -> Self {
        let rows: Vec<f32> = queries.iter().flat_map(|&(q, _)| search.query(q)).copied().collect();
        let rows = match first {
            First::F32 => Rows::F32(rows),
            First::Bf16(unit) => Rows::Bf16(Narrow::new(unit, &rows, search.dim, false)),
        };
        Self { search, queries, rows, tile: first.tile() }
    }

    /// Candidates among `count` items from `from` on.
    fn scan(&self, from: usize, count: usize) -> Result<Vec<Best>> {
        let &Search { items, dim, k, seen, .. } = self.search;
        let mut best: Vec<Best> = self.queries.iter().map(|&(_, error)| Best::new(k, error)).collect();
        let end = (from + count).min(items.len() / dim);
        let stride = self.tile;
        let mut scores = vec![0.0f32; self.queries.len() * stride];
        let pairs = pairs::of_row(dim);
        let mut narrow = vec![0; stride * pairs];
        for at in (from..end).step_by(stride) {
            let columns = stride.min(end - at);
            let tile = &items[at * dim..(at + columns) * dim];
            let to = To { values: &mut scores, columns, stride };
            match &self.rows {
                Rows::F32(values) => nt(Left { values, width: dim }, tile, to),
                Rows::Bf16(rows) => {
                    let narrow = &mut narrow[..columns * pairs];
                    pairs::narrow(tile, dim, narrow);
                    nt_narrow(rows, narrow, to);
                }
            }
            let sift =
                Sift { scores: &scores, stride, first: at, columns, queries: self.queries, best: &mut best, seen };
            simd::run(simd::level(), sift)?;
        }
        Ok(best)
    }
}

/// Passes what is not below the floors, and not seen, on to the candidates.
struct Sift<'a> {
    scores: &'a [f32],
    /// Scores of a row: columns, and what a wider tile left.
    stride: usize,
    /// Item of the first column.
    first: usize,
    columns: usize,
    queries: &'a [(usize, f32)],
    best: &'a mut [Best],
    seen: &'a dyn Seen,
}

impl Task for Sift<'_> {
    type Out = Result<()>;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Result<()> {
        for ((row, best), &(query, _)) in self.scores.chunks_exact(self.stride).zip(self.best).zip(self.queries) {
            let mut mask = 0u64;
            for c in (0..self.stride).step_by(S::N) {
                // SAFETY: N divides the scores of a row; the instruction set is there.
                mask |= u64::from(unsafe { S::not_below(S::load(row.as_ptr().add(c)), best.floor) }) << c;
            }
            // Beyond the columns are scores of an earlier tile.
            mask &= u64::MAX >> (64 - self.columns);
            while mask != 0 {
                let column = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let (score, index) = (row[column], (self.first + column) as u32);
                // Rows with a bound have finite scores.
                if score.is_nan() {
                    return Err(no_number(query, index));
                }
                // The floor may have risen since.
                if score >= best.floor && self.seen.of(query).binary_search(&index).is_err() {
                    best.push(score, index);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
