//! `y = x W^T` for few rows of x, as a step of generation has them, against weights of plain
//! numbers: bound by the bytes of W.
//!
//! ```text
//!   W (out, in)                      registers
//!   +-------------------------+      +--------------------+
//!   | N outputs | STEP values | ---> | value k of all N   |  x[k], broadcast: one fused addition
//!   +-------------------------+ turn | value k + 1 ...    |  for each row of x
//!   |  next N outputs: on its |      +--------------------+
//!   |  way into the cache     |
//! ```
//!
//! A square of weights is turned on its side in registers and used at once: a panel in memory
//! ([`super::panel`]) is read back as often as there are tiles of rows, here hardly ever. What
//! limits one row is how many cache lines are on their way at a time. The N rows of a square are N
//! streams, more than a processor's prefetcher follows: so lines are asked for some squares ahead.
//!
//! Each output is the sum that the panel makes: chains of [`CHAIN`] fused additions over the inner
//! dimension in ascending order. A row has the same bits on either way.

// Constant-bound index loops over registers, as in the panel kernel.
#![allow(clippy::needless_range_loop)]

use half::{bf16, f16};

use super::panel::{CHAIN, Rows, Span};
use crate::tensor::simd::{self, Element, Level, Simd, Task, prefetch};

/// Most rows of x that are few.
pub(super) const FEW: usize = 16;
/// Bytes of a line of the cache.
const LINE: usize = 64;
/// How far ahead lines are asked for: 16 or 32 rows of this are a small part of the second-level
/// cache.
const AHEAD: usize = 1024;

/// A number whose squares are turned in registers: as lanes of 32 bits, of one value or two.
pub(super) trait Square: Element {
    /// Values of a lane.
    const OF_A_LANE: usize;

    /// The first values of all lanes, and the second ones where there are two.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn apart<S: Simd>(lanes: S::F) -> [S::F; 2];
}

impl Square for f32 {
    const OF_A_LANE: usize = 1;

    #[inline(always)]
    unsafe fn apart<S: Simd>(lanes: S::F) -> [S::F; 2] {
        [lanes; 2]
    }
}

impl Square for bf16 {
    const OF_A_LANE: usize = 2;

    #[inline(always)]
    unsafe fn apart<S: Simd>(lanes: S::F) -> [S::F; 2] {
        // SAFETY: as the caller's.
        unsafe { [S::low_bf16(lanes), S::high_bf16(lanes)] }
    }
}

impl Square for f16 {
    const OF_A_LANE: usize = 2;

    #[inline(always)]
    unsafe fn apart<S: Simd>(lanes: S::F) -> [S::F; 2] {
        // SAFETY: as the caller's.
        let (low, high) = unsafe { S::both_f16(lanes) };
        [low, high]
    }
}

/// The outputs of `span` that fill whole vectors, of 1 to [`FEW`] rows by rows of W; returns where
/// they end.
pub(super) fn run<E: Square>(span: Span<'_, Rows<'_, E>>, level: Level) -> usize {
    let (few, wide) = (span.rows, level == Level::Avx512);
    // A square and the sums of 8 rows fill 32 registers, those of 4 rows half as many. One row's
    // additions wait for one another: on short vectors two bands side by side fill the time.
    match (few, wide) {
        (1, true) => simd::run(level, Bands::<_, 1, 1, 1>(span)),
        (1, false) => simd::run(level, Bands::<_, 1, 1, 2>(span)),
        (2, true) => simd::run(level, Bands::<_, 2, 1, 1>(span)),
        (2, false) => simd::run(level, Bands::<_, 2, 1, 2>(span)),
        (3 | 4, _) => simd::run(level, Bands::<_, 4, 1, 1>(span)),
        (5..=8, true) => simd::run(level, Bands::<_, 8, 1, 1>(span)),
        (5..=8, false) => simd::run(level, Bands::<_, 4, 2, 1>(span)),
        (_, true) => simd::run(level, Bands::<_, 8, 2, 1>(span)),
        (_, false) => simd::run(level, Bands::<_, 4, 4, 1>(span)),
    }
}

/// B bands of N outputs at a time, of up to `R G` rows: where there are fewer, the last one is
/// taken again.
struct Bands<'a, E, const R: usize, const G: usize, const B: usize>(Span<'a, Rows<'a, E>>);

