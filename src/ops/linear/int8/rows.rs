//! Rows of x as codes.

use rayon::prelude::*;

use super::{GROUP, LARGEST};
use crate::ops::simd::vectorized;

/// Rows quantised together by a thread.
const BAND: usize = 16;
/// Below this a group counts as zeros: the reciprocal of its scale would be no number.
const SMALLEST: f32 = 1e-30;

/// Rows as codes of -127 to 127, in groups of [`GROUP`] padded with zeros.
pub struct Rows {
    rows: usize,
    groups: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// -128 times the sum of a group's codes.
    offsets: Vec<i32>,
}

vectorized! {
    /// Codes of a row, and for each group its scale and -128 times the sum of its codes. The scale is NaN where a value is no finite
    /// number, so that whatever it is multiplied into says so.
    fn quantise(row: &[f32], codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) {
        let mut padded = [0.0f32; GROUP];
        for (((values, codes), scale), offset) in
            row.chunks(GROUP).zip(codes.as_chunks_mut::<GROUP>().0).zip(scales).zip(offsets)
        {
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
                codes.fill(0);
                (*scale, *offset) = (f32::NAN, 0);
                continue;
            }
            let by = if largest < SMALLEST { 0.0 } else { LARGEST / largest };
            // Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the lowest bits.
            let mut sum = 0i32;
            for (code, v) in codes.iter_mut().zip(values) {
                let c = (v * by + 12_582_912.0).to_bits() as i8;
                *code = c;
                sum += i32::from(c);
            }
            *scale = if by == 0.0 { 0.0 } else { largest / LARGEST };
            *offset = -128 * sum;
        }
    }
}

impl Rows {
    /// The codes of `values` (rows, `width`), on all threads where they are many. Panics unless they are whole rows.
    pub fn new(values: &[f32], width: usize) -> Self {
        let rows = values.len() / width.max(1);
        assert_eq!(values.len(), rows * width, "int8 product: {} values are no rows of {width}", values.len());
        let groups = width.div_ceil(GROUP);
        let mut out = Self {
            rows,
            groups,
            codes: vec![0; rows * groups * GROUP],
            scales: vec![0.0; rows * groups],
            offsets: vec![0; rows * groups],
        };
        let band = |(((values, codes), scales), offsets): (((&[f32], &mut [i8]), &mut [f32]), &mut [i32])| {
            let each = values.chunks_exact(width).zip(codes.chunks_exact_mut(groups * GROUP));
            for (((row, codes), scales), offsets) in
                each.zip(scales.chunks_exact_mut(groups)).zip(offsets.chunks_exact_mut(groups))
            {
                quantise(row, codes, scales, offsets);
            }
        };
        if rows <= BAND {
            if width > 0 {
                band((((values, &mut out.codes), &mut out.scales), &mut out.offsets));
            }
            return out;
        }
        values
            .par_chunks(BAND * width)
            .zip(out.codes.par_chunks_mut(BAND * groups * GROUP))
            .zip(out.scales.par_chunks_mut(BAND * groups))
            .zip(out.offsets.par_chunks_mut(BAND * groups))
            .for_each(band);
        out
    }

    /// How many.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Codes of row `r`, padded to whole groups.
    pub fn codes(&self, r: usize) -> &[i8] {
        &self.codes[r * self.groups * GROUP..][..self.groups * GROUP]
    }

    /// A scale for each of its groups.
    pub fn scales(&self, r: usize) -> &[f32] {
        &self.scales[r * self.groups..][..self.groups]
    }

    /// For each group of row `r`, -128 times the sum of its codes.
    pub(super) fn offsets(&self, r: usize) -> &[i32] {
        &self.offsets[r * self.groups..][..self.groups]
    }
}
