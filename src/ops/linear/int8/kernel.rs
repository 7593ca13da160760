//! The kernel: tiles of y in registers, a few rows of x by a few vectors of outputs.
//!
//! A piece of [`DEEP`] groups of a panel of weights (18 KB) stays in the first-level cache while
//! all rows pass over it, R at a time. Weights in blocks are unpacked into it ([`super::blocks`]).
//! Four codes of x are broadcast against the four of every output; a group's i32 sums are turned
//! into f32 and weighed by both scales, so that R x V sums of each kind are in registers at once.

// Constant-bound index loops over register tiles: the form that the compiler unrolls into
// registers.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;
use std::ops::Range;

use half::f16;

use super::blocks::{self, Unpacked};
use super::{Codes, GROUP, Group, Held, Rows, TILE};
use crate::ops::linear::Quantised;
use crate::tensor::simd::bytes::Level;

/// Outputs of a panel.
pub(super) const PANEL: usize = 3 * TILE;
/// Vectors of outputs in a panel.
pub(super) const WIDE: usize = 3;
/// Groups of a piece.
pub(super) const DEEP: usize = 12;
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
    unsafe fn store_codes(p: *mut u8, v: Self::I);
    /// Of 64 bytes at `p`, 16 outputs behind one another for each of four inner values: the four
    /// codes of N outputs from `lane`, each with its highest bit turned, which adds 128.
    unsafe fn turn_bytes(p: *const u8, lane: usize) -> Self::I;
    /// Of 64 bytes at `p`, 16 outputs behind one another for each of four pairs of inner values,
    /// the first one low: the first four codes of N outputs from `lane`, and the last four.
    unsafe fn turn_nibbles(p: *const u8, lane: usize) -> [Self::I; 2];
    /// N numbers of 16 bits.
    unsafe fn load_f16(p: *const f16) -> Self::F;
    /// N signed bytes.
    unsafe fn load_i8(p: *const i8) -> Self::F;
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

/// Weights as operands of tiles. No closure: what is called from one is compiled without the
/// instruction set of who runs it.
trait Source {
    /// # Safety
    /// The instruction set of `L` is there; the piece lies inside.
    unsafe fn operand<L: Lanes>(&self, piece: Piece) -> Operand;
}

/// Codes of our own, which lie as tiles want them.
struct Own<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    groups: usize,
}

impl Source for Own<'_> {
    #[inline(always)]
    unsafe fn operand<L: Lanes>(&self, piece: Piece) -> Operand {
        let scales = [self.scales.as_ptr(); WIDE];
        let mut of = Operand { codes: [self.codes.as_ptr(); WIDE], scales, minima: scales, added: 128 };
        for v in 0..piece.columns.div_ceil(L::N) {
            let (tile, lane) = ((piece.output + v * L::N) / TILE, (piece.output + v * L::N) % TILE);
            let groups = tile * self.groups + piece.from;
            of.codes[v] = of.codes[v].wrapping_add(groups * GROUP * TILE + lane * 4);
            of.scales[v] = of.scales[v].wrapping_add(groups * TILE + lane);
        }
        of
    }
}

/// Blocks, unpacked to a place of their own.
struct Blocks<'a> {
    q: &'a Quantised,
    to: *mut Unpacked,
}

impl Source for Blocks<'_> {
    #[inline(always)]
    unsafe fn operand<L: Lanes>(&self, piece: Piece) -> Operand {
        // SAFETY: as the caller's.
        unsafe { blocks::unpack::<L>(self.q, piece, self.to) }
    }
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

/// A part of a panel of weights.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub output: usize,
    pub columns: usize,
    /// Groups.
    pub from: usize,
    pub to: usize,
}

/// Codes and scales of a piece, for each vector of outputs: four inner values of 16 outputs, or 16
/// scales, behind one another.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub codes: [*const u8; WIDE],
    pub scales: [*const f32; WIDE],
    /// Read where groups have minima.
    pub minima: [*const f32; WIDE],
    /// What a byte has more than its code.
    pub added: i32,
}

