//! The soft cap of Gemma 2: `cap tanh(x / cap)`, which no value passes. Element by element.

use super::simd::{exp, vectorized};

vectorized! {
    /// Caps each value. A NaN stays.
    pub fn soft_cap(values: &mut [f32], cap: f32) {
        for v in values {
            *v = capped(*v, cap);
        }
    }

    /// The slope of the cap where it gave `capped`: `1 - (capped / cap)^2`, times `by`.
    pub fn times_slope(by: &mut [f32], capped: &[f32], cap: f32) {
        for (b, c) in by.iter_mut().zip(capped) {
            *b *= slope(*c, cap);
        }
    }
}

/// One value: `cap (1 - 2 / (e^(2 x / cap) + 1))`.
#[inline(always)]
fn capped(x: f32, cap: f32) -> f32 {
    cap - 2.0 * cap / (exp(2.0 * x / cap) + 1.0)
}

#[inline(always)]
fn slope(capped: f32, cap: f32) -> f32 {
    let share = capped / cap;
    1.0 - share * share
}

/// The definition.
pub fn oracle(x: f64, cap: Option<f64>) -> f64 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_oracle_with_its_slope_and_hides_no_nan() {
        for cap in [2.0f32, 30.0, 50.0] {
            let x: Vec<f32> = (-400..=400).map(|i| i as f32 * cap / 40.0).collect();
            let (mut got, mut slopes) = (x.clone(), vec![1.0; x.len()]);
            soft_cap(&mut got, cap);
            times_slope(&mut slopes, &got, cap);
            for ((x, got), slope) in x.iter().zip(&got).zip(&slopes) {
                let (x, cap) = (f64::from(*x), f64::from(cap));
                let want = oracle(x, Some(cap));
                assert!((f64::from(*got) - want).abs() <= 3e-7 * cap, "{x} of {cap}: {got} and not {want}");
                let want = 1.0 - (x / cap).tanh().powi(2);
                assert!((f64::from(*slope) - want).abs() <= 1e-6, "slope at {x}: {slope} and not {want}");
            }
        }
        let mut extremes = [f32::NAN, 1e30, -1e30, f32::INFINITY];
        soft_cap(&mut extremes, 5.0);
        assert!(extremes[0].is_nan(), "{extremes:?}");
        assert_eq!(extremes[1..], [5.0, -5.0, 5.0]);
    }
}
