//! Products in bf16 by tiles of the matrix unit ([`crate::tensor::simd::amx`]).
//!
//! ```text
//!   many rows:  y (32 x 32)   = tiles of x (32 rows, all of K)  x  weights, packed (K x 32)
//!   few rows:   y^T (32 x 32) = rows of W as they lie (32 x K)  x  x, turned (K x 32)
//! ```
//!
//! With many rows a group of [`GROUP`] outputs is packed into the second-level cache, up to
//! [`DEEP`] tiles deep; 32 rows of x pass over all of it while they are in the first-level cache.
//! With few rows packing would cost more than the product: rows of weights are read as tiles
//! straight from memory, and the lines of the next ones are asked for. Both make the same sums, so
//! that a row has the same bits on either way.

use std::cell::RefCell;

use super::panel::{Block, Rows, Source, Span};
use crate::tensor::simd::amx::{Line, Operands, PAIRS, SIDE, TILE, Tiles};
use crate::tensor::simd::pairs::{self, Lane, Pair};
use crate::tensor::simd::{Simd, Task};

/// Rows of y and columns of y that are made together.
pub(super) const ROWS: usize = 2 * SIDE;
/// Outputs that are packed together.
pub(super) const GROUP: usize = 4 * ROWS;
/// Tiles of the inner dimension that are packed together: 1 MB of a group, half of the second-level
/// cache that these processors have.
const DEEP: usize = 128;

thread_local! {
    /// Packed weights of this thread.
    static PACKED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A block of y that does not lie in y whole.
#[repr(align(64))]
struct Edge([f32; ROWS * ROWS]);

/// Many rows of x, in tiles.
pub(super) struct Many<'a, W> {
    /// Tiles of 16 rows behind one another, a whole number of [`ROWS`] rows.
    pub tiles: &'a [Line],
    /// Its x is not read.
    pub span: Span<'a, W>,
}

impl<W: Source> Many<'_, W> {
    /// Packs tiles `from .. from + steps` of `columns` outputs from `output` on.
    ///
    /// # Safety
    /// The instruction set is there; `to` holds `steps` tiles for each 16 outputs.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, output: usize, columns: usize, from: usize, steps: usize, to: *mut Line) {
        let (inner, width) = (from * PAIRS, steps * PAIRS);
        let depth = width.min(self.span.inner - inner);
        for (n, column) in (0..columns).step_by(SIDE).enumerate() {
            let block = Block { output: output + column, columns: SIDE.min(columns - column), inner, depth };
            // SAFETY: as the caller's; a line for each pair.
            unsafe {
                let to = to.add(n * width);
                self.span.w.pack::<S>(self.span.side, block, to.cast(), SIDE);
                // What pads x is zero; what it meets must be a number.
                to.add(depth).write_bytes(0, width - depth);
            }
        }
    }
}

impl<W: Source> Task for Many<'_, W> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let span = &self.span;
        let (all, unit, mut edge) = (span.inner.div_ceil(PAIRS), Tiles::new(), Edge([0.0; ROWS * ROWS]));
        assert!(self.tiles.len() >= span.rows.next_multiple_of(ROWS) * all, "tiles: rows of x");
        let mut packed = PACKED.take();
        let room = GROUP * all.min(DEEP);
        if packed.len() < room {
            packed.resize(room, Line([0; PAIRS]));
        }
        for output in (span.from..span.to).step_by(GROUP) {
            let columns = GROUP.min(span.to - output);
            for from in (0..all).step_by(DEEP) {
                let steps = DEEP.min(all - from);
                // SAFETY: a group of `steps` tiles was made room for.
                unsafe { self.pack::<S>(output, columns, from, steps, packed.as_mut_ptr()) };
                for row in (0..span.rows).step_by(ROWS) {
                    for column in (0..columns).step_by(ROWS) {
                        let place = Place {
                            row,
                            output: output + column,
                            rows: ROWS.min(span.rows - row),
                            outputs: ROWS.min(columns - column),
                        };
                        let operands = Operands {
                            a: self.tiles[row * all + from * SIDE..].as_ptr().cast(),
                            a_next: TILE,
                            a_stride: PAIRS,
                            a_lower: all * TILE,
                            b: packed[column * steps..].as_ptr().cast(),
                            b_right: steps * TILE,
                            steps,
                            c: place.first(span),
                            c_stride: span.y_stride,
                            fresh: from == 0 && !span.accumulate,
                        };
                        // SAFETY: two rows of tiles of x and two columns of packed ones are there;
                        // the place lies inside y.
                        unsafe { place.multiply(&unit, operands, &mut edge) };
                        if from + steps == all {
                            // SAFETY: as above.
                            unsafe { place.add_bias(span) };
                        }
                    }
                }
            }
        }
        PACKED.set(packed);
    }
}

/// A block of y.
struct Place {
    row: usize,
    output: usize,
    rows: usize,
    outputs: usize,
}

impl Place {
    /// Its first value. Output 0 of a part of a product lies outside y, hence the wrapping form.
    #[inline(always)]
    fn first<W>(&self, span: &Span<'_, W>) -> *mut f32 {
        span.y.wrapping_add(self.row * span.y_stride + self.output)
    }