impl<E: Square, const R: usize, const G: usize, const B: usize> Task for Bands<'_, E, R, G, B> {
    type Out = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        let Span { from, to, .. } = self.0;
        let mut output = from;
        // SAFETY: the outputs are there.
        unsafe {
            while output + B * S::N <= to {
                self.bands::<S, B>(output);
                output += B * S::N;
            }
            if B > 1 && output + S::N <= to {
                self.bands::<S, 1>(output);
                output += S::N;
            }
        }
        output
    }
}

impl<E: Square, const R: usize, const G: usize, const B: usize> Bands<'_, E, R, G, B> {
    /// Output 0 of a row: of a part of a product it lies outside y.
    #[inline(always)]
    fn row_of_y(&self, row: usize) -> *mut f32 {
        self.0.y.wrapping_add(row * self.0.y_stride)
    }

    /// C bands of whole vectors.
    ///
    /// # Safety
    /// The instruction set is there, and so are the outputs.
    #[inline(always)]
    unsafe fn bands<S: Simd, const C: usize>(&self, output: usize) {
        let span = &self.0;
        let (inner, ld) = (span.inner, span.w.stride);
        let w = span.w.values.as_ptr().wrapping_add(output * ld);
        let step = E::OF_A_LANE * S::N;
        let mut x = [[span.x; R]; G];
        for (i, x) in x.as_flattened_mut().iter_mut().enumerate() {
            *x = span.x.wrapping_add(i.min(span.rows - 1) * span.x_stride);
        }
        let ahead = AHEAD / size_of::<E>();
        // SAFETY: C N outputs from `output` are inside W and y; x holds `inner` values a row. What
        // is only asked for may lie outside.
        unsafe {
            let mut sums = [[[S::splat(0.0); R]; G]; C];
            let mut fresh = !span.accumulate;
            if !fresh {
                for row in 0..span.rows {
                    for c in 0..C {
                        sums[c][row / R][row % R] = S::load(self.row_of_y(row).wrapping_add(output + c * S::N));
                    }
                }
            }
            for from in (0..inner).step_by(CHAIN) {
                let to = (from + CHAIN).min(inner);
                let whole = from + (to - from) / step * step;
                let mut chains = [[[S::splat(0.0); R]; G]; C];
                for k in (from..whole).step_by(step) {
                    if (k * size_of::<E>()).is_multiple_of(LINE) {
                        // Further in the same rows, or where these end in the next ones.
                        let (row, k) = if k + ahead < inner { (0, k) } else { (C * S::N, k.wrapping_sub(inner)) };
                        let first = w.wrapping_add(row * ld).wrapping_add(k.wrapping_add(ahead));
                        for r in 0..C * S::N {
                            prefetch(first.wrapping_add(r * ld).cast());
                        }
                    }
                    for c in 0..C {
                        let mut square = [S::splat(0.0); 16];
                        for r in 0..S::N {
                            square[r] = S::load(w.add((c * S::N + r) * ld + k).cast());
                        }
                        S::transpose(&mut square);
                        for g in 0..G {
                            let mut chain = chains[c][g];
                            for j in 0..S::N {
                                let values = E::apart::<S>(square[j]);
                                for i in 0..E::OF_A_LANE {
                                    for r in 0..R {
                                        let x = S::splat(*x[g][r].add(k + E::OF_A_LANE * j + i));
                                        chain[r] = S::fma(x, values[i], chain[r]);
                                    }
                                }
                            }
                            chains[c][g] = chain;
                        }
                    }
                }
                for k in whole..to {
                    for c in 0..C {
                        let mut lanes = [0.0f32; 16];
                        for r in 0..S::N {
                            lanes[r] = (*w.add((c * S::N + r) * ld + k)).widen();
                        }
                        let values = S::load(lanes.as_ptr());
                        for g in 0..G {
                            for r in 0..R {
                                chains[c][g][r] = S::fma(S::splat(*x[g][r].add(k)), values, chains[c][g][r]);
                            }
                        }
                    }
                }
                for c in 0..C {
                    for g in 0..G {
                        for r in 0..R {
                            let chain = chains[c][g][r];
                            sums[c][g][r] = if fresh { chain } else { S::add(sums[c][g][r], chain) };
                        }
                    }
                }
                fresh = false;
            }
            for row in 0..span.rows {
                for c in 0..C {
                    let at = output + c * S::N;
                    let mut sum = sums[c][row / R][row % R];
                    if let Some(bias) = span.bias {
                        sum = S::add(sum, S::load(bias.as_ptr().add(at)));
                    }
                    S::store(self.row_of_y(row).wrapping_add(at), sum);
                }
            }
        }
    }
}
