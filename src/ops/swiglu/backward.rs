//! `act = silu(gate) up` on rows that hold gate and up side by side, and its backward.

use rayon::prelude::*;

use crate::tensor::profile::timed;
use crate::tensor::simd::{exp, vectorized};

/// Rows a task takes.
const ROWS: usize = 8;

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

/// `gate_up` (M x 2 width), `act` (M x width).
pub fn forward(gate_up: &[f32], act: &mut [f32], width: usize) {
    let _timed = timed("swiglu", || super::cost(act.len()));
    act.par_chunks_mut(ROWS * width).zip(gate_up.par_chunks(ROWS * 2 * width)).for_each(|(act, gu)| {
        for (act, gu) in act.chunks_exact_mut(width).zip(gu.chunks_exact(2 * width)) {
            forward_row(&gu[..width], &gu[width..], act);
        }
    });
}

/// Replaces gate and up by their gradients.
pub fn backward(gate_up: &mut [f32], dact: &[f32], width: usize) {
    let _timed = timed("swiglu_backward", || super::cost(2 * dact.len()));
    gate_up.par_chunks_mut(ROWS * 2 * width).zip(dact.par_chunks(ROWS * width)).for_each(|(gu, dact)| {
        for (gu, dact) in gu.chunks_exact_mut(2 * width).zip(dact.chunks_exact(width)) {
            let (g, u) = gu.split_at_mut(width);
            backward_row(g, u, dact);
        }
    });
}
