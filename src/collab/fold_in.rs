//! Fold-in (Sarwar et al., ICCIT 2002): what a user's own earlier ratings say of a target, through
//! item vectors.
//!
//! The user's vector p is not trained; it is solved for. With `q_j` the vector of item j and `e_j`
//! the residual of the user's rating of it (less the means of the item and of the user),
//!
//! ```text
//! p = argmin  sum over history (e_j - q_j . p)^2 + ridge |p|^2
//! estimate for target t = q_t . p
//! ```
//!
//! so a user who came after training is served as well as any other, and the target's own rating
//! has no part in it. The item vectors are those of LightGCN or of [`als`](super::als), a
//! factorisation of the ratings themselves.

use nalgebra::{DMatrix, DVector};

use super::settings::above_zero;
use crate::data::{ItemIdx, Rated};
use crate::error::{Error, Result};
use crate::tensor::Matrix;
use crate::tensor::simd::vectorized;

/// The mean rating of every item, before a user's own leaning.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemMeans {
    /// One an item, in the data set's scale.
    pub stars: Vec<f64>,
    /// Pseudo-ratings that hold a user's leaning near zero.
    pub shrinkage: f64,
}

impl ItemMeans {
    /// The rating that item and user leave to expect: the item's mean, and how far the user's
    /// earlier ratings are above those of their items, shrunk.
    pub fn expected(&self, target: ItemIdx, history: &[Rated]) -> f64 {
        let all = self.stars.iter().sum::<f64>() / self.stars.len().max(1) as f64;
        let known = history.iter().filter(|r| r.item != target && r.item.at() < self.stars.len());
        let (sum, n) = known.fold((0.0, 0.0), |(s, n), r| (s + f64::from(r.rating) - self.stars[r.item.at()], n + 1.0));
        self.stars.get(target.at()).copied().unwrap_or(all) + sum / (n + self.shrinkage)
    }

    /// Each rating less its item's mean and less the (shrunk) mean of those differences, as `(item,
    /// residual)`. Ratings of `without` and of unknown items are left out.
    pub(super) fn residuals(&self, history: &[Rated], without: Option<ItemIdx>) -> Vec<(usize, f64)> {
        let known = history.iter().filter(|r| Some(r.item) != without && r.item.at() < self.stars.len());
        let mut residuals: Vec<(usize, f64)> =
            known.map(|r| (r.item.at(), f64::from(r.rating) - self.stars[r.item.at()])).collect();
        let leaning = residuals.iter().map(|r| r.1).sum::<f64>() / (residuals.len() as f64 + self.shrinkage);
        residuals.iter_mut().for_each(|r| r.1 -= leaning);
        residuals
    }
}

/// Item vectors ready for folding in.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldIn {
    means: ItemMeans,
    vectors: Matrix,
    ridge: f64,
}

impl FoldIn {
    /// On LightGCN's item embeddings (items x d), brought to mean 0 and length 1. Nothing is known
    /// of an item outside the graph: its row of zeros stays one, and has no part in the mean.
    ///
    /// # Errors
    /// Shapes that do not agree, a ridge out of range.
    pub fn on_embeddings(items: &Matrix, means: ItemMeans, ridge: f64) -> Result<Self> {
        let (n, d) = (items.rows(), items.cols());
        let known: Vec<usize> = (0..n).filter(|&i| items.row(i).iter().any(|x| *x != 0.0)).collect();
        let mut mean = vec![0.0f64; d];
        for &i in &known {
            items.row(i).iter().zip(&mut mean).for_each(|(x, m)| *m += f64::from(*x) / known.len() as f64);
        }
        let mut vectors = Matrix::zeros(n, d);
        for &i in &known {
            let centred: Vec<f64> = items.row(i).iter().zip(&mean).map(|(x, m)| f64::from(*x) - m).collect();
            let length = centred.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length > 0.0 {
                vectors.row_mut(i).iter_mut().zip(&centred).for_each(|(to, x)| *to = (x / length) as f32);
            }
        }
        Self::new(vectors, means, ridge)
    }

    /// On vectors (items x d) as they are.
    ///
    /// # Errors
    /// Shapes that do not agree, a value that is not finite, a ridge out of range.
    pub fn new(vectors: Matrix, means: ItemMeans, ridge: f64) -> Result<Self> {
        above_zero("ridge", ridge)?;
        if vectors.rows() != means.stars.len() {
            let what = format!("{} vectors for {} items", vectors.rows(), means.stars.len());
            return Err(Error::input("fold-in", what).next("make both from the same data set"));
        }
        if let Some(at) = vectors.as_slice().iter().position(|v| !v.is_finite()) {
            return Err(Error::input(format!("fold-in, item {}", at / vectors.cols()), "a vector that is not finite")
                .next("run the graph stage again: --from graph"));
        }
        Ok(Self { means, vectors, ridge })
    }

    /// The estimate for `target`, in the rating's scale, 0 for a user without history or an item
    /// that is not known.
    pub fn estimate(&self, target: ItemIdx, history: &[Rated]) -> f64 {
        let residuals = self.means.residuals(history, Some(target));
        let p = fold_in(&self.vectors, &residuals, self.ridge);
        if target.at() >= self.vectors.rows() {
            return 0.0;
        }
        self.vectors.row(target.at()).iter().zip(p.iter()).map(|(q, p)| f64::from(*q) * p).sum()
    }
}

vectorized! {
    /// `gram += q q^T` (d x d) and `right += residual q`.
    fn add_outer(gram: &mut [f64], right: &mut [f64], q: &[f64], residual: f64) {
        for (row, &qa) in gram.chunks_exact_mut(q.len()).zip(q) {
            for (to, &qb) in row.iter_mut().zip(q) {
                *to += qa * qb;
            }
        }
        for (to, &qb) in right.iter_mut().zip(q) {
            *to += residual * qb;
        }
    }
}

