//! The forward pass of training: one for every place. It keeps what the backward needs.

use super::engine::{Engine, Pass};
use super::placed::{Norm, Placed};
use super::sink::Sink;
use super::tape::{LABEL, LayerTape, Normed, Work, fit_list};
use super::{engine::Dropped, layout::Layout};
use crate::Result;
use crate::device::Rows;
use crate::error::Error;
use crate::models::llama::soft;
use crate::models::lora::Target;
use crate::ops::attention::Heads;
use crate::ops::attention::packed::Inputs;
use crate::ops::copy::{copy_rows, gather_rows, sum_runs};
use crate::ops::cross_entropy::{cross_entropy, cross_entropy_backward};
use crate::ops::lora::adapted::{self, Forward, Layer};
use crate::ops::rmsnorm::{Kept, rmsnorm_backward, rmsnorm_kept};
use crate::ops::rope::Table;
use crate::ops::swiglu::swiglu_kept;

/// Where layer `l` keeps its activations: layers below `lowest` take turns on two places.
pub(super) fn place(l: usize, lowest: usize) -> usize {
    if l < lowest { l % 2 } else { l - lowest + 2 }
}

/// What the layers of one pass share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub at: Placed<'a>,
    pub layout: &'a Layout,
    pub table: &'a Table,
    pub dropped: Option<Dropped>,
}

impl<'a> Shared<'a> {
    /// Whether a layer is the last, whose upper part is computed for the asking rows alone.
    pub fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.at.model.config.layers
    }

    /// Rows of a layer's upper part.
    pub fn upper(&self, layer: usize) -> &'a adapted::Side {
        if self.is_last(layer) { &self.layout.asking } else { &self.layout.all }
    }

    /// A linear layer with its adapter and the mask of the adapter's input.
    pub fn linear(&self, layer: usize, target: Target) -> Layer<'a> {
        let dropout = self.dropped.and_then(|d| d.mask(layer, target));
        Layer { dropout, ..self.at.linear(layer, target) }
    }

    pub fn heads(&self) -> Heads {
        let c = self.at.model.config;
        Heads { query: c.heads, kv: c.kv_heads, dim: c.head_dim }
    }

    pub fn eps(&self) -> f32 {
        self.at.model.config.norm_eps as f32
    }
}

impl Engine {
    /// Runs all layers; those from `lowest` on keep what the backward needs. The result, `work.out`, is the last
    /// layer's output at the rows that are learnt from; that layer's upper part is computed for these rows only.
    pub(super) fn forward(&mut self, pass: &Pass<'_>, layout: &Layout, lowest: usize) -> Result<()> {
        let (config, layers, rows) = (pass.model.config, pass.model.config.layers, pass.batch.rows());
        let places = place(layers - 1, lowest).max(place(lowest.min(layers - 1), lowest)).max(1) + 1;
        while self.tapes.len() < places {
            self.tapes.push(LayerTape::new(&self.device)?);
        }
        let Some(table) = &self.table else { return Err(Error::failed("training", "no rope angles")) };
        let first = &mut self.tapes[place(0, lowest)].input.x;
        first.fit(rows, config.hidden, LABEL)?;
        embed(pass, first)?;
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref() };
        let shared = Shared { at, layout, table: &table.1, dropped: pass.noise.map(Dropped) };
        for l in 0..layers {
            let here = place(l, lowest);
            if l + 1 == layers {
                let Work { h, q, act, out, .. } = &mut self.work;
                layer(&shared, l, &mut self.tapes[here], [h, q, act], out)?;
            } else {
                // The next layer's input lies in its own tape.
                let Ok([tape, next]) = self.tapes.get_disjoint_mut([here, place(l + 1, lowest)]) else {
                    return Err(Error::failed("training", "two layers keep their rows in one place"));
                };
                let Work { h, q, act, .. } = &mut self.work;
                layer(&shared, l, tape, [h, q, act], &mut next.input.x)?;
            }
        }
        Ok(())
    }

    /// Final norm, head and loss, without a gradient.
    pub(super) fn head(&mut self, pass: &Pass<'_>, layout: &Layout) -> Result<f64> {
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref() };
        let w = &mut self.work;
        last_norm(&at, layout, w)?;
        Ok(cross_entropy(&w.by_target[0], at.head(), &layout.targets, &mut w.logits)?.0)
    }

    /// As [`Engine::head`]; leaves the gradient of the last layer's output in `work.dx`.
    pub(super) fn head_backward(&mut self, pass: &Pass<'_>, layout: &Layout, sink: &mut Sink<'_>) -> Result<f64> {
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref() };
        let w = &mut self.work;
        last_norm(&at, layout, w)?;
        let (rows, width) = (w.normed.rows(), w.normed.dim());
        let [of_target, by_target] = &mut w.by_target;
        by_target.fit(of_target.rows(), width, LABEL)?;
        let head = (&mut *by_target, sink.head());
        let (total, _) = cross_entropy_backward(of_target, at.head(), &layout.targets, head, &mut w.logits)?;
        w.dnormed.fit(rows, width, LABEL)?;
        sum_runs(by_target, &layout.targets_of_row, &mut w.dnormed)?;
        w.dx.fit(rows, width, LABEL)?;
        let kept = Kept { x: &w.out, rstd: &w.rstd };
        rmsnorm_backward(kept, at.last_norm(), &mut w.dnormed, (&mut w.dx, false), sink.last_norm())?;
        Ok(total)
    }
}

