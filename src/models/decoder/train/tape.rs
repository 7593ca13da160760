//! The buffers of a training pass that no layer keeps; they live from step to step.

use crate::device::{Device, List, Rows};
use crate::error::Result;
use crate::models::decoder::layer::{Buffers, empty, held};
pub(super) use crate::models::decoder::layer::{LABEL, LayerTape, Normed, fit_list};
use crate::ops::cross_entropy;
use crate::tensor::Dtype;

/// Buffers that no layer keeps.
#[derive(Debug)]
pub(super) struct Work {
    /// Of the forward.
    pub forward: Buffers,
    /// Whether its `delta` is to be added to `out`.
    pub pending: bool,
    pub dx: Rows,
    pub dh: Rows,
    pub dact: Rows,
    pub dattn: Rows,
    pub dq: Rows,
    pub dk: Rows,
    pub dv: Rows,
    /// The gradient of what attention or the MLP adds to the residual, before its norm.
    pub added: Rows,
    /// Gradients before the head norms, and the last layer's at all rows.
    pub raw: Rows,
    pub at_all: Rows,
    /// The last layer's output at the asking rows, its norm and 1/rms.
    pub out: Rows,
    pub normed: Rows,
    pub rstd: List<f32>,
    pub dnormed: Rows,
    /// Normed rows of each target, and their gradient.
    pub by_target: [Rows; 2],
    /// Of the CPU's operators.
    pub by_head: Vec<f32>,
    pub logits: cross_entropy::Scratch,
}

impl Work {
    pub fn new(device: &Device) -> Result<Self> {
        let rows = || empty(device, Dtype::F32);
        Ok(Self {
            forward: Buffers::new(device, Dtype::F32)?,
            pending: false,
            dx: rows()?,
            dh: rows()?,
            dact: rows()?,
            dattn: rows()?,
            dq: rows()?,
            dk: rows()?,
            dv: rows()?,
            added: rows()?,
            raw: rows()?,
            at_all: rows()?,
            out: rows()?,
            normed: rows()?,
            rstd: List::zeros(device, 0, LABEL)?,
            dnormed: rows()?,
            by_target: [rows()?, rows()?],
            by_head: Vec::new(),
            logits: cross_entropy::Scratch::default(),
        })
    }
}

/// Bytes of tapes and buffers.
pub(super) fn bytes(tapes: &[LayerTape], w: &Work) -> usize {
    let work = [&w.dx, &w.dh, &w.dact, &w.dattn, &w.dq, &w.dk, &w.dv, &w.added, &w.raw, &w.at_all, &w.out];
    let work: usize = work.into_iter().map(held).sum::<usize>() + w.forward.values();
    4 * (work + w.by_head.len() + tapes.iter().map(LayerTape::values).sum::<usize>())
}
