//! The forward pass of training.

use rayon::prelude::*;

use super::batch::Packed;
use super::engine::{Engine, Model, Noise, Saved, Widths, fit, low, stack};
use super::params::Slots;
use crate::models::llama::{Layer, Linear, soft};
use crate::models::lora::Target;
use crate::ops::attention::backward::{self as attention, KeysValues};
use crate::ops::cross_entropy::{self, Targets};
use crate::ops::linear::stack::add_bias;
use crate::ops::lora::{self, Columns};
use crate::ops::rmsnorm::backward as rmsnorm;
use crate::ops::swiglu::backward as swiglu;

/// Where layer `l` keeps its activations: layers below `lowest` take turns on two places.
pub(super) fn place(l: usize, lowest: usize) -> usize {
    if l < lowest { l % 2 } else { l - lowest + 2 }
}

/// Rows of x for the asking rows.
pub(super) fn gather(x: &[f32], width: usize, rows: &[usize], to: &mut Vec<f32>) {
    fit(to, rows.len() * width);
    to.chunks_exact_mut(width).zip(rows).for_each(|(to, &r)| to.copy_from_slice(&x[r * width..(r + 1) * width]));
}

impl Engine {
    /// Runs all layers; those from `lowest` on keep what the backward needs. The result, `work.out`, is the last
    /// layer's output at the rows that are learnt from; that layer's upper part is computed for these rows only.
    pub(super) fn forward(&mut self, model: Model<'_>, batch: &Packed, noise: Option<Noise>, lowest: usize) {
        let (w, layers, rows) = (Widths::of(model.config), model.config.layers, batch.rows());
        let places = place(layers - 1, lowest).max(place(lowest.min(layers - 1), lowest)).max(1) + 1;
        if self.saved.len() < places {
            self.saved.resize_with(places, Saved::default);
        }
        let first = &mut self.saved[place(0, lowest)];
        fit(&mut first.x, rows * w.hidden);
        let lines = first.x.par_chunks_exact_mut(w.hidden).with_min_len(64);
        lines.zip(&batch.tokens).for_each(|(row, &t)| soft::read(&model.weights.embed, model.soft, t, row));
        for (l, layer) in model.weights.layers.iter().enumerate() {
            let mut saved = std::mem::take(&mut self.saved[place(l, lowest)]);
            let mut next = if l + 1 < layers {
                std::mem::take(&mut self.saved[place(l + 1, lowest)].x)
            } else {
                std::mem::take(&mut self.work.out)
            };
            self.layer(model, batch, noise, l, layer, &mut saved, &mut next);
            self.saved[place(l, lowest)] = saved;
            if l + 1 < layers {
                self.saved[place(l + 1, lowest)].x = next;
            } else {
                self.work.out = next;
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn layer(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        noise: Option<Noise>,
        l: usize,
        layer: &Layer,
        s: &mut Saved,
        next: &mut Vec<f32>,
    ) {
        let (w, rows, work) = (Widths::of(model.config), batch.rows(), &mut self.work);
        let last = l + 1 == model.config.layers;
        let (queries, names): (_, &[u64]) =
            if last { (&self.asking, &self.asking_names) } else { (&self.all, &batch.names) };
        let m = queries.rows.len();
        let rank = model.adapter.map_or(0, |a| a.rank);
        // Attention's inputs, for every row.
        fit(&mut work.h, rows * w.hidden);
        fit(&mut s.rstd, rows);
        rmsnorm::forward(&s.x, &layer.attn_norm, w.eps, &mut work.h, &mut s.rstd);
        fit(&mut s.qkv, rows * w.qkv);
        stack(&[&layer.q.weight, &layer.k.weight, &layer.v.weight]).forward(&work.h, &mut s.qkv, false);
        for (linear, target) in [(&layer.q, Target::QProj), (&layer.k, Target::KProj), (&layer.v, Target::VProj)] {
            let at = Columns { stride: w.qkv, column: w.column(target) };
            bias(&mut s.qkv, linear, at);
            if let Some(low) = low(model, noise, l, target, &batch.names) {
                let z = &mut s.z[target as usize];
                fit(z, rows * rank);
                lora::forward(low, &work.h, &mut s.qkv, at, z);
            }
        }
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            s.raw.clone_from(&s.qkv);
            fit(&mut s.q_rstd, rows * w.heads.heads);
            fit(&mut s.k_rstd, rows * w.heads.kv_heads);
            rmsnorm::forward_heads(&mut s.qkv, (w.qkv, 0), q_norm, w.eps, &mut s.q_rstd);
            rmsnorm::forward_heads(&mut s.qkv, (w.qkv, w.q), k_norm, w.eps, &mut s.k_rstd);
        }
        self.angles.rotate(&mut s.qkv, (w.qkv, 0), w.heads.heads, &batch.positions, false);
        self.angles.rotate(&mut s.qkv, (w.qkv, w.q), w.heads.kv_heads, &batch.positions, false);
        // From here on only the asking rows.
        let q = if last {
            gather_columns(&s.qkv, w.qkv, w.q, &queries.rows, &mut s.q);
            (s.q.as_slice(), w.q)
        } else {
            (s.qkv.as_slice(), w.qkv)
        };
        fit(&mut s.attn, m * w.q);
        fit(&mut s.lse, m * w.heads.heads);
        let kv = KeysValues { data: &s.qkv, stride: w.qkv, k: w.q, v: w.q + w.kv };
        attention::forward(w.heads, &batch.segments, queries, q, kv, &mut s.attn, &mut s.lse);
        if last {
            gather(&s.x, w.hidden, &queries.rows, &mut s.mid);
        } else {
            s.mid.clone_from(&s.x);
        }
        stack(&[&layer.o.weight]).forward(&s.attn, &mut s.mid, true);
        let whole = Columns { stride: w.hidden, column: 0 };
        bias(&mut s.mid, &layer.o, whole);
        if let Some(low) = low(model, noise, l, Target::OProj, names) {
            let z = &mut s.z[Target::OProj as usize];
            fit(z, m * rank);
            lora::forward(low, &s.attn, &mut s.mid, whole, z);
        }
        // The MLP.
        fit(&mut work.h, m * w.hidden);
        fit(&mut s.rstd_mid, m);
        rmsnorm::forward(&s.mid, &layer.mlp_norm, w.eps, &mut work.h, &mut s.rstd_mid);
        fit(&mut s.gate_up, m * 2 * w.inner);
        stack(&[&layer.gate.weight, &layer.up.weight]).forward(&work.h, &mut s.gate_up, false);
        for (linear, target) in [(&layer.gate, Target::GateProj), (&layer.up, Target::UpProj)] {
            let at = Columns { stride: 2 * w.inner, column: w.column(target) };
            bias(&mut s.gate_up, linear, at);
            if let Some(low) = low(model, noise, l, target, names) {
                let z = &mut s.z[target as usize];
                fit(z, m * rank);
                lora::forward(low, &work.h, &mut s.gate_up, at, z);
            }
        }
        fit(&mut work.act, m * w.inner);
        swiglu::forward(&s.gate_up, &mut work.act, w.inner);
        next.clone_from(&s.mid);
        stack(&[&layer.down.weight]).forward(&work.act, next, true);
        bias(next, &layer.down, whole);
        if let Some(low) = low(model, noise, l, Target::DownProj, names) {
            let z = &mut s.z[Target::DownProj as usize];
            fit(z, m * rank);
            lora::forward(low, &work.act, next, whole, z);
        }
    }

    /// Final norm, head and loss; with `backward`, leaves the gradient of the last layer's output in `work.dx`.
    pub(super) fn head(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        scale: f32,
        full: Option<(&mut [f32], &Slots)>,
        backward: bool,
    ) -> f64 {
        let (w, work, m) = (Widths::of(model.config), &mut self.work, batch.learnt.len());
        fit(&mut work.normed, m * w.hidden);
        fit(&mut work.rstd_out, m);
        rmsnorm::forward(&work.out, &model.weights.norm, w.eps, &mut work.normed, &mut work.rstd_out);
        let tokens: Vec<u32> = batch.learnt.iter().map(|t| t.target).collect();
        let weights: Vec<f32> = batch.learnt.iter().map(|t| t.weight * scale).collect();
        let targets = Targets { tokens: &tokens, weights: &weights };
        let head = model.weights.head();
        if !backward {
            return cross_entropy::loss(&work.normed, head, targets, None, None, &mut work.head) / f64::from(scale);
        }
        fit(&mut work.dnormed, m * w.hidden);
        let (mut d_head, mut d_norm) = (None, None);
        if let Some((gradient, slots)) = full {
            // The head comes after the norm when it is a matrix of its own, and before it when tied.
            let (low, high) = gradient.split_at_mut(slots.norm.end);
            let (low, norm) = low.split_at_mut(slots.norm.start);
            d_norm = Some(norm);
            d_head = Some(if slots.head.start >= slots.norm.end {
                &mut high[slots.head.start - slots.norm.end..slots.head.end - slots.norm.end]
            } else {
                &mut low[slots.head.clone()]
            });
        }
        let total = cross_entropy::loss(&work.normed, head, targets, Some(&mut work.dnormed), d_head, &mut work.head);
        fit(&mut work.dx, m * w.hidden);
        work.dx.fill(0.0);
        let norm = &model.weights.norm;
        rmsnorm::backward(&work.out, norm, &work.rstd_out, &mut work.dnormed, &mut work.dx, d_norm);
        total / f64::from(scale)
    }
}

fn bias(y: &mut [f32], linear: &Linear, at: Columns) {
    if let Some(b) = &linear.bias {
        add_bias(y, (at.stride, at.column), b);
    }
}

/// The first `width` columns of chosen rows.
fn gather_columns(x: &[f32], stride: usize, width: usize, rows: &[usize], to: &mut Vec<f32>) {
    fit(to, rows.len() * width);
    let lines = to.chunks_exact_mut(width).zip(rows);
    lines.for_each(|(to, &r)| to.copy_from_slice(&x[r * stride..r * stride + width]));
}
