//! The consistency view: do rows whose samples agree get better answers?

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One window of rows, in the order of the key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Point {
    /// Rank of the window's first row.
    pub from: usize,
    /// Mean key (variance over the samples, or tokens of the answer) of its rows.
    pub key: f64,
    /// Share of its rows where `p > 0.5` agrees with the label.
    pub accuracy: f64,
}

/// Orders the rows by `key`, ascending (ties: row), and gives for each window of `window` rows the
/// mean key and the accuracy of `p > 0.5`. With fewer rows than `window` there is one point over
/// all of them; no rows, no points.
///
/// # Errors
/// Different lengths, a window of 0, a key that is not a number.
pub fn moving_accuracy(key: &[f64], p: &[f64], labels: &[bool], window: usize) -> Result<Vec<Point>> {
    let n = key.len();
    if p.len() != n || labels.len() != n {
        return Err(Error::input(
            "consistency view",
            format!("{n} keys, {} predictions, {} labels", p.len(), labels.len()),
        )
        .next("give all three for the same rows"));
    }
    if window == 0 {
        return Err(Error::usage("window", "0 rows").next("choose 1 or more; 500 is usual"));
    }
    if let Some(r) = (0..n).find(|&r| !key[r].is_finite() || !p[r].is_finite()) {
        return Err(Error::input(format!("consistency view, row {r}"), format!("key {}, prediction {}", key[r], p[r]))
            .next("find the stage that produced it"));
    }
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| key[a].total_cmp(&key[b]));
    let window = window.min(n);
    // Prefix sums: exact for the counts, and a window costs one subtraction.
    let (mut keys, mut right) = (vec![0.0], vec![0u64]);
    for &r in &order {
        keys.push(keys[keys.len() - 1] + key[r]);
        right.push(right[right.len() - 1] + u64::from((p[r] > 0.5) == labels[r]));
    }
    let w = window as f64;
    let point = |from: usize| Point {
        from,
        key: (keys[from + window] - keys[from]) / w,
        accuracy: (right[from + window] - right[from]) as f64 / w,
    };
    Ok((0..=n - window).map(point).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_key() {
        let key = [0.3, 0.1, 0.2, 0.4];
        let p = [0.9, 0.9, 0.2, 0.2];
        let labels = [false, true, false, true];
        // In order of key: right, right, wrong, wrong.
        let points = moving_accuracy(&key, &p, &labels, 2).unwrap();
        assert_eq!(points.iter().map(|x| x.accuracy).collect::<Vec<_>>(), [1.0, 0.5, 0.0]);
        assert!((points[0].key - 0.15).abs() <= 1e-12 && (points[2].key - 0.35).abs() <= 1e-12);
        assert_eq!(moving_accuracy(&key, &p, &labels, 500).unwrap().len(), 1);
        assert!(moving_accuracy(&[], &[], &[], 500).unwrap().is_empty());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(moving_accuracy(&[0.1], &[0.1], &[true], 0).is_err());
        assert!(moving_accuracy(&[0.1], &[], &[true], 1).is_err());
        assert!(moving_accuracy(&[f64::NAN], &[0.1], &[true], 1).unwrap_err().place().contains("row 0"));
    }
}
