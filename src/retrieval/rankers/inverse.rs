//! The inverse of a large symmetric positive definite matrix, in place and in blocks.
//!
//! One block of columns after the other is swept (Beaton's sweep operator): with `D` the inverse of
//! the diagonal block, `A_ij -= A_ik D A_kj`, `A_ik = A_ik D`, `A_kk = -D`. The matrix stays
//! symmetric, so its lower triangle alone is kept, and ends as the negative inverse. Nearly all of
//! the `n^3` FLOP are matrix products. Each block of columns is updated by one thread: the bits do
//! not depend on the number of threads.

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Columns that are swept, and columns that a thread updates, at a time.
const BLOCK: usize = 128;

/// Inverts the matrix whose lower triangle stands in `a`, `n` columns of `n` rows each; what is
/// above the diagonal is neither read nor meaningful afterwards.
///
/// # Errors
/// A matrix that is not positive definite; a stop that was asked for.
pub fn invert(a: &mut [f64], n: usize, monitor: &dyn Monitor) -> Result<()> {
    if a.len() != n * n {
        return Err(Error::failed("inverse", format!("{} numbers for {n} x {n}", a.len())));
    }
    let mut panel = vec![0.0; n * BLOCK.min(n)];
    for first in (0..n).step_by(BLOCK) {
        monitor.check()?;
        let width = BLOCK.min(n - first);
        // Whole columns of the block: above the diagonal they stand as rows.
        for (c, column) in panel.chunks_exact_mut(n).take(width).enumerate() {
            let at = first + c;
            for (row, to) in column.iter_mut().enumerate() {
                *to = if row >= at { a[at * n + row] } else { a[row * n + at] };
            }
        }
        let left = DMatrixView::from_slice(&panel[..n * width], n, width);
        let inverse = left.rows(first, width).into_owned().cholesky().ok_or_else(|| {
            Error::failed("inverse", "the matrix is not positive definite").next("raise recommend.ease_ridge")
        })?;
        let inverse = inverse.inverse();
        let mut scaled = DMatrix::<f64>::zeros(n, width);
        scaled.gemm(1.0, &left, &inverse, 0.0);
        a.par_chunks_mut(n * BLOCK).enumerate().for_each(|(block, columns)| {
            let (begin, count) = (block * BLOCK, columns.len() / n);
            let right = scaled.rows(begin, count).transpose();
            let mut own = DMatrixViewMut::from_slice(columns, n, count);
            own.rows_mut(begin, n - begin).gemm(-1.0, &left.rows(begin, n - begin), &right, 1.0);
        });
        for c in 0..width {
            let at = first + c;
            for row in 0..n {
                let inside = (first..first + width).contains(&row);
                let value = if inside { -inverse[(row - first, c)] } else { scaled[(row, c)] };
                if row >= at {
                    a[at * n + row] = value;
                } else if !inside {
                    a[row * n + at] = value;
                }
            }
        }
    }
    a.par_iter_mut().for_each(|value| *value = -*value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::monitor::Silent;
    use crate::rng::{Rng, Use};

    fn checked(n: usize, seed: u64) {
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 7);
        let x = DMatrix::from_fn(n + 3, n, |_, _| f64::from(rng.normal()));
        let matrix = x.transpose() * &x + DMatrix::identity(n, n) * (0.5 + n as f64);
        let mut a = matrix.as_slice().to_vec();
        // Above the diagonal nothing is read.
        for column in 0..n {
            a[column * n..column * n + column].fill(f64::NAN);
        }
        invert(&mut a, n, &Silent).unwrap();
        let inverse = DMatrix::from_fn(n, n, |r, c| a[r.min(c) * n + r.max(c)]);
        let far = (matrix * inverse - DMatrix::identity(n, n)).amax();
        // Double precision times the condition, which the diagonal keeps below a hundred.
        assert!(far <= 1e-11 * n as f64, "{n}: {far}");
    }

    proptest! {
        #![proptest_config(crate::testing::cases(24))]
        #[test]
        fn the_product_with_the_matrix_is_one(n in 1usize..40, seed in 0u64..1000) {
            checked(n, seed);
        }
    }

    #[test]
    fn blocks_meet_at_their_edges() {
        for n in [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17] {
            checked(n, n as u64);
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert!(invert(&mut [1.0, 2.0, 2.0, 1.0], 2, &Silent).is_err());
        assert!(invert(&mut [1.0], 2, &Silent).is_err());
        assert!(invert(&mut [], 0, &Silent).is_ok());
    }
}
