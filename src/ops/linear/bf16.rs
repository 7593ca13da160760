//! `Y = X W^T` with both operands in bf16 and sums in f32.
//!
//! ```text
//!   x row     | bf16 bf16 | bf16 bf16 | ...   rounded to nearest even from f32
//!   W output  | bf16 bf16 | bf16 bf16 | ...   as stored, or rounded once
//!   y         =  sum over pairs, ascending, of x_0 w_0 + x_1 w_1
//! ```
//!
//! A rounded value is off by at most 2^-9 of itself (2^-8 between two powers of two), products are
//! exact, and sums are rounded as sums of f32 are: a product of K values is off by at most
//! `(2^-7 + 2^-16 + K 2^-23) sum |x_k w_k|` where both sides are rounded, by half of the first term
//! where the weights are stored in bf16. A row's bits do not depend on what stands beside it or on
//! the threads.
//!
//! AVX512-BF16 multiplies pairs, two for one of f32, and AMX tiles, many times as much. Both take
//! what is below 2^-126 for zero ([`super::narrow`]). Elsewhere, and for weights of an odd width,
//! the rounded values are multiplied in f32: the same function, with sums in another order and no
//! gain.
//!
//! The backward `dX = dY W` rounds dY likewise and multiplies it with the same rounded weights, two
//! outputs of W a pair: the gradient of the function above, in which rounding counts as the
//! identity.
//!
//! Cost of M rows: `2 M out in` FLOP, `2 out in + 4 M (in + out)` bytes.

use std::ops::Range;

use rayon::prelude::*;

use half::bf16;

use super::narrow::{Narrow, Right, To, Unit};
use super::panel::{Block, Rows, Side, Source};
use super::weight::{Values, Weight};
use super::{Product, convert, jobs};
use crate::error::Result;
use crate::tensor::profile::timed;
use crate::tensor::simd::Simd;
use crate::tensor::simd::pairs::{self, Pair};
use crate::tensor::{Cost, Dtype};

/// Operations below which threads cost more than they save.
const SERIAL: usize = 400_000;

/// `weight` in bf16: itself where it is stored so, and a rounded copy otherwise.
///
/// # Errors
/// A value that is not finite in bf16.
pub fn of(weight: &Weight) -> Result<Weight> {
    if weight.dtype() == Some(Dtype::Bf16) {
        return Ok(weight.clone());
    }
    let (rows, cols) = (weight.rows(), weight.cols());
    let storage = convert::build(rows, cols, Dtype::Bf16, |row, out| weight.read_rows(row, out))?;
    Weight::new(rows, cols, storage)
}

/// Bytes of the copy that [`of`] would make of `weight`.
pub fn copied(weight: &Weight) -> u64 {
    if weight.dtype() == Some(Dtype::Bf16) { 0 } else { 2 * (weight.rows() * weight.cols()) as u64 }
}

/// What a product of `inp` values of f32, rounded on both sides, may be off by, in parts of the sum
/// of the sizes of its terms.
pub fn tolerance(inp: usize) -> f64 {
    2f64.powi(-7) + 2f64.powi(-16) + (inp as f64 + 4.0) * 2f64.powi(-23)
}

/// Cost of `rows` rows through all of `weights`.
pub fn cost<'a>(weights: impl Iterator<Item = &'a Weight>, rows: usize) -> Cost {
    super::cost_of_all(weights, rows)
}

/// One of the products, without its lifetimes, so that jobs can share it.
struct Task<'a> {
    x: &'a Narrow,
    /// Of x and of y.
    rows: Range<usize>,
    weight: Rows<'a, Pair>,
    outputs: usize,
    y: *mut f32,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}
// SAFETY: jobs read x and the weights and write disjoint blocks of y.
unsafe impl Sync for Task<'_> {}

impl Task<'_> {
    fn run(&self, outputs: Range<usize>) {
        let to = To {
            y: self.y,
            stride: self.outputs,
            rows: self.rows.clone(),
            outputs,
            accumulate: self.accumulate,
            bias: self.bias,
        };
        // SAFETY: shapes were checked when this was made.
        unsafe { self.x.multiply(Right::Rows(self.weight), to) };
    }
}

