//! The matrix products of training: several 16-bit weights widened side by side into one scratch, so that the
//! rows of a batch are packed once for all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use crate::ops::Cost;
use crate::ops::linear::weight::Values;
use crate::ops::linear::{self, Storage, Weight, matmul_nt_stacked};
use crate::ops::profile::timed;

/// Values widened at a time: 32 MB.
const PANEL: usize = 8 << 20;

/// An operand: first value, distance of rows, distance of columns.
#[derive(Clone, Copy)]
pub struct View(pub *const f32, pub usize, pub usize);

/// `dst (m x n) = alpha lhs (m x k) rhs (k x n)`, or `+=` when `accumulate`; the rows of dst are `ld` apart.
///
/// # Safety
/// All three must be valid for their shapes, and nothing else may touch `dst` meanwhile.
#[allow(clippy::too_many_arguments)]
pub unsafe fn product(
    (m, n, k): (usize, usize, usize),
    dst: *mut f32,
    ld: usize,
    accumulate: bool,
    lhs: View,
    rhs: View,
    alpha: f32,
    parallel: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: passed on to the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            ld as isize,
            accumulate,
            lhs.0,
            lhs.2 as isize,
            lhs.1 as isize,
            rhs.0,
            rhs.2 as isize,
            rhs.1 as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn widen(w: &Weight, from: usize, out: &mut [f32]) {
    let start = from * w.cols();
    let chunk = 1 << 15;
    let at = |i: usize, n: usize| start + i * chunk..start + i * chunk + n;
    match w.values() {
        Values::F32(v) => {
            out.par_chunks_mut(chunk).enumerate().for_each(|(i, o)| o.copy_from_slice(&v[at(i, o.len())]))
        }
        Values::Bf16(v) => out.par_chunks_mut(chunk).enumerate().for_each(|(i, o)| widen_bf16(&v[at(i, o.len())], o)),
        Values::F16(v) => out.par_chunks_mut(chunk).enumerate().for_each(|(i, o)| widen_f16(&v[at(i, o.len())], o)),
    }
}

crate::ops::vectorized::vectorized! {
    fn widen_bf16(from: &[bf16], to: &mut [f32]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = f32::from_bits(u32::from(f.to_bits()) << 16);
        }
    }
}

fn widen_f16(from: &[f16], to: &mut [f32]) {
    use half::slice::HalfFloatSliceExt;
    from.convert_to_f32_slice(to);
}

/// Weights of equal input width, stacked: their outputs are the columns of one matrix.
pub struct Stack<'a>(pub &'a [&'a Weight]);

impl Stack<'_> {
    /// Calls `body(first_row, rows, values)` with f32 panels of the stack, first to last.
    fn panels(&self, scratch: &mut Vec<f32>, mut body: impl FnMut(usize, usize, &[f32])) {
        let inp = self.0.first().map_or(0, |w| w.cols());
        let limit = (PANEL / inp.max(1)).max(1);
        // The panel that is being filled: rows `first .. first + held`.
        let (mut first, mut held) = (0, 0);
        for w in self.0 {
            assert_eq!(w.cols(), inp, "stacked weights differ in width");
            let mut from = 0;
            while from < w.rows() {
                if let Values::F32(all) = w.values() {
                    if held > 0 {
                        body(first, held, &scratch[..held * inp]);
                        first += held;
                        held = 0;
                    }
                    body(first, w.rows(), all);
                    first += w.rows();
                    break;
                }
                let count = (limit - held).min(w.rows() - from);
                let need = (held + count) * inp;
                if scratch.len() < need {
                    scratch.resize(need, 0.0);
                }
                widen(w, from, &mut scratch[held * inp..need]);
                held += count;
                from += count;
                if held == limit {
                    body(first, held, &scratch[..held * inp]);
                    first += held;
                    held = 0;
                }
            }
        }
        if held > 0 {
            body(first, held, &scratch[..held * inp]);
        }
    }

    /// Output width.
    pub fn out(&self) -> usize {
        self.0.iter().map(|w| w.rows()).sum()
    }

    /// `y (M x out) = x (M x in) W^T`, or `+=`.
    pub fn forward(&self, x: &[f32], y: &mut [f32], accumulate: bool) {
        matmul_nt_stacked(x, self.0, y, accumulate);
    }

    /// `dx (M x in) = dy (M x out) W`, or `+=`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32], accumulate: bool, scratch: &mut Vec<f32>) {
        let _timed = timed("linear_backward", || {
            let rows = dy.len() / self.out().max(1);
            let sum = |a: Cost, b: Cost| Cost { bytes: a.bytes + b.bytes, flops: a.flops + b.flops };
            self.0.iter().map(|w| linear::cost(w, rows)).fold(Cost::default(), sum)
        });
        let (inp, out) = (self.0[0].cols(), self.out());
        let m = dy.len() / out;
        assert_eq!((dy.len(), dx.len()), (m * out, m * inp), "linear backward: shapes differ");
        let dx = dx.as_mut_ptr();
        self.panels(scratch, |first, rows, w| {
            // SAFETY: the lengths are checked above, and first + rows <= out.
            unsafe {
                let (lhs, rhs) = (View(dy.as_ptr().add(first), out, 1), View(w.as_ptr(), inp, 1));
                product((m, inp, rows), dx, inp, accumulate || first > 0, lhs, rhs, 1.0, true);
            }
        });
    }
}

