//! The inner loops: one task is some query vectors of one kv head against tiles of keys.

// Constant-bound index loops over register tiles: the form that the compiler unrolls into
// registers.
#![allow(clippy::needless_range_loop)]

use super::{BLOCK, Run, TILE};
use crate::tensor::simd::{Simd, Task};
use crate::tensor::soft_cap::soft_cap;

/// The running softmax of query vectors: largest score, sum of weights, weighted values; plus the
/// scaled queries.
pub(super) struct State {
    pub dim: usize,
    /// Soft cap of the scores.
    pub cap: Option<f32>,
    /// (n, dim), already divided by sqrt(dim).
    pub queries: Vec<f32>,
    /// (n, dim).
    pub sums: Vec<f32>,
    pub top: Vec<f32>,
    pub total: Vec<f32>,
    /// How many keys each query sees, and the first that it sees.
    pub visible: Vec<usize>,
    pub first: Vec<usize>,
}

/// Passes queries `from..to` over tiles `first..last` of the sequence made of `runs`.
pub(super) struct Pass<'a> {
    pub state: &'a mut State,
    pub from: usize,
    pub to: usize,
    pub runs: &'a [Run<'a>],
    pub first: usize,
    pub last: usize,
}

/// Query vectors handled together: their accumulators and a few keys fill the registers.
const ROWS: usize = 6;
/// Room for a tile whose first key lies anywhere in a block.
const WIDE: usize = TILE + 2 * BLOCK;

impl Task for Pass<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Pass { state, from, to, runs, first, last } = self;
        for tile in first..last {
            let mut q = from;
            // SAFETY: q + R <= to <= the number of queries; the caller has checked the runs'
            // lengths.
            unsafe {
                while q < to {
                    let left = to - q;
                    if S::N == 16 && left >= ROWS {
                        update::<S, ROWS>(state, q, runs, tile);
                        q += ROWS;
                    } else if S::N == 16 && left >= 3 {
                        update::<S, 3>(state, q, runs, tile);
                        q += 3;
                    } else if left >= 2 {
                        update::<S, 2>(state, q, runs, tile);
                        q += 2;
                    } else {
                        update::<S, 1>(state, q, runs, tile);
                        q += 1;
                    }
                }
            }
        }
    }
}

