//! Attention of training: causal inside a segment, every segment also sees its group's prefix; no padding.
//!
//! Only the log-sum-exp of each (row, head) is kept; the backward computes the probabilities again, a tile of
//! [`TILE`] query rows at a time. With P the probabilities, `D_i = dO_i . O_i`: `dV = P^T dO`,
//! `dS = P (dO V^T - D) scale`, `dQ = dS K`, `dK = dS^T Q` (the recomputation of FlashAttention, Dao et al. 2022).

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::ops::linear::gemm::{View, product};
use crate::tensor::profile::timed;
use crate::tensor::simd::{LANES, Shared, exp, fold2, vectorized};

/// Query rows of a tile.
const TILE: usize = 64;

/// A run of rows that attend causally to themselves, after all rows of `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Rows that all of these see; empty for a prefix or a plain sequence.
    pub prefix: Range<usize>,
}

/// Consecutive query rows of one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Which segment.
    pub segment: usize,
    /// First query row.
    pub first: usize,
    /// How many.
    pub len: usize,
}

/// The rows that ask: all rows of the batch, or only some (the last layer needs only those that are learnt from).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Queries {
    /// Batch row of each query row.
    pub rows: Vec<usize>,
    /// Query rows cut at segments.
    pub spans: Vec<Span>,
    /// Spans of each group.
    pub groups: Vec<Range<usize>>,
}

impl Queries {
    /// Query rows that are the given batch rows, which must lie group by group in the order of `groups`.
    pub fn new(rows: Vec<usize>, segments: &[Segment], groups: &[Range<usize>]) -> Self {
        let mut queries = Self { rows, ..Self::default() };
        let mut next = 0;
        for group in groups {
            let first_span = queries.spans.len();
            while let Some(&row) = queries.rows.get(next) {
                let Some(segment) = group.clone().find(|&s| segments[s].rows.contains(&row)) else { break };
                let rest = &queries.rows[next..];
                let len = rest.iter().take_while(|&r| segments[segment].rows.contains(r)).count();
                queries.spans.push(Span { segment, first: next, len });
                next += len;
            }
            queries.groups.push(first_span..queries.spans.len());
        }
        assert_eq!(next, queries.rows.len(), "query rows are not in group order");
        queries
    }
}

/// Heads and their width.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of each.
    pub dim: usize,
}

/// Where keys and values are: rows of `stride` values, keys from column `k`, values from column `v`.
#[derive(Clone, Copy)]
pub struct KeysValues<'a> {
    /// The rows.
    pub data: &'a [f32],
    /// Width of a row.
    pub stride: usize,
    /// First key column.
    pub k: usize,
    /// First value column.
    pub v: usize,
}

thread_local! {
    static TILES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    TILES.with_borrow_mut(|tiles| {
        if tiles.len() < len {
            tiles.resize(len, 0.0);
        }
        body(&mut tiles[..len])
    })
}

vectorized! {
    /// Writes `exp(s - max)`, returns (sum, max).
    fn softmax_row(s: &mut [f32]) -> (f32, f32) {
        let (blocks, rest) = s.as_chunks::<LANES>();
        let mut tops = [f32::NEG_INFINITY; LANES];
        for b in blocks {
            for i in 0..LANES {
                tops[i] = if b[i] > tops[i] { b[i] } else { tops[i] };
            }
        }
        let mut max = f32::NEG_INFINITY;
        for v in tops.iter().chain(rest) {
            max = if *v > max { *v } else { max };
        }
        for v in &mut *s {
            *v = exp(*v - max);
        }
        (fold2(s, s, |a, _| a), max)
    }

    fn probabilities_row(s: &mut [f32], lse: f32) {
        for v in s {
            *v = exp(*v - lse);
        }
    }

    fn score_gradient_row(dp: &mut [f32], p: &[f32], dot: f32, scale: f32) {
        for (d, p) in dp.iter_mut().zip(p) {
            *d = p * (*d - dot) * scale;
        }
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        fold2(a, b, |x, y| x * y)
    }

    fn scale_row(row: &mut [f32], by: f32) {
        for v in row {
            *v *= by;
        }
    }

    fn add_row(to: &mut [f32], from: &[f32]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t += f;
        }
    }
}

/// One tile: query rows, and the two runs of keys they see.
struct Tile {
    first: usize,
    count: usize,
    prefix: Range<usize>,
    own: Range<usize>,
}

