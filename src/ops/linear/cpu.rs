//! CPU products. 16-bit weights are widened a panel at a time into a scratch that stays in cache, then
//! handed to the GEMM library; nothing the size of the model is ever widened.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dot::{Product, matmul_nt_many};
use super::weight::{Values, Weight};
use crate::ops::profile::timed;

/// Rows of W widened at a time: 256 rows of up to 4,096 columns are 4 MB.
const PANEL: usize = 256;

pub(super) fn widen_bf16(from: &[bf16], to: &mut [f32]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t = f32::from_bits(u32::from(f.to_bits()) << 16);
    }
}

pub(super) fn widen_f16(from: &[f16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

fn parallelism() -> gemm::Parallelism {
    gemm::Parallelism::Rayon(0)
}

/// `dst = beta dst + alpha lhs rhs`, all with explicit (row, column) strides.
#[allow(clippy::too_many_arguments)]
fn product(
    (m, n, k): (usize, usize, usize),
    dst: (*mut f32, usize, usize),
    accumulate: bool,
    lhs: (*const f32, usize, usize),
    rhs: (*const f32, usize, usize),
    alpha: f32,
) {
    // SAFETY: every caller below passes slices whose lengths it has asserted against these shapes.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.0,
            dst.2 as isize,
            dst.1 as isize,
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
            parallelism(),
        );
    }
}

/// Calls `body(first_row, panel)` with consecutive f32 panels of `w`.
fn panels(w: &Weight, mut body: impl FnMut(usize, &[f32])) {
    if let Values::F32(all) = w.values() {
        return body(0, all);
    }
    let mut scratch = vec![0.0f32; PANEL.min(w.rows()) * w.cols()];
    let mut from = 0;
    while from < w.rows() {
        let count = PANEL.min(w.rows() - from);
        let panel = &mut scratch[..count * w.cols()];
        w.read_rows(from, panel);
        body(from, panel);
        from += count;
    }
}

/// `y (M x out) = x (M x in) W^T`, or `y +=` when `accumulate`.
pub fn matmul_nt(x: &[f32], w: &Weight, y: &mut [f32], accumulate: bool) {
    matmul_nt_many(x, w.cols(), &mut [Product { weight: w, y, bias: None, accumulate }]);
}

/// `dx (M x in) = dy (M x out) W`, or `dx +=` when `accumulate`.
pub fn matmul_nn(dy: &[f32], w: &Weight, dx: &mut [f32], accumulate: bool) {
    let _timed = timed("linear", || super::cost(w, dy.len() / w.rows().max(1)));
    let (out, inp) = (w.rows(), w.cols());
    if inp == 0 || out == 0 {
        return;
    }
    let m = dy.len() / out;
    assert_eq!(
        (dy.len(), dx.len()),
        (m * out, m * inp),
        "matmul_nn: dy {} dx {} for W {out} x {inp}",
        dy.len(),
        dx.len()
    );
    let dx = dx.as_mut_ptr();
    let dy = dy.as_ptr();
    panels(w, |from, panel| {
        let rows = panel.len() / inp;
        // SAFETY: from + rows <= out, so the offset stays inside dy.
        let lhs = unsafe { dy.add(from) };
        product((m, inp, rows), (dx, inp, 1), accumulate || from > 0, (lhs, out, 1), (panel.as_ptr(), inp, 1), 1.0);
    });
}

/// `c (a_cols x b_cols) = alpha A^T B` for `a (M x a_cols)`, `b (M x b_cols)`, or `c +=` when `accumulate`.
pub fn matmul_tn(a: &[f32], a_cols: usize, b: &[f32], b_cols: usize, c: &mut [f32], alpha: f32, accumulate: bool) {
    let _timed = timed("linear", || super::cost_of(a.len() / a_cols.max(1), a_cols, b_cols, 4.0));
    if a_cols == 0 || b_cols == 0 {
        return;
    }
    let m = a.len() / a_cols;
    assert_eq!((a.len(), b.len(), c.len()), (m * a_cols, m * b_cols, a_cols * b_cols), "matmul_tn: shapes differ");
    product(
        (a_cols, b_cols, m),
        (c.as_mut_ptr(), b_cols, 1),
        accumulate,
        (a.as_ptr(), 1, a_cols),
        (b.as_ptr(), b_cols, 1),
        alpha,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear::Storage;
    use std::sync::Arc;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 23) as f32 - 11.0) / 8.0).collect()
    }

    #[test]
    fn the_three_products_match_plain_loops() {
        for (m, out, inp) in [(1, 3, 5), (4, 300, 17), (7, 513, 8)] {
            let (x, w, dy) = (ramp(m * inp), ramp(out * inp), ramp(m * out));
            let stored = Storage::Bf16(Arc::new(w.iter().map(|&v| bf16::from_f32(v)).collect()));
            for weight in [Weight::from_f32(out, inp, w.clone()).unwrap(), Weight::new(out, inp, stored).unwrap()] {
                let (mut y, mut dx) = (vec![0.0; m * out], vec![0.0; m * inp]);
                matmul_nt(&x, &weight, &mut y, false);
                matmul_nn(&dy, &weight, &mut dx, false);
                for i in 0..m {
                    for o in 0..out {
                        let want: f64 = (0..inp).map(|k| f64::from(x[i * inp + k]) * f64::from(w[o * inp + k])).sum();
                        assert!((f64::from(y[i * out + o]) - want).abs() <= 1e-4, "nt {i} {o}");
                    }
                    for k in 0..inp {
                        let want: f64 = (0..out).map(|o| f64::from(dy[i * out + o]) * f64::from(w[o * inp + k])).sum();
                        assert!((f64::from(dx[i * inp + k]) - want).abs() <= 1e-3, "nn {i} {k}");
                    }
                }
            }
            let mut c = vec![1.0; out * inp];
            matmul_tn(&dy, out, &x, inp, &mut c, 0.5, true);
            for o in 0..out {
                for k in 0..inp {
                    let sum: f64 = (0..m).map(|i| f64::from(dy[i * out + o]) * f64::from(x[i * inp + k])).sum();
                    assert!((f64::from(c[o * inp + k]) - (1.0 + 0.5 * sum)).abs() <= 1e-4, "tn {o} {k}");
                }
            }
        }
    }
}
