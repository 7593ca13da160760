//! The CPU version of attention over spans, forward with the log-sum-exp that a backward needs, and
//! that backward: causal inside a span's own keys, after all of its past; no padding.
//!
//! Only the log-sum-exp of each (row, head) is kept; the backward computes the probabilities again,
//! a tile of [`TILE`] query rows at a time. With P the probabilities, `D_i = dO_i . O_i`: `dV = P^T
//! dO`, `dS = P (dO V^T - D) scale`, `dQ = dS K`, `dK = dS^T Q` (the recomputation of
//! FlashAttention, Dao et al. 2022).

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::kernel::Span;
use super::{Heads, check_span, window_arg};
use crate::error::{Error, Result};
use crate::ops::linear::gemm::{View, product};
use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::{LANES, Shared, exp, fold2, vectorized};
use crate::tensor::soft_cap::{soft_cap, times_slope};

/// Query rows of a tile.
const TILE: usize = 64;

/// The spans of a batch, and which of them share keys.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    spans: Vec<Span>,
    /// Spans that share no key with those of another group, and the key rows between their first
    /// and their last.
    groups: Vec<(Range<usize>, Range<usize>)>,
    /// Query rows and key rows that must be there at least.
    reach: (usize, usize),
    /// Soft cap of the scores.
    pub(super) cap: Option<f32>,
    /// Pairs of query row and visible key, and distinct own keys.
    pairs: usize,
    distinct: usize,
}

impl Spans {
    /// Groups `spans`, whose query rows must not overlap.
    ///
    /// # Errors
    /// A span whose last row sees keys that do not exist.
    pub fn new(spans: &[Span]) -> Result<Self> {
        let mut all = Self::default();
        for s in spans.iter().filter(|s| !s.rows.is_empty()) {
            check_span(s)?;
            all.reach = (all.reach.0.max(s.rows.end), all.reach.1.max(s.past.end).max(s.own.end));
            all.pairs += s.rows.len() * (s.past.len() + s.visible) + s.rows.len() * (s.rows.len() - 1) / 2;
            all.distinct += s.own.len();
            let past = if s.past.is_empty() { s.own.clone() } else { s.past.clone() };
            let (mut first, mut keys) = (all.spans.len(), s.own.start.min(past.start)..s.own.end.max(past.end));
            while let Some((spans, of_group)) = all.groups.pop_if(|(_, of_group)| of_group.end > keys.start) {
                (first, keys) = (spans.start, of_group.start.min(keys.start)..of_group.end.max(keys.end));
            }
            all.spans.push(s.clone());
            all.groups.push((first..all.spans.len(), keys));
        }
        Ok(all)
    }

    /// Of the forward, and so many times its work.
    fn cost(&self, heads: Heads, times: f64) -> Cost {
        let rows = self.spans.iter().map(|s| s.rows.len()).sum();
        let one = super::cost(heads, rows, self.pairs, self.distinct);
        Cost { bytes: times * one.bytes, flops: times * one.flops }
    }
}

/// Rows of heads side by side.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// (query rows, query heads x dim).
    pub q: &'a [f32],
    /// (key rows, kv heads x dim).
    pub k: &'a [f32],
    /// (key rows, kv heads x dim).
    pub v: &'a [f32],
}

/// What the forward left, and the gradient of its result.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The forward's result.
    pub out: &'a [f32],
    /// Its log-sum-exp, (query rows, query heads).
    pub lse: &'a [f32],
    /// Gradient of `out`.
    pub by_out: &'a [f32],
}

/// Gradients, of the shapes of q, k and v.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the queries.
    pub q: &'a mut [f32],
    /// Of the keys.
    pub k: &'a mut [f32],
    /// Of the values.
    pub v: &'a mut [f32],
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
    past: Range<usize>,
    own: Range<usize>,
    /// How many of `own` the first row sees.
    edge: usize,
    window: Option<usize>,
}

impl Tile {
    fn keys(&self) -> usize {
        self.past.len() + self.own.len()
    }

    /// The key runs with the score columns they fill.
    fn runs(&self) -> [(Range<usize>, usize); 2] {
        [(self.past.clone(), 0), (self.own.clone(), self.past.len())]
    }

