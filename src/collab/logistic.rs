//! Logistic regression on a few features: Newton's method (IRLS) with a ridge.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `ln(p / (1 - p))`.
pub fn log_odds(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// Inverse of [`log_odds`].
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `p = sigmoid(intercept + weights . x)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// Log odds at x = 0.
    pub intercept: f64,
    /// One a feature.
    pub weights: Vec<f64>,
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl Logistic {
    /// Minimises `sum of log losses + ridge / 2 * |w|^2`, where w are the weights of the features
    /// brought to mean 0 and variance 1 and the intercept is free. `x` is rows x `features`,
    /// row-major. `ridge` must be positive: it is what keeps separable data finite; 1 is a mild
    /// choice.
    ///
    /// # Errors
    /// No or one-class rows, shapes that do not agree, a feature that is not finite, a ridge out of
    /// range.
    pub fn fit(x: &[f64], features: usize, labels: &[bool], ridge: f64) -> Result<Self> {
        let (n, d) = (labels.len(), features);
        if n.checked_mul(d) != Some(x.len()) || n == 0 {
            return Err(Error::input("logistic fit", format!("{} values for {n} rows of {d} features", x.len()))
                .next("give one row of features a label"));
        }
        if let Some(i) = x.iter().position(|v| !v.is_finite()) {
            return Err(Error::input(format!("logistic fit, row {}", i / d), format!("feature {} is {}", i % d, x[i]))
                .next("find the stage that produced it"));
        }
        let yes = labels.iter().filter(|&&y| y).count();
        if yes == 0 || yes == n {
            return Err(Error::input("logistic fit", format!("{yes} of {n} rows are liked"))
                .next("both classes are needed: use more rows"));
        }
        if !(ridge > 0.0 && ridge.is_finite()) {
            return Err(Error::usage("ridge", format!("{ridge} is out of range")).next("choose a number above 0"));
        }

        let column = |j: usize| x.iter().skip(j).step_by(d.max(1)).copied();
        let mean: Vec<f64> = (0..d).map(|j| column(j).sum::<f64>() / n as f64).collect();
        let spread: Vec<f64> = (0..d)
            .map(|j| (column(j).map(|v| (v - mean[j]).powi(2)).sum::<f64>() / n as f64).sqrt())
            // A constant feature says nothing; dividing by 1 leaves it at zero.
            .map(|s| if s > 0.0 { s } else { 1.0 })
            .collect();
        let design = DMatrix::from_fn(n, d + 1, |i, j| match j {
            0 => 1.0,
            j => (x[i * d + j - 1] - mean[j - 1]) / spread[j - 1],
        });
        let mut beta = DVector::zeros(d + 1);
        beta[0] = log_odds(yes as f64 / n as f64);
        let objective = |beta: &DVector<f64>| {
            let z = &design * beta;
            let loss: f64 = z.iter().zip(labels).map(|(&z, &y)| softplus(if y { -z } else { z })).sum();
            loss + ridge / 2.0 * beta.rows(1, d).norm_squared()
        };
        let mut value = objective(&beta);
        for _ in 0..100 {
            let p = (&design * &beta).map(sigmoid);
            let residual = DVector::from_fn(n, |i, _| p[i] - f64::from(u8::from(labels[i])));
            let mut gradient = design.tr_mul(&residual);
            let mut weighted = design.clone();
            for (i, mut row) in weighted.row_iter_mut().enumerate() {
                row *= p[i] * (1.0 - p[i]);
            }
            let mut hessian = design.tr_mul(&weighted);
            for j in 1..=d {
                gradient[j] += ridge * beta[j];
                hessian[(j, j)] += ridge;
            }
            // Keeps the intercept's curvature positive when every p has saturated.
            hessian[(0, 0)] += 1e-12;
            let Some(step) = hessian.cholesky().map(|c| c.solve(&gradient)) else { break };
            let mut scale = 1.0;
            let improved = loop {
                let next = &beta - &step * scale;
                let at = objective(&next);
                if at <= value {
                    let gain = value - at;
                    (beta, value) = (next, at);
                    break gain > 1e-12 * (1.0 + value.abs());
                }
                scale /= 2.0;
                if scale < 1e-10 {
                    break false;
                }
            };
            if !improved {
                break;
            }
        }
        let weights: Vec<f64> = (0..d).map(|j| beta[j + 1] / spread[j]).collect();
        let intercept = beta[0] - weights.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
        Ok(Self { intercept, weights })
    }

    /// Log odds of one row. Missing trailing features count as zero.
    pub fn log_odds(&self, x: &[f64]) -> f64 {
        self.intercept + self.weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
    }

    /// Probability of one row.
    pub fn predict(&self, x: &[f64]) -> f64 {
        sigmoid(self.log_odds(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};

    #[test]
    fn a_binary_feature_gives_the_log_odds_ratio() {
        // x = 0: 30 of 100 liked; x = 1: 60 of 100 liked.
        let x: Vec<f64> = (0..200).map(|i| f64::from(i >= 100)).collect();
        let y: Vec<bool> = (0..200).map(|i| if i < 100 { i < 30 } else { i < 160 }).collect();
        let fit = Logistic::fit(&x, 1, &y, 1e-9).unwrap();
        assert!((fit.intercept - (0.3f64 / 0.7).ln()).abs() <= 1e-6);
        assert!((fit.weights[0] - (1.5f64 / (3.0 / 7.0)).ln()).abs() <= 1e-6);
        assert!((fit.predict(&[1.0]) - 0.6).abs() <= 1e-6);
    }

    #[test]
    fn recovers_the_weights_it_was_drawn_from() {
        let mut rng = Rng::new(3, Use::Synthetic, 0, 0);
        let (mut x, mut y) = (vec![], vec![]);
        for _ in 0..20_000 {
            let (a, b) = (f64::from(rng.normal()), 100.0 + 5.0 * f64::from(rng.normal()));
            y.push(rng.uniform_f64() < sigmoid(0.3 + 0.8 * a - 0.1 * (b - 100.0)));
            x.extend([a, b]);
        }
        let fit = Logistic::fit(&x, 2, &y, 1.0).unwrap();
        // Standard errors are near 0.018 and 0.0036.
        assert!((fit.weights[0] - 0.8).abs() <= 0.07 && (fit.weights[1] + 0.1).abs() <= 0.015, "{fit:?}");
        // At the optimum the mean prediction is the mean label (the intercept carries no penalty).
        let mean = x.chunks(2).map(|r| fit.predict(r)).sum::<f64>() / y.len() as f64;
        let share = y.iter().filter(|y| **y).count() as f64 / y.len() as f64;
        assert!((mean - share).abs() <= 1e-7, "{mean} {share}");
    }

    #[test]
    fn separable_and_constant_features_stay_finite() {
        let fit =
            Logistic::fit(&[-1.0, 9.0, -2.0, 9.0, 1.0, 9.0, 2.0, 9.0], 2, &[false, false, true, true], 0.1).unwrap();
        assert!(fit.weights[0] > 0.0 && fit.weights[0].is_finite() && fit.weights[1].abs() <= 1e-12);
    }

    #[test]
    fn refuses_what_it_cannot_fit() {
        assert!(Logistic::fit(&[1.0, 2.0], 1, &[true, true], 1.0).is_err());
        assert!(Logistic::fit(&[1.0, f64::NAN], 1, &[true, false], 1.0).unwrap_err().place().contains("row 1"));
        assert!(Logistic::fit(&[1.0], 1, &[true, false], 1.0).is_err());
        assert!(Logistic::fit(&[], 1, &[], 1.0).is_err());
        assert!(Logistic::fit(&[1.0, 2.0], 1, &[true, false], 0.0).is_err());
    }
}
