//! The kernel: tiles of y in registers, a few rows of x by a few vectors of outputs.
//!
//! A block of [`DEEP`] groups of a panel of weights (18 KB) stays in the first-level cache while
//! all rows pass over it, R at a time. Four codes of x are broadcast against the four of every
//! output; a group's i32 sums are turned into f32 and weighed by both scales, so that R x V sums of
//! each kind are in registers at once.

// Constant-bound index loops over register tiles: the form that the compiler unrolls into
// registers.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Codes, GROUP, Rows, TILE};
use crate::tensor::simd::bytes::Level;

/// Outputs of a panel.
pub(super) const PANEL: usize = 3 * TILE;
/// Groups of a block.
const DEEP: usize = 12;
/// Most rows of a tile.
const ROWS: usize = 4;

/// Vectors of one instruction set.
///
/// # Safety
/// Every method needs the instruction set; pointers must be valid for `N` lanes of 32 bits.
pub(super) trait Lanes: Copy {
    /// `N` sums, or `4 N` codes.
    type I: Copy;
    /// `N` f32.
    type F: Copy;
    /// Lanes: 8 or 16.
    const N: usize;
    unsafe fn splat_i32(x: i32) -> Self::I;
    unsafe fn load_codes(p: *const u8) -> Self::I;
    /// Adds to each lane the products of its four unsigned bytes of `w` and signed bytes of `x`.
    unsafe fn dot(sum: Self::I, w: Self::I, x: Self::I) -> Self::I;
    unsafe fn to_f32(x: Self::I) -> Self::F;
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
}

/// A product whose outputs are cut into jobs.
pub(super) struct Span<'a> {
    pub x: &'a Rows,
    pub w: &'a Codes,
    /// (M, out).
    pub y: *mut f32,
    pub bias: Option<&'a [f32]>,
    pub accumulate: bool,
}
// SAFETY: jobs read x and w and write disjoint columns of y.
unsafe impl Sync for Span<'_> {}
// SAFETY: as above.
unsafe impl Send for Span<'_> {}

/// Outputs `outputs` of all rows; the first is a multiple of [`TILE`].
pub(super) fn run(level: Level, span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: levels other than Scalar are only handed out when the processor has them; shapes were
    // checked by the caller.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => super::x86::avx512_vnni(span, outputs),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => super::x86::avx_vnni(span, outputs),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => super::x86::avx2(span, outputs),
            _ => span.drive::<Plain, 2>(outputs),
        }
    }
}