/// `out[r][c] (+)= sum_i a[r * lda + i] * b[i * ldb + columns[c]]`, vectors of N; i ascending for
/// every output.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn product<S: Simd, const R: usize, const C: usize>(
    n: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    columns: [usize; C],
    out: *mut f32,
    ldo: usize,
    out_columns: [usize; C],
    accumulate: bool,
) {
    // SAFETY: as the caller's.
    unsafe {
        let mut acc = [[S::splat(0.0); C]; R];
        if accumulate {
            for r in 0..R {
                for c in 0..C {
                    acc[r][c] = S::load(out.add(r * ldo + out_columns[c]));
                }
            }
        }
        for i in 0..n {
            let mut row = [S::splat(0.0); C];
            for c in 0..C {
                row[c] = S::load(b.add(i * ldb + columns[c]));
            }
            for r in 0..R {
                let x = S::splat(*a.add(r * lda + i));
                for c in 0..C {
                    acc[r][c] = S::fma(x, row[c], acc[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                S::store(out.add(r * ldo + out_columns[c]), acc[r][c]);
            }
        }
    }
}

/// Scores of R queries with `blocks` blocks of keys into `to` (R, WIDE).
#[inline(always)]
unsafe fn scores<S: Simd, const R: usize>(q: *const f32, dim: usize, keys: *const f32, blocks: usize, to: *mut f32) {
    let per_block = BLOCK / S::N;
    let vectors = blocks * per_block;
    let at = |v: usize| (v / per_block) * BLOCK * dim + (v % per_block) * S::N;
    let mut v = 0;
    // SAFETY: every vector lies in one of the blocks; `to` has room for them.
    unsafe {
        while v + 4 <= vectors {
            let (from, into) = ([at(v), at(v + 1), at(v + 2), at(v + 3)], [0, 1, 2, 3].map(|c| (v + c) * S::N));
            product::<S, R, 4>(dim, q, dim, keys, BLOCK, from, to, WIDE, into, false);
            v += 4;
        }
        while v < vectors {
            product::<S, R, 1>(dim, q, dim, keys, BLOCK, [at(v)], to, WIDE, [v * S::N], false);
            v += 1;
        }
    }
}

/// `sums[r] += weights[r] V` over `n` positions.
#[inline(always)]
unsafe fn weigh<S: Simd, const R: usize>(
    weights: *const f32,
    values: *const f32,
    n: usize,
    dim: usize,
    sums: *mut f32,
) {
    let mut c = 0;
    // SAFETY: columns stay below dim.
    unsafe {
        while c + 4 * S::N <= dim {
            let at = [c, c + S::N, c + 2 * S::N, c + 3 * S::N];
            product::<S, R, 4>(n, weights, TILE, values, dim, at, sums, dim, at, true);
            c += 4 * S::N;
        }
        while c + S::N <= dim {
            product::<S, R, 1>(n, weights, TILE, values, dim, [c], sums, dim, [c], true);
            c += S::N;
        }
        for r in 0..R {
            for i in c..dim {
                let mut sum = *sums.add(r * dim + i);
                for t in 0..n {
                    sum += *weights.add(r * TILE + t) * *values.add(t * dim + i);
                }
                *sums.add(r * dim + i) = sum;
            }
        }
    }
}

/// One tile of keys for R queries: scores, new maximum, weights, rescaled sums, weighted values.
#[inline(always)]
unsafe fn update<S: Simd, const R: usize>(state: &mut State, q: usize, runs: &[Run<'_>], tile: usize) {
    let dim = state.dim;
    let begin = tile * TILE;
    let longest = (0..R).map(|r| state.visible[q + r]).fold(0, usize::max);
    let end = longest.min(begin + TILE);
    if end <= begin {
        return;
    }
    let mut weights = [[f32::NEG_INFINITY; TILE]; R];
    let mut wide = [[0.0f32; WIDE]; R];
    let sums = state.sums[q * dim..].as_mut_ptr();
    let queries = state.queries[q * dim..].as_ptr();
    // SAFETY: run lengths and state shapes were checked by the caller; lanes of a last block beyond
    // the run are computed but never copied.
    unsafe {
        let mut start = 0;
        for run in runs {
            let (a, b) = (begin.max(start), end.min(start + run.len));
            if a < b {
                let (block, offset) = ((a - start) / BLOCK, (a - start) % BLOCK);
                let blocks = (b - start).div_ceil(BLOCK) - block;
                let keys = run.keys.as_ptr().add(block * BLOCK * dim);
                scores::<S, R>(queries, dim, keys, blocks, wide.as_mut_ptr().cast());
                for r in 0..R {
                    let n = (b - a).min(state.visible[q + r].saturating_sub(a));
                    let skip = state.first[q + r].saturating_sub(a).min(n);
                    let to = &mut weights[r][a - begin + skip..a - begin + n];
                    to.copy_from_slice(&wide[r][offset + skip..offset + n]);
                    if let Some(cap) = state.cap {
                        soft_cap(to, cap);
                    }
                }
            }
            start += run.len;
        }
        for (r, row) in weights.iter_mut().enumerate() {
            let p = row.as_mut_ptr();
            let mut best = S::load(p);
            for i in (S::N..TILE).step_by(S::N) {
                best = S::max(S::load(p.add(i)), best);
            }
            let before = state.top[q + r];
            let top = S::largest(best).max(before);
            // A row that sees nothing yet keeps -inf; subtracting 0 instead leaves weights of
            // e^-inf = 0.
            let base = if top == f32::NEG_INFINITY { 0.0 } else { top };
            let mut sum = S::splat(0.0);
            for i in (0..TILE).step_by(S::N) {
                let w = S::exp(S::sub(S::load(p.add(i)), S::splat(base)));
                S::store(p.add(i), w);
                sum = S::add(sum, w);
            }
            let mut old = [before - base; 16];
            S::store(old.as_mut_ptr(), S::exp(S::load(old.as_ptr())));
            let shrink = old[0];
            state.top[q + r] = top;
            state.total[q + r] = state.total[q + r] * shrink + S::sum(sum);
            if shrink != 1.0 {
                for i in 0..dim {
                    *sums.add(r * dim + i) *= shrink;
                }
            }
        }
        let mut start = 0;
        for run in runs {
            let (a, b) = (begin.max(start), end.min(start + run.len));
            if a < b {
                let values = run.values.as_ptr().add((a - start) * dim);
                weigh::<S, R>(weights.as_ptr().cast::<f32>().add(a - begin), values, b - a, dim, sums);
            }
            start += run.len;
        }
    }
}
