//! `y = x W^T` for any number of rows, as dot products along the rows of W as they are stored.
//!
//! A register tile holds some rows of x times some rows of W; lanes run along the input, so neither side is
//! repacked, and each output is one lane-wise sum over the input in ascending order, whatever the tile. A product's
//! bits therefore depend on neither the number of rows nor the threads. With few rows the 16-bit weights are widened
//! in registers on their way from memory (the product runs at the memory's speed); with many they are widened once
//! for all rows, a few weight rows at a time in the first-level cache.

// Constant-bound index loops over register tiles: the form that the compiler unrolls into registers.
#![allow(clippy::needless_range_loop)]

use half::{bf16, f16};
use rayon::prelude::*;

use super::weight::{Values, Weight};
use crate::ops::profile::timed;
use crate::ops::simd::{self, Element, Level, Simd, Task};

/// Rows of W in a tile on AVX-512; other levels use half.
const COLUMNS: usize = 6;
/// Up to this many rows, weights are widened in registers.
const FEW: usize = 4;
/// Bytes of x kept in the second-level cache while weights stream by.
const CHUNK: usize = 1 << 20;
/// FLOP below which threads cost more than they save.
const SERIAL: usize = 200_000;

/// One of several products with the same x.
pub struct Product<'a> {
    /// (out, in).
    pub weight: &'a Weight,
    /// (M, out).
    pub y: &'a mut [f32],
    /// Length out; written first.
    pub bias: Option<&'a [f32]>,
    /// Add to y instead of writing it.
    pub accumulate: bool,
}

/// A product without its lifetimes, so that jobs can share it.
#[derive(Clone, Copy)]
struct Target<'a> {
    values: Values<'a>,
    out: usize,
    y: *mut f32,
    /// The row of W that y's first column belongs to, and y's width.
    base: usize,
    width: usize,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}
// SAFETY: jobs write disjoint columns of y.
unsafe impl Sync for Target<'_> {}
// SAFETY: as above.
unsafe impl Send for Target<'_> {}

/// All `y = x W^T (+ bias)` of one x (M, in) in one parallel region. Panics when the shapes do not fit.
pub fn matmul_nt_many(x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    let _timed = timed("linear", || super::cost_of_all(products.iter().map(|p| p.weight), x.len() / inp.max(1)));
    many_at(simd::level(), x, inp, products);
}

pub(super) fn many_at(level: Level, x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    if inp == 0 || x.is_empty() {
        return;
    }
    let m = x.len() / inp;
    assert_eq!(x.len(), m * inp, "matmul_nt: {} values are no rows of {inp}", x.len());
    let mut total = 0;
    let targets: Vec<Target<'_>> = products
        .iter_mut()
        .map(|p| {
            let out = p.weight.rows();
            assert!(p.weight.cols() == inp && p.y.len() == m * out, "matmul_nt: {} x {out}", p.weight.cols());
            assert!(p.bias.is_none_or(|b| b.len() == out), "matmul_nt: bias");
            total += out;
            Target {
                values: p.weight.values(),
                out,
                y: p.y.as_mut_ptr(),
                base: 0,
                width: out,
                bias: p.bias,
                accumulate: p.accumulate,
            }
        })
        .collect();
    across_threads(level, x, inp, &targets, total);
}

/// `y (M, sum of outs) = x W^T (+ y when accumulate)` for weights that stand side by side in the columns of y, in
/// one parallel region. Panics when the shapes do not fit.
pub fn matmul_nt_stacked(x: &[f32], weights: &[&Weight], y: &mut [f32], accumulate: bool) {
    let _timed = timed("linear", || {
        super::cost_of_all(weights.iter().copied(), x.len() / weights.first().map_or(1, |w| w.cols().max(1)))
    });
    let inp = weights.first().map_or(0, |w| w.cols());
    if inp == 0 || x.is_empty() {
        return;
    }
    let (m, width) = (x.len() / inp, weights.iter().map(|w| w.rows()).sum());
    assert!(x.len() == m * inp && y.len() == m * width, "matmul_nt: {} and {} values for {m} rows", x.len(), y.len());
    let mut column = 0;
    let mut targets = Vec::with_capacity(weights.len());
    for w in weights {
        assert_eq!(w.cols(), inp, "matmul_nt: stacked weights differ in width");
        // SAFETY: column <= width, so the offset stays inside y's first row.
        let y = unsafe { y.as_mut_ptr().add(column) };
        targets.push(Target { values: w.values(), out: w.rows(), y, base: 0, width, bias: None, accumulate });
        column += w.rows();
    }
    across_threads(simd::level(), x, inp, &targets, width);
}

