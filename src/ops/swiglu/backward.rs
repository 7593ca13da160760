//! `act = silu(gate) up` where gate and up are kept for the backward, and that backward.

use rayon::prelude::*;

use super::kernel;
use crate::device::{Rows, mixed};
use crate::error::{Error, Result};
use crate::tensor::profile::timed;
use crate::tensor::simd::{exp, vectorized};
use crate::tensor::{Cost, Matrix};

fn same(gate: &Matrix, up: &Matrix, y: &Matrix) -> Result<()> {
    let [gate, up, y] = [gate, up, y].map(|m| (m.rows(), m.cols()));
    if gate != y || up != y {
        return Err(Error::failed("swiglu", format!("gate {gate:?}, up {up:?}, result {y:?}")));
    }
    Ok(())
}

/// `act = silu(gate) up`; gate and up stay for the backward. Its rounding on the CPU is not that of
/// [`swiglu_in_place`](super::swiglu_in_place): `(g u) / (1 + e^-g)`.
///
/// # Errors
/// Shapes that differ, operands in different places.
pub fn swiglu_kept(gate: &Rows, up: &Rows, act: &mut Rows) -> Result<Cost> {
    let places = [gate.place(), up.place(), act.place()];
    match (gate, up, act) {
        (Rows::Cpu(gate), Rows::Cpu(up), Rows::Cpu(act)) => {
            same(gate, up, act)?;
            forward(gate.as_slice(), up.as_slice(), act.as_mut_slice());
            Ok(super::cost(up.as_slice().len()))
        }
        (Rows::F32(gate), Rows::F32(up), Rows::F32(act)) => kernel::forward_apart(gate, up, act),
        (Rows::Bf16(gate), Rows::Bf16(up), Rows::Bf16(act)) => kernel::forward_apart(gate, up, act),
        _ => Err(mixed("swiglu", &places)),
    }
}

/// Replaces gate and up by their gradients, from `dact`. Cost: about `20 n` FLOP, five passes over
/// `n` values.
///
/// # Errors
/// Shapes that differ, operands in different places.
pub fn swiglu_backward(gate: &mut Rows, up: &mut Rows, dact: &Rows) -> Result<Cost> {
    let places = [gate.place(), up.place(), dact.place()];
    match (gate, up, dact) {
        (Rows::Cpu(gate), Rows::Cpu(up), Rows::Cpu(dact)) => {
            same(gate, up, dact)?;
            backward(gate.as_mut_slice(), up.as_mut_slice(), dact.as_slice());
            Ok(super::cost(2 * dact.as_slice().len()))
        }
        (Rows::F32(gate), Rows::F32(up), Rows::F32(dact)) => kernel::backward_apart(gate, up, dact),
        (Rows::Bf16(gate), Rows::Bf16(up), Rows::Bf16(dact)) => kernel::backward_apart(gate, up, dact),
        _ => Err(mixed("swiglu backward", &places)),
    }
}

/// Values a task takes.
const CHUNK: usize = 16 * 1024;

vectorized! {
    fn forward_row(gate: &[f32], up: &[f32], act: &mut [f32]) {
        for ((a, g), u) in act.iter_mut().zip(gate).zip(up) {
            *a = g * u / (1.0 + exp(-g));
        }
    }

    fn backward_row(gate: &mut [f32], up: &mut [f32], dact: &[f32]) {
        for ((g, u), d) in gate.iter_mut().zip(up).zip(dact) {
            let s = 1.0 / (1.0 + exp(-*g));
            let silu = *g * s;
            let dg = d * *u * (s + silu * (1.0 - s));
            *u = d * silu;
            *g = dg;
        }
    }
}

/// `act = silu(gate) up`. All of one length.
fn forward(gate: &[f32], up: &[f32], act: &mut [f32]) {
    let _timed = timed("swiglu", || super::cost(act.len()));
    (act.par_chunks_mut(CHUNK), gate.par_chunks(CHUNK), up.par_chunks(CHUNK))
        .into_par_iter()
        .for_each(|(act, gate, up)| forward_row(gate, up, act));
}

/// Replaces gate and up by their gradients.
fn backward(gate: &mut [f32], up: &mut [f32], dact: &[f32]) {
    let _timed = timed("swiglu_backward", || super::cost(2 * dact.len()));
    (gate.par_chunks_mut(CHUNK), up.par_chunks_mut(CHUNK), dact.par_chunks(CHUNK))
        .into_par_iter()
        .for_each(|(gate, up, dact)| backward_row(gate, up, dact));
}