impl Span<'_> {
    /// # Safety
    /// The instruction set of `L` is there; shapes fit.
    #[inline(always)]
    pub(super) unsafe fn drive<L: Lanes, const R: usize>(&self, outputs: Range<usize>) {
        // SAFETY: as the caller's.
        unsafe {
            match &self.w.held {
                Held::Own { codes, scales } => {
                    let own = Own { codes, scales, groups: self.x.groups() };
                    self.pieces::<L, R, 1, false>(outputs, &own);
                }
                Held::Blocks(q) => {
                    let mut buffer = MaybeUninit::<Unpacked>::uninit();
                    let blocks = Blocks { q, to: buffer.as_mut_ptr() };
                    match (blocks::parts(q), q.form().minimum) {
                        (2, _) => self.pieces::<L, R, 2, false>(outputs, &blocks),
                        (_, false) => self.pieces::<L, R, 1, false>(outputs, &blocks),
                        (_, true) => self.pieces::<L, R, 1, true>(outputs, &blocks),
                    }
                }
            }
        }
    }

    /// All rows over one piece after the other, whose codes and scales come
    /// `from_weights`: P scales a group,
    /// and with LOW minima.
    ///
    /// # Safety
    /// As [`Self::drive`]'s.
    #[inline(always)]
    unsafe fn pieces<L: Lanes, const R: usize, const P: usize, const LOW: bool>(
        &self,
        outputs: Range<usize>,
        from_weights: &impl Source,
    ) {
        let groups = self.x.groups();
        let mut output = outputs.start;
        while output < outputs.end {
            let columns = (outputs.end - output).min(WIDE * L::N);
            for from in (0..groups).step_by(DEEP) {
                let piece = Piece { output, columns, from, to: (from + DEEP).min(groups) };
                // SAFETY: as the caller's.
                unsafe {
                    let of = from_weights.operand::<L>(piece);
                    match columns.div_ceil(L::N) {
                        1 => self.pass::<L, R, 1, P, LOW>(piece, &of),
                        2 => self.pass::<L, R, 2, P, LOW>(piece, &of),
                        _ => self.pass::<L, R, 3, P, LOW>(piece, &of),
                    }
                }
            }
            output += columns;
        }
    }

    #[inline(always)]
    unsafe fn pass<L: Lanes, const R: usize, const V: usize, const P: usize, const LOW: bool>(
        &self,
        piece: Piece,
        of: &Operand,
    ) {
        let (rows, mut i) = (self.x.rows(), 0);
        // SAFETY: i + rows of the tile <= rows.
        unsafe {
            while i + R <= rows {
                self.tile::<L, R, V, P, LOW>(piece, of, i);
                i += R;
            }
            while i < rows {
                self.tile::<L, 1, V, P, LOW>(piece, of, i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const V: usize, const P: usize, const LOW: bool>(
        &self,
        piece: Piece,
        of: &Operand,
        i: usize,
    ) {
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
            let mut x = [self.x.row(i).as_ptr(); R];
            for r in 0..R {
                x[r] = self.x.row(i + r).as_ptr().add(from);
            }
            let mut sum = [[L::splat(0.0); V]; R];
            for g in 0..to - from {
                for p in 0..P {
                    let mut acc = [[L::splat_i32(0); V]; R];
                    for r in 0..R {
                        let sums = (*x[r].add(g)).sums;
                        let sum = if P == 1 { i32::from(sums[0]) + i32::from(sums[1]) } else { i32::from(sums[p]) };
                        acc[r] = [L::splat_i32(-of.added * sum); V];
                    }
                    for k in p * (GROUP / 4 / P)..(p + 1) * (GROUP / 4 / P) {
                        let mut w = [L::splat_i32(0); V];
                        for v in 0..V {
                            w[v] = L::load_codes(of.codes[v].add((g * GROUP / 4 + k) * 4 * TILE));
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
                        by[v] = L::load(of.scales[v].add((g * P + p) * TILE));
                    }
                    for r in 0..R {
                        let scale = L::splat((*x[r].add(g)).scale);
                        for v in 0..V {
                            sum[r][v] = L::fma(L::mul(L::to_f32(acc[r][v]), by[v]), scale, sum[r][v]);
                        }
                    }
                }
                if LOW {
                    for r in 0..R {
                        let Group { scale, sums, .. } = *x[r].add(g);
                        let all = L::splat(scale * (f32::from(sums[0]) + f32::from(sums[1])));
                        for v in 0..V {
                            sum[r][v] = L::fma(L::load(of.minima[v].add(g * TILE)), all, sum[r][v]);
                        }
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
    unsafe fn store_codes(p: *mut u8, v: Self::I) {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[i32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn turn_bytes(p: *const u8, lane: usize) -> Self::I {
        // SAFETY: as the caller's.
        let byte = |k: usize, r: usize| unsafe { *p.add(k * TILE + lane + r) } ^ 0x80;
        std::array::from_fn(|r| i32::from_ne_bytes(std::array::from_fn(|k| byte(k, r))))
    }
    #[inline(always)]
    unsafe fn turn_nibbles(p: *const u8, lane: usize) -> [Self::I; 2] {
        // SAFETY: as the caller's.
        let code = |k: usize, r: usize| unsafe { *p.add(k / 2 * TILE + lane + r) } >> (k % 2 * 4) & 15;
        [0, 4].map(|from| std::array::from_fn(|r| i32::from_ne_bytes(std::array::from_fn(|k| code(from + k, r)))))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self::F {
        // SAFETY: as the caller's.
        std::array::from_fn(|i| unsafe { *p.add(i) }.to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::F {
        // SAFETY: as the caller's.
        std::array::from_fn(|i| f32::from(unsafe { *p.add(i) }))
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
