//! The CPU version: products of `linear`, bias and activation beside them.

use std::fmt;

use super::{Activation, Mlp, Tensors, thirds};
use crate::error::Result;
use crate::ops::linear::{Weight, matmul_nn, matmul_nt, matmul_tn};
use crate::tensor::profile::timed;

/// The tensors as `linear` takes them.
pub(super) struct Layers {
    w1: Weight,
    b1: Vec<f32>,
    w2: Weight,
    b2: Vec<f32>,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layers({} to {} to {})", self.w1.cols(), self.w1.rows(), self.w2.rows())
    }
}

impl Layers {
    /// A copy of tensors of this shape.
    pub(super) fn new(shape: &Mlp, p: &Tensors) -> Result<Self> {
        Ok(Self {
            w1: Weight::from_f32(shape.hidden, shape.input, p.w1.clone())?,
            b1: p.b1.clone(),
            w2: Weight::from_f32(shape.output, shape.hidden, p.w2.clone())?,
            b2: p.b2.clone(),
        })
    }
}

/// What the backward needs of a forward.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    before: Vec<f32>,
    after: Vec<f32>,
}

impl Saved {
    pub(super) fn rows(&self, shape: &Mlp) -> usize {
        self.before.len() / shape.hidden
    }
}

/// As [`super::forward`], which has checked the shapes.
pub(super) fn forward(shape: &Mlp, p: &Layers, x: &[f32]) -> (Vec<f32>, Saved) {
    let m = x.len() / shape.input;
    let _timed = timed("mlp", || thirds(shape, m, 1.0));
    let mut before: Vec<f32> = p.b1.iter().copied().cycle().take(m * shape.hidden).collect();
    matmul_nt(x, &p.w1, &mut before, true);
    let after: Vec<f32> = match shape.activation {
        Activation::Relu => before.iter().map(|v| v.max(0.0)).collect(),
        act => before.iter().map(|&v| act.at(f64::from(v)).0 as f32).collect(),
    };
    let mut out: Vec<f32> = p.b2.iter().copied().cycle().take(m * shape.output).collect();
    matmul_nt(&after, &p.w2, &mut out, true);
    (out, Saved { before, after })
}

/// As [`super::backward`], which has checked the shapes.
pub(super) fn backward(shape: &Mlp, p: &Layers, x: &[f32], saved: &Saved, by_out: &[f32]) -> Tensors {
    let Mlp { input, hidden, output, .. } = *shape;
    let m = x.len() / input;
    let _timed = timed("mlp_backward", || thirds(shape, m, 2.0));
    let column_sums = |rows: &[f32], width: usize| {
        let mut sums = vec![0.0f32; width];
        for row in rows.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        sums
    };
    let mut g = Tensors {
        w1: vec![0.0; hidden * input],
        b1: Vec::new(),
        w2: vec![0.0; output * hidden],
        b2: column_sums(by_out, output),
    };
    matmul_tn(by_out, output, &saved.after, hidden, &mut g.w2, 1.0, false);
    let by_hidden = by_hidden(shape, p, saved, by_out);
    matmul_tn(&by_hidden, hidden, x, input, &mut g.w1, 1.0, false);
    g.b1 = column_sums(&by_hidden, hidden);
    g
}

/// The gradient by the hidden layer before its activation.
fn by_hidden(shape: &Mlp, p: &Layers, saved: &Saved, by_out: &[f32]) -> Vec<f32> {
    let mut by_hidden = vec![0.0f32; saved.before.len()];
    matmul_nn(by_out, &p.w2, &mut by_hidden, false);
    for (d, &v) in by_hidden.iter_mut().zip(&saved.before) {
        *d *= shape.activation.at(f64::from(v)).1 as f32;
    }
    by_hidden
}

/// As [`super::by_input`], which has checked the shapes.
pub(super) fn by_input(shape: &Mlp, p: &Layers, saved: &Saved, by_out: &[f32]) -> Vec<f32> {
    let mut by_input = vec![0.0f32; saved.rows(shape) * shape.input];
    matmul_nn(&by_hidden(shape, p, saved, by_out), &p.w1, &mut by_input, false);
    by_input
}
