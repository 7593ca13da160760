//! Implicit ALS (Hu, Koren and Volinsky, ICDM 2008): vectors of users and items by weighted least
//! squares over all pairs, a like counting 1 and everything else 0 with a small weight.
//!
//! With `w` the weight of a pair without a like, a user's vector p solves
//!
//! ```text
//! (w F'F + sum over likes f f' + ridge (likes + w items)) p = sum over likes f
//! ```
//!
//! The ridge grows with what a row has to fit (Rendle et al., RecSys 2022), which is what makes the
//! model as good as it can be. Items alone are kept: a user's vector is solved for when it is asked
//! for.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::ratings::{Ratings, Weight};
use super::settings::FactorSettings;
use super::{Ranker, SILENT, Whom};
use crate::error::{Error, Result};
use crate::eval::rows;
use crate::monitor::Monitor;
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

/// Item vectors.
pub struct Factors {
    likes: Weight,
    settings: FactorSettings,
    /// Items x dim; zero rows for items that nobody likes.
    items: Matrix,
    /// `w F'F` of the items.
    gram: DMatrix<f64>,
}

/// The weighted Gram matrix of all rows.
fn gram(rows: &Matrix, weight: f64) -> DMatrix<f64> {
    let d = rows.cols();
    // Blocks in a fixed order: the bits do not depend on the number of threads.
    let parts: Vec<DMatrix<f64>> = (0..rows.rows().div_ceil(1024))
        .into_par_iter()
        .map(|block| {
            let (from, to) = (1024 * block, (1024 * (block + 1)).min(rows.rows()));
            let part = DMatrix::from_fn(d, to - from, |c, r| f64::from(rows.row(from + r)[c]));
            &part * part.transpose()
        })
        .collect();
    parts.into_iter().fold(DMatrix::zeros(d, d), |sum, part| sum + part) * weight
}

/// The vector of one row from the other side's vectors of what it likes.
fn solve(liked: &[(u32, f32)], other: &Matrix, gram: &DMatrix<f64>, settings: &FactorSettings) -> DVector<f64> {
    let d = other.cols();
    let own = DMatrix::from_fn(d, liked.len(), |c, r| f64::from(other.row(liked[r].0 as usize)[c]));
    let mut left = gram.clone();
    left.gemm(1.0, &own, &own.transpose(), 1.0);
    let ridge = settings.ridge * (liked.len() as f64 + settings.unseen_weight * other.rows() as f64);
    (0..d).for_each(|at| left[(at, at)] += ridge);
    let right = own.column_sum();
    left.cholesky().map_or_else(|| DVector::zeros(d), |factor| factor.solve(&right))
}

fn side(rows: &[Vec<(u32, f32)>], other: &Matrix, settings: &FactorSettings) -> Result<Matrix> {
    let gram = gram(other, settings.unseen_weight);
    let solved: Vec<f32> = rows
        .par_iter()
        .flat_map_iter(|liked| {
            // Nothing is known of a row without likes.
            let own =
                if liked.is_empty() { DVector::zeros(other.cols()) } else { solve(liked, other, &gram, settings) };
            own.iter().map(|&v| v as f32).collect::<Vec<_>>()
        })
        .collect();
    Matrix::from_vec(rows.len(), other.cols(), solved)
}

impl Factors {
    /// Fits item vectors. FLOP of a sweep: `4 n d^2 + (users + items) d^3 / 3` for n likes.
    ///
    /// # Errors
    /// A stop that was asked for.
    pub fn fit(ratings: &Ratings, settings: &FactorSettings, monitor: &dyn Monitor) -> Result<Self> {
        let weight = Weight::Like(ratings.threshold);
        let table = ratings.weighed(weight);
        let likes = table.by_user.iter().map(Vec::len).sum();
        let users = table.by_user.iter().filter(|own| !own.is_empty()).count();
        let settings = &settings.weighed(likes, users, table.present().len());
        // One start for all: what differs between runs is the data.
        let mut rng = Rng::new(0, Use::Init, 0, 0x6661_6374);
        let start = (0..ratings.items * settings.dim).map(|_| 0.1 * rng.normal()).collect();
        let mut items = Matrix::from_vec(ratings.items, settings.dim, start)?;
        for _ in 0..settings.sweeps {
            monitor.check()?;
            let users = side(&table.by_user, &items, settings)?;
            items = side(&table.by_item, &users, settings)?;
        }
        Self::from_parts(weight, items, settings)
    }

