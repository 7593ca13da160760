//! The kernel behind every product with a weight matrix: `y = x W^T` and `y = x W`, for any number
//! of rows.
//!
//! ```text
//!   W (out, in), 4 to 32 bits             panel, f32                    tile of y
//!   +--------------------------+        +--- WIDE vectors ---+        +--- WIDE vectors ---+
//!   | 48 outputs | DEEP values | -----> | value k of all 48  | -----> | R rows, registers  |
//!   +--------------------------+  pack  | value k + 1 ...    |  fma   +--------------------+
//! ```
//!
//! A panel of weights is widened, and for `W^T` turned on its side, on its way into the first-level
//! cache; then every R rows of x pass over it, a value of x against WIDE vectors of outputs.
//! Nothing is summed across lanes: lanes are outputs, and each output is a sum of chains of CHAIN
//! fused additions over the inner dimension in ascending order, whatever the tile. A product's bits
//! therefore depend on neither the number of rows nor the threads. With hundreds of rows packing
//! vanishes and what is left is WIDE + R loads for WIDE x R fused multiply-adds. With few rows
//! packing is what costs: [`super::few`] makes the same sums without it.

// Constant-bound index loops over register tiles: the form that the compiler unrolls into
// registers.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use half::{bf16, f16};

use super::quantised::Quantised;
use crate::tensor::simd::pairs::Pair;
use crate::tensor::simd::{Element, Simd, Task};

/// Vectors of outputs in a panel.
const WIDE: usize = 3;
/// Inner values packed at a time.
const DEEP: usize = 384;
/// Products in one chain of additions: short chains keep rounding errors small. Divides [`DEEP`].
pub(super) const CHAIN: usize = 96;
/// Most outputs in a panel, on AVX-512.
pub(super) const PANEL: usize = WIDE * 16;
/// Most rows in a tile.
const ROWS: usize = 8;

/// How W is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// (outputs, inner): `y = x W^T`.
    Transposed,
    /// (inner, outputs): `y = x W`.
    Plain,
}

/// A weight matrix as [`Span`] reads it.
pub(super) trait Source: Copy {
    /// Widens inner values `inner .. inner + depth` of outputs `output .. output + columns` into
    /// `to[k * stride + c]`; columns that fill no vector are followed by copies of the last, or
    /// zeros.
    ///
    /// # Safety
    /// The instruction set is there; the span lies inside; `to` holds `depth` rows of whole
    /// vectors.
    unsafe fn pack<S: Simd>(&self, side: Side, at: Block, to: *mut f32, stride: usize);

    /// Whether one row of x is better multiplied without a panel, for outputs from `output` on.
    #[inline(always)]
    fn direct<S: Simd>(&self, _side: Side, _output: usize) -> bool {
        false
    }

    /// What [`Span::tile`] adds up for one row over inner values `from .. to`: only where
    /// [`Self::direct`] says so.
    ///
    /// # Safety
    /// As [`Self::pack`]; x holds `to` values.
    #[inline(always)]
    unsafe fn dot<S: Simd, const V: usize>(
        &self,
        _x: *const f32,
        _output: usize,
        _from: usize,
        _to: usize,
    ) -> [S::F; V] {
        // SAFETY: as the caller's.
        unsafe { [S::splat(0.0); V] }
    }
}

/// A part of a weight matrix.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub output: usize,
    pub columns: usize,
    pub inner: usize,
    pub depth: usize,
}

/// Rows of plain numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    pub values: &'a [E],
    pub stride: usize,
}

/// Outputs `from..to` of all rows.
pub(super) struct Span<'a, W> {
    /// First value of x; rows are `x_stride` apart and hold `inner` values.
    pub x: *const f32,
    pub x_stride: usize,
    pub rows: usize,
    pub inner: usize,
    pub w: W,
    pub side: Side,
    /// Where output 0 of row 0 goes; rows are `y_stride` apart.
    pub y: *mut f32,
    pub y_stride: usize,
    pub from: usize,
    pub to: usize,
    /// Start from what is in y instead of zero.
    pub accumulate: bool,
    /// Added last.
    pub bias: Option<&'a [f32]>,
}

