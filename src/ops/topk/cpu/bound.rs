//! How far a tile's score may be from the score that ranks.
//!
//! With `x~` for x rounded to bf16, Cauchy and Schwarz give
//!
//! ```text
//!   |q . x  -  q~ . x~|  <=  |q| |x - x~|  +  |q - q~| |x~|
//! ```
//!
//! and each of the two sums, the tile's and [`super::dot`], is off by at most `(d + 40) 2^-23` of
//! `|q| |x|`, which is twice what one rounding for each addition and product gives. What is lost
//! below the smallest normal number is `2^-125` a term at most. The norms are those of the rows
//! themselves, not of worst cases.

use rayon::prelude::*;

use crate::tensor::simd::pairs::{round, widen};
use crate::tensor::simd::vectorized;

/// Lanes of a sum of squares.
const LANES: usize = 8;
/// Rows measured by a thread at a time.
const BAND: usize = 256;
/// Scores above this might be infinite in f32 sums of finite numbers.
const LARGEST: f64 = 1e37;

/// Norms of a row, or the largest of several rows, each a little too large rather than too small.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Norms {
    /// Of the row.
    whole: f64,
    /// Of what rounding to bf16 takes from it.
    lost: f64,
}

vectorized! {
    fn squares(row: &[f32]) -> [f64; 2] {
        let (mut whole, mut lost) = ([0.0f64; LANES], [0.0f64; LANES]);
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                let (v, r) = (f64::from(chunk[l]), f64::from(widen(round(chunk[l]))));
                whole[l] += v * v;
                lost[l] += (v - r) * (v - r);
            }
        }
        for (l, &v) in rest.iter().enumerate() {
            let (v, r) = (f64::from(v), f64::from(widen(round(v))));
            whole[l] += v * v;
            lost[l] += (v - r) * (v - r);
        }
        [whole.iter().sum(), lost.iter().sum()]
    }
}

impl Norms {
    /// Of one row. NaN or infinite where the row is.
    pub(super) fn of(row: &[f32]) -> Self {
        // The sums are right to 1e-12 of themselves for any width that fits into memory.
        let [whole, lost] = squares(row).map(|s| s.sqrt() * (1.0 + 1e-9));
        Self { whole, lost }
    }

    /// The largest of all rows; NaN where one is.
    pub(super) fn largest(rows: &[f32], dim: usize) -> Self {
        let worse = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        let join = |a: Self, b: Self| Self { whole: worse(a.whole, b.whole), lost: worse(a.lost, b.lost) };
        let band = |band: &[f32]| band.chunks_exact(dim).map(Self::of).fold(Self::default(), join);
        rows.par_chunks(BAND * dim).map(band).reduce(Self::default, join)
    }

    /// What scores of this query with rows of at most `items` may be off by in f32; `None` where
    /// they might not be finite.
    pub(super) fn in_f32(self, items: Self, dim: usize) -> Option<f32> {
        let sums = 2.0 * (dim as f64 + 40.0) * 2f64.powi(-23);
        let error = sums * self.whole * items.whole + self.small(items, dim);
        let largest = self.whole * items.whole;
        // Written so that NaN is none.
        (largest <= LARGEST && items.whole <= LARGEST && self.whole <= LARGEST).then(|| above(error))
    }

    /// The same where both are rounded to bf16.
    pub(super) fn in_bf16(self, items: Self, dim: usize) -> Option<f32> {
        let rounding = self.whole * items.lost + self.lost * (items.whole + items.lost);
        // NaN and infinity, which rounding makes of the largest numbers, fail the comparison.
        let finite = rounding <= LARGEST;
        self.in_f32(items, dim).filter(|_| finite).map(|sums| above(f64::from(sums) + rounding))
    }

    fn small(self, items: Self, dim: usize) -> f64 {
        2f64.powi(-125) * dim as f64 * (1.0 + self.whole + items.whole)
    }
}

/// The f32 that is not below `x`.
fn above(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

#[cfg(test)]
mod tests {
    use super::super::dot;
    use super::*;
    use crate::rng::{Rng, Use};

    #[test]
    fn no_pair_of_rounded_rows_is_off_by_more_than_its_bound_and_some_come_near() {
        let mut nearest = 0.0f64;
        for seed in 0..400 {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let dim = 1 + rng.below(90) as usize;
            let size = 10f32.powi(rng.below(30) as i32 - 15);
            let mut draw = || -> Vec<f32> { (0..dim).map(|_| size * rng.normal()).collect() };
            // A row against itself leaves the inequality little room.
            let a = draw();
            let b = if seed % 2 == 0 { draw() } else { a.clone() };
            let exact = f64::from(dot(&a, &b));
            let low = |v: &f32| f64::from(widen(round(*v)));
            let rounded: f64 = a.iter().zip(&b).map(|(a, b)| low(a) * low(b)).sum();
            let bound = f64::from(Norms::of(&a).in_bf16(Norms::largest(&b, dim), dim).unwrap());
            assert!((exact - rounded).abs() <= bound, "{seed}: {exact} and {rounded}, bound {bound}");
            nearest = nearest.max((exact - rounded).abs() / bound);
        }
        assert!(nearest > 0.2, "the bound is far from what happens: {nearest}");
    }

    #[test]
    fn rows_that_cannot_be_bounded_say_so() {
        let of = |v: f32| Norms::of(&[v, 1.0]);
        assert!(of(1.0).in_f32(of(2.0), 2).is_some());
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            assert!(of(bad).in_f32(of(1.0), 2).is_none() && of(1.0).in_f32(of(bad), 2).is_none(), "{bad}");
            assert!(of(bad).in_bf16(of(1.0), 2).is_none() && of(1.0).in_bf16(of(bad), 2).is_none(), "{bad}");
        }
        assert!(Norms::largest(&[1.0, f32::NAN, 2.0], 1).in_f32(of(1.0), 1).is_none());
    }
}
