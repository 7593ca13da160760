//! The CPU products: checks of shapes, and jobs for the kernels of [`super::panel`] and
//! [`super::few`].

use std::ops::Range;

use super::few::{self, FEW, Square};
use super::gemm::{View, product};
use super::jobs;
use super::panel::{PANEL, Pack, Rows, Side, Source, Span};
use super::weight::{Values, Weight};
use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Level};

/// FLOP below which threads cost more than they save.
const SERIAL: usize = 200_000;

/// One of several products with the same x.
pub struct Product<'a, W = Weight> {
    /// (out, in).
    pub weight: &'a W,
    /// (M, out).
    pub y: &'a mut [f32],
    /// Length out; added last.
    pub bias: Option<&'a [f32]>,
    /// Start from what is in y instead of zero.
    pub accumulate: bool,
}

/// A weight and the rows that it is multiplied with.
#[derive(Clone, Copy)]
struct Part<'a> {
    weight: &'a Weight,
    x: *const f32,
    x_stride: usize,
}

impl<'a> Part<'a> {
    /// Packed rows of `width` values.
    fn new(weight: &'a Weight, x: &[f32], width: usize) -> Self {
        Self { weight, x: x.as_ptr(), x_stride: width }
    }
}

/// A product without its lifetimes, so that jobs can share it.
#[derive(Clone, Copy)]
struct Task<'a> {
    rows: usize,
    /// The products that are added up in one y.
    sum: &'a [Part<'a>],
    side: Side,
    outputs: usize,
    y: *mut f32,
    y_stride: usize,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}
// SAFETY: jobs read x and write disjoint columns of y.
unsafe impl Sync for Task<'_> {}
// SAFETY: as above.
unsafe impl Send for Task<'_> {}

impl Task<'_> {
    fn flops(&self) -> usize {
        2 * self.rows * self.sum.iter().map(|p| p.weight.rows() * p.weight.cols()).sum::<usize>()
    }

    /// Outputs `span` of all rows.
    fn run(&self, level: Level, span: &Range<usize>) {
        for (n, Part { weight, .. }) in self.sum.iter().enumerate() {
            let stride = weight.cols();
            match weight.values() {
                Values::F32(values) => self.plain(level, Rows { values, stride }, n, span),
                Values::Bf16(values) => self.plain(level, Rows { values, stride }, n, span),
                Values::F16(values) => self.plain(level, Rows { values, stride }, n, span),
                Values::Quantised(values) => self.one(level, values, n, span),
                // Of tables that are looked up: correct, and not meant to be fast.
                Values::InFile(_) => {
                    let mut values = vec![0.0f32; weight.rows() * stride];
                    weight.read_rows(0, &mut values);
                    self.plain(level, Rows { values: &values, stride }, n, span);
                }
            }
        }
    }

    /// Outputs `span` of the n-th product of the sum, with a weight of plain numbers.
    fn plain<E: Pack + Square>(&self, level: Level, w: Rows<'_, E>, n: usize, span: &Range<usize>) {
        if self.side == Side::Plain || self.rows > FEW {
            return self.one(level, w, n, span);
        }
        let end = few::run(self.part(w, n, span), level);
        if end < span.end {
            self.one(level, w, n, &(end..span.end));
        }
    }

    /// Outputs `span` of the n-th product of the sum.
    fn one<W: Source>(&self, level: Level, w: W, n: usize, span: &Range<usize>) {
        simd::run(level, self.part(w, n, span));
    }

    /// The n-th product of the sum, its outputs `span`.
    fn part<W>(&self, w: W, n: usize, span: &Range<usize>) -> Span<'_, W> {
        let Part { weight, x, x_stride } = self.sum[n];
        Span {
            x,
            x_stride,
            rows: self.rows,
            inner: if self.side == Side::Transposed { weight.cols() } else { weight.rows() },
            w,
            side: self.side,
            y: self.y,
            y_stride: self.y_stride,
            from: span.start,
            to: span.end,
            accumulate: self.accumulate || n > 0,
            bias: if n + 1 == self.sum.len() { self.bias } else { None },
        }
    }
}