/// Runs all targets, `total` outputs together, cut into jobs.
fn across_threads(level: Level, x: &[f32], inp: usize, targets: &[Target<'_>], total: usize) {
    let m = x.len() / inp;
    let threads = if 2 * m * inp * total <= SERIAL { 1 } else { rayon::current_num_threads() };
    // Several jobs a thread, so that a thread that was held up does not hold up the rest.
    let grain = (total / (threads * 6)).next_multiple_of(2 * COLUMNS).max(8 * COLUMNS);
    let mut jobs = Vec::new();
    for target in targets {
        let mut from = 0;
        while from < target.out {
            let to = if threads == 1 { target.out } else { (from + grain).min(target.out) };
            jobs.push((target, from, to));
            from = to;
        }
    }
    let work = |&(target, from, to): &(&Target<'_>, usize, usize)| span(level, x, inp, m, target, from, to);
    if threads == 1 || jobs.len() == 1 {
        jobs.iter().for_each(work);
    } else {
        jobs.par_iter().with_max_len(1).for_each(work);
    }
}

/// `y (M, range) = x W[range]^T` on the calling thread: a panel of a product that is too large to keep. Panics when
/// the shapes do not fit.
pub fn matmul_nt_panel(x: &[f32], weight: &Weight, range: std::ops::Range<usize>, y: &mut [f32]) {
    let inp = weight.cols();
    if inp == 0 || x.is_empty() {
        return;
    }
    let (m, width) = (x.len() / inp, range.len());
    assert!(x.len() == m * inp && y.len() == m * width && range.end <= weight.rows(), "matmul_nt: panel {range:?}");
    let target = Target {
        values: weight.values(),
        out: weight.rows(),
        y: y.as_mut_ptr(),
        base: range.start,
        width,
        bias: None,
        accumulate: false,
    };
    span(simd::level(), x, inp, m, &target, range.start, range.end);
}

fn span(level: Level, x: &[f32], inp: usize, m: usize, target: &Target<'_>, from: usize, to: usize) {
    match target.values {
        Values::F32(w) => simd::run(level, Span { x, inp, m, w, target, from, to }),
        Values::Bf16(w) => simd::run(level, Span { x, inp, m, w, target, from, to }),
        Values::F16(w) => simd::run(level, Span { x, inp, m, w, target, from, to }),
    }
}

/// Rows `from..to` of W against all rows of x.
struct Span<'a, E> {
    x: &'a [f32],
    inp: usize,
    m: usize,
    w: &'a [E],
    target: &'a Target<'a>,
    from: usize,
    to: usize,
}

impl<E: Element + Widen> Task for Span<'_, E> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the shapes were checked by `many_at`.
        unsafe { if S::N == 16 { self.drive::<S, COLUMNS, 4>() } else { self.drive::<S, 4, 2>() } }
    }
}

/// Whether widening ahead pays.
pub(crate) trait Widen {
    const NARROW: bool;
}
impl Widen for f32 {
    const NARROW: bool = false;
}
impl Widen for bf16 {
    const NARROW: bool = true;
}
impl Widen for f16 {
    const NARROW: bool = true;
}

