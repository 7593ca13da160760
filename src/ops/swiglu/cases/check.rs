//! Random cases of SwiGLU.

use super::{slope_tolerance, tolerance};
use crate::device::Device;
use crate::error::Result;
use crate::ops::registry::{Check, Shape, drawn, errors};
use crate::ops::swiglu::{oracle, swiglu_backward, swiglu_in_place, swiglu_kept};

/// Forward and backward.
pub(super) const CASES: &[Check] = &[
    Check::new("swiglu", ["rows", "-", "width"], forward),
    Check::new("swiglu_backward", ["rows", "-", "width"], backward),
];

/// Both forwards: the one that keeps the gate, and the one in its place.
fn forward(device: &Device, [count, _, width]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let shape = (count, width.next_multiple_of(8));
    let (mut gate, up) = (drawn(device, shape, narrow, seed, 0)?, drawn(device, shape, narrow, seed, 1)?);
    let by = up.download()?;
    let want = oracle::swiglu(&gate.download()?, &by);
    let mut y = gate.zeros_beside(shape.0, shape.1, "y")?;
    swiglu_kept(&gate, &up, &mut y)?;
    swiglu_in_place(&mut gate, &up)?;
    let off = |i: usize| tolerance(narrow, want[i], f64::from(by[i]));
    let mut all = errors(&y.download()?, &want, off);
    all.extend(errors(&gate.download()?, &want, off));
    Ok(all)
}

fn backward(device: &Device, [count, _, width]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let one = |salt| drawn(device, (count, width.next_multiple_of(8)), narrow, seed, salt);
    let (mut gate, mut up, dy) = (one(0)?, one(1)?, one(2)?);
    let (by, d) = (up.download()?, dy.download()?);
    let (by_gate, by_up) = oracle::backward(&gate.download()?, &by, &d);
    swiglu_backward(&mut gate, &mut up, &dy)?;
    let factor = |i: usize| f64::from(by[i]) * f64::from(d[i]);
    let mut all = errors(&gate.download()?, &by_gate, |i| slope_tolerance(narrow, by_gate[i], factor(i)));
    all.extend(errors(&up.download()?, &by_up, |i| tolerance(narrow, by_up[i], f64::from(d[i]))));
    Ok(all)
}