    /// From the item vectors that [`Self::items`] gave, with the weight that
    /// [`Self::unseen_weight`] gave.
    ///
    /// # Errors
    /// Vectors of another length, or not finite.
    pub fn from_parts(likes: Weight, items: Matrix, settings: &FactorSettings) -> Result<Self> {
        if items.cols() != settings.dim || items.as_slice().iter().any(|v| !v.is_finite()) {
            return Err(Error::failed("implicit ALS", "item vectors are not those of these settings"));
        }
        let gram = gram(&items, settings.unseen_weight);
        Ok(Self { likes, settings: settings.clone(), items, gram })
    }

    /// What a pair without a like weighs.
    pub fn unseen_weight(&self) -> f64 {
        self.settings.unseen_weight
    }

    /// Items x dim.
    pub fn items(&self) -> &Matrix {
        &self.items
    }
}

impl Ranker for Factors {
    fn name(&self) -> &'static str {
        rows::FACTORS
    }

    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        let zero = |row: &[f32]| row.iter().all(|&v| v == 0.0);
        let mut liked = self.likes.of(whom.history);
        liked.retain(|like| (like.0 as usize) < self.items.rows() && !zero(self.items.row(like.0 as usize)));
        if liked.is_empty() {
            return false;
        }
        let own: Vec<f32> = solve(&liked, &self.items, &self.gram, &self.settings).iter().map(|&v| v as f32).collect();
        for (item, score) in scores.iter_mut().enumerate() {
            let row = self.items.row(item);
            *score = if zero(row) { SILENT } else { row.iter().zip(&own).map(|(a, b)| a * b).sum() };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_ratings, history};
    use super::*;
    use crate::monitor::Silent;

    proptest! {
        /// At the minimum of the loss over all pairs, written out, its slope vanishes.
        #[test]
        fn a_users_vector_is_at_the_minimum(rows in any_ratings(), user in 0usize..12) {
            let settings = FactorSettings { dim: 3, sweeps: 2, ..FactorSettings::default() };
            let factors = Factors::fit(&rows, &settings, &Silent).unwrap();
            let liked = Weight::Like(3.0).of(&history(&rows, user));
            // A user without likes has no vector.
            if liked.is_empty() {
                return Ok(());
            }
            let p = solve(&liked, factors.items(), &factors.gram, &factors.settings);
            let f = |i: usize, c: usize| f64::from(factors.items().row(i)[c]);
            let unseen = factors.unseen_weight();
            prop_assert!(unseen > 0.0 && unseen <= 0.1);
            let ridge = settings.ridge * (liked.len() as f64 + unseen * rows.items as f64);
            for c in 0..3 {
                let mut slope = ridge * p[c];
                for i in 0..rows.items {
                    let dot: f64 = (0..3).map(|c| f(i, c) * p[c]).sum();
                    slope += unseen * dot * f(i, c);
                    if liked.iter().any(|l| l.0 as usize == i) {
                        slope += (dot - 1.0) * f(i, c);
                    }
                }
                // Sums of a few dozen terms of size 1 in double precision.
                prop_assert!(slope.abs() <= 1e-9, "{} at {}", slope, c);
            }
        }
    }
    /// A published weight for dense tables made every list of a sparse one the same.
    #[test]
    fn the_weight_of_unseen_pairs_follows_the_share_of_likes() {
        let auto = FactorSettings::default();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12;
        assert!(near(auto.weighed(810_128, 29_858, 40_981).unseen_weight, 5.0 * 810_128.0 / (29_858.0 * 40_981.0)));
        assert!(near(auto.weighed(575_281, 6_040, 3_706).unseen_weight, 0.1));
        assert!(near(auto.weighed(0, 0, 0).unseen_weight, 0.1));
        let own = FactorSettings { unseen_weight: 0.02, ..auto };
        assert!(near(own.weighed(1, 10, 10).unseen_weight, 0.02));
    }
}