/// Ridge regression of `residuals` on the vectors of their items. FLOP: `2 h d^2 + d^3 / 3` for h
/// ratings.
pub(super) fn fold_in(vectors: &Matrix, residuals: &[(usize, f64)], ridge: f64) -> DVector<f64> {
    let d = vectors.cols();
    let (mut gram, mut right, mut q) = (vec![0.0; d * d], vec![0.0; d], vec![0.0; d]);
    for &(item, residual) in residuals {
        q.iter_mut().zip(vectors.row(item)).for_each(|(to, from)| *to = f64::from(*from));
        add_outer(&mut gram, &mut right, &q, residual);
    }
    gram.iter_mut().step_by(d + 1).for_each(|x| *x += ridge);
    // A positive ridge and finite vectors make it positive definite.
    let solved = DMatrix::from_vec(d, d, gram).cholesky().map(|c| c.solve(&DVector::from_vec(right)));
    solved.unwrap_or_else(|| DVector::zeros(d))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Rng, Use};

    fn rated(item: u32, rating: f32) -> Rated {
        Rated { item: ItemIdx(item), rating, time: 0 }
    }

    fn matrix(n: usize, d: usize, seed: u64) -> Matrix {
        let mut rng = Rng::new(seed, Use::Synthetic, 1, 1);
        Matrix::from_vec(n, d, (0..n * d).map(|_| rng.normal()).collect()).unwrap()
    }

    proptest! {
        /// At the minimum the gradient vanishes.
        #[test]
        fn fold_in_is_at_the_minimum(n in 1usize..30, d in 1usize..12, ridge in 0.01f64..10.0, seed in 0u64..1000) {
            let vectors = matrix(n, d, seed);
            let mut rng = Rng::new(seed, Use::Synthetic, 2, 2);
            let residuals: Vec<(usize, f64)> = (0..n).map(|i| (i, f64::from(rng.normal()))).collect();
            let p = fold_in(&vectors, &residuals, ridge);
            let dot = |i: usize| vectors.row(i).iter().zip(p.iter()).map(|(q, p)| f64::from(*q) * p).sum::<f64>();
            for a in 0..d {
                let slope: f64 = residuals.iter().map(|&(i, e)| f64::from(vectors.row(i)[a]) * (dot(i) - e)).sum();
                prop_assert!((slope + ridge * p[a]).abs() <= 1e-8 * (1.0 + n as f64), "{} at {}", slope, a);
            }
        }

        #[test]
        fn the_targets_own_rating_says_nothing(rating in 1f32..5.0, seed in 0u64..1000) {
            let means = ItemMeans { stars: vec![3.0; 6], shrinkage: 10.0 };
            let fold_in = FoldIn::new(matrix(6, 3, seed), means, 1.0).unwrap();
            let others = [rated(0, 5.0), rated(1, 1.0), rated(3, 4.0)];
            let with: Vec<Rated> = others.iter().copied().chain([rated(2, rating)]).collect();
            prop_assert_eq!(fold_in.estimate(ItemIdx(2), &others), fold_in.estimate(ItemIdx(2), &with));
        }
    }

    #[test]
    fn likes_of_alike_items_speak_for_a_target() {
        // Items 0 and 1 are alike, 2 is their opposite.
        let vectors = Matrix::from_vec(3, 1, vec![1.0, 0.9, -1.0]).unwrap();
        let fold_in = FoldIn::new(vectors, ItemMeans { stars: vec![3.0; 3], shrinkage: 10.0 }, 1.0).unwrap();
        let history = [rated(0, 5.0)];
        assert!(fold_in.estimate(ItemIdx(1), &history) > 0.5 && fold_in.estimate(ItemIdx(2), &history) < -0.5);
        assert_eq!(fold_in.estimate(ItemIdx(1), &[]), 0.0);
        assert_eq!(fold_in.estimate(ItemIdx(9), &history), 0.0);
        // Ratings of items that are not in the catalogue are passed over.
        assert_eq!(fold_in.estimate(ItemIdx(1), &[rated(77, 5.0)]), 0.0);
    }

    #[test]
    fn an_item_outside_the_graph_spoke_by_the_direction_of_the_mean() {
        let items = Matrix::from_vec(4, 2, vec![3.0, 1.0, 1.0, 1.0, 4.0, -1.0, 0.0, 0.0]).unwrap();
        let means = ItemMeans { stars: vec![3.0; 4], shrinkage: 10.0 };
        let fold_in = FoldIn::on_embeddings(&items, means.clone(), 1.0).unwrap();
        let history = [rated(0, 5.0), rated(1, 1.0)];
        assert_eq!(fold_in.estimate(ItemIdx(3), &history), 0.0);
        // The others are as they would be without it.
        let alone = Matrix::from_vec(3, 2, items.as_slice()[..6].to_vec()).unwrap();
        let alone = FoldIn::on_embeddings(&alone, ItemMeans { stars: vec![3.0; 3], ..means }, 1.0).unwrap();
        assert_eq!(fold_in.estimate(ItemIdx(2), &history), alone.estimate(ItemIdx(2), &history));
        assert_ne!(fold_in.estimate(ItemIdx(2), &history), 0.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let means = |n| ItemMeans { stars: vec![3.0; n], shrinkage: 10.0 };
        assert!(FoldIn::new(Matrix::zeros(2, 2), means(3), 1.0).is_err());
        assert!(FoldIn::new(Matrix::zeros(2, 2), means(2), 0.0).is_err());
        let holes = Matrix::from_vec(1, 1, vec![f32::NAN]).unwrap();
        assert!(FoldIn::new(holes, means(1), 1.0).unwrap_err().place().contains("item 0"));
    }
}
