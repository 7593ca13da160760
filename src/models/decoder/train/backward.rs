//! The backward pass, one for every place: from the last layer's output down to the lowest layer
//! that is trained.

use super::engine::{Engine, Pass};
use super::forward::{Shared, place};
use super::layout::Layout;
use super::placed::{Norm, Placed};
use super::sink::Sink;
use super::tape::{LABEL, LayerTape, Normed, Work};
use crate::Result;
use crate::device::Rows;
use crate::error::Error;
use crate::models::lora::Target;
use crate::ops::attention::packed::{Given, Gradients, Inputs};
use crate::ops::linear::layers::{self, Backward, By, Side};
use crate::ops::rmsnorm::{Kept, Weight, rmsnorm_again, rmsnorm_backward};
use crate::ops::rows::{clear_rows, copy_rows, scatter_rows};

impl Engine {
    /// Starts from `work.dx`, the gradient of the last layer's output at the asking rows, and goes
    /// down to layer `bottom`. With `to_tokens`, leaves the gradient of the embedded tokens in
    /// `work.dx`.
    pub(super) fn backward(
        &mut self,
        pass: &Pass<'_>,
        layout: &Layout,
        (bottom, to_tokens): (usize, bool),
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let Some(angles) = &self.angles else { return Err(Error::failed("training", "no rope angles")) };
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref(), rounded: self.rounded.as_ref() };
        let shared = Shared { at, layout, angles: &angles.1, dropout: pass.dropout };
        for l in (bottom..pass.model.config.layers).rev() {
            // Nothing below the lowest layer of an adapter is trained, but for what the model
            // reads.
            let below = l > bottom || to_tokens;
            layer(&shared, l, &mut self.tapes[place(l, bottom)], &mut self.work, sink, below)?;
        }
        Ok(())
    }
}

/// The gradient of a layer's input from that of its output, both in `work.dx`; the gradients of
/// what is trained to `sink`.
fn layer(s: &Shared<'_>, l: usize, t: &mut LayerTape, w: &mut Work, sink: &mut Sink<'_>, below: bool) -> Result<()> {
    let (c, at) = (s.at.model.config, &s.at);
    let (all, upper, last, rows) = (&s.layout.all, s.upper(l), s.is_last(l), s.layout.all.rows());
    let m = upper.rows();
    let missing = || Error::failed("training", format!("layer {l} lacks a norm"));
    // MLP: dx is the gradient of the layer's output.
    let down = [Target::DownProj];
    let added = before_post_norm(s, (l, Norm::MlpPost), &t.raw_mlp, w, sink)?;
    w.dact.fit(m, c.intermediate, LABEL)?;
    let act = if sink.wants(at, l, &down) {
        Some(c.family.activation.forward(true, &mut t.gate, &t.up, &mut w.forward.act)?)
    } else {
        None
    };
    let by = sink.of(at, l, &down)?;
    products(s, l, upper, act, [(down[0], if added { &w.added } else { &w.dx }, &t.low)], by, Some(&mut w.dact))?;
    c.family.activation.backward(&mut t.gate, &mut t.up, &w.dact)?;
    let gate_up = [Target::GateProj, Target::UpProj];
    let norm = at.norm(l, Norm::Mlp).ok_or_else(missing)?;
    let h = again(&mut t.mid, norm, s.eps(), sink.wants(at, l, &gate_up), &mut w.forward.h)?;
    w.dh.fit(m, c.hidden, LABEL)?;
    let by = sink.of(at, l, &gate_up)?;
    let dy = [(gate_up[0], &t.gate, &t.low), (gate_up[1], &t.up, &t.low)];
    products(s, l, upper, h, dy, by, Some(&mut w.dh))?;
    let kept = Kept { x: &t.mid.x, rstd: &t.mid.rstd };
    rmsnorm_backward(kept, norm, &mut w.dh, (&mut w.dx, true), sink.norm(l, |s| Some(&s.mlp_norm)))?;
    // Attention: dx is the gradient of the residual after it.
    w.dattn.fit(m, c.q_width(), LABEL)?;
    let o = [Target::OProj];
    let added = before_post_norm(s, (l, Norm::AttentionPost), &t.raw_attn, w, sink)?;
    let by = sink.of(at, l, &o)?;
    products(
        s,
        l,
        upper,
        Some(&t.attn),
        [(o[0], if added { &w.added } else { &w.dx }, &t.low)],
        by,
        Some(&mut w.dattn),
    )?;
    w.dq.fit(m, c.q_width(), LABEL)?;
    w.dk.fit(rows, c.kv_width(), LABEL)?;
    w.dv.fit(rows, c.kv_width(), LABEL)?;
    if last {
        // Rows that no asking row sees get no gradient.
        clear_rows(&mut w.dk)?;
        clear_rows(&mut w.dv)?;
    }
    let seen = if last { &s.layout.seen_asking } else { &s.layout.seen };
    let inputs = Inputs { q: &t.q, k: &t.k, v: &t.v };
    let given = Given { out: &t.attn, lse: &t.lse, by_out: &w.dattn };
    let mut gradients = Gradients { q: &mut w.dq, k: &mut w.dk, v: &mut w.dv };
    seen.attention_backward(s.heads(), s.at.model.config.window_of(l), inputs, given, &mut gradients, &mut w.by_head)?;
    if last {
        spread(s, &mut w.dq, &mut w.at_all)?;
    }
    let windowed = c.window_of(l).is_some();
    s.angles.queries(windowed).rope_backward(&mut w.dq, &s.layout.positions)?;
    s.angles.keys(windowed).rope_backward(&mut w.dk, &s.layout.positions)?;
    if let Some(norm) = at.norm(l, Norm::Query) {
        head_norm(&t.raw_q, norm, &mut w.dq, &mut w.raw, sink.norm(l, |s| s.q_norm.as_ref()))?;
    }
    if let Some(norm) = at.norm(l, Norm::Key) {
        head_norm(&t.raw_k, norm, &mut w.dk, &mut w.raw, sink.norm(l, |s| s.k_norm.as_ref()))?;
    }
    let qkv = [Target::QProj, Target::KProj, Target::VProj];
    let norm = at.norm(l, Norm::Attention).ok_or_else(missing)?;
    let h = again(&mut t.input, norm, s.eps(), sink.wants(at, l, &qkv), &mut w.forward.h)?;
    w.dh.fit(rows, c.hidden, LABEL)?;
    let by = sink.of(at, l, &qkv)?;
    let dy = [(qkv[0], &w.dq, &t.low), (qkv[1], &w.dk, &t.low), (qkv[2], &w.dv, &t.low)];
    products(s, l, all, h, dy, by, below.then_some(&mut w.dh))?;
    if !below {
        return Ok(());
    }
    if last {
        spread(s, &mut w.dx, &mut w.at_all)?;
    }
    let kept = Kept { x: &t.input.x, rstd: &t.input.rstd };
    rmsnorm_backward(kept, norm, &mut w.dh, (&mut w.dx, true), sink.norm(l, |s| Some(&s.attn_norm)))?;
    Ok(())
}