impl Tile {
    fn keys(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    /// The key runs with the score columns they fill.
    fn runs(&self) -> [(Range<usize>, usize); 2] {
        [(self.prefix.clone(), 0), (self.own.clone(), self.prefix.len())]
    }

    /// Visible keys of query row `i` of the tile.
    fn visible(&self, queries: &Queries, i: usize) -> usize {
        self.prefix.len() + queries.rows[self.first + i] - self.own.start + 1
    }
}

fn tiles(span: &Span, queries: &Queries, segments: &[Segment]) -> impl Iterator<Item = Tile> {
    let segment = segments[span.segment].clone();
    let end = span.first + span.len;
    (span.first..end).step_by(TILE).map({
        let rows = &queries.rows;
        move |first| {
            let count = TILE.min(end - first);
            let last = rows[first..first + count].iter().copied().max().unwrap_or(segment.rows.start);
            Tile { first, count, prefix: segment.prefix.clone(), own: segment.rows.start..last + 1 }
        }
    })
}

/// `scores = scale Q K^T` for head columns at `q` (rows `ld` apart) and key column `k`.
#[allow(clippy::too_many_arguments)]
fn scores(
    tile: &Tile,
    q: *const f32,
    q_ld: usize,
    kv: KeysValues<'_>,
    column: usize,
    dim: usize,
    scale: f32,
    s: &mut [f32],
) {
    let n = tile.keys();
    for (run, at) in tile.runs() {
        // SAFETY: run lies inside kv.data's rows, the tile inside q and s, as the callers checked.
        unsafe {
            let keys = View(kv.data.as_ptr().add(run.start * kv.stride + column), 1, kv.stride);
            let dst = s.as_mut_ptr().add(at);
            product((tile.count, run.len(), dim), dst, n, false, View(q, q_ld, 1), keys, scale, false);
        }
    }
}

fn check(shape: Heads, segments: &[Segment], queries: &Queries, q: &[f32], q_ld: usize, kv: KeysValues<'_>) {
    let m = queries.rows.len();
    let rows = kv.data.len() / kv.stride;
    let width = shape.kv_heads * shape.dim;
    assert!(m == 0 || q.len() >= (m - 1) * q_ld + shape.heads * shape.dim, "attention: q is too short");
    assert!(kv.k + width <= kv.stride && kv.v + width <= kv.stride, "attention: key and value columns");
    assert!(
        segments.iter().all(|s| s.rows.end <= rows && s.prefix.end <= rows),
        "attention: segments end beyond the keys"
    );
}

/// Of the forward, and so many times its work. A query row sees its prefix and its segment up to itself; taken as if
/// the asking rows were the last of their segment.
fn cost(shape: Heads, segments: &[Segment], queries: &Queries, times: f64) -> crate::tensor::Cost {
    let (mut visible, mut stored) = (0usize, 0usize);
    for span in &queries.spans {
        let Some(segment) = segments.get(span.segment) else { continue };
        let keys = segment.prefix.len() + segment.rows.len();
        visible += (span.len * keys).saturating_sub(span.len * span.len.saturating_sub(1) / 2);
        stored += segment.rows.len();
    }
    let heads = crate::ops::attention::Heads { query: shape.heads, kv: shape.kv_heads, dim: shape.dim };
    let one = super::cost(heads, queries.rows.len(), visible, stored);
    crate::tensor::Cost { bytes: times * one.bytes, flops: times * one.flops }
}

/// `out` (M x heads dim) and `lse` (M x heads) for the M query rows `q` (rows `q_ld` apart).
pub fn forward(
    shape: Heads,
    segments: &[Segment],
    queries: &Queries,
    (q, q_ld): (&[f32], usize),
    kv: KeysValues<'_>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let _timed = timed("attention", || cost(shape, segments, queries, 1.0));
    check(shape, segments, queries, q, q_ld, kv);
    let Heads { heads, kv_heads, dim } = shape;
    let (width, m) = (heads * dim, queries.rows.len());
    assert_eq!((out.len(), lse.len()), (m * width, m * heads), "attention: outputs");
    let scale = 1.0 / (dim as f32).sqrt();
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    let work: Vec<Tile> = queries.spans.iter().flat_map(|s| tiles(s, queries, segments)).collect();
    (0..work.len() * heads).into_par_iter().for_each(|task| {
        let (tile, head) = (&work[task / heads], task % heads);
        let column = head / (heads / kv_heads) * dim;
        let n = tile.keys();
        with_scratch(tile.count * n, |s| {
            let from = q[tile.first * q_ld + head * dim..].as_ptr();
            scores(tile, from, q_ld, kv, kv.k + column, dim, scale, s);
            let mut sums = [0.0f32; TILE];
            for (i, row) in s.chunks_exact_mut(n).enumerate() {
                let visible = tile.visible(queries, i);
                let (sum, max) = softmax_row(&mut row[..visible]);
                row[visible..].fill(0.0);
                sums[i] = sum;
                // SAFETY: (query row, head) belongs to this task alone, and is inside lse.
                unsafe { *lse.at((tile.first + i) * heads + head) = max + sum.ln() };
            }
            let to = out.at(tile.first * width + head * dim);
            for (run, at) in tile.runs() {
                // SAFETY: the head's columns of the tile's rows belong to this task alone; bounds are checked above.
                unsafe {
                    let values = View(kv.data.as_ptr().add(run.start * kv.stride + kv.v + column), kv.stride, 1);
                    let p = View(s.as_ptr().add(at), n, 1);
                    product((tile.count, dim, run.len()), to, width, at > 0, p, values, 1.0, false);
                }
            }
            for (i, sum) in sums[..tile.count].iter().enumerate() {
                // SAFETY: as above.
                let row = unsafe { std::slice::from_raw_parts_mut(to.wrapping_add(i * width), dim) };
                scale_row(row, 1.0 / sum);
            }
        });
    });
}

/// What the forward saw and made.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Query rows.
    pub q: (&'a [f32], usize),
    /// Keys and values.
    pub kv: KeysValues<'a>,
    /// Output.
    pub out: &'a [f32],
    /// Log-sum-exp.
    pub lse: &'a [f32],
}

/// Gradients of q (written, rows `dq.1` apart, from column 0), k and v (written into columns `k`, `v` of `dkv.0`, rows
/// as those of the keys). `dq` and `dkv` may be one buffer, hence the raw form; `heads_scratch` is grown as needed.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    shape: Heads,
    segments: &[Segment],
    queries: &Queries,
    seen: Seen<'_>,
    dout: &[f32],
    dq: Option<(&mut [f32], usize)>,
    dqkv: &mut [f32],
    heads_scratch: &mut Vec<f32>,
) {
    let _timed = timed("attention_backward", || cost(shape, segments, queries, 2.5));
    let Seen { q: (q, q_ld), kv, out, lse } = seen;
    check(shape, segments, queries, q, q_ld, kv);
    let Heads { heads, kv_heads, dim } = shape;
    let (width, m) = (heads * dim, queries.rows.len());
    let rows = kv.data.len() / kv.stride;
    assert_eq!((out.len(), lse.len(), dout.len()), (m * width, m * heads, m * width), "attention backward: shapes");
    assert_eq!(dqkv.len(), rows * kv.stride, "attention backward: dqkv");
    let scale = 1.0 / (dim as f32).sqrt();
    heads_scratch.resize(2 * rows * width, 0.0);
    let (dk, dv) = heads_scratch.split_at_mut(rows * width);
    let (dk, dv) = (Shared::new(dk), Shared::new(dv));
    let (dq, dq_ld) = match dq {
        Some((dq, ld)) => {
            assert!(m == 0 || dq.len() >= (m - 1) * ld + width, "attention backward: dq");
            (Shared::new(dq), ld)
        }
        None => {
            assert_eq!(m, rows, "attention backward: without dq every row asks");
            (Shared::new(dqkv), kv.stride)
        }
    };
    let mut group_rows = vec![0..0; queries.groups.len()];
    for (spans, bounds) in queries.groups.iter().zip(&mut group_rows) {
        let touched = queries.spans[spans.clone()].iter().map(|s| &segments[s.segment]);
        let (mut low, mut high) = (usize::MAX, 0);
        for s in touched {
            low = low.min(s.rows.start).min(if s.prefix.is_empty() { usize::MAX } else { s.prefix.start });
            high = high.max(s.rows.end);
        }
        *bounds = low.min(high)..high;
    }
    uncovered(rows, &group_rows).into_iter().for_each(|gap| {
        // SAFETY: exclusive here, before the tasks start.
        unsafe {
            std::slice::from_raw_parts_mut(dk.at(gap.start * width), gap.len() * width).fill(0.0);
            std::slice::from_raw_parts_mut(dv.at(gap.start * width), gap.len() * width).fill(0.0);
        }
    });
    (0..queries.groups.len() * heads).into_par_iter().for_each(|task| {
        let (group, head) = (task / heads, task % heads);
        let column = head / (heads / kv_heads) * dim;
        for row in group_rows[group].clone() {
            // SAFETY: a group's rows and a head's columns belong to one task.
            unsafe {
                std::slice::from_raw_parts_mut(dk.at(row * width + head * dim), dim).fill(0.0);
                std::slice::from_raw_parts_mut(dv.at(row * width + head * dim), dim).fill(0.0);
            }
        }
        for span in &queries.spans[queries.groups[group].clone()] {
            for tile in tiles(span, queries, segments) {
                let n = tile.keys();
                with_scratch(2 * tile.count * n, |scratch| {
                    let (p, ds) = scratch.split_at_mut(tile.count * n);
                    let q = q[tile.first * q_ld + head * dim..].as_ptr();
                    let at = tile.first * width + head * dim;
                    scores(&tile, q, q_ld, kv, kv.k + column, dim, scale, p);
                    scores(&tile, dout[at..].as_ptr(), width, kv, kv.v + column, dim, 1.0, ds);
                    for (i, (p, ds)) in p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n)).enumerate() {
                        let visible = tile.visible(queries, i);
                        probabilities_row(&mut p[..visible], lse[(tile.first + i) * heads + head]);
                        p[visible..].fill(0.0);
                        let o = at + i * width..at + i * width + dim;
                        let d = dot(&dout[o.clone()], &out[o]);
                        score_gradient_row(&mut ds[..visible], &p[..visible], d, scale);
                        ds[visible..].fill(0.0);
                    }
                    for (run, first) in tile.runs() {
                        let keys = kv.data.as_ptr().wrapping_add(run.start * kv.stride + kv.k + column);
                        let to = run.start * width + head * dim;
                        let (pt, dst) =
                            (View(p.as_ptr().wrapping_add(first), 1, n), View(ds.as_ptr().wrapping_add(first), 1, n));
                        // SAFETY: the group's rows and the head's columns of dk, dv, dq belong to this task alone;
                        // bounds are checked above.
                        unsafe {
                            let rows_of_ds = View(ds.as_ptr().add(first), n, 1);
                            let dq = dq.at(tile.first * dq_ld + head * dim);
                            product(
                                (tile.count, dim, run.len()),
                                dq,
                                dq_ld,
                                first > 0,
                                rows_of_ds,
                                View(keys, kv.stride, 1),
                                1.0,
                                false,
                            );
                            let dout = View(dout.as_ptr().add(at), width, 1);
                            product((run.len(), dim, tile.count), dv.at(to), width, true, pt, dout, 1.0, false);
                            product(
                                (run.len(), dim, tile.count),
                                dk.at(to),
                                width,
                                true,
                                dst,
                                View(q, q_ld, 1),
                                1.0,
                                false,
                            );
                        }
                    }
                });
            }
        }
    });
    let (dk, dv) = heads_scratch.split_at(rows * width);
    let share = heads / kv_heads;
    let lines = dqkv.par_chunks_exact_mut(kv.stride).with_min_len(16);
    lines.zip(dk.par_chunks_exact(width)).zip(dv.par_chunks_exact(width)).for_each(|((row, dk), dv)| {
        for (column, from) in [(kv.k, dk), (kv.v, dv)] {
            for (to, from) in
                row[column..column + kv_heads * dim].chunks_exact_mut(dim).zip(from.chunks_exact(share * dim))
            {
                to.fill(0.0);
                for head in from.chunks_exact(dim) {
                    add_row(to, head);
                }
            }
        }
    });
}

/// The rows that no group covers.
fn uncovered(rows: usize, covered: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for c in covered.iter().filter(|c| !c.is_empty()) {
        if c.start > next {
            gaps.push(next..c.start);
        }
        next = next.max(c.end);
    }
    if next < rows {
        gaps.push(next..rows);
    }
    gaps
}
