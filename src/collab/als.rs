//! Factors of explicit ratings by alternating least squares (Zhou et al., AAIM 2008): user and item
//! vectors in turn, each the exact solution of a ridge regression on the other side.
//!
//! Every row's solution depends on the other side alone, so rows are solved in parallel with the
//! same bits for any number of threads. FLOP of a sweep: `2 n d^2 + (users + items) d^3 / 3` for n
//! ratings.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fold_in::{ItemMeans, fold_in};
use crate::data::{Rated, Sample};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::rng::{Rng, Use};
use crate::settings::Checked;
use crate::tensor::Matrix;

/// The factorisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlsSettings {
    /// Length of the vectors.
    #[schemars(range(min = 1, max = 256))]
    pub dim: usize,
    /// Weight of the vectors' squared length.
    #[schemars(range(max = 1_000_000_000.0), extend("exclusiveMinimum" = 0))]
    pub ridge: f64,
    /// Times that both sides are solved.
    #[schemars(range(min = 1, max = 1000))]
    pub sweeps: u32,
    /// Seed of the first item vectors. Not set: `collab.seed`.
    pub seed: u64,
}

impl Default for AlsSettings {
    fn default() -> Self {
        Self { dim: 16, ridge: 16.0, sweeps: 8, seed: 42 }
    }
}

impl Checked for AlsSettings {}

/// Rows of `(column, value)`.
type Rows = Vec<Vec<(usize, f64)>>;

fn solve(rows: &Rows, other: &Matrix, ridge: f64) -> Result<Matrix> {
    let d = other.cols();
    let solved: Vec<f32> = rows
        .par_iter()
        .flat_map_iter(|row| {
            // Nothing is known of a row without ratings.
            let p = if row.is_empty() { vec![0.0; d] } else { fold_in(other, row, ridge).as_slice().to_vec() };
            p.into_iter().map(|v| v as f32)
        })
        .collect();
    Matrix::from_vec(rows.len(), d, solved)
}

/// Item vectors (items x dim) from the ratings of `samples`, each less the means of its item and
/// user.
///
/// # Errors
/// Settings out of range, an item without a mean rating, a stop that was asked for.
pub fn fit(samples: &[Sample], means: &ItemMeans, settings: &AlsSettings, monitor: &dyn Monitor) -> Result<Matrix> {
    settings.check()?;
    let items = means.stars.len();
    let users = samples.iter().map(|s| s.user.at() + 1).max().unwrap_or(0);
    let mut histories: Vec<Vec<Rated>> = vec![Vec::new(); users];
    for (row, s) in samples.iter().enumerate() {
        if s.item.at() >= items {
            return Err(Error::input(
                format!("factorisation, training row {row}"),
                format!("item {} of {items}", s.item.0),
            )
            .next("load items and samples from the same data set"));
        }
        histories[s.user.at()].push(Rated { item: s.item, rating: s.rating, time: s.time });
    }
    let by_user: Rows = histories.iter().map(|h| means.residuals(h, None)).collect();
    let mut by_item: Rows = vec![Vec::new(); items];
    for (user, residuals) in by_user.iter().enumerate() {
        for &(item, residual) in residuals {
            by_item[item].push((user, residual));
        }
    }
    let mut rng = Rng::new(settings.seed, Use::Init, 0, 0x0061_6c73);
    let start = (0..items * settings.dim).map(|_| 0.1 * rng.normal()).collect();
    let mut q = Matrix::from_vec(items, settings.dim, start)?;
    for _ in 0..settings.sweeps {
        monitor.check()?;
        let p = solve(&by_user, &q, settings.ridge)?;
        q = solve(&by_item, &p, settings.ridge)?;
    }
    Ok(q)
}

#[cfg(test)]
mod tests {
    use super::super::FoldIn;
    use super::*;
    use crate::data::{ItemIdx, UserIdx};
    use crate::monitor::Silent;

