//! The backward pass: from the last layer's output down to the lowest layer that is trained.

use super::batch::Packed;
use super::engine::{Engine, Model, Noise, Range, Saved, Widths, add_soft, fit, low, stack};
use super::forward::place;
use super::params::{LayerSlots, Slots, pair_slots};
use crate::models::llama::Layer;
use crate::models::lora::Target;
use crate::ops::attention::backward::{self as attention, KeysValues, Seen};
use crate::ops::linear::stack::{bias_gradient, weight_gradient};
use crate::ops::lora::{self, Columns};
use crate::ops::rmsnorm::backward as rmsnorm;
use crate::ops::swiglu::backward as swiglu;

/// What the backward of one linear layer may have to add to.
struct Sink<'a> {
    model: Model<'a>,
    noise: Option<Noise>,
    layer: usize,
    slots: Option<&'a LayerSlots>,
    gradient: &'a mut [f32],
    /// Whether the adapter's pairs of this layer are trained.
    trained: bool,
    /// Whether the gradient of the layer's input is wanted.
    below: bool,
}

impl Sink<'_> {
    /// True when the input of this target is needed again.
    fn wants(&self, target: Target) -> bool {
        self.slots.is_some() || self.model.adapter.is_some_and(|a| a.targets.contains(&target))
    }

    /// Adds the gradients of the target's weight, bias and pair; and the pair's part of `dx`.
    #[allow(clippy::too_many_arguments)]
    fn linear(
        &mut self,
        target: Target,
        x: &[f32],
        dy: &[f32],
        at: Columns,
        z: &[f32],
        names: &[u64],
        dx: Option<&mut [f32]>,
    ) {
        if let Some(slots) = self.slots {
            let (weight, bias) = &slots.linear[target as usize];
            let (out, inp) = super::params::shape(self.model.config, target);
            debug_assert_eq!(out * inp, weight.len());
            weight_gradient(dy, (at.stride, at.column), x, inp, &mut self.gradient[weight.clone()]);
            if let Some(bias) = bias {
                bias_gradient(dy, (at.stride, at.column), &mut self.gradient[bias.clone()]);
            }
            return;
        }
        let Some(adapter) = self.model.adapter else { return };
        let Some(t) = adapter.targets.iter().position(|&t| t == target) else { return };
        let Some(low) = low(self.model, self.noise, self.layer, target, names) else { return };
        let (a, b) = pair_slots(adapter, self.layer, t);
        if !self.trained {
            // The pair still has its part in dx.
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            return lora::backward(low, x, z, (dy, at), dx, &mut da, &mut db);
        }
        let (da, db) = self.gradient[a.start..b.end].split_at_mut(a.len());
        lora::backward(low, x, z, (dy, at), dx, da, db);
    }

    fn norm(&mut self, slot: impl Fn(&LayerSlots) -> Option<&std::ops::Range<usize>>) -> Option<&mut [f32]> {
        let range = slot(self.slots?)?.clone();
        Some(&mut self.gradient[range])
    }
}

