//! Principal components, centred, without whitening.
//!
//! Up to 1,024 columns the covariance's eigenvectors are taken directly; above that, block subspace
//! iteration. Both are deterministic; a component's sign is fixed so that its largest value (the
//! first of equals) is positive.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::error::{Error, Result};
use crate::ops::linear::{Weight, matmul_nt, matmul_tn};
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

/// Widest covariance that is decomposed directly.
const DIRECT: usize = 1024;
/// Columns carried beyond those wanted; they speed up convergence.
const EXTRA: usize = 16;
/// Most sweeps of the iteration, and the relative change of the eigenvalues that ends it.
const SWEEPS: usize = 200;
const CHANGE: f64 = 1e-7;

/// A fitted projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    mean: Vec<f32>,
    /// k x d, one component a row, largest variance first.
    components: Matrix,
    variances: Vec<f64>,
}

impl Pca {
    /// Fits the first `k` components of the rows of `x`; fewer when `x` has fewer rows or columns.
    pub fn fit(x: &Matrix, k: usize) -> Result<Self> {
        let (n, d) = (x.rows(), x.cols());
        if n == 0 || d == 0 || k == 0 {
            return Err(Error::input("pca", format!("{k} components of {n} x {d} values")));
        }
        if let Some(at) = x.as_slice().iter().position(|v| !v.is_finite()) {
            return Err(Error::input(format!("pca: row {}", at / d), "it has a value that is not finite")
                .next("make the embeddings again"));
        }
        let mut sums = vec![0.0f64; d];
        for r in 0..n {
            sums.iter_mut().zip(x.row(r)).for_each(|(s, &v)| *s += f64::from(v));
        }
        let mean: Vec<f32> = sums.iter().map(|s| (s / n as f64) as f32).collect();
        let centred: Vec<f32> =
            x.as_slice().chunks_exact(d).flat_map(|r| r.iter().zip(&mean).map(|(v, m)| v - m)).collect();
        let k = k.min(d).min(n);
        let (mut components, variances) =
            if d <= DIRECT { direct(&centred, n, d, k)? } else { iterate(&centred, n, d, k)? };
        for r in 0..k {
            let row = components.row_mut(r);
            let mut largest = 0;
            for (i, v) in row.iter().enumerate() {
                // A margin, so that rounding does not choose between equals.
                if v.abs() > row[largest].abs() * (1.0 + 1e-4) {
                    largest = i;
                }
            }
            if row[largest] < 0.0 {
                row.iter_mut().for_each(|v| *v = -*v);
            }
        }
        Ok(Self { mean, components, variances })
    }

    /// Variance along each component, descending.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// k x d, one component a row.
    pub fn components(&self) -> &Matrix {
        &self.components
    }

    /// Projects rows: n x d to n x k.
    pub fn apply(&self, x: &Matrix) -> Result<Matrix> {
        let (d, k) = (self.mean.len(), self.components.rows());
        if x.cols() != d {
            return Err(Error::failed("pca", format!("fitted on {d} columns, given {}", x.cols())));
        }
        let centred: Vec<f32> =
            x.as_slice().chunks_exact(d).flat_map(|r| r.iter().zip(&self.mean).map(|(v, m)| v - m)).collect();
        let mut out = Matrix::zeros(x.rows(), k);
        let weight = Weight::from_f32(k, d, self.components.as_slice().to_vec())?;
        matmul_nt(&centred, &weight, out.as_mut_slice(), false);
        Ok(out)
    }
}

/// Eigenvectors of a small symmetric matrix, largest value first: (values, one vector a row).
fn eigen(m: DMatrix<f64>, keep: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = m.nrows();
    let eigen = SymmetricEigen::new(m);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    order.truncate(keep);
    let values = order.iter().map(|&i| eigen.eigenvalues[i]).collect();
    (values, order.iter().map(|&i| eigen.eigenvectors.column(i).iter().copied().collect()).collect())
}

fn direct(centred: &[f32], n: usize, d: usize, k: usize) -> Result<(Matrix, Vec<f64>)> {
    let mut covariance = vec![0.0f32; d * d];
    matmul_tn(centred, d, centred, d, &mut covariance, 1.0, false);
    let share = 1.0 / (n.max(2) - 1) as f64;
    // The mean of both triangles: a product need not be symmetric to the last bit.
    let m = DMatrix::from_fn(d, d, |r, c| {
        (f64::from(covariance[r * d + c]) + f64::from(covariance[c * d + r])) * 0.5 * share
    });
    let (values, vectors) = eigen(m, k);
    let data = vectors.iter().flatten().map(|&v| v as f32).collect();
    Ok((Matrix::from_vec(k, d, data)?, values.into_iter().map(|v| v.max(0.0)).collect()))
}

/// Orthonormal columns of `q` (d x b), kept as f64.
fn orthonormal(q: DMatrix<f64>) -> DMatrix<f64> {
    q.qr().q()
}

