//! The one call of the GEMM library.

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
