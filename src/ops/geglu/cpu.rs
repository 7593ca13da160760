//! GEGLU on the CPU.

use rayon::prelude::*;

use super::{CUBE, TWICE, WIDE, backward_cost, cost};
use crate::tensor::profile::timed;
use crate::tensor::simd::{exp, vectorized};

/// Values a task takes.
const CHUNK: usize = 16 * 1024;

/// 1 / (1 + e^(-2 z)): how far the gate is open; and the slope of 2 z. Below -WIDE the gate is as
/// good as shut, so that the value there is that of -WIDE: the product with a larger gate would not
/// be near 0.
#[inline(always)]
fn open(g: f32) -> (f32, f32) {
    let c = g.clamp(-WIDE, WIDE);
    let square = c * c;
    let twice = TWICE as f32 * c * (1.0 + CUBE as f32 * square);
    (1.0 / (1.0 + exp(-twice)), TWICE as f32 * (1.0 + 3.0 * CUBE as f32 * square))
}

vectorized! {
    fn glu(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
            *y = g.max(-WIDE) * open(g).0 * u;
        }
    }

    fn glu_backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        for ((g, u), &d) in gate.iter_mut().zip(up).zip(dy) {
            let (s, slope) = open(*g);
            let value = g.max(-WIDE) * s;
            let by_gate = d * *u * (s + value * (1.0 - s) * slope);
            *u = d * value;
            *g = by_gate;
        }
    }
}

/// As [`super::geglu`](super::geglu()), which has checked the shapes.
pub(super) fn forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let _timed = timed("geglu", || cost(y.len()));
    let pieces = y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
    pieces.for_each(|((y, gate), up)| glu(gate, up, y));
}

/// As [`super::geglu_backward`], which has checked the shapes.
pub(super) fn backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let _timed = timed("geglu_backward", || backward_cost(dy.len()));
    let pieces = gate.par_chunks_mut(CHUNK).zip(up.par_chunks_mut(CHUNK)).zip(dy.par_chunks(CHUNK));
    pieces.for_each(|((gate, up), dy)| glu_backward(gate, up, dy));
}