impl<E: Element + Widen> Span<'_, E> {
    #[inline(always)]
    unsafe fn drive<S: Simd, const C: usize, const R: usize>(&self) {
        let inp = self.inp;
        let chunk = (CHUNK / (4 * inp)).next_multiple_of(R).max(R);
        let ahead = E::NARROW && self.m > FEW;
        let mut scratch = if ahead { vec![0.0f32; C * inp] } else { Vec::new() };
        // SAFETY: from + C <= to <= rows of W; scratch holds C rows.
        unsafe {
            for first in (0..self.m).step_by(chunk) {
                let rows = first..(first + chunk).min(self.m);
                let mut o = self.from;
                while o < self.to {
                    let left = self.to - o;
                    let w = self.w.as_ptr().add(o * inp);
                    let columns = if left >= C { C } else { 1 };
                    if ahead {
                        widen::<S, E>(w, scratch.as_mut_ptr(), columns * inp);
                        let w = scratch.as_ptr();
                        if columns == C {
                            self.rows::<S, f32, C, R>(w, rows.clone(), o);
                        } else {
                            self.rows::<S, f32, 1, R>(w, rows.clone(), o);
                        }
                    } else if columns == C {
                        self.rows::<S, E, C, R>(w, rows.clone(), o);
                    } else {
                        self.rows::<S, E, 1, R>(w, rows.clone(), o);
                    }
                    o += columns;
                }
            }
        }
    }

    /// C rows of W against a range of rows of x.
    #[inline(always)]
    unsafe fn rows<S: Simd, T: Element, const C: usize, const R: usize>(
        &self,
        w: *const T,
        rows: std::ops::Range<usize>,
        o: usize,
    ) {
        let mut i = rows.start;
        // SAFETY: i + rows of the tile <= m.
        unsafe {
            while i < rows.end {
                let left = rows.end - i;
                if left >= R {
                    self.tile::<S, T, C, R>(w, i, o);
                    i += R;
                } else if R > 3 && left == 3 {
                    self.tile::<S, T, C, 3>(w, i, o);
                    i += 3;
                } else if R > 2 && left >= 2 {
                    self.tile::<S, T, C, 2>(w, i, o);
                    i += 2;
                } else {
                    self.tile::<S, T, C, 1>(w, i, o);
                    i += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, T: Element, const C: usize, const R: usize>(&self, w: *const T, i: usize, o: usize) {
        let inp = self.inp;
        let whole = inp / S::N * S::N;
        // SAFETY: x holds R rows from i, w holds C rows, y has (i + R) rows of `out` and o + C <= out.
        unsafe {
            let x = self.x.as_ptr().add(i * inp);
            let mut acc = [[S::splat(0.0); R]; C];
            let mut k = 0;
            while k < whole {
                let mut xs = [S::splat(0.0); R];
                for r in 0..R {
                    xs[r] = S::load(x.add(r * inp + k));
                }
                for c in 0..C {
                    let v = T::load::<S>(w.add(c * inp + k));
                    for r in 0..R {
                        acc[c][r] = S::fma(xs[r], v, acc[c][r]);
                    }
                }
                k += S::N;
            }
            let mut sums = [[0.0f32; R]; C];
            for c in 0..C {
                if R == 4 {
                    let four = S::sum4([acc[c][0], acc[c][1 % R], acc[c][2 % R], acc[c][3 % R]]);
                    sums[c].copy_from_slice(&four[..R]);
                } else {
                    for r in 0..R {
                        sums[c][r] = S::sum(acc[c][r]);
                    }
                }
                for k in whole..inp {
                    let v = (*w.add(c * inp + k)).widen();
                    for r in 0..R {
                        sums[c][r] += *x.add(r * inp + k) * v;
                    }
                }
            }
            for r in 0..R {
                let y = self.target.y.add((i + r) * self.target.width + o - self.target.base);
                for c in 0..C {
                    let bias = match self.target.bias {
                        Some(bias) => *bias.get_unchecked(o + c),
                        None => 0.0,
                    };
                    let before = if self.target.accumulate { *y.add(c) } else { 0.0 };
                    *y.add(c) = before + (sums[c][r] + bias);
                }
            }
        }
    }
}

/// Widens `n` values.
#[inline(always)]
unsafe fn widen<S: Simd, E: Element>(from: *const E, to: *mut f32, n: usize) {
    let whole = n / S::N * S::N;
    // SAFETY: both hold n values.
    unsafe {
        for i in (0..whole).step_by(S::N) {
            S::store(to.add(i), E::load::<S>(from.add(i)));
        }
        for i in whole..n {
            *to.add(i) = (*from.add(i)).widen();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ops::linear::{Storage, oracle};
    use crate::ops::simd::available;
    use crate::rng::{Rng, Use};

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        (0..n).map(|_| rng.normal()).collect()
    }

    fn stored(kind: usize, out: usize, inp: usize, w: &[f32]) -> (Weight, Vec<f32>) {
        let storage = match kind {
            0 => Storage::F32(Arc::new(w.to_vec())),
            1 => Storage::Bf16(Arc::new(w.iter().map(|&v| bf16::from_f32(v)).collect())),
            _ => Storage::F16(Arc::new(w.iter().map(|&v| f16::from_f32(v)).collect())),
        };
        let weight = Weight::new(out, inp, storage).unwrap();
        let mut values = vec![0.0; out * inp];
        weight.read_rows(0, &mut values);
        (weight, values)
    }

    proptest! {
        #[test]
        fn cpu_is_the_oracle_and_rows_do_not_see_each_other(
            m in 1usize..14, out in 1usize..40, inp in 1usize..90, kind in 0usize..3,
            biased: bool, accumulate: bool, seed in 0u64..1000,
        ) {
            let x = noise(m * inp, seed);
            let (weight, w) = stored(kind, out, inp, &noise(out * inp, seed + 1));
            let (bias, before) = (noise(out, seed + 2), noise(m * out, seed + 3));
            let want = oracle::matmul_nt(&x, &w, inp, biased.then_some(&bias));
            for level in available() {
                let product = |x: &[f32], y: &mut [f32]| {
                    let bias = biased.then_some(bias.as_slice());
                    many_at(level, x, inp, &mut [Product { weight: &weight, y, bias, accumulate }]);
                };
                let mut y = before.clone();
                product(&x, &mut y);
                for i in 0..m * out {
                    let want = want[i] + if accumulate { f64::from(before[i]) } else { 0.0 };
                    let tolerance = 2e-6 * (inp as f64).sqrt() * (1.0 + want.abs());
                    prop_assert!((f64::from(y[i]) - want).abs() <= tolerance, "{level:?} {i}: {} {want}", y[i]);
                }
                for i in 0..m {
                    let mut row = before[i * out..(i + 1) * out].to_vec();
                    product(&x[i * inp..(i + 1) * inp], &mut row);
                    let same = row.iter().zip(&y[i * out..]).all(|(a, b)| a.to_bits() == b.to_bits());
                    prop_assert!(same, "{level:?}: row {i} of {m} differs from itself alone");
                }
            }
        }
    }

    #[test]
    fn a_large_product_in_parallel_has_the_bits_of_its_rows() {
        let (m, inp) = (70, 576);
        let x = noise(m * inp, 1);
        let (a, _) = stored(1, 500, inp, &noise(500 * inp, 2));
        let (b, _) = stored(0, 101, inp, &noise(101 * inp, 3));
        let (mut ya, mut yb) = (vec![f32::NAN; m * 500], vec![f32::NAN; m * 101]);
        matmul_nt_many(
            &x,
            inp,
            &mut [
                Product { weight: &a, y: &mut ya, bias: None, accumulate: false },
                Product { weight: &b, y: &mut yb, bias: None, accumulate: false },
            ],
        );
        let (mut ra, mut rb) = (vec![0.0; 500], vec![0.0; 101]);
        for i in [0, 33, 69] {
            let row = &x[i * inp..(i + 1) * inp];
            matmul_nt_many(row, inp, &mut [Product { weight: &a, y: &mut ra, bias: None, accumulate: false }]);
            matmul_nt_many(row, inp, &mut [Product { weight: &b, y: &mut rb, bias: None, accumulate: false }]);
            assert_eq!(ra, ya[i * 500..(i + 1) * 500]);
            assert_eq!(rb, yb[i * 101..(i + 1) * 101]);
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        let w = Weight::from_f32(2, 3, vec![0.0, 0.0, 0.0, 1.0, f32::NAN, 1.0]).unwrap();
        let mut y = [0.0; 2];
        matmul_nt_many(&[1.0; 3], 3, &mut [Product { weight: &w, y: &mut y, bias: None, accumulate: false }]);
        assert!(y[0] == 0.0 && y[1].is_nan());
    }
}