/// All `y = x W^T (+ bias)` of one x (M, in), which is rounded to bf16, and weights that [`of`] has
/// made, in one parallel region. Panics when the shapes do not fit, and on other weights.
pub fn matmul_nt_many(x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    many(x, inp, products, Unit::best());
}

/// The rounded values in f32.
fn rounded(x: &[f32]) -> Vec<f32> {
    x.par_iter().map(|&v| pairs::widen(pairs::round(v))).collect()
}

fn many(x: &[f32], inp: usize, products: &mut [Product<'_>], unit: Option<Unit>) {
    if inp == 0 || x.is_empty() {
        return;
    }
    let rows = x.len() / inp;
    assert_eq!(x.len(), rows * inp, "bf16 product: {} values are no rows of {inp}", x.len());
    let Some(unit) = unit.filter(|_| inp.is_multiple_of(2)) else {
        return super::matmul_nt_many(&rounded(x), inp, products);
    };
    let _timed = timed("linear_bf16", || cost(products.iter().map(|p| p.weight), rows));
    let narrow = Narrow::new(unit, x, inp, true);
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for p in products.iter_mut() {
        let outputs = p.weight.rows();
        assert!(p.weight.cols() == inp && p.y.len() == rows * outputs, "bf16 product: {outputs} of {inp}");
        assert!(p.bias.is_none_or(|b| b.len() == outputs), "bf16 product: bias");
        let Values::Bf16(values) = p.weight.values() else { panic!("bf16 product: weights of another type") };
        let (x, y, accumulate) = (&narrow, p.y.as_mut_ptr(), p.accumulate);
        let weight = Rows { values: bytemuck::cast_slice(values), stride: inp / 2 };
        let block = |rows| Task { x, rows, weight, outputs, y, bias: p.bias, accumulate };
        tasks.extend(narrow.blocks().map(block));
    }
    let operations: usize = tasks.iter().map(|t| 2 * t.rows.len() * inp * t.outputs).sum();
    jobs::run(&tasks, |t| t.outputs, narrow.panel(), operations <= SERIAL, |task, outputs| task.run(outputs));
}

/// Rows of W as the inner side of a product: two neighbours in a column are a pair.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    values: &'a [bf16],
    stride: usize,
}

impl Source for Columns<'_> {
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, _: Side, at: Block, to: *mut f32, stride: usize) {
        let Block { output, columns, inner, depth } = at;
        // SAFETY: as the caller's: two rows of W for each of `depth` pairs, and `columns` of each.
        unsafe {
            for k in 0..depth {
                let low = self.values.as_ptr().add(2 * (inner + k) * self.stride + output);
                let (high, to) = (low.add(self.stride), to.add(k * stride));
                for c in (0..columns).step_by(S::N) {
                    if c + S::N <= columns {
                        S::store(to.add(c), S::couple(low.add(c), high.add(c)));
                        continue;
                    }
                    let mut ends = [[bf16::ZERO; 16]; 2];
                    let [ends_low, ends_high] = &mut ends;
                    for (j, (l, h)) in ends_low.iter_mut().zip(ends_high).enumerate().take(columns - c) {
                        (*l, *h) = (*low.add(c + j), *high.add(c + j));
                    }
                    S::store(to.add(c), S::couple(ends[0].as_ptr(), ends[1].as_ptr()));
                }
            }
        }
    }
}

/// What is added up in one dx: rows of dy, and the weight that they passed.
struct Term<'a> {
    dy: Narrow,
    w: Columns<'a>,
}

/// Rows of one dx, without its lifetime, so that jobs can share it.
struct Gradient {
    dx: *mut f32,
    rows: Range<usize>,
}
// SAFETY: jobs write disjoint blocks of dx.
unsafe impl Sync for Gradient {}

/// `dx (M, in) =` the sum of `dy (M, out) W` over weights of one input that [`of`] has made, or
/// `dx +=` when `accumulate`; each dy is rounded to bf16. Panics when the shapes do not fit, and on
/// other weights.
pub fn matmul_nn_many(products: &[(&[f32], &Weight)], dx: &mut [f32], accumulate: bool) {
    nn_many(products, dx, accumulate, Unit::best());
}

