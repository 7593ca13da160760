//! Rows of x as codes.

use rayon::prelude::*;

use super::{GROUP, LARGEST};
use crate::tensor::simd::vectorized;

/// Rows quantised together by a thread.
const BAND: usize = 16;
/// Below this a group counts as zeros: the reciprocal of its scale would be no number.
const SMALLEST: f32 = 1e-30;

/// Values that share a scale.
#[derive(Debug, Clone, Copy, Default)]
pub struct Group {
    /// -127 to 127; what pads a row is 0.
    pub codes: [i8; GROUP],
    /// A value is its code times this.
    pub scale: f32,
    /// Sums of the codes of both halves: they take off what the weights' codes have added, and
    /// multiply the weights' minima.
    pub sums: [i16; 2],
}

/// Rows in groups of codes.
pub struct Rows {
    rows: usize,
    /// Of a row.
    groups: usize,
    all: Vec<Group>,
}

vectorized! {
    /// The groups of a row. A scale is NaN where a value is no finite number, so that whatever it
    /// is multiplied into says so.
    fn quantise(row: &[f32], groups: &mut [Group]) {
        let mut padded = [0.0f32; GROUP];
        for (values, group) in row.chunks(GROUP).zip(groups) {
            let values: &[f32; GROUP] = match values.try_into() {
                Ok(whole) => whole,
                Err(_) => {
                    padded[..values.len()].copy_from_slice(values);
                    &padded
                }
            };
            // Sizes compare like their bits, which also puts what is not finite on top.
            let mut top = 0u32;
            for v in values {
                top = top.max(v.to_bits() & 0x7fff_ffff);
            }
            let largest = f32::from_bits(top);
            if !largest.is_finite() {
                *group = Group { scale: f32::NAN, ..Group::default() };
                continue;
            }
            let by = if largest < SMALLEST { 0.0 } else { LARGEST / largest };
            // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the lowest
            // bits.
            for (code, v) in group.codes.iter_mut().zip(values) {
                *code = (v * by + 12_582_912.0).to_bits() as i8;
            }
            let (first, second) = group.codes.split_at(GROUP / 2);
            group.sums = [first, second].map(|half| half.iter().map(|&c| i16::from(c)).sum());
            group.scale = if by == 0.0 { 0.0 } else { largest / LARGEST };
        }
    }
}

impl Rows {
    /// The codes of `values` (rows, `width`), on all threads where they are many. Panics unless
    /// they are whole rows.
    pub fn new(values: &[f32], width: usize) -> Self {
        let rows = values.len() / width.max(1);
        assert_eq!(values.len(), rows * width, "int8 product: {} values are no rows of {width}", values.len());
        let groups = width.div_ceil(GROUP);
        let mut all = vec![Group::default(); rows * groups];
        if all.is_empty() {
            return Self { rows, groups, all };
        }
        let band = |(values, all): (&[f32], &mut [Group])| {
            values.chunks_exact(width).zip(all.chunks_exact_mut(groups)).for_each(|(row, of)| quantise(row, of));
        };
        if rows <= BAND {
            band((values, &mut all));
        } else {
            values.par_chunks(BAND * width).zip(all.par_chunks_mut(BAND * groups)).for_each(band);
        }
        Self { rows, groups, all }
    }

    /// How many.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The groups of row `r`.
    pub fn row(&self, r: usize) -> &[Group] {
        &self.all[r * self.groups..][..self.groups]
    }
}
