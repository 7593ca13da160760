//! The CPU products: checks of shapes, and jobs for [`super::panel`]'s kernel.

use std::ops::Range;

use super::gemm::{View, product};
use super::jobs;
use super::panel::{PANEL, Rows, Side, Source, Span};
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

/// A product without its lifetimes, so that jobs can share it.
#[derive(Clone, Copy)]
struct Task<'a> {
    x: *const f32,
    x_stride: usize,
    rows: usize,
    /// The weights whose products are added up in one y: each with the first column of x that belongs to it.
    sum: &'a [(&'a Weight, usize)],
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
        2 * self.rows * self.sum.iter().map(|(w, _)| w.rows() * w.cols()).sum::<usize>()
    }

    /// Outputs `span` of all rows.
    fn run(&self, level: Level, span: &Range<usize>) {
        for (n, (weight, _)) in self.sum.iter().enumerate() {
            let stride = weight.cols();
            match weight.values() {
                Values::F32(values) => self.one(level, Rows { values, stride }, n, span),
                Values::Bf16(values) => self.one(level, Rows { values, stride }, n, span),
                Values::F16(values) => self.one(level, Rows { values, stride }, n, span),
                Values::Quantised(values) => self.one(level, values, n, span),
            }
        }
    }

    /// Outputs `span` of the n-th product of the sum.
    fn one<W: Source>(&self, level: Level, w: W, n: usize, span: &Range<usize>) {
        let (weight, column) = self.sum[n];
        let inner = if self.side == Side::Transposed { weight.cols() } else { weight.rows() };
        simd::run(
            level,
            Span {
                x: self.x.wrapping_add(column),
                x_stride: self.x_stride,
                rows: self.rows,
                inner,
                w,
                side: self.side,
                y: self.y,
                y_stride: self.y_stride,
                from: span.start,
                to: span.end,
                accumulate: self.accumulate || n > 0,
                bias: if n + 1 == self.sum.len() { self.bias } else { None },
            },
        );
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

/// All `y = x W^T (+ bias)` of one x (M, in) in one parallel region. Panics when the shapes do not fit.
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
    let weights: Vec<_> = products.iter().map(|p| [(p.weight, 0)]).collect();
    let tasks: Vec<_> = products
        .iter_mut()
        .zip(&weights)
        .map(|(p, sum)| {
            let out = p.weight.rows();
            assert!(p.weight.cols() == inp && p.y.len() == m * out, "matmul_nt: {} x {out}", p.weight.cols());
            assert!(p.bias.is_none_or(|b| b.len() == out), "matmul_nt: bias");
            Task {
                x: x.as_ptr(),
                x_stride: inp,
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

/// `y (M, sum of outs) = x W^T (+ y when accumulate)` for weights that stand side by side in the columns of y, in
/// one parallel region. Panics when the shapes do not fit.
pub fn matmul_nt_stacked(x: &[f32], weights: &[&Weight], y: &mut [f32], accumulate: bool) {
    let inp = weights.first().map_or(0, |w| w.cols());
    if inp == 0 || x.is_empty() {
        return;
    }
    let _timed = timed("linear", || super::cost_of_all(weights.iter().copied(), x.len() / inp));
    let (m, width) = (x.len() / inp, weights.iter().map(|w| w.rows()).sum());
    assert!(x.len() == m * inp && y.len() == m * width, "matmul_nt: {} and {} values for {m} rows", x.len(), y.len());
    let sums: Vec<_> = weights.iter().map(|w| [(*w, 0)]).collect();
    let mut column = 0;
    let mut tasks = Vec::with_capacity(weights.len());
    for (w, sum) in weights.iter().zip(&sums) {
        assert_eq!(w.cols(), inp, "matmul_nt: stacked weights differ in width");
        tasks.push(Task {
            x: x.as_ptr(),
            x_stride: inp,
            rows: m,
            sum,
            side: Side::Transposed,
            outputs: w.rows(),
            y: y.as_mut_ptr().wrapping_add(column),
            y_stride: width,
            bias: None,
            accumulate,
        });
        column += w.rows();
    }
    across_threads(simd::level(), &tasks);
}

/// `y (M, range) = x W[range]^T` on the calling thread: a part of a product that is too large to keep. Panics when
/// the shapes do not fit.
pub fn matmul_nt_panel(x: &[f32], weight: &Weight, range: Range<usize>, y: &mut [f32]) {
    let inp = weight.cols();
    if inp == 0 || x.is_empty() {
        return;
    }
    let (m, width) = (x.len() / inp, range.len());
    assert!(x.len() == m * inp && y.len() == m * width && range.end <= weight.rows(), "matmul_nt: panel {range:?}");
    let task = Task {
        x: x.as_ptr(),
        x_stride: inp,
        rows: m,
        sum: &[(weight, 0)],
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
    matmul_nn_stacked(dy, &[w], dx, accumulate);
}

/// `dx (M x in) = dy (M, sum of outs) W` for weights of one input that stand side by side in the columns of dy: the
/// backward of [`matmul_nt_stacked`], in one parallel region. Panics when the shapes do not fit.
pub fn matmul_nn_stacked(dy: &[f32], weights: &[&Weight], dx: &mut [f32], accumulate: bool) {
    let _timed = timed("linear_backward", || {
        let out: usize = weights.iter().map(|w| w.rows()).sum();
        super::cost_of_all(weights.iter().copied(), dy.len() / out.max(1))
    });
    nn_at(simd::level(), dy, weights, dx, accumulate);
}

fn nn_at(level: Level, dy: &[f32], weights: &[&Weight], dx: &mut [f32], accumulate: bool) {
    let inp = weights.first().map_or(0, |w| w.cols());
    let out: usize = weights.iter().map(|w| w.rows()).sum();
    if inp == 0 || out == 0 || dy.is_empty() {
        return;
    }
    let m = dy.len() / out;
    assert!(dy.len() == m * out && dx.len() == m * inp, "matmul_nn: dy {} dx {} for {m} rows", dy.len(), dx.len());
    let mut column = 0;
    let mut sum = Vec::with_capacity(weights.len());
    for w in weights {
        assert_eq!(w.cols(), inp, "matmul_nn: stacked weights differ in width");
        sum.push((*w, column));
        column += w.rows();
    }
    let task = Task {
        x: dy.as_ptr(),
        x_stride: out,
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

/// `c (a_cols x b_cols) = alpha A^T B` for `a (M x a_cols)`, `b (M x b_cols)`, or `c +=` when `accumulate`.
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

#[cfg(test)]
mod tests;