/// Block subspace iteration on X^T X with Rayleigh-Ritz at every sweep.
fn iterate(centred: &[f32], n: usize, d: usize, k: usize) -> Result<(Matrix, Vec<f64>)> {
    let b = (k + EXTRA).min(d).min(n.max(k));
    let mut rng = Rng::new(0, Use::Init, 0, 1);
    let mut q = orthonormal(DMatrix::from_fn(d, b, |_, _| f64::from(rng.normal())));
    let share = 1.0 / (n.max(2) - 1) as f64;
    let mut before = vec![0.0; k];
    for _ in 0..SWEEPS {
        // X Q by a product whose weight is Q^T: nalgebra's column-major Q is exactly that,
        // row-major.
        let weight = Weight::from_f32(b, d, q.iter().map(|&v| v as f32).collect())?;
        let mut image = vec![0.0f32; n * b];
        matmul_nt(centred, &weight, &mut image, false);
        let mut back = vec![0.0f32; b * d];
        matmul_tn(&image, b, centred, d, &mut back, share as f32, false);
        let back = DMatrix::from_fn(d, b, |r, c| f64::from(back[c * d + r]));
        let small = q.transpose() * &back;
        let small = (&small + small.transpose()) * 0.5;
        let (values, vectors) = eigen(small, b);
        let turn = DMatrix::from_fn(b, b, |r, c| vectors[c][r]);
        let scale = values[0].abs().max(f64::MIN_POSITIVE);
        let change = values.iter().zip(&before).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
        before = values[..k].to_vec();
        if change <= CHANGE {
            q = &q * &turn;
            break;
        }
        q = orthonormal(&back * &turn);
    }
    let data = (0..k).flat_map(|c| q.column(c).iter().map(|&v| v as f32).collect::<Vec<_>>()).collect();
    Ok((Matrix::from_vec(k, d, data)?, before.into_iter().map(|v| v.max(0.0)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with planted orthogonal directions of falling strength, plus noise.
    fn planted(n: usize, d: usize, strengths: &[f32]) -> Matrix {
        let mut rng = Rng::new(3, Use::Synthetic, 0, 0);
        let mut x = Matrix::zeros(n, d);
        for r in 0..n {
            let row = x.row_mut(r);
            row.iter_mut().for_each(|v| *v = 5.0 + 0.01 * rng.normal());
            for (k, s) in strengths.iter().enumerate() {
                row[3 * k] += s * rng.normal();
            }
        }
        x
    }

    #[test]
    fn directions_come_in_order_of_variance_with_fixed_sign() {
        for d in [40, 1100] {
            let x = planted(300, d, &[4.0, 2.0, 1.0]);
            let pca = Pca::fit(&x, 3).unwrap();
            for k in 0..3 {
                let value = pca.components().row(k)[3 * k];
                assert!(value > 0.98, "d {d}, component {k}: {value}");
            }
            let v = pca.variances();
            assert!(v[0] > 12.0 && v[0] < 20.0 && v[1] > 3.0 && v[1] < 5.0 && v[2] > 0.7 && v[2] < 1.4, "{v:?}");
            let y = pca.apply(&x).unwrap();
            for k in 0..3 {
                let mean: f32 = (0..300).map(|r| y.row(r)[k]).sum::<f32>() / 300.0;
                assert!(mean.abs() <= 1e-3, "component {k} is not centred: {mean}");
            }
        }
    }

    #[test]
    fn the_iteration_agrees_with_the_direct_way() {
        let x = planted(200, 60, &[4.0, 3.0, 2.0, 1.5, 1.0]);
        let centred: Vec<f32> = {
            let pca = Pca::fit(&x, 5).unwrap();
            x.as_slice().chunks_exact(60).flat_map(|r| r.iter().zip(&pca.mean).map(|(v, m)| v - m)).collect()
        };
        let (a, va) = direct(&centred, 200, 60, 5).unwrap();
        let (b, vb) = iterate(&centred, 200, 60, 5).unwrap();
        for k in 0..5 {
            let cosine: f32 = a.row(k).iter().zip(b.row(k)).map(|(a, b)| a * b).sum();
            assert!(cosine.abs() >= 0.9999, "component {k}: {cosine}");
            assert!((va[k] - vb[k]).abs() <= 1e-4 * va[k], "variance {k}");
        }
    }

    #[test]
    fn few_rows_give_few_components_and_nonsense_is_refused() {
        assert_eq!(Pca::fit(&planted(3, 10, &[1.0]), 8).unwrap().components().rows(), 3);
        assert!(Pca::fit(&Matrix::zeros(0, 4), 2).is_err());
        assert!(Pca::fit(&Matrix::zeros(4, 4), 0).is_err());
        let mut x = Matrix::zeros(4, 4);
        x.row_mut(2)[1] = f32::INFINITY;
        assert!(Pca::fit(&x, 2).unwrap_err().to_string().contains("row 2"));
        assert!(Pca::fit(&Matrix::zeros(4, 4), 2).unwrap().apply(&Matrix::zeros(1, 3)).is_err());
    }
}
