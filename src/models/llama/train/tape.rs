//! What the layers of a forward keep for the backward, and the buffers that no layer keeps. Both live from step to step.

use crate::device::{Device, List, Rows};
use crate::error::Result;
use crate::ops::cross_entropy;
use crate::tensor::Dtype;

/// What the memory is for, in errors.
pub(super) const LABEL: &str = "activations of training";

/// Rows with the 1/rms of each of them, or of each of their heads.
#[derive(Debug)]
pub(super) struct Normed {
    pub x: Rows,
    pub rstd: List<f32>,
}

/// What one layer keeps. T are all rows of the batch; M those that its upper part is computed for, which are fewer in the
/// last layer.
#[derive(Debug)]
pub(super) struct LayerTape {
    /// Input (T x hidden).
    pub input: Normed,
    /// After bias, head norms and rope: q (M x q width), k and v (T x kv width).
    pub q: Rows,
    pub k: Rows,
    pub v: Rows,
    /// Where the family has head norms: q and k of all rows before them.
    pub raw_q: Normed,
    pub raw_k: Normed,
    /// Attention's output (M x q width) and log-sum-exp (M x heads).
    pub attn: Rows,
    pub lse: List<f32>,
    /// Residual after attention (M x hidden).
    pub mid: Normed,
    /// (M x intermediate) each.
    pub gate: Rows,
    pub up: Rows,
    /// Low-rank rows of each target's pair, in the order of `Target::ALL`.
    pub low: [Rows; 7],
}

/// Buffers that no layer keeps.
#[derive(Debug)]
pub(super) struct Work {
    /// Normed rows.
    pub h: Rows,
    /// The last layer's queries of all rows.
    pub q: Rows,
    pub act: Rows,
    pub dx: Rows,
    pub dh: Rows,
    pub dact: Rows,
    pub dattn: Rows,
    pub dq: Rows,
    pub dk: Rows,
    pub dv: Rows,
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

/// Rows of no size in a place.
pub(super) fn empty(device: &Device) -> Result<Rows> {
    Rows::zeros(device, Dtype::F32, 0, 0, LABEL)
}

/// Takes this length; what the values are then is not said.
///
/// # Errors
/// Out of memory.
pub(super) fn fit_list(list: &mut List<f32>, len: usize) -> Result<()> {
    match list {
        List::Cpu(values) => values.resize(len, 0.0),
        List::Kernels(buffer) if buffer.len() != len => *buffer = buffer.device().alloc(len, LABEL)?,
        List::Kernels(_) => {}
    }
    Ok(())
}

impl Normed {
    fn new(device: &Device) -> Result<Self> {
        Ok(Self { x: empty(device)?, rstd: List::zeros(device, 0, LABEL)? })
    }
}

impl LayerTape {
    pub fn new(device: &Device) -> Result<Self> {
        let rows = || empty(device);
        Ok(Self {
            input: Normed::new(device)?,
            q: rows()?,
            k: rows()?,
            v: rows()?,
            raw_q: Normed::new(device)?,
            raw_k: Normed::new(device)?,
            attn: rows()?,
            lse: List::zeros(device, 0, LABEL)?,
            mid: Normed::new(device)?,
            gate: rows()?,
            up: rows()?,
            low: [rows()?, rows()?, rows()?, rows()?, rows()?, rows()?, rows()?],
        })
    }

    /// Values held.
    fn values(&self) -> usize {
        let normed = [&self.input, &self.raw_q, &self.raw_k, &self.mid].map(|n| held(&n.x) + n.rstd.len());
        let rows = [&self.q, &self.k, &self.v, &self.attn, &self.gate, &self.up].map(held);
        let low: usize = self.low.iter().map(held).sum();
        normed.iter().chain(&rows).sum::<usize>() + self.lse.len() + low
    }
}

impl Work {
    pub fn new(device: &Device) -> Result<Self> {
        let rows = || empty(device);
        Ok(Self {
            h: rows()?,
            q: rows()?,
            act: rows()?,
            dx: rows()?,
            dh: rows()?,
            dact: rows()?,
            dattn: rows()?,
            dq: rows()?,
            dk: rows()?,
            dv: rows()?,
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

fn held(rows: &Rows) -> usize {
    rows.rows() * rows.dim()
}

/// Bytes of tapes and buffers.
pub(super) fn bytes(tapes: &[LayerTape], w: &Work) -> usize {
    let work = [&w.h, &w.q, &w.act, &w.dx, &w.dh, &w.dact, &w.dattn, &w.dq, &w.dk, &w.dv, &w.raw, &w.at_all, &w.out];
    let work: usize = work.into_iter().map(held).sum();
    4 * (work + w.by_head.len() + tapes.iter().map(LayerTape::values).sum::<usize>())
}
