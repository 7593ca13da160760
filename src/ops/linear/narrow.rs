//! The left rows of products in bf16: rounded, and laid out for the unit that multiplies them.
//!
//! | unit | rows | weights |
//! |---|---|---|
//! | vectors of pairs (AVX512-BF16) | one behind the other | panels ([`super::panel`]) |
//! | tiles (AMX) | tiles of 16 rows x 16 pairs | tiles ([`super::amx`]) |
//!
//! Both make the products of the same rounded values, exactly, and differ in the order of sums. A
//! row's bits depend on the unit, and not on what stands beside it.

use std::ops::Range;

use rayon::prelude::*;

use super::amx::{self, Few, Many, Turned};
use super::bf16::Columns;
use super::panel::{PANEL, Rows, Side, Span};
use crate::tensor::simd::amx::{Line, PAIRS, SIDE};
use crate::tensor::simd::pairs::{self, Lane, Pair};
use crate::tensor::simd::{amx as tiles, cache, vectorized};

/// Rows rounded by a thread at a time: a multiple of [`amx::ROWS`].
const BAND: usize = 32;
/// Least rows of a block: with fewer, packing weights again for each would be what costs.
const LEAST: usize = 256;

/// What multiplies bf16 on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Vectors of pairs.
    Pairs,
    /// Tiles.
    Tiles,
}

impl Unit {
    /// The fastest that this processor has.
    pub(crate) fn best() -> Option<Self> {
        if tiles::available() { Some(Self::Tiles) } else { pairs::available().then_some(Self::Pairs) }
    }

    /// All that this processor has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let pairs = pairs::available().then_some(Self::Pairs);
        let tiles = tiles::available().then_some(Self::Tiles);
        pairs.into_iter().chain(tiles).collect()
    }
}

vectorized! {
    /// Rounds a row; each 32 numbers go `step` numbers behind the ones before, and zeros fill the
    /// last ones.
    fn round_row(row: &[f32], to: &mut [u16], step: usize) {
        for (values, to) in row.chunks(2 * PAIRS).zip(to.chunks_mut(step)) {
            for (to, &v) in to.iter_mut().zip(values) {
                *to = pairs::round(v);
            }
        }
    }
}

/// Rows of x in bf16.
pub(crate) struct Narrow {
    rows: usize,
    /// Of a row; a zero ends one of an odd width.
    pairs: usize,
    laid: Laid,
}

enum Laid {
    Pairs(Vec<Lane>),
    /// Rows in whole tiles, [`amx::ROWS`] together.
    Tiles(Vec<Line>),
    /// Few rows, as the other operand: they are multiplied with weights that stay as they lie.
    Turned(Turned),
}

impl Narrow {
    /// Rounds rows of `width` numbers, on all threads where they are many. `few` says that few rows
    /// will meet rows of weights ([`Right::Rows`]). Panics unless the values are whole rows.
    pub(crate) fn new(unit: Unit, x: &[f32], width: usize, few: bool) -> Self {
        assert!(width > 0 && x.len().is_multiple_of(width), "bf16: {} values are no rows of {width}", x.len());
        let (rows, pairs) = (x.len() / width, pairs::of_row(width));
        let laid = match unit {
            Unit::Pairs => {
                let mut lanes: Vec<Lane> = vec![0; rows * pairs];
                if rows <= BAND {
                    pairs::narrow(x, width, &mut lanes);
                } else {
                    let bands = x.par_chunks(BAND * width).zip(lanes.par_chunks_mut(BAND * pairs));
                    bands.for_each(|(x, lanes)| pairs::narrow(x, width, lanes));
                }
                Laid::Pairs(lanes)
            }
            Unit::Tiles if few && rows <= amx::ROWS => Laid::Turned(Turned::new(x, width)),
            Unit::Tiles => {
                let steps = pairs.div_ceil(PAIRS);
                let mut tiles = vec![Line([0; PAIRS]); rows.next_multiple_of(amx::ROWS) * steps];
                let band = |(x, tiles): (&[f32], &mut [Line])| {
                    for (r, row) in x.chunks_exact(width).enumerate() {
                        let first = &mut tiles[r / SIDE * steps * SIDE + r % SIDE..];
                        round_row(row, bytemuck::cast_slice_mut(first), 2 * PAIRS * SIDE);
                    }
                };
                if rows <= BAND {
                    band((x, &mut tiles));
                } else {
                    x.par_chunks(BAND * width).zip(tiles.par_chunks_mut(BAND * steps)).for_each(band);
                }
                Laid::Tiles(tiles)
            }
        };
        Self { rows, pairs, laid }
    }