/// Embeddings of the batch's tokens; rows of the table, soft tokens among them, are read on the CPU.
fn embed(pass: &Pass<'_>, to: &mut Rows) -> Result<()> {
    use rayon::prelude::*;
    let (model, width) = (pass.model, pass.model.config.hidden);
    let read = |values: &mut [f32]| {
        let lines = values.par_chunks_exact_mut(width).with_min_len(64).zip(&pass.batch.tokens);
        lines.for_each(|(row, &t)| soft::read(&model.weights.embed, model.soft, t, row));
    };
    if let Rows::Cpu(m) = to {
        read(m.as_mut_slice());
        return Ok(());
    }
    let mut values = vec![0.0; pass.batch.rows() * width];
    read(&mut values);
    to.write(&values)
}

/// Norms the last layer's output, and gives each target its row.
fn last_norm(at: &Placed<'_>, layout: &Layout, w: &mut Work) -> Result<()> {
    let (rows, width) = (w.out.rows(), w.out.dim());
    w.normed.fit(rows, width, LABEL)?;
    fit_list(&mut w.rstd, rows)?;
    let eps = at.model.config.norm_eps as f32;
    rmsnorm_kept(&mut w.out, at.last_norm(), eps, &mut w.normed, &mut w.rstd)?;
    let of_target = &mut w.by_target[0];
    of_target.fit(layout.row_of_target.len(), width, LABEL)?;
    gather_rows(&w.normed, &layout.row_of_target, of_target)?;
    Ok(())
}

/// `y = norm(x)`; y takes x's shape, and the scales are kept.
fn norm(of: &mut Normed, w: crate::ops::rmsnorm::Weight<'_>, eps: f32, heads: usize, y: &mut Rows) -> Result<()> {
    y.fit(of.x.rows(), of.x.dim(), LABEL)?;
    fit_list(&mut of.rstd, of.x.rows() * heads)?;
    rmsnorm_kept(&mut of.x, w, eps, y, &mut of.rstd)?;
    Ok(())
}

/// One layer from `tape.input.x` to `out`.
fn layer(s: &Shared<'_>, l: usize, t: &mut LayerTape, [h, spare, act]: [&mut Rows; 3], out: &mut Rows) -> Result<()> {
    let c = s.at.model.config;
    let (all, upper, last, rows) = (&s.layout.all, s.upper(l), s.is_last(l), s.layout.all.rows());
    let missing = || Error::failed("training", format!("layer {l} lacks a norm"));
    // Attention's inputs, for every row.
    norm(&mut t.input, s.at.norm(l, Norm::Attention).ok_or_else(missing)?, s.eps(), 1, h)?;
    let head_norms = [s.at.norm(l, Norm::Query), s.at.norm(l, Norm::Key)];
    let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = &mut t.low;
    {
        let to_q = if head_norms[0].is_some() { &mut t.raw_q.x } else { &mut t.q };
        let to_k = if head_norms[1].is_some() { &mut t.raw_k.x } else { &mut t.k };
        to_q.fit(rows, c.q_width(), LABEL)?;
        to_k.fit(rows, c.kv_width(), LABEL)?;
        t.v.fit(rows, c.kv_width(), LABEL)?;
        let product = |target, y, low| Forward { layer: s.linear(l, target), y, low };
        let mut products = [
            product(Target::QProj, to_q, low_q),
            product(Target::KProj, to_k, low_k),
            product(Target::VProj, &mut t.v, low_v),
        ];
        adapted::forward(all, h, &mut products, false)?;
    }
    if let Some(w) = head_norms[0] {
        norm(&mut t.raw_q, w, s.eps(), c.heads, &mut t.q)?;
    }
    if let Some(w) = head_norms[1] {
        norm(&mut t.raw_k, w, s.eps(), c.kv_heads, &mut t.k)?;
    }
    s.table.rope(&mut t.q, &s.layout.positions)?;
    s.table.rope(&mut t.k, &s.layout.positions)?;
    // From here on only the asking rows.
    let m = upper.rows();
    if last {
        spare.fit(m, c.q_width(), LABEL)?;
        gather_rows(&t.q, &s.layout.places, spare)?;
        std::mem::swap(&mut t.q, spare);
    }
    t.attn.fit(m, c.q_width(), LABEL)?;
    fit_list(&mut t.lse, m * c.heads)?;
    let seen = if last { &s.layout.seen_asking } else { &s.layout.seen };
    seen.attention(s.heads(), Inputs { q: &t.q, k: &t.k, v: &t.v }, &mut t.attn, &mut t.lse)?;
    if last {
        t.mid.x.fit(m, c.hidden, LABEL)?;
        gather_rows(&t.input.x, &s.layout.places, &mut t.mid.x)?;
    } else {
        copy_rows(&t.input.x, &mut t.mid.x, LABEL)?;
    }
    let o = Forward { layer: s.linear(l, Target::OProj), y: &mut t.mid.x, low: low_o };
    adapted::forward(upper, &t.attn, &mut [o], true)?;
    // The MLP.
    norm(&mut t.mid, s.at.norm(l, Norm::Mlp).ok_or_else(missing)?, s.eps(), 1, h)?;
    t.gate.fit(m, c.intermediate, LABEL)?;
    t.up.fit(m, c.intermediate, LABEL)?;
    let mut products = [
        Forward { layer: s.linear(l, Target::GateProj), y: &mut t.gate, low: low_gate },
        Forward { layer: s.linear(l, Target::UpProj), y: &mut t.up, low: low_up },
    ];
    adapted::forward(upper, h, &mut products, false)?;
    act.fit(m, c.intermediate, LABEL)?;
    swiglu_kept(&t.gate, &t.up, act)?;
    copy_rows(&t.mid.x, out, LABEL)?;
    let down = Forward { layer: s.linear(l, Target::DownProj), y: out, low: low_down };
    adapted::forward(upper, act, &mut [down], true)?;
    Ok(())
}