    /// The keys that query row `i` of the tile sees.
    fn seen(&self, i: usize) -> Range<usize> {
        let end = self.past.len() + self.edge + i;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// The tiles of a span, without the keys before the window of their first row.
fn tiles(span: &Span, window: Option<usize>) -> impl Iterator<Item = Tile> {
    let Span { rows, past, own, visible } = span.clone();
    rows.clone().step_by(TILE).map(move |first| {
        let (count, edge) = (TILE.min(rows.end - first), visible + first - rows.start);
        let before = window.map_or(0, |window| (past.len() + edge).saturating_sub(window));
        let (skip_past, skip_own) = (before.min(past.len()), before.saturating_sub(past.len()));
        Tile {
            first,
            count,
            past: past.start + skip_past..past.end,
            own: own.start + skip_own..own.start + edge + count - 1,
            edge: edge - skip_own,
            window,
        }
    })
}

/// Queries or gradients against keys or values: the head's first value in each, and the widths of
/// their rows.
struct Sides {
    rows: *const f32,
    rows_width: usize,
    keys: *const f32,
    keys_width: usize,
}

/// `scores = scale Q K^T`.
fn scores(tile: &Tile, sides: &Sides, dim: usize, scale: f32, s: &mut [f32]) {
    let n = tile.keys();
    for (run, at) in tile.runs() {
        // SAFETY: the run lies inside the keys, the tile inside the rows and s, as the callers
        // checked.
        unsafe {
            let keys = View(sides.keys.add(run.start * sides.keys_width), 1, sides.keys_width);
            let rows = View(sides.rows, sides.rows_width, 1);
            product((tile.count, run.len(), dim), s.as_mut_ptr().add(at), n, false, rows, keys, scale, false);
        }
    }
}

/// Widths of rows of queries and of keys, where everything fits.
fn check(spans: &Spans, heads: Heads, inputs: Inputs<'_>) -> Result<(usize, usize)> {
    let Inputs { q, k, v } = inputs;
    let (width, kv_width) = (heads.query * heads.dim, heads.kv * heads.dim);
    let grouped = width > 0 && kv_width > 0 && heads.query.is_multiple_of(heads.kv);
    if !grouped || !q.len().is_multiple_of(width) || !k.len().is_multiple_of(kv_width) || k.len() != v.len() {
        let what = format!("{heads:?} with {} queries, {} keys, {} values", q.len(), k.len(), v.len());
        return Err(Error::failed("attention", what));
    }
    if spans.reach.0 > q.len() / width || spans.reach.1 > k.len() / kv_width {
        let what = format!("spans reach {:?} of {} rows and {} keys", spans.reach, q.len() / width, k.len() / kv_width);
        return Err(Error::failed("attention", what));
    }
    Ok((width, kv_width))
}

/// `out` (query rows x heads dim) and `lse` (query rows x heads), at the rows that the spans name.
///
/// # Errors
/// Shapes that do not fit.
pub fn forward(
    spans: &Spans,
    (heads, window): (Heads, Option<usize>),
    inputs: Inputs<'_>,
    out: &mut [f32],
    lse: &mut [f32],
) -> Result<Cost> {
    window_arg(window)?;
    let _timed = timed("attention", || spans.cost(heads, 1.0));
    let (width, kv_width) = check(spans, heads, inputs)?;
    let (Inputs { q, k, v }, dim) = (inputs, heads.dim);
    if out.len() != q.len() || lse.len() * dim != q.len() {
        let what = format!("{} results and {} log-sums of {} queries", out.len(), lse.len(), q.len());
        return Err(Error::failed("attention", what));
    }
    let scale = 1.0 / (dim as f32).sqrt();
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    let work: Vec<Tile> = spans.spans.iter().flat_map(|s| tiles(s, window)).collect();
    (0..work.len() * heads.query).into_par_iter().for_each(|task| {
        let (tile, head) = (&work[task / heads.query], task % heads.query);
        let column = head / heads.group() * dim;
        let n = tile.keys();
        with_scratch(tile.count * n, |s| {
            let at = tile.first * width + head * dim;
            let sides =
                Sides { rows: q[at..].as_ptr(), rows_width: width, keys: k[column..].as_ptr(), keys_width: kv_width };
            scores(tile, &sides, dim, scale, s);
            let mut sums = [0.0f32; TILE];
            for (i, row) in s.chunks_exact_mut(n).enumerate() {
                let seen = tile.seen(i);
                row[..seen.start].fill(0.0);
                row[seen.end..].fill(0.0);
                if let Some(cap) = spans.cap {
                    soft_cap(&mut row[seen.clone()], cap);
                }
                let (sum, max) = softmax_row(&mut row[seen]);
                sums[i] = sum;
                // SAFETY: (query row, head) belongs to this task alone, and is inside lse.
                unsafe { *lse.at((tile.first + i) * heads.query + head) = max + sum.ln() };
            }
            let to = out.at(at);
            for (run, at) in tile.runs() {
                // SAFETY: the head's columns of the tile's rows belong to this task alone; bounds
                // are checked above.
                unsafe {
                    let values = View(v.as_ptr().add(run.start * kv_width + column), kv_width, 1);
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
    Ok(spans.cost(heads, 1.0))
}

/// Writes the gradients; keys that no span names get zero. `by_head` holds those of keys and values
/// for each query head and is grown as needed.
///
/// # Errors
/// Shapes that do not fit.
pub fn backward(
    spans: &Spans,
    (heads, window): (Heads, Option<usize>),
    inputs: Inputs<'_>,
    given: Given<'_>,
    g: &mut Gradients<'_>,
    by_head: &mut Vec<f32>,
) -> Result<Cost> {
    window_arg(window)?;
    let _timed = timed("attention_backward", || spans.cost(heads, 2.5));
    let (width, kv_width) = check(spans, heads, inputs)?;
    let (Inputs { q, k, v }, Given { out, lse, by_out }, dim) = (inputs, given, heads.dim);
    let lengths = [out.len(), by_out.len(), lse.len() * dim, g.q.len()];
    if lengths.iter().any(|&n| n != q.len()) || g.k.len() != k.len() || g.v.len() != k.len() {
        let what = format!("{lengths:?} for {} queries, {} and {} for {} keys", q.len(), g.k.len(), g.v.len(), k.len());
        return Err(Error::failed("attention gradient", what));
    }
    let rows = k.len() / kv_width;
    let scale = 1.0 / (dim as f32).sqrt();
    by_head.resize(2 * rows * width, 0.0);
    let (dk, dv) = by_head.split_at_mut(rows * width);
    let keys_of_groups: Vec<Range<usize>> = spans.groups.iter().map(|(_, keys)| keys.clone()).collect();
    for gap in uncovered(rows, &keys_of_groups) {
        dk[gap.start * width..gap.end * width].fill(0.0);
        dv[gap.start * width..gap.end * width].fill(0.0);
    }
    let (dk, dv, dq) = (Shared::new(dk), Shared::new(dv), Shared::new(&mut *g.q));
    (0..spans.groups.len() * heads.query).into_par_iter().for_each(|task| {
        let ((of_group, keys), head) = (&spans.groups[task / heads.query], task % heads.query);
        let column = head / heads.group() * dim;
        for row in keys.clone() {
            // SAFETY: a group's rows and a head's columns belong to one task.
            unsafe {
                std::slice::from_raw_parts_mut(dk.at(row * width + head * dim), dim).fill(0.0);
                std::slice::from_raw_parts_mut(dv.at(row * width + head * dim), dim).fill(0.0);
            }
        }
        for tile in spans.spans[of_group.clone()].iter().flat_map(|s| tiles(s, window)) {
            let n = tile.keys();
            // With a cap, one row of capped scores besides.
            with_scratch(2 * tile.count * n + if spans.cap.is_some() { n } else { 0 }, |scratch| {
                let (p, rest) = scratch.split_at_mut(tile.count * n);
                let (ds, capped) = rest.split_at_mut(tile.count * n);
                let at = tile.first * width + head * dim;
                let sides = |rows: &[f32], keys: &[f32]| Sides {
                    rows: rows[at..].as_ptr(),
                    rows_width: width,
                    keys: keys[column..].as_ptr(),
                    keys_width: kv_width,
                };
                scores(&tile, &sides(q, k), dim, scale, p);
                scores(&tile, &sides(by_out, v), dim, 1.0, ds);
                for (i, (p, ds)) in p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n)).enumerate() {
                    let seen = tile.seen(i);
                    if let Some(cap) = spans.cap {
                        soft_cap(&mut p[seen.clone()], cap);
                        capped[..seen.len()].copy_from_slice(&p[seen.clone()]);
                    }
                    probabilities_row(&mut p[seen.clone()], lse[(tile.first + i) * heads.query + head]);
                    p[..seen.start].fill(0.0);
                    p[seen.end..].fill(0.0);
                    let o = at + i * width..at + i * width + dim;
                    let d = dot(&by_out[o.clone()], &out[o]);
                    score_gradient_row(&mut ds[seen.clone()], &p[seen.clone()], d, scale);
                    if let Some(cap) = spans.cap {
                        times_slope(&mut ds[seen.clone()], &capped[..seen.len()], cap);
                    }
                    ds[..seen.start].fill(0.0);
                    ds[seen.end..].fill(0.0);
                }
                for (run, first) in tile.runs() {
                    let (to, m) = (run.start * width + head * dim, run.len());
                    // SAFETY: the group's rows and the head's columns of dk, dv, dq belong to this
                    // task alone; bounds are checked above.
                    unsafe {
                        let keys = View(k.as_ptr().add(run.start * kv_width + column), kv_width, 1);
                        let (of_p, of_ds) = (p.as_ptr().add(first), ds.as_ptr().add(first));
                        let (q, by_out) = (View(q.as_ptr().add(at), width, 1), View(by_out.as_ptr().add(at), width, 1));
                        let add = first > 0;
                        product((tile.count, dim, m), dq.at(at), width, add, View(of_ds, n, 1), keys, 1.0, false);
                        product((m, dim, tile.count), dv.at(to), width, true, View(of_p, 1, n), by_out, 1.0, false);
                        product((m, dim, tile.count), dk.at(to), width, true, View(of_ds, 1, n), q, 1.0, false);
                    }
                }
            });
        }
    });
    let (dk, dv) = by_head.split_at(rows * width);
    let share = heads.group();
    for (to, from) in [(&mut *g.k, dk), (&mut *g.v, dv)] {
        let lines = to.par_chunks_exact_mut(kv_width).with_min_len(16).zip(from.par_chunks_exact(width));
        lines.for_each(|(to, from)| {
            for (to, from) in to.chunks_exact_mut(dim).zip(from.chunks_exact(share * dim)) {
                to.fill(0.0);
                from.chunks_exact(dim).for_each(|head| add_row(to, head));
            }
        });
    }
    Ok(spans.cost(heads, 2.5))
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