#[repr(align(64))]
struct Edge(#[allow(dead_code)] [f32; ROWS * PANEL]);

/// A block of weights.
#[derive(Clone, Copy)]
struct Piece {
    output: usize,
    columns: usize,
    /// Groups.
    from: usize,
    to: usize,
}

impl Span<'_> {
    /// # Safety
    /// The instruction set of `L` is there; shapes fit.
    #[inline(always)]
    pub(super) unsafe fn drive<L: Lanes, const R: usize>(&self, outputs: Range<usize>) {
        let groups = self.x.groups();
        let mut output = outputs.start;
        while output < outputs.end {
            let columns = (outputs.end - output).min(3 * L::N);
            for from in (0..groups).step_by(DEEP) {
                let piece = Piece { output, columns, from, to: (from + DEEP).min(groups) };
                // SAFETY: as the caller's.
                unsafe {
                    match columns.div_ceil(L::N) {
                        1 => self.pass::<L, R, 1>(piece),
                        2 => self.pass::<L, R, 2>(piece),
                        _ => self.pass::<L, R, 3>(piece),
                    }
                }
            }
            output += columns;
        }
    }

    #[inline(always)]
    unsafe fn pass<L: Lanes, const R: usize, const V: usize>(&self, piece: Piece) {
        let (rows, mut i) = (self.x.rows(), 0);
        // SAFETY: i + rows of the tile <= rows.
        unsafe {
            while i + R <= rows {
                self.tile::<L, R, V>(piece, i);
                i += R;
            }
            while i < rows {
                self.tile::<L, 1, V>(piece, i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize>(&self, piece: Piece, i: usize) {
        let Piece { output, columns, from, to } = piece;
        let groups = self.x.groups();
        let mut edge = MaybeUninit::<Edge>::uninit();
        let whole = columns == V * L::N;
        // SAFETY: R rows from i, `columns` outputs from `output` and groups `from..to` are inside
        // x, w and y; tiles of w are whole.
        unsafe {
            let stride = self.w.rows;
            let y = self.y.add(i * stride + output);
            // Outputs that fill no whole vectors go through a padded copy.
            let (out, ld) = if whole { (y, stride) } else { (edge.as_mut_ptr().cast(), V * L::N) };
            let fresh = from == 0 && !self.accumulate;
            if !fresh && !whole {
                for r in 0..R {
                    L::store(out.add(r * ld + (V - 1) * L::N), L::splat(0.0));
                    std::ptr::copy_nonoverlapping(y.add(r * stride), out.add(r * ld), columns);
                }
            }
            let (mut codes, mut scales) = ([self.w.codes.as_ptr(); V], [self.w.scales.as_ptr(); V]);
            for v in 0..V {
                let (tile, lane) = ((output + v * L::N) / TILE, (output + v * L::N) % TILE);
                codes[v] = codes[v].add((tile * groups + from) * GROUP * TILE + lane * 4);
                scales[v] = scales[v].add((tile * groups + from) * TILE + lane);
            }
            let mut x = [self.x.row(i).as_ptr(); R];
            for r in 0..R {
                x[r] = self.x.row(i + r).as_ptr().add(from);
            }
            let mut sum = [[L::splat(0.0); V]; R];
            for g in 0..to - from {
                let mut acc = [[L::splat_i32(0); V]; R];
                for r in 0..R {
                    acc[r] = [L::splat_i32((*x[r].add(g)).offset); V];
                }
                for k in 0..GROUP / 4 {
                    let mut w = [L::splat_i32(0); V];
                    for v in 0..V {
                        w[v] = L::load_codes(codes[v].add((g * GROUP / 4 + k) * 4 * TILE));
                    }
                    for r in 0..R {
                        let codes = (&raw const (*x[r].add(g)).codes).cast::<i32>();
                        let x = L::splat_i32(codes.add(k).read_unaligned());
                        for v in 0..V {
                            acc[r][v] = L::dot(acc[r][v], w[v], x);
                        }
                    }
                }
                let mut by = [L::splat(0.0); V];
                for v in 0..V {
                    by[v] = L::load(scales[v].add(g * TILE));
                }
                for r in 0..R {
                    let scale = L::splat((*x[r].add(g)).scale);
                    for v in 0..V {
                        sum[r][v] = L::fma(L::mul(L::to_f32(acc[r][v]), by[v]), scale, sum[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    let to = out.add(r * ld + v * L::N);
                    L::store(to, if fresh { sum[r][v] } else { L::add(L::load(to), sum[r][v]) });
                }
                if !whole {
                    std::ptr::copy_nonoverlapping(out.add(r * ld), y.add(r * stride), columns);
                }
                if to == groups
                    && let Some(bias) = self.bias
                {
                    for c in 0..columns {
                        *y.add(r * stride + c) += *bias.get_unchecked(output + c);
                    }
                }
            }
        }
    }
}

/// Eight lanes in plain code.
#[derive(Clone, Copy)]
struct Plain;

impl Lanes for Plain {
    type I = [i32; 8];
    type F = [f32; 8];
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> Self::I {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Self::I {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[i32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::I, w: Self::I, x: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let (w, x) = (w[i].to_ne_bytes(), x[i].to_ne_bytes());
            (0..4).fold(sum[i], |s, j| s + i32::from(w[j]) * i32::from(x[j] as i8))
        })
    }
    #[inline(always)]
    unsafe fn to_f32(x: Self::I) -> Self::F {
        x.map(|v| v as f32)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Two roundings: without the instruction a true fma is a library call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}
