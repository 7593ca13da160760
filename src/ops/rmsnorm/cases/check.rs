//! Random cases of RMSNorm.

use super::{EPS, tolerance};
use crate::device::{Device, List, Rows};
use crate::error::Result;
use crate::ops::registry::{Check, Shape, draw, drawn, errors};
use crate::ops::rmsnorm::{Kept, Weight, oracle, rmsnorm, rmsnorm_backward, rmsnorm_kept};
use crate::tensor::Dtype;

/// Forward and backward.
pub(super) const CASES: &[Check] = &[
    Check::new("rmsnorm", ["rows", "-", "width"], forward),
    Check::new("rmsnorm_backward", ["rows", "-", "width"], backward),
];

/// The weight, as drawn and where the rows are.
fn weight(device: &Device, width: usize, seed: u64) -> Result<(Vec<f32>, Rows)> {
    let w = draw::<f32>(width, seed, 9);
    let placed = Rows::upload(device, Dtype::F32, width, &w, "w")?;
    Ok((w, placed))
}

fn forward(device: &Device, [count, _, width]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let (mut x, (w, placed)) = (drawn(device, (count, width), narrow, seed, 0)?, weight(device, width, seed)?);
    let want = oracle::rmsnorm(&x.download()?, &w, f64::from(EPS));
    let mut y = x.zeros_beside(count, width, "y")?;
    rmsnorm(&mut x, None, Weight::of(&placed)?, f64::from(EPS), &mut y)?;
    Ok(errors(&y.download()?, &want, |i| tolerance(narrow, want[i], 0.0)))
}

fn backward(device: &Device, [count, _, width]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let one = |salt| drawn(device, (count, width), narrow, seed, salt);
    let (mut x, mut dy, mut dx, (w, placed)) = (one(0)?, one(1)?, one(2)?, weight(device, width, seed)?);
    let (seen, by, old) = (x.download()?, dy.download()?, dx.download()?);
    let (grown, _) = oracle::backward(&seen, &w, f64::from(EPS), &by);
    let (sizes, _) = oracle::sizes(&seen, &w, f64::from(EPS), &by);
    let grown: Vec<f64> = grown.iter().zip(&old).map(|(d, &o)| d + f64::from(o)).collect();
    let (mut y, mut rstd) = (x.zeros_beside(count, width, "y")?, List::zeros(device, count, "rstd")?);
    rmsnorm_kept(&mut x, None, Weight::of(&placed)?, EPS, &mut y, &mut rstd)?;
    rmsnorm_backward(Kept { x: &x, rstd: &rstd }, Weight::of(&placed)?, &mut dy, (&mut dx, true), None)?;
    let size = |i: usize| sizes[i] + f64::from(old[i]).abs();
    Ok(errors(&dx.download()?, &grown, |i| tolerance(narrow, grown[i], size(i))))
}
