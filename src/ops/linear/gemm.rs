//! The one call of the GEMM library.

use gemm_common::Parallelism;

/// An operand: first value, distance of rows, distance of columns.
#[derive(Clone, Copy)]
pub struct View(pub *const f32, pub usize, pub usize);

/// `dst (m x n) = alpha lhs (m x k) rhs (k x n)`, or `+=` when `accumulate`; the rows of dst are
/// `ld` apart.
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
    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // The library's kernels want contiguous columns of the result. Ours has contiguous rows, so
    // they make its transpose out of the transposed operands.
    let (m, n, (column, row), lhs, rhs) = if ld > 1 {
        let transposed = |v: View| View(v.0, v.2, v.1);
        (n, m, (ld, 1), transposed(rhs), transposed(lhs))
    } else {
        (m, n, (1, ld), lhs, rhs)
    };
    // SAFETY: passed on to the caller.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            dst,
            column as isize,
            row as isize,
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