/// A number that can be packed.
pub(super) trait Pack: Element {
    /// `to[k * stride + r] = w[r * ld + k]` for `count` values of `rows <= N` rows; lanes beyond
    /// hold copies of the last row.
    ///
    /// # Safety
    /// The instruction set is there; `w` holds the rows, `to` holds `count` vectors `stride` apart.
    unsafe fn turn<S: Simd>(w: *const Self, ld: usize, rows: usize, count: usize, to: *mut f32, stride: usize);
}

/// Widens N vectors, then transposes them.
#[inline(always)]
unsafe fn turn_widened<S: Simd, E: Element>(
    w: *const E,
    ld: usize,
    rows: usize,
    count: usize,
    to: *mut f32,
    stride: usize,
) {
    let row = |r: usize| r.min(rows - 1) * ld;
    let whole = count / S::N * S::N;
    // SAFETY: as the caller's.
    unsafe {
        let mut v = [S::splat(0.0); 16];
        for k in (0..whole).step_by(S::N) {
            for r in 0..S::N {
                v[r] = E::load::<S>(w.add(row(r) + k));
            }
            S::transpose(&mut v);
            for r in 0..S::N {
                S::store(to.add((k + r) * stride), v[r]);
            }
        }
        for k in whole..count {
            for r in 0..S::N {
                *to.add(k * stride + r) = (*w.add(row(r) + k)).widen();
            }
        }
    }
}

macro_rules! pack_widened {
    ($type:ty) => {
        impl Pack for $type {
            #[inline(always)]
            unsafe fn turn<S: Simd>(w: *const Self, ld: usize, rows: usize, count: usize, to: *mut f32, stride: usize) {
                // SAFETY: as the caller's.
                unsafe { turn_widened::<S, Self>(w, ld, rows, count, to, stride) }
            }
        }
    };
}
pack_widened!(f32);
pack_widened!(f16);
pack_widened!(Pair);

impl Pack for bf16 {
    #[inline(always)]
    unsafe fn turn<S: Simd>(w: *const Self, ld: usize, rows: usize, count: usize, to: *mut f32, stride: usize) {
        // Two neighbours travel through the transpose as one 32-bit lane and are widened after it
        // by a shift or a mask: half the shuffles.
        let step = 2 * S::N;
        let whole = count / step * step;
        // SAFETY: as the caller's; a load of N 32-bit lanes reads 2 N values of the row.
        unsafe {
            let mut v = [S::splat(0.0); 16];
            for k in (0..whole).step_by(step) {
                for r in 0..S::N {
                    v[r] = S::load(w.add(r.min(rows - 1) * ld + k).cast());
                }
                S::transpose(&mut v);
                for r in 0..S::N {
                    S::store(to.add((k + 2 * r) * stride), S::low_bf16(v[r]));
                    S::store(to.add((k + 2 * r + 1) * stride), S::high_bf16(v[r]));
                }
            }
            turn_widened::<S, bf16>(w.add(whole), ld, rows, count - whole, to.add(whole * stride), stride);
        }
    }
}