    /// How many.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Pairs of a row.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Rows that are best multiplied together. Tiles of them stay in half of the second-level cache
    /// while all weights pass by.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let fit = match self.laid {
            Laid::Tiles(_) => cache::second_level() / 2 / (size_of::<Lane>() * self.pairs).max(1),
            Laid::Pairs(_) | Laid::Turned(_) => usize::MAX,
        };
        let blocks = self.rows.div_ceil(fit.max(LEAST));
        // Blocks of one size, as nearly as can be.
        let block = self.rows.div_ceil(blocks.max(1)).next_multiple_of(amx::ROWS);
        (0..self.rows).step_by(block.max(1)).map(move |from| from..(from + block).min(self.rows))
    }

    /// Outputs that are best multiplied together.
    pub(super) fn panel(&self) -> usize {
        match self.laid {
            Laid::Pairs(_) => PANEL,
            Laid::Tiles(_) => amx::GROUP,
            Laid::Turned(_) => amx::ROWS,
        }
    }

    /// The product of rows `to.rows`, as [`Self::blocks`] has them, with outputs `to.outputs` of
    /// `w`.
    ///
    /// # Safety
    /// `w` has as many pairs an output as rows have; these outputs of these rows lie inside y.
    pub(super) unsafe fn multiply(&self, w: Right<'_>, to: To<'_>) {
        let first = to.rows.start * self.pairs.div_ceil(PAIRS);
        match (&self.laid, w) {
            (Laid::Pairs(lanes), Right::Rows(w)) => pairs::run(self.span(lanes, w, Side::Transposed, to)),
            (Laid::Pairs(lanes), Right::Columns(w)) => pairs::run(self.span(lanes, w, Side::Plain, to)),
            (Laid::Tiles(tiles), Right::Rows(w)) => {
                let tiles = &tiles[first..];
                pairs::run(Many { tiles, span: self.span(&[], w, Side::Transposed, to) })
            }
            (Laid::Tiles(tiles), Right::Columns(w)) => {
                let tiles = &tiles[first..];
                pairs::run(Many { tiles, span: self.span(&[], w, Side::Plain, to) })
            }
            (Laid::Turned(turned), Right::Rows(w)) => {
                pairs::run(Few { turned, span: self.span(&[], w, Side::Transposed, to) })
            }
            (Laid::Turned(_), Right::Columns(_)) => unreachable!("few rows are turned for rows of weights alone"),
        }
    }

    fn span<'a, W>(&self, x: &[Lane], w: W, side: Side, to: To<'a>) -> Span<'a, W> {
        Span {
            x: x.as_ptr().cast(),
            x_stride: self.pairs,
            rows: to.rows.len(),
            inner: self.pairs,
            w,
            side,
            y: to.y.wrapping_add(to.rows.start * to.stride),
            y_stride: to.stride,
            from: to.outputs.start,
            to: to.outputs.end,
            accumulate: to.accumulate,
            bias: to.bias,
        }
    }
}

/// What rows are multiplied with.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// (outputs, inner): a pair is two neighbours of a row.
    Rows(Rows<'a, Pair>),
    /// (inner, outputs): a pair is two neighbours of a column.
    Columns(Columns<'a>),
}

/// Where a part of y lies.
pub(super) struct To<'a> {
    /// Output 0 of row 0; rows are `stride` apart.
    pub y: *mut f32,
    pub stride: usize,
    pub rows: Range<usize>,
    pub outputs: Range<usize>,
    /// Start from what is in y instead of zero.
    pub accumulate: bool,
    /// Added last.
    pub bias: Option<&'a [f32]>,
}
