//! EASE (Steck, WWW 2019): each item from all others by one ridge regression, in closed form.
//!
//! With X the users x items table and `P = (X'X + ridge)^-1`, the weight of item i for item j is
//! `-P_ij / P_jj`, and 0 for an item itself. A user's scores are the user's row of X times these
//! weights, so a user who came later is served as any other.

use rayon::prelude::*;

use super::inverse::invert;
use super::ratings::{Ratings, Weight};
use super::{Ranker, SILENT, Whom};
use crate::data::ItemIdx;
use crate::error::Result;
use crate::eval::rows;
use crate::monitor::Monitor;
use crate::tensor::Matrix;

/// Not an item that somebody has.
const NONE: u32 = u32::MAX;

/// Bytes of an entry of the items x items table while it is fitted: one in double, one in single
/// precision.
const ENTRY: u64 = 12;

/// The weights.
pub struct Ease {
    weight: Weight,
    /// `weights[i][j]`: what item i says of item j; over the items that somebody has.
    weights: Matrix,
    /// The item of each row.
    item: Vec<u32>,
    /// The row of each item, or [`NONE`].
    row: Vec<u32>,
}

/// Bytes that a fit over these rows takes.
pub fn bytes(ratings: &Ratings, weight: Weight) -> u64 {
    let n = ratings.weighed(weight).present().len() as u64;
    ENTRY * n * n
}

impl Ease {
    /// Fits the weights. FLOP: `n^3` for n items that somebody has.
    ///
    /// # Errors
    /// A ridge that is too small; a stop that was asked for.
    pub fn fit(ratings: &Ratings, weight: Weight, ridge: f64, monitor: &dyn Monitor) -> Result<Self> {
        let table = ratings.weighed(weight);
        let item = table.present();
        let (n, row) = (item.len(), rows_of(&item, ratings.items));
        let mut gram = vec![0.0f64; n * n];
        gram.par_chunks_mut(n.max(1)).zip(&item).for_each(|(own, &item)| {
            for &(user, mine) in &table.by_item[item as usize] {
                for &(other, theirs) in &table.by_user[user as usize] {
                    own[row[other as usize] as usize] += f64::from(mine) * f64::from(theirs);
                }
            }
        });
        gram.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal += ridge);
        invert(&mut gram, n, monitor)?;
        let diagonal: Vec<f64> = (0..n).map(|j| gram[j * n + j]).collect();
        let mut weights = vec![0.0f32; n * n];
        weights.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, own)| {
            for (j, to) in own.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                *to = (-gram[i.min(j) * n + i.max(j)] / diagonal[j]) as f32;
            }
        });
        Ok(Self { weight, weights: Matrix::from_vec(n, n, weights)?, item, row })
    }

    /// From weights that [`Self::weights`] gave, and the items that they stand for.
    ///
    /// # Errors
    /// Shapes that do not agree.
    pub fn from_parts(weight: Weight, weights: Matrix, item: Vec<u32>, items: usize) -> Result<Self> {
        let n = item.len();
        if weights.rows() != n || weights.cols() != n || item.iter().any(|&item| item as usize >= items) {
            return Err(crate::error::Error::failed("EASE", "weights and items do not agree"));
        }
        let row = rows_of(&item, items);
        Ok(Self { weight, weights, item, row })
    }

    /// The weights, over [`Self::items`].
    pub fn weights(&self) -> &Matrix {
        &self.weights
    }

    /// The items that they stand for, rising.
    pub fn items(&self) -> &[u32] {
        &self.item
    }

    fn known(&self, whom: Whom<'_>) -> Vec<(usize, f32)> {
        let row = |(item, weight): (u32, f32)| match self.row.get(item as usize) {
            Some(&row) if row != NONE => Some((row as usize, weight)),
            _ => None,
        };
        self.weight.of(whom.history).into_iter().filter_map(row).collect()
    }
}

fn rows_of(item: &[u32], items: usize) -> Vec<u32> {
    let mut row = vec![NONE; items];
    (0..).zip(item).for_each(|(at, &item)| row[item as usize] = at);
    row
}

impl Ranker for Ease {
    fn name(&self) -> &'static str {
        match self.weight {
            Weight::Like(_) => rows::EASE,
            Weight::Scale(..) => rows::EASE_RATED,
        }
    }

    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        let known = self.known(whom);
        if known.is_empty() {
            return false;
        }
        let mut sum = vec![0.0f32; self.item.len()];
        for (row, weight) in known {
            sum.iter_mut().zip(self.weights.row(row)).for_each(|(sum, w)| *sum += weight * w);
        }
        scores.fill(SILENT);
        for (&item, sum) in self.item.iter().zip(sum) {
            if let Some(score) = scores.get_mut(item as usize) {
                *score = sum;
            }
        }
        true
    }

    fn because(&self, whom: Whom<'_>, item: ItemIdx) -> Vec<(ItemIdx, f32)> {
        let Some(&column) = self.row.get(item.at()).filter(|row| **row != NONE) else { return Vec::new() };
        let speaks =
            |(row, weight): (usize, f32)| (ItemIdx(self.item[row]), weight * self.weights.row(row)[column as usize]);
        self.known(whom).into_iter().map(speaks).collect()
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    use super::super::tests::{any_ratings, history};
    use super::*;
    use crate::monitor::Silent;

    proptest! {
        /// Against a plain inverse in f64.
        #[test]
        fn scores_are_those_of_the_definition(
            rows in any_ratings(), ridge in 0.5f64..50.0, user in 0usize..12, graded in any::<bool>()
        ) {
            let weight = if graded { Weight::Scale(1.0, 5.0) } else { Weight::Like(3.0) };
            let ease = Ease::fit(&rows, weight, ridge, &Silent).unwrap();
            let of = |r: f32| match weight {
                Weight::Like(_) => f64::from(u8::from(r > 3.0)),
                Weight::Scale(..) => f64::from(r - 1.0) / 4.0,
            };
            let mut x = DMatrix::<f64>::zeros(rows.by_user.len(), rows.items);
            for (u, own) in rows.by_user.iter().enumerate() {
                own.iter().for_each(|r| x[(u, r.item.at())] = of(r.rating));
            }
            let gram = x.transpose() * &x + DMatrix::identity(rows.items, rows.items) * ridge;
            let p = gram.try_inverse().unwrap();
            let b = DMatrix::from_fn(rows.items, rows.items, |i, j| if i == j { 0.0 } else { -p[(i, j)] / p[(j, j)] });
            let want = x.row(user) * b;
            let own = history(&rows, user);
            let mut got = vec![0.0; rows.items];
            let whom = Whom { user: None, history: &own };
            prop_assert_eq!(ease.scores(whom, &mut got), x.row(user).amax() > 0.0);
            if x.row(user).amax() > 0.0 {
                for (item, &got) in got.iter().enumerate() {
                    // Weights are below 1 and rounded once to single precision.
                    let got = if got == SILENT { 0.0 } else { f64::from(got) };
                    prop_assert!((got - want[item]).abs() <= 1e-5, "item {}: {} is not {}", item, got, want[item]);
                    let sum: f64 = ease.because(whom, ItemIdx(item as u32)).iter().map(|b| f64::from(b.1)).sum();
                    prop_assert!((sum - want[item]).abs() <= 1e-5, "reasons of {}: {} is not {}", item, sum, want[item]);
                }
            }
            let again = Ease::from_parts(weight, ease.weights().clone(), ease.items().to_vec(), rows.items).unwrap();
            let mut same = vec![0.0; rows.items];
            again.scores(whom, &mut same);
            prop_assert!(x.row(user).amax() == 0.0 || same == got);
        }
    }
}