    /// The product into this block, which is C of `operands`; by way of `edge` where it is no whole
    /// one.
    ///
    /// # Safety
    /// As [`Tiles::multiply`]'s, but of C the block alone can be read and written.
    #[inline(always)]
    unsafe fn multiply(&self, unit: &Tiles, operands: Operands, edge: &mut Edge) {
        let (y, stride, edge) = (operands.c, operands.c_stride, edge.0.as_mut_ptr());
        // SAFETY: as the caller's.
        unsafe {
            if self.rows == ROWS && self.outputs == ROWS {
                return unit.multiply(operands);
            }
            if !operands.fresh {
                for r in 0..self.rows {
                    std::ptr::copy_nonoverlapping(y.add(r * stride), edge.add(r * ROWS), self.outputs);
                }
            }
            unit.multiply(Operands { c: edge, c_stride: ROWS, ..operands });
            for r in 0..self.rows {
                std::ptr::copy_nonoverlapping(edge.add(r * ROWS), y.add(r * stride), self.outputs);
            }
        }
    }

    /// # Safety
    /// The block lies inside y.
    #[inline(always)]
    unsafe fn add_bias<W>(&self, span: &Span<'_, W>) {
        let Some(bias) = span.bias else { return };
        let bias = &bias[self.output..][..self.outputs];
        let y = self.first(span);
        for r in 0..self.rows {
            for (o, b) in bias.iter().enumerate() {
                // SAFETY: as the caller's.
                unsafe { *y.add(r * span.y_stride + o) += b };
            }
        }
    }
}

/// Up to [`ROWS`] rows of x as columns of tiles.
pub(super) struct Turned {
    /// One column of tiles, or two; rows of x that are not there are zeros.
    lines: Vec<Line>,
    steps: usize,
    /// Lanes from the left column to the right one: none where the left one is both.
    right: usize,
}

impl Turned {
    /// Rounds rows of `width` numbers. Panics where they are more than [`ROWS`].
    pub(super) fn new(x: &[f32], width: usize) -> Self {
        let steps = pairs::of_row(width).div_ceil(PAIRS);
        let columns = (x.len() / width).div_ceil(SIDE);
        let mut lines = vec![Line([0; PAIRS]); columns * steps * PAIRS];
        let mut row: Vec<Lane> = vec![0; pairs::of_row(width)];
        for (r, x) in x.chunks_exact(width).enumerate() {
            pairs::narrow(x, width, &mut row);
            let column = &mut lines[r / SIDE * steps * PAIRS..][..steps * PAIRS];
            for (line, &lane) in column.iter_mut().zip(&row) {
                line.0[r % SIDE] = lane;
            }
        }
        Self { lines, steps, right: if columns > 1 { steps * TILE } else { 0 } }
    }
}

/// Few rows of x, turned, and rows of weights as they lie.
pub(super) struct Few<'a> {
    pub turned: &'a Turned,
    /// Its x is not read.
    pub span: Span<'a, Rows<'a, Pair>>,
}

impl Few<'_> {
    /// 32 rows of weights from `output` on, padded with zeros.
    fn padded(&self, output: usize, to: &mut Vec<Line>) {
        let (span, steps) = (&self.span, self.turned.steps);
        to.clear();
        to.resize(ROWS * steps, Line([0; PAIRS]));
        let rows = span.w.values[output * span.w.stride..].chunks(span.w.stride).take(span.to - output);
        for (row, to) in rows.zip(to.chunks_exact_mut(steps)) {
            bytemuck::cast_slice_mut::<Line, Pair>(to)[..span.inner].copy_from_slice(&row[..span.inner]);
        }
    }
}

impl Task for Few<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (span, Turned { lines, steps, right }) = (&self.span, self.turned);
        let (unit, mut edge, mut packed) = (Tiles::new(), Edge([0.0; ROWS * ROWS]), PACKED.take());
        for output in (span.from..span.to).step_by(ROWS) {
            let outputs = ROWS.min(span.to - output);
            let lie = span.inner.is_multiple_of(PAIRS) && outputs == ROWS;
            let (a, a_stride) = if lie {
                (span.w.values[output * span.w.stride..].as_ptr().cast(), span.w.stride)
            } else {
                self.padded(output, &mut packed);
                (packed.as_ptr().cast(), steps * PAIRS)
            };
            let y = span.y.wrapping_add(output);
            if span.accumulate {
                for r in 0..span.rows {
                    for o in 0..outputs {
                        // SAFETY: these outputs of all rows lie inside y.
                        edge.0[o * ROWS + r] = unsafe { *y.add(r * span.y_stride + o) };
                    }
                }
            }
            let operands = Operands {
                a,
                a_next: PAIRS,
                a_stride,
                a_lower: SIDE * a_stride,
                b: lines.as_ptr().cast(),
                b_right: *right,
                steps: *steps,
                c: edge.0.as_mut_ptr(),
                c_stride: ROWS,
                fresh: !span.accumulate,
            };
            let next = a.wrapping_add(ROWS * a_stride);
            // SAFETY: 32 rows of weights are there, or were padded; so were the tiles of x.
            unsafe { unit.multiply_and_ask(operands, next.cast()) };
            for r in 0..span.rows {
                for o in 0..outputs {
                    let bias = span.bias.map_or(0.0, |b| b[output + o]);
                    // SAFETY: as above.
                    unsafe { *y.add(r * span.y_stride + o) = edge.0[o * ROWS + r] + bias };
                }
            }
        }
        PACKED.set(packed);
    }
}