impl Engine {
    /// Starts from `work.dx`, the gradient of the last layer's output at the asking rows.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        noise: Option<Noise>,
        range: Range,
        slots: Option<&Slots>,
        gradient: &mut [f32],
        by_soft: Option<&mut [f32]>,
    ) {
        for l in (range.bottom..model.config.layers).rev() {
            let mut saved = std::mem::take(&mut self.saved[place(l, range.bottom)]);
            let slots = slots.map(|s| &s.layers[l]);
            // Nothing below the lowest layer of an adapter is trained, but for what the model reads.
            let below = l > range.bottom || slots.is_some() || by_soft.is_some();
            let trained = l >= range.trained;
            let sink = Sink { model, noise, layer: l, slots, gradient: &mut *gradient, trained, below };
            self.layer_backward(batch, &model.weights.layers[l], &mut saved, sink);
            self.saved[place(l, range.bottom)] = saved;
        }
        let width = model.config.hidden;
        if let Some((by_soft, soft)) = by_soft.zip(model.soft) {
            add_soft(by_soft, soft, &batch.tokens, &self.work.dx, width);
        }
        if let Some(slots) = slots {
            let embed = &mut gradient[slots.embed.clone()];
            for (d, &token) in self.work.dx.chunks_exact(width).zip(&batch.tokens) {
                let Some(row) = embed.get_mut(token as usize * width..(token as usize + 1) * width) else { continue };
                row.iter_mut().zip(d).for_each(|(r, d)| *r += d);
            }
        }
    }

    fn layer_backward(&mut self, batch: &Packed, layer: &Layer, s: &mut Saved, mut sink: Sink<'_>) {
        let (w, rows, work) = (Widths::of(sink.model.config), batch.rows(), &mut self.work);
        let last = sink.layer + 1 == sink.model.config.layers;
        let (queries, names): (_, &[u64]) =
            if last { (&self.asking, &self.asking_names) } else { (&self.all, &batch.names) };
        let m = queries.rows.len();
        let whole = Columns { stride: w.hidden, column: 0 };
        // MLP: work.dx is the gradient of the layer's output.
        fit(&mut work.dact, m * w.inner);
        stack(&[&layer.down.weight]).backward(&work.dx, &mut work.dact);
        if sink.wants(Target::DownProj) {
            fit(&mut work.act, m * w.inner);
            swiglu::forward(&s.gate_up, &mut work.act, w.inner);
            let z = &s.z[Target::DownProj as usize];
            sink.linear(Target::DownProj, &work.act, &work.dx, whole, z, names, Some(&mut work.dact));
        }
        swiglu::backward(&mut s.gate_up, &work.dact, w.inner);
        fit(&mut work.dh, m * w.hidden);
        stack(&[&layer.gate.weight, &layer.up.weight]).backward(&s.gate_up, &mut work.dh);
        if sink.wants(Target::GateProj) || sink.wants(Target::UpProj) {
            fit(&mut work.h, m * w.hidden);
            rmsnorm::again(&s.mid, &layer.mlp_norm, &s.rstd_mid, &mut work.h);
            for target in [Target::GateProj, Target::UpProj] {
                let at = Columns { stride: 2 * w.inner, column: w.column(target) };
                let z = &s.z[target as usize];
                sink.linear(target, &work.h, &s.gate_up, at, z, names, Some(&mut work.dh));
            }
        }
        let dw = sink.norm(|s| Some(&s.mlp_norm));
        rmsnorm::backward(&s.mid, &layer.mlp_norm, &s.rstd_mid, &mut work.dh, &mut work.dx, dw);
        // Attention: work.dx is the gradient of the residual after it.
        fit(&mut work.dattn, m * w.q);
        stack(&[&layer.o.weight]).backward(&work.dx, &mut work.dattn);
        let z = &s.z[Target::OProj as usize];
        sink.linear(Target::OProj, &s.attn, &work.dx, whole, z, names, Some(&mut work.dattn));
        fit(&mut work.dqkv, rows * w.qkv);
        let kv = KeysValues { data: &s.qkv, stride: w.qkv, k: w.q, v: w.q + w.kv };
        let q = if last { (s.q.as_slice(), w.q) } else { (s.qkv.as_slice(), w.qkv) };
        let seen = Seen { q, kv, out: &s.attn, lse: &s.lse };
        let dq = if last {
            fit(&mut work.dq, m * w.q);
            Some((work.dq.as_mut_slice(), w.q))
        } else {
            None
        };
        let (dqkv, heads) = (&mut work.dqkv, &mut work.dkv_heads);
        attention::backward(w.heads, &batch.segments, queries, seen, &work.dattn, dq, dqkv, heads);
        if last {
            for row in work.dqkv.chunks_exact_mut(w.qkv) {
                row[..w.q].fill(0.0);
            }
            add_rows(&work.dq, w.q, &queries.rows, &mut work.dqkv, w.qkv);
        }
        self.angles.rotate(&mut work.dqkv, (w.qkv, 0), w.heads.heads, &batch.positions, true);
        self.angles.rotate(&mut work.dqkv, (w.qkv, w.q), w.heads.kv_heads, &batch.positions, true);
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            let dw = sink.norm(|s| s.q_norm.as_ref());
            rmsnorm::backward_heads(&s.raw, &mut work.dqkv, (w.qkv, 0), q_norm, &s.q_rstd, dw);
            let dw = sink.norm(|s| s.k_norm.as_ref());
            rmsnorm::backward_heads(&s.raw, &mut work.dqkv, (w.qkv, w.q), k_norm, &s.k_rstd, dw);
        }
        let stop = !sink.below;
        fit(&mut work.dh, rows * w.hidden);
        if !stop {
            let qkv = [&layer.q.weight, &layer.k.weight, &layer.v.weight];
            stack(&qkv).backward(&work.dqkv, &mut work.dh);
        }
        if [Target::QProj, Target::KProj, Target::VProj].iter().any(|&t| sink.wants(t)) {
            fit(&mut work.h, rows * w.hidden);
            rmsnorm::again(&s.x, &layer.attn_norm, &s.rstd, &mut work.h);
            for target in [Target::QProj, Target::KProj, Target::VProj] {
                let at = Columns { stride: w.qkv, column: w.column(target) };
                let dx = if stop { None } else { Some(work.dh.as_mut_slice()) };
                let z = &s.z[target as usize];
                sink.linear(target, &work.h, &work.dqkv, at, z, &batch.names, dx);
            }
        }
        if stop {
            return;
        }
        if last {
            // work.h is free: it becomes the gradient at all rows.
            fit(&mut work.h, rows * w.hidden);
            work.h.fill(0.0);
            add_rows(&work.dx, w.hidden, &queries.rows, &mut work.h, w.hidden);
            std::mem::swap(&mut work.h, &mut work.dx);
        }
        let dw = sink.norm(|s| Some(&s.attn_norm));
        rmsnorm::backward(&s.x, &layer.attn_norm, &s.rstd, &mut work.dh, &mut work.dx, dw);
    }
}

/// `to[rows[i]][..width] += from[i]`, in order: a row may be named more than once.
fn add_rows(from: &[f32], width: usize, rows: &[usize], to: &mut [f32], stride: usize) {
    for (from, &row) in from.chunks_exact(width).zip(rows) {
        to[row * stride..row * stride + width].iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}
