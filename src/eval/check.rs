//! What every metric demands of its input, checked once.

use crate::error::{Error, Result};

fn shape(metric: &str, labels: &[bool], p: &[f64]) -> Result<()> {
    if labels.len() != p.len() {
        return Err(Error::input(metric, format!("{} labels for {} predictions", labels.len(), p.len()))
            .next("score exactly the rows that carry labels"));
    }
    if labels.is_empty() {
        return Err(Error::input(metric, "no rows to evaluate").next("check the split and the row limit"));
    }
    Ok(())
}

/// Same length, at least one row, every score finite.
pub fn scores(metric: &str, labels: &[bool], p: &[f64]) -> Result<()> {
    shape(metric, labels, p)?;
    match p.iter().position(|x| !x.is_finite()) {
        Some(row) => Err(Error::input(format!("{metric}, row {row}"), format!("the score is {}", p[row]))
            .next("find the stage that produced it: a score must be a finite number")),
        None => Ok(()),
    }
}

/// As [`scores`], and every value lies in 0..=1.
pub fn probabilities(metric: &str, labels: &[bool], p: &[f64]) -> Result<()> {
    scores(metric, labels, p)?;
    match p.iter().position(|x| !(0.0..=1.0).contains(x)) {
        Some(row) => Err(Error::input(format!("{metric}, row {row}"), format!("{} is not a probability", p[row]))
            .next("turn the score into a probability first, e.g. with a logistic fit on the training rows")),
        None => Ok(()),
    }
}