    /// Two kinds of users and of items: each likes its own kind only.
    fn two_camps(users: u32, items: u32) -> Vec<Sample> {
        let mut rng = Rng::new(3, Use::Synthetic, 0, 0);
        let mut out = Vec::new();
        for u in 0..users {
            for i in 0..items {
                if rng.below(3) > 0 {
                    let rating = if u % 2 == i % 2 { 5.0 } else { 1.0 };
                    let (user, item) = (UserIdx(u), ItemIdx(i));
                    out.push(Sample { user, item, rating, label: rating > 3.0, time: 0, position: 0 });
                }
            }
        }
        out
    }

    #[test]
    fn camps_are_found_and_serve_a_new_user() {
        let samples = two_camps(60, 20);
        let means = ItemMeans { stars: vec![3.0; 21], shrinkage: 10.0 };
        let settings = AlsSettings { dim: 2, ridge: 1.0, ..AlsSettings::default() };
        let q = fit(&samples, &means, &settings, &Silent).unwrap();
        assert_eq!(q, fit(&samples, &means, &settings, &Silent).unwrap());
        // Nobody rated the last item.
        assert_eq!(q.row(20), [0.0, 0.0]);
        let fold_in = FoldIn::new(q, means, settings.ridge).unwrap();
        let new = [(0, 5.0), (1, 1.0), (2, 5.0), (5, 1.0)].map(|(item, rating)| Rated {
            item: ItemIdx(item),
            rating,
            time: 0,
        });
        for item in 6..20 {
            let t = fold_in.estimate(ItemIdx(item), &new);
            assert!(if item % 2 == 0 { t > 0.5 } else { t < -0.5 }, "item {item}: {t}");
        }
    }

    #[test]
    fn each_sweep_lowers_the_objective() {
        let samples = two_camps(30, 12);
        let means = ItemMeans { stars: vec![3.0; 12], shrinkage: 10.0 };
        let loss = |sweeps: u32| -> f64 {
            let settings = AlsSettings { dim: 3, ridge: 2.0, sweeps, seed: 5 };
            let q = fit(&samples, &means, &settings, &Silent).unwrap();
            let mut by_user = vec![Vec::new(); 30];
            for s in &samples {
                by_user[s.user.at()].push(Rated { item: s.item, rating: s.rating, time: 0 });
            }
            let mut total: f64 = q.as_slice().iter().map(|v| 2.0 * f64::from(v * v)).sum();
            for history in by_user {
                let residuals = means.residuals(&history, None);
                let p = fold_in(&q, &residuals, 2.0);
                total += 2.0 * p.norm_squared();
                for (item, residual) in residuals {
                    let dot: f64 = q.row(item).iter().zip(p.iter()).map(|(q, p)| f64::from(*q) * p).sum();
                    total += (residual - dot).powi(2);
                }
            }
            total
        };
        let losses: Vec<f64> = [1, 2, 4, 8, 16].map(loss).to_vec();
        assert!(losses.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-5)), "{losses:?}");
    }

    #[test]
    fn bad_input_is_refused() {
        let means = ItemMeans { stars: vec![3.0; 2], shrinkage: 10.0 };
        let bad = |s: AlsSettings| fit(&[], &means, &s, &Silent).unwrap_err().place().to_string();
        assert!(bad(AlsSettings { dim: 0, ..AlsSettings::default() }).ends_with("dim"));
        assert!(bad(AlsSettings { sweeps: 0, ..AlsSettings::default() }).ends_with("sweeps"));
        assert!(bad(AlsSettings { ridge: f64::NAN, ..AlsSettings::default() }).ends_with("ridge"));
        assert!(fit(&two_camps(4, 3), &means, &AlsSettings::default(), &Silent).is_err());
        assert_eq!(fit(&[], &means, &AlsSettings::default(), &Silent).unwrap().as_slice(), [0.0; 32]);
    }
}