/// Runs all tasks in one parallel region.
fn across_threads(level: Level, tasks: &[Task<'_>]) {
    let flops: usize = tasks.iter().map(Task::flops).sum();
    jobs::run(tasks, |task| task.outputs, PANEL, flops <= SERIAL, |task, span| task.run(level, &span));
}

/// `y (M x out) = x (M x in) W^T`, or `y +=` when `accumulate`. Panics when the shapes do not fit.
pub fn matmul_nt(x: &[f32], w: &Weight, y: &mut [f32], accumulate: bool) {
    matmul_nt_many(x, w.cols(), &mut [Product { weight: w, y, bias: None, accumulate }]);
}

/// All `y = x W^T (+ bias)` of one x (M, in) in one parallel region. Panics when the shapes do not
/// fit.
pub fn matmul_nt_many(x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    let _timed = timed("linear", || super::cost_of_all(products.iter().map(|p| p.weight), x.len() / inp.max(1)));
    many_at(simd::level(), x, inp, products);
}

fn many_at(level: Level, x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    if inp == 0 || x.is_empty() {
        return;
    }
    let m = x.len() / inp;
    assert_eq!(x.len(), m * inp, "matmul_nt: {} values are no rows of {inp}", x.len());
    let weights: Vec<_> = products.iter().map(|p| [Part::new(p.weight, x, inp)]).collect();
    let tasks: Vec<_> = products
        .iter_mut()
        .zip(&weights)
        .map(|(p, sum)| {
            let out = p.weight.rows();
            assert!(p.weight.cols() == inp && p.y.len() == m * out, "matmul_nt: {} x {out}", p.weight.cols());
            assert!(p.bias.is_none_or(|b| b.len() == out), "matmul_nt: bias");
            Task {
                rows: m,
                sum,
                side: Side::Transposed,
                outputs: out,
                y: p.y.as_mut_ptr(),
                y_stride: out,
                bias: p.bias,
                accumulate: p.accumulate,
            }
        })
        .collect();
    across_threads(level, &tasks);
}

/// `y (M, range) = x W[range]^T` on the calling thread: a part of a product that is too large to
/// keep. Panics when the shapes do not fit.
pub fn matmul_nt_panel(x: &[f32], weight: &Weight, range: Range<usize>, y: &mut [f32]) {
    let inp = weight.cols();
    if inp == 0 || x.is_empty() {
        return;
    }
    let (m, width) = (x.len() / inp, range.len());
    assert!(x.len() == m * inp && y.len() == m * width && range.end <= weight.rows(), "matmul_nt: panel {range:?}");
    let task = Task {
        rows: m,
        sum: &[Part::new(weight, x, inp)],
        side: Side::Transposed,
        outputs: weight.rows(),
        // Output 0 lies before the buffer when the range begins later; only the range is touched.
        y: y.as_mut_ptr().wrapping_sub(range.start),
        y_stride: width,
        bias: None,
        accumulate: false,
    };
    task.run(simd::level(), &range);
}

/// `dx (M x in) = dy (M x out) W`, or `dx +=` when `accumulate`. Panics when the shapes do not fit.
pub fn matmul_nn(dy: &[f32], w: &Weight, dx: &mut [f32], accumulate: bool) {
    matmul_nn_many(&[(dy, w)], dx, accumulate);
}

/// `dx (M x in) =` the sum of `dy (M x out) W` over weights of one input, first to last: the
/// backward of [`matmul_nt_many`], in one parallel region. Panics when the shapes do not fit.
pub fn matmul_nn_many(products: &[(&[f32], &Weight)], dx: &mut [f32], accumulate: bool) {
    let inp = products.first().map_or(0, |(_, w)| w.cols());
    let _timed =
        timed("linear_backward", || super::cost_of_all(products.iter().map(|(_, w)| *w), dx.len() / inp.max(1)));
    nn_at(simd::level(), products, dx, accumulate);
}

fn nn_at(level: Level, products: &[(&[f32], &Weight)], dx: &mut [f32], accumulate: bool) {
    let inp = products.first().map_or(0, |(_, w)| w.cols());
    if inp == 0 || dx.is_empty() {
        return;
    }
    let m = dx.len() / inp;
    let mut sum = Vec::with_capacity(products.len());
    for (dy, w) in products {
        let fits = w.cols() == inp && dx.len() == m * inp && dy.len() == m * w.rows();
        assert!(fits, "matmul_nn: {} values, {} x {} for {m} rows", dy.len(), w.rows(), w.cols());
        if w.rows() > 0 {
            sum.push(Part::new(w, dy, w.rows()));
        }
    }
    if sum.is_empty() {
        return;
    }
    let task = Task {
        rows: m,
        sum: &sum,
        side: Side::Plain,
        outputs: inp,
        y: dx.as_mut_ptr(),
        y_stride: inp,
        bias: None,
        accumulate,
    };
    across_threads(level, &[task]);
}

/// `c (a_cols x b_cols) = alpha A^T B` for `a (M x a_cols)`, `b (M x b_cols)`, or `c +=` when
/// `accumulate`.
pub fn matmul_tn(a: &[f32], a_cols: usize, b: &[f32], b_cols: usize, c: &mut [f32], alpha: f32, accumulate: bool) {
    let _timed = timed("linear", || super::cost_of(a.len() / a_cols.max(1), a_cols, b_cols, 4.0));
    if a_cols == 0 || b_cols == 0 {
        return;
    }
    let m = a.len() / a_cols;
    assert_eq!((a.len(), b.len(), c.len()), (m * a_cols, m * b_cols, a_cols * b_cols), "matmul_tn: shapes differ");
    let (lhs, rhs) = (View(a.as_ptr(), 1, a_cols), View(b.as_ptr(), b_cols, 1));
    // SAFETY: the lengths are checked above.
    unsafe { product((a_cols, b_cols, m), c.as_mut_ptr(), b_cols, accumulate, lhs, rhs, alpha, true) }
}

/// `sums +=` the sums of the columns of `x`, rows in order: a bias's gradient.
pub fn add_column_sums(x: &[f32], sums: &mut [f32]) {
    for row in x.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
}

#[cfg(test)]
mod tests;
