//! Means over rows: log loss, Brier score, accuracy.

use super::auc::Z95;
use super::check;
use super::metrics::Estimate;
use crate::error::Result;

/// Probabilities are clipped to `[CLIP, 1 - CLIP]` before the logarithm: the machine epsilon of
/// f64.
pub const CLIP: f64 = f64::EPSILON;

/// `-ln p` of what happened, with the clip at [`CLIP`].
pub fn row_log_loss(label: bool, p: f64) -> f64 {
    let p = p.clamp(CLIP, 1.0 - CLIP);
    if label { -p.ln() } else { -(-p).ln_1p() }
}

/// Squared distance to what happened.
pub fn row_brier(label: bool, p: f64) -> f64 {
    (p - f64::from(u8::from(label))).powi(2)
}

/// `p > 0.5` says yes.
pub fn row_correct(label: bool, p: f64) -> f64 {
    f64::from(u8::from((p > 0.5) == label))
}

fn mean(name: &str, labels: &[bool], p: &[f64], row: fn(bool, f64) -> f64) -> Result<f64> {
    check::probabilities(name, labels, p)?;
    Ok(labels.iter().zip(p).map(|(&y, &p)| row(y, p)).sum::<f64>() / labels.len() as f64)
}

/// Mean log loss in nats; p is clipped at [`CLIP`].
///
/// # Errors
/// Empty input, different lengths, a value that is no probability.
pub fn log_loss(labels: &[bool], p: &[f64]) -> Result<f64> {
    mean("log loss", labels, p, row_log_loss)
}

/// Mean squared error of the probabilities.
///
/// # Errors
/// As [`log_loss`].
pub fn brier(labels: &[bool], p: &[f64]) -> Result<f64> {
    mean("Brier score", labels, p, row_brier)
}

/// Share of rows where `p > 0.5` agrees with the label.
///
/// # Errors
/// As [`log_loss`].
pub fn accuracy(labels: &[bool], p: &[f64]) -> Result<f64> {
    mean("accuracy", labels, p, row_correct)
}

/// Wilson's 95 % interval of a share `value` seen in `n` rows (n > 0).
pub fn wilson(value: f64, n: usize) -> Estimate {
    let (n, z2) = (n as f64, Z95 * Z95);
    let centre = (value + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (value * (1.0 - value) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    Estimate { value, low: Some((centre - half).max(0.0)), high: Some((centre + half).min(1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let (y, p) = ([true, false, true], [0.8, 0.4, 0.5]);
        let want = -(0.8f64.ln() + 0.6f64.ln() + 0.5f64.ln()) / 3.0;
        assert!((log_loss(&y, &p).unwrap() - want).abs() <= 1e-15);
        assert!((brier(&y, &p).unwrap() - (0.04 + 0.16 + 0.25) / 3.0).abs() <= 1e-15);
        // 0.5 is not above 0.5.
        assert!((accuracy(&y, &p).unwrap() - 2.0 / 3.0).abs() <= 1e-15);
        // Newcombe (1998): 81 of 263.
        let w = wilson(81.0 / 263.0, 263);
        assert!((w.low.unwrap() - 0.2553).abs() <= 5e-5 && (w.high.unwrap() - 0.3662).abs() <= 5e-5);
        let w = wilson(0.0, 20);
        assert!(w.low.unwrap().abs() <= 1e-12 && (w.high.unwrap() - 0.1611).abs() <= 5e-5);
    }

    #[test]
    fn a_certain_error_costs_the_clip() {
        let loss = log_loss(&[true, false], &[0.0, 1.0]).unwrap();
        assert!((loss - 36.043_653_389_117_15).abs() <= 1e-6, "{loss}");
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for p in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let e = log_loss(&[true, false], &[0.5, p]).unwrap_err();
            assert!(e.place().contains("row 1") && !e.next_step().is_empty(), "{e}");
        }
        assert!(log_loss(&[], &[]).is_err() && accuracy(&[true], &[]).is_err());
    }
}