fn nn_many(products: &[(&[f32], &Weight)], dx: &mut [f32], accumulate: bool, unit: Option<Unit>) {
    let inp = products.first().map_or(0, |(_, w)| w.cols());
    if inp == 0 || dx.is_empty() {
        return;
    }
    let rows = dx.len() / inp;
    let Some(unit) = unit.filter(|_| products.iter().all(|(_, w)| w.rows().is_multiple_of(2))) else {
        let rounded: Vec<_> = products.iter().map(|(dy, w)| (rounded(dy), *w)).collect();
        let products: Vec<_> = rounded.iter().map(|(dy, w)| (dy.as_slice(), *w)).collect();
        return super::matmul_nn_many(&products, dx, accumulate);
    };
    let _timed = timed("linear_bf16_backward", || cost(products.iter().map(|(_, w)| *w), rows));
    let terms: Vec<Term<'_>> = products
        .iter()
        .filter(|(_, w)| w.rows() > 0)
        .map(|(dy, w)| {
            let out = w.rows();
            let fits = w.cols() == inp && dx.len() == rows * inp && dy.len() == rows * out;
            assert!(fits, "bf16 product: {} values, {out} x {} for {rows} rows", dy.len(), w.cols());
            let Values::Bf16(values) = w.values() else { panic!("bf16 product: weights of another type") };
            Term { dy: Narrow::new(unit, dy, out, false), w: Columns { values, stride: inp } }
        })
        .collect();
    // Blocks by the widest dy, whose tiles are the most.
    let Some(widest) = terms.iter().map(|t| &t.dy).max_by_key(|dy| dy.pairs()) else {
        if !accumulate {
            dx.fill(0.0);
        }
        return;
    };
    let operations = 4 * rows * inp * terms.iter().map(|t| t.dy.pairs()).sum::<usize>();
    let dx = dx.as_mut_ptr();
    let parts: Vec<Gradient> = widest.blocks().map(|rows| Gradient { dx, rows }).collect();
    let add = |part: &Gradient, columns: Range<usize>| {
        for (n, term) in terms.iter().enumerate() {
            let to = To {
                y: part.dx,
                stride: inp,
                rows: part.rows.clone(),
                outputs: columns.clone(),
                accumulate: accumulate || n > 0,
                bias: None,
            };
            // SAFETY: shapes were checked above.
            unsafe { term.dy.multiply(Right::Columns(term.w), to) };
        }
    };
    jobs::run(&parts, |_| inp, widest.panel(), operations <= SERIAL, add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    /// Without any unit, and with each that is here.
    fn units() -> Vec<Option<Unit>> {
        std::iter::once(None).chain(Unit::all().into_iter().map(Some)).collect()
    }

    fn product(x: &[f32], w: &Weight, bias: Option<&[f32]>, unit: Option<Unit>) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / w.cols() * w.rows()];
        let product = Product { weight: w, y: &mut y, bias, accumulate: false };
        many(x, w.cols(), &mut [product], unit);
        y
    }

    proptest! {
        #![proptest_config(crate::testing::cases(64))]
        #[test]
        fn within_the_bound_of_the_definition_and_of_the_product_of_rounded_values(
            rows in 1usize..20, out in 1usize..120, inp in 1usize..900, stored in any::<bool>(), seed in 0u64..1000,
        ) {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
            let (x, w, bias) = (draw(rows * inp), draw(out * inp), draw(out));
            let given = Weight::from_f32(out, inp, w.clone()).unwrap();
            let narrow = of(&given).unwrap();
            // Weights that are stored in bf16 are not rounded again.
            let mut used = w.clone();
            if stored {
                narrow.read_rows(0, &mut used);
            }
            for unit in units() {
                let got = product(&x, &narrow, Some(&bias), unit);
                for r in 0..rows {
                    for o in 0..out {
                        let terms = (0..inp).map(|k| {
                            let (x, w) = (x[r * inp + k], w[o * inp + k]);
                            let used = used[o * inp + k];
                            let rounded = f64::from(pairs::widen(pairs::round(x))) * f64::from(pairs::widen(pairs::round(w)));
                            [f64::from(x) * f64::from(used), f64::from(x * used).abs(), rounded]
                        });
                        let [exact, size, rounded] =
                            terms.fold([0.0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
                        let y = f64::from(got[r * out + o]) - f64::from(bias[o]);
                        let sums = (inp as f64 + 4.0) * 2f64.powi(-23) * (size + f64::from(bias[o]).abs());
                        let rounding = if stored { 2f64.powi(-8) } else { 2f64.powi(-7) + 2f64.powi(-16) };
                        prop_assert!((y - exact).abs() <= rounding * size + sums, "{} and not {}", y, exact);
                        prop_assert!((y - rounded).abs() <= 1.02 * sums, "{} and not {} of rounded values", y, rounded);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others_and_however_outputs_are_cut() {
        let mut rng = Rng::new(3, Use::Synthetic, 0, 0);
        for (unit, inp) in units().into_iter().flat_map(|unit| [(unit, 1000), (unit, 4608)]) {
            let (rows, out) = (71, 530);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
            let (x, bias) = (draw(rows * inp), draw(out));
            let w = of(&Weight::from_f32(out, inp, draw(out * inp)).unwrap()).unwrap();
            let whole = product(&x, &w, Some(&bias), unit);
            for (from, many) in [(0, 1), (7, 1), (70, 1), (3, 16), (20, 31), (9, 50)] {
                let part = product(&x[from * inp..][..many * inp], &w, Some(&bias), unit);
                assert_eq!(part, whole[from * out..][..many * out], "{many} rows from {from}, {inp} wide, {unit:?}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_told() {
        let with = |v: f32| Weight::from_f32(1, 2, vec![1.0, v]).unwrap();
        assert!(of(&with(f32::MAX)).is_err() && of(&with(f32::NAN)).is_err());
        for unit in units() {
            let y = product(&[1.0, f32::NAN], &of(&with(1.0)).unwrap(), None, unit);
            assert!(y[0].is_nan(), "{unit:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::testing::cases(64))]
        /// The backward, too, is a product of the rounded values, by pairs and without them.
        #[test]
        fn the_backward_multiplies_rounded_values(
            rows in prop_oneof![1usize..12, 12usize..40], inp in prop_oneof![1usize..70, 500usize..530],
            outs in proptest::collection::vec(prop_oneof![1usize..70, 760usize..790], 1..4),
            accumulate: bool, seed in 0u64..1000,
        ) {
            let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
            let weights: Vec<(Vec<f32>, Weight)> = outs
                .iter()
                .map(|&out| (draw(rows * out), of(&Weight::from_f32(out, inp, draw(out * inp)).unwrap()).unwrap()))
                .collect();
            let products: Vec<(&[f32], &Weight)> = weights.iter().map(|(dy, w)| (dy.as_slice(), w)).collect();
            let before = draw(rows * inp);
            for unit in units() {
                let mut got = before.clone();
                nn_many(&products, &mut got, accumulate, unit);
                for (i, &got) in got.iter().enumerate() {
                    let (r, k) = (i / inp, i % inp);
                    let start = if accumulate { f64::from(before[i]) } else { 0.0 };
                    let (mut want, mut size, mut terms) = (start, start.abs(), 4.0);
                    for (dy, w) in &weights {
                        let mut row = vec![0.0; inp];
                        for o in 0..w.rows() {
                            w.read_rows(o, &mut row);
                            let dy = f64::from(pairs::widen(pairs::round(dy[r * w.rows() + o])));
                            want += dy * f64::from(row[k]);
                            size += (dy * f64::from(row[k])).abs();
                            terms += 1.0;
                        }
                    }
                    let off = (f64::from(got) - want).abs();
                    prop_assert!(off <= 1.02 * terms * 2f64.powi(-23) * size, "{} and not {}", got, want);
                }
            }
        }
    }
}