/// The backward of linear layers with one input: (target, gradient of its result, what the forward
/// kept of the pairs).
fn products<const N: usize>(
    s: &Shared<'_>,
    l: usize,
    side: &Side,
    x: Option<&Rows>,
    dy: [(Target, &Rows, &[Rows; 7]); N],
    by: Vec<Option<By<'_>>>,
    dx: Option<&mut Rows>,
) -> Result<()> {
    let mut products: Vec<Backward<'_>> = Vec::with_capacity(N);
    for ((target, dy, low), by) in dy.into_iter().zip(by) {
        products.push(Backward { layer: s.linear(l, target), dy, low: &low[target as usize], by });
    }
    layers::backward(side, x, &mut products, dx)?;
    Ok(())
}

/// The normed rows once more, where they are wanted.
fn again<'h>(of: &mut Normed, norm: Weight<'_>, eps: f32, wanted: bool, h: &'h mut Rows) -> Result<Option<&'h Rows>> {
    if !wanted {
        return Ok(None);
    }
    h.fit(of.x.rows(), of.x.dim(), LABEL)?;
    rmsnorm_again(&mut of.x, &of.rstd, norm, eps, h)?;
    Ok(Some(h))
}

/// Where the family norms what is added to the residual: from `work.dx`, the gradient of the sum,
/// that of what was normed to `work.added`. Whether it did.
fn before_post_norm(
    s: &Shared<'_>,
    (l, which): (usize, Norm),
    raw: &Normed,
    w: &mut Work,
    sink: &mut Sink<'_>,
) -> Result<bool> {
    let Some(norm) = s.at.norm(l, which) else { return Ok(false) };
    copy_rows(&w.dx, &mut w.dh, LABEL)?;
    w.added.fit(w.dx.rows(), w.dx.dim(), LABEL)?;
    let by_norm = sink.norm(l, |s| match which {
        Norm::MlpPost => s.mlp_post_norm.as_ref(),
        _ => s.attn_post_norm.as_ref(),
    });
    rmsnorm_backward(Kept { x: &raw.x, rstd: &raw.rstd }, norm, &mut w.dh, (&mut w.added, false), by_norm)?;
    Ok(true)
}

/// The gradient before a head norm in place of the one behind it.
fn head_norm(of: &Normed, norm: Weight<'_>, d: &mut Rows, spare: &mut Rows, dw: Option<&mut [f32]>) -> Result<()> {
    spare.fit(d.rows(), d.dim(), LABEL)?;
    rmsnorm_backward(Kept { x: &of.x, rstd: &of.rstd }, norm, d, (&mut *spare, false), dw)?;
    std::mem::swap(d, spare);
    Ok(())
}

/// Rows of the asking rows as rows of all, zero elsewhere.
fn spread(s: &Shared<'_>, rows: &mut Rows, spare: &mut Rows) -> Result<()> {
    spare.fit(s.layout.all.rows(), rows.dim(), LABEL)?;
    clear_rows(spare)?;
    scatter_rows(rows, &s.layout.places, spare)?;
    std::mem::swap(rows, spare);
    Ok(())
}
