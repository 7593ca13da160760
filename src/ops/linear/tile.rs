//! Products of plain rows on the calling thread, by the kernel of [`super::panel`]: tiles of a
//! larger work, which turns each of them into something smaller before it makes the next.
//!
//! The right operand is packed a panel at a time on its way into the cache, so a tile should have
//! some hundreds of rows on the left: packing costs as much as 5 to 8 of them.

use super::narrow::{self, Narrow};
use super::panel::{Rows, Side, Span};
use crate::tensor::simd;
use crate::tensor::simd::pairs::{Lane, Pair};

/// Rows of `width` values.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub values: &'a [f32],
    pub width: usize,
}

impl Left<'_> {
    fn rows(&self) -> usize {
        assert!(self.width > 0 && self.values.len().is_multiple_of(self.width), "tile: no rows of {}", self.width);
        self.values.len() / self.width
    }
}

/// The place of a tile of `columns` columns; its rows are `stride` apart.
pub(crate) struct To<'a> {
    pub values: &'a mut [f32],
    pub columns: usize,
    pub stride: usize,
}

impl To<'_> {
    fn check(&self, rows: usize) {
        let end = (rows.max(1) - 1) * self.stride + self.columns;
        assert!(self.columns <= self.stride && end <= self.values.len(), "tile: {rows} x {}", self.columns);
    }
}

/// `y (m x n) = x (m x k) w^T` for `w` of n rows.
pub(crate) fn nt(x: Left<'_>, w: &[f32], y: To<'_>) {
    let rows = x.rows();
    y.check(rows);
    assert_eq!(w.len(), y.columns * x.width, "tile: the right rows");
    span(Side::Transposed, x, rows, w, x.width, y, false);
}

/// `y (m x n) += x (m x k) w` for `w` of k rows.
pub(crate) fn add_nn(x: Left<'_>, w: &[f32], y: To<'_>) {
    let rows = x.rows();
    y.check(rows);
    assert_eq!(w.len(), y.columns * x.width, "tile: the right rows");
    let stride = y.columns;
    span(Side::Plain, x, rows, w, stride, y, true);
}

fn span(side: Side, x: Left<'_>, rows: usize, values: &[f32], stride: usize, y: To<'_>, accumulate: bool) {
    simd::run(
        simd::level(),
        Span {
            x: x.values.as_ptr(),
            x_stride: x.width,
            rows,
            inner: x.width,
            w: Rows { values, stride },
            side,
            y: y.values.as_mut_ptr(),
            y_stride: y.stride,
            from: 0,
            to: y.columns,
            accumulate,
            bias: None,
        },
    );
}

/// `y (m x n) = x (m x k) w^T` by products of bf16, of rows of pairs.
pub(crate) fn nt_narrow(x: &Narrow, w: &[Lane], y: To<'_>) {
    let stride = x.pairs();
    y.check(x.rows());
    assert_eq!(w.len(), y.columns * stride, "tile: the right rows");
    let to = narrow::To {
        y: y.values.as_mut_ptr(),
        stride: y.stride,
        rows: 0..x.rows(),
        outputs: 0..y.columns,
        accumulate: false,
        bias: None,
    };
    let w = Rows { values: bytemuck::cast_slice::<Lane, Pair>(w), stride };
    // SAFETY: just checked.
    unsafe { x.multiply(narrow::Right::Rows(w), to) };
}