/// Transposes of frozen weights, made once. A product with the transpose is `x W^T` again, the form that the fast
/// kernel has; the alternative packs and widens the same weights at every step.
#[derive(Default)]
pub struct Transposes(HashMap<(usize, usize), Transposed>);

struct Transposed {
    /// Keeps the storage alive, so that its address stays a name for it.
    _weights: Vec<Weight>,
    /// (in, sum of outs), in the dtype of the weights.
    matrix: Weight,
}

impl Transposes {
    /// The transpose of the stack, (in, out). `None` when it cannot be made (weights of unlike dtypes).
    pub fn of(&mut self, stack: &Stack<'_>) -> Option<&Weight> {
        let first = stack.0.first()?;
        let name = (first.values().address(), stack.out());
        if let Entry::Vacant(slot) = self.0.entry(name) {
            let matrix = stack.transposed()?;
            slot.insert(Transposed { _weights: stack.0.iter().map(|w| (*w).clone()).collect(), matrix });
        }
        self.0.get(&name).map(|t| &t.matrix)
    }
}

impl Stack<'_> {
    /// `dx (M x in) = dy (M x out) W` for weights that never change.
    pub fn backward_frozen(&self, dy: &[f32], dx: &mut [f32], transposes: &mut Transposes, scratch: &mut Vec<f32>) {
        match transposes.of(self) {
            Some(matrix) => matmul_nt_stacked(dy, &[matrix], dx, false),
            None => self.backward(dy, dx, false, scratch),
        }
    }

    fn transposed(&self) -> Option<Weight> {
        let (inp, out) = (self.0.first()?.cols(), self.out());
        macro_rules! gather {
            ($kind:ident, $zero:expr) => {{
                let mut all = vec![$zero; inp * out];
                let mut column = 0;
                for w in self.0 {
                    let Values::$kind(values) = w.values() else { return None };
                    for (o, row) in values.chunks_exact(inp).enumerate() {
                        for (i, &v) in row.iter().enumerate() {
                            all[i * out + column + o] = v;
                        }
                    }
                    column += w.rows();
                }
                Storage::$kind(Arc::new(all))
            }};
        }
        let storage = match self.0.first()?.values() {
            Values::F32(_) => gather!(F32, 0.0f32),
            Values::Bf16(_) => gather!(Bf16, bf16::ZERO),
            Values::F16(_) => gather!(F16, f16::ZERO),
        };
        Weight::new(inp, out, storage).ok()
    }
}

/// `dw (out x in) += dy^T x`, where dy is columns `column ..` of rows of `stride` values.
pub fn weight_gradient(dy: &[f32], (stride, column): (usize, usize), x: &[f32], inp: usize, dw: &mut [f32]) {
    let (m, out) = (x.len() / inp, dw.len() / inp);
    assert!(dy.len() == m * stride && column + out <= stride, "weight gradient: shapes differ");
    // SAFETY: lengths are checked above.
    unsafe {
        let lhs = View(dy.as_ptr().add(column), 1, stride);
        product((out, inp, m), dw.as_mut_ptr(), inp, true, lhs, View(x.as_ptr(), inp, 1), 1.0, true);
    }
}

/// `db += column sums` of columns `column ..` of rows of `stride` values.
pub fn bias_gradient(dy: &[f32], (stride, column): (usize, usize), db: &mut [f32]) {
    for row in dy.chunks_exact(stride) {
        for (d, g) in db.iter_mut().zip(&row[column..]) {
            *d += g;
        }
    }
}

/// Adds `bias` to columns `column ..` of each row.
pub fn add_bias(y: &mut [f32], (stride, column): (usize, usize), bias: &[f32]) {
    y.par_chunks_exact_mut(stride).with_min_len(32).for_each(|row| {
        for (y, b) in row[column..].iter_mut().zip(bias) {
            *y += b;
        }
    });
}