impl<E: Pack> Source for Rows<'_, E> {
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, side: Side, at: Block, to: *mut f32, stride: usize) {
        let Block { output, columns, inner, depth } = at;
        let (w, ld) = (self.values.as_ptr(), self.stride);
        // SAFETY: as the caller's.
        unsafe {
            for c in (0..columns).step_by(S::N) {
                let rows = (columns - c).min(S::N);
                match side {
                    Side::Transposed => {
                        E::turn::<S>(w.add((output + c) * ld + inner), ld, rows, depth, to.add(c), stride)
                    }
                    Side::Plain => {
                        for k in 0..depth {
                            let w = w.add((inner + k) * ld + output + c);
                            let to = to.add(k * stride + c);
                            if rows == S::N {
                                S::store(to, E::load::<S>(w));
                            } else {
                                for j in 0..S::N {
                                    *to.add(j) = (*w.add(j.min(rows - 1))).widen();
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Source for &Quantised {
    #[inline(always)]
    fn direct<S: Simd>(&self, side: Side, output: usize) -> bool {
        side == Side::Transposed && output.is_multiple_of(S::N)
    }

    #[inline(always)]
    unsafe fn dot<S: Simd, const V: usize>(&self, x: *const f32, output: usize, from: usize, to: usize) -> [S::F; V] {
        // SAFETY: as the caller's.
        unsafe { Quantised::dot::<S, V>(self, x, output, from, to) }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, side: Side, at: Block, to: *mut f32, stride: usize) {
        let Block { output, columns, inner, depth } = at;
        // A product begins at 0 and goes on in steps of whole groups and vectors, so one that does
        // not is a part of a product that begins somewhere else.
        let aligned = output.is_multiple_of(S::N) && inner.is_multiple_of(S::N);
        for c in (0..columns).step_by(S::N) {
            let to = to.wrapping_add(c);
            // SAFETY: as the caller's; tiles are padded to whole vectors of rows.
            unsafe {
                match side {
                    Side::Transposed if aligned => self.widen::<S>(output + c, inner, depth, to, stride),
                    Side::Plain if aligned => {
                        let mut v = [S::splat(0.0); 16];
                        let mut square = [0.0f32; 256];
                        for k in (0..depth).step_by(S::N) {
                            let column = output + c;
                            self.widen::<S>(inner + k, column, S::N, square.as_mut_ptr(), S::N);
                            for j in 0..S::N {
                                v[j] = S::load(square.as_ptr().add(j * S::N));
                            }
                            S::transpose(&mut v);
                            for j in 0..S::N.min(depth - k) {
                                S::store(to.add((k + j) * stride), v[j]);
                            }
                        }
                    }
                    _ => {
                        for k in 0..depth {
                            for j in 0..S::N {
                                let j_in = j.min(columns - c - 1);
                                *to.add(k * stride + j) = match side {
                                    Side::Transposed => self.get(output + c + j_in, inner + k),
                                    Side::Plain => self.get(inner + k, output + c + j_in),
                                };
                            }
                        }
                    }
                }
            }
        }
    }
}

#[repr(align(64))]
struct Packed(#[allow(dead_code)] [f32; DEEP * PANEL]);

#[repr(align(64))]
struct Edge(#[allow(dead_code)] [f32; ROWS * PANEL]);

/// A packed piece of the weights, and where it belongs.
#[derive(Clone, Copy)]
struct Piece {
    values: *const f32,
    /// First output, and how many are real.
    output: usize,
    columns: usize,
    /// First inner value, how many, and whether they are the last.
    inner: usize,
    depth: usize,
    last: bool,
}

impl<W: Source> Task for Span<'_, W> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Accumulators, a row of the panel and one broadcast fill 32 registers, or 16.
        // SAFETY: as the caller's.
        unsafe { if S::N == 16 { self.drive::<S, 8>() } else { self.drive::<S, 4>() } }
    }
}

impl<W: Source> Span<'_, W> {
    #[inline(always)]
    unsafe fn drive<S: Simd, const R: usize>(&self) {
        let mut packed = MaybeUninit::<Packed>::uninit();
        let values = packed.as_mut_ptr().cast::<f32>();
        let mut output = self.from;
        while output < self.to {
            let columns = (self.to - output).min(WIDE * S::N);
            let vectors = columns.div_ceil(S::N);
            if self.rows == 1 && self.w.direct::<S>(self.side, output) {
                // SAFETY: shapes were checked by the caller.
                unsafe {
                    match vectors {
                        1 => self.single::<S, 1>(output, columns),
                        2 => self.single::<S, 2>(output, columns),
                        _ => self.single::<S, 3>(output, columns),
                    }
                }
                output += columns;
                continue;
            }
            let mut inner = 0;
            loop {
                let depth = (self.inner - inner).min(DEEP);
                let last = inner + depth == self.inner;
                let piece = Piece { values, output, columns, inner, depth, last };
                // SAFETY: the buffer holds DEEP x WIDE vectors; shapes were checked by the caller.
                unsafe {
                    self.w.pack::<S>(self.side, Block { output, columns, inner, depth }, values, vectors * S::N);
                    match vectors {
                        1 => self.pass::<S, R, 1>(piece),
                        2 => self.pass::<S, R, 2>(piece),
                        _ => self.pass::<S, R, 3>(piece),
                    }
                }
                inner += depth;
                if last {
                    break;
                }
            }
            output += columns;
        }
    }

    /// The only row, without a panel: the additions of [`Self::tile`], in its order.
    #[inline(always)]
    unsafe fn single<S: Simd, const V: usize>(&self, output: usize, columns: usize) {
        let mut edge = MaybeUninit::<Edge>::uninit();
        let sums: *mut f32 = edge.as_mut_ptr().cast();
        // SAFETY: `columns` outputs from `output` are inside y; Edge holds V vectors.
        unsafe {
            let y = self.y.wrapping_add(output);
            let mut fresh = !self.accumulate;
            for v in 0..V {
                S::store(sums.add(v * S::N), S::splat(0.0));
            }
            if !fresh {
                std::ptr::copy_nonoverlapping(y, sums, columns);
            }
            for from in (0..self.inner).step_by(CHAIN) {
                let acc = self.w.dot::<S, V>(self.x, output, from, (from + CHAIN).min(self.inner));
                for v in 0..V {
                    let to = sums.add(v * S::N);
                    S::store(to, if fresh { acc[v] } else { S::add(S::load(to), acc[v]) });
                }
                fresh = false;
            }
            std::ptr::copy_nonoverlapping(sums, y, columns);
            if let Some(bias) = self.bias {
                for c in 0..columns {
                    *y.add(c) += *bias.get_unchecked(output + c);
                }
            }
        }
    }

    /// All rows over one piece.
    #[inline(always)]
    unsafe fn pass<S: Simd, const R: usize, const V: usize>(&self, piece: Piece) {
        let mut i = 0;
        // SAFETY: i + rows of the tile <= rows.
        unsafe {
            while i < self.rows {
                let left = self.rows - i;
                if left >= R {
                    self.tile::<S, R, V>(piece, i);
                    i += R;
                } else if R > 4 && left >= 4 {
                    self.tile::<S, 4, V>(piece, i);
                    i += 4;
                } else if left >= 2 {
                    self.tile::<S, 2, V>(piece, i);
                    i += 2;
                } else {
                    self.tile::<S, 1, V>(piece, i);
                    i += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, piece: Piece, i: usize) {
        let Piece { values, output, columns, inner, depth, last } = piece;
        let mut edge = MaybeUninit::<Edge>::uninit();
        let whole = columns == V * S::N;
        // SAFETY: R rows from i, `columns` outputs from `output`, `depth` values from `inner` are
        // inside x and y.
        unsafe {
            // Output 0 of a part of a product lies outside y, hence the wrapping form.
            let y = self.y.wrapping_add(i * self.y_stride + output);
            // Outputs that fill no whole vectors go through a padded copy.
            let (to, ld) = if whole { (y, self.y_stride) } else { (edge.as_mut_ptr().cast(), V * S::N) };
            let mut fresh = inner == 0 && !self.accumulate;
            if !fresh && !whole {
                for r in 0..R {
                    S::store(to.add(r * ld + (V - 1) * S::N), S::splat(0.0));
                    std::ptr::copy_nonoverlapping(y.add(r * self.y_stride), to.add(r * ld), columns);
                }
            }
            let x = self.x.add(i * self.x_stride + inner);
            for from in (0..depth).step_by(CHAIN) {
                let mut acc = [[S::splat(0.0); V]; R];
                for k in from..(from + CHAIN).min(depth) {
                    let mut w = [S::splat(0.0); V];
                    for v in 0..V {
                        w[v] = S::load(values.add((k * V + v) * S::N));
                    }
                    for r in 0..R {
                        let x = S::splat(*x.add(r * self.x_stride + k));
                        for v in 0..V {
                            acc[r][v] = S::fma(x, w[v], acc[r][v]);
                        }
                    }
                }
                for r in 0..R {
                    for v in 0..V {
                        let to = to.add(r * ld + v * S::N);
                        S::store(to, if fresh { acc[r][v] } else { S::add(S::load(to), acc[r][v]) });
                    }
                }
                fresh = false;
            }
            if !whole {
                for r in 0..R {
                    std::ptr::copy_nonoverlapping(to.add(r * ld), y.add(r * self.y_stride), columns);
                }
            }
            if last && let Some(bias) = self.bias {
                for r in 0..R {
                    for c in 0..columns {
                        *y.add(r * self.y_stride + c) += *bias.get_unchecked(output + c);
                    }
                }
            }
        }
    }
}
