//! The forward pass of training: one for every place. It keeps what the backward needs.

use super::engine::{Engine, Pass};
use super::layout::Layout;
use super::placed::Placed;
use super::sink::Sink;
use super::tape::{LABEL, LayerTape, Work, fit_list};
use crate::error::{Error, Result};
use crate::models::decoder::angles::Angles;
use crate::models::decoder::layer::{self as decoder, Asked, Keys, Out, StepDropout};
use crate::models::decoder::pass::embed;
use crate::models::lora::Target;
use crate::ops::attention::Heads;
use crate::ops::cross_entropy::{cross_entropy, cross_entropy_backward};
use crate::ops::linear::layers::{self, Layer};
use crate::ops::rmsnorm::{Kept, rmsnorm_backward, rmsnorm_kept};
use crate::ops::rows::{gather_rows, sum_runs};
use crate::tensor::Dtype;

/// Where layer `l` keeps its activations: layers below `lowest` take turns on two places.
pub(super) fn place(l: usize, lowest: usize) -> usize {
    if l < lowest { l % 2 } else { l - lowest + 2 }
}

/// What the layers of one pass share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub at: Placed<'a>,
    pub layout: &'a Layout,
    pub angles: &'a Angles,
    pub dropout: Option<StepDropout>,
}

impl<'a> Shared<'a> {
    /// The same as the decoder's forward wants it.
    fn decoder(&self) -> decoder::Shared<'a> {
        let layout = self.layout;
        decoder::Shared {
            config: self.at.model.config,
            params: self.at.params(),
            angles: self.angles,
            all: &layout.all,
            positions: &layout.positions,
            asked: Some(Asked { side: &layout.asking, rows: &layout.places, positions: None }),
            keys: Keys::Packed { all: &layout.seen, asked: &layout.seen_asking },
            dropout: self.dropout,
        }
    }

    /// Whether a layer is the last, whose upper part is computed for the asking rows alone.
    pub fn is_last(&self, layer: usize) -> bool {
        self.decoder().is_last(layer)
    }

    /// Rows of a layer's upper part.
    pub fn upper(&self, layer: usize) -> &'a layers::Side {
        self.decoder().upper(layer)
    }

    /// A linear layer with its adapter and the mask of the adapter's input.
    pub fn linear(&self, layer: usize, target: Target) -> Layer<'a> {
        self.decoder().linear(layer, target)
    }

    pub fn heads(&self) -> Heads {
        self.at.model.config.attention_heads()
    }

    pub fn eps(&self) -> f32 {
        self.at.model.config.norm_eps as f32
    }
}

impl Engine {
    /// Runs all layers; those from `lowest` on keep what the backward needs. The result,
    /// `work.out`, is the last layer's output at the rows that predict a target; that layer's upper
    /// part is computed for these rows only.
    pub(super) fn forward(&mut self, pass: &Pass<'_>, layout: &Layout, lowest: usize) -> Result<()> {
        let layers = pass.model.config.layers;
        let places = place(layers - 1, lowest).max(place(lowest.min(layers - 1), lowest)).max(1) + 1;
        while self.tapes.len() < places {
            self.tapes.push(LayerTape::new(&self.device, Dtype::F32)?);
        }
        let Some(angles) = &self.angles else { return Err(Error::failed("training", "no rope angles")) };
        let first = &mut self.tapes[place(0, lowest)].input.x;
        let table = (&pass.model.weights.embed, pass.model.config.embedding_scale());
        embed(table, pass.model.soft, &pass.batch.tokens, first)?;
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref(), rounded: self.rounded.as_ref() };
        let shared = Shared { at, layout, angles: &angles.1, dropout: pass.dropout }.decoder();
        let Work { forward: buffers, out, .. } = &mut self.work;
        let mut pending = false;
        for l in 0..layers {
            let here = place(l, lowest);
            let (tape, next) = if l + 1 == layers {
                (&mut self.tapes[here], &mut *out)
            } else {
                // The next layer's input lies in its own tape.
                let Ok([tape, next]) = self.tapes.get_disjoint_mut([here, place(l + 1, lowest)]) else {
                    return Err(Error::failed("training", "two layers keep their rows in one place"));
                };
                (tape, &mut next.input.x)
            };
            let out = Out { tape, buffers, pending, cache: None, next: Some(next), trace: &mut None };
            pending = decoder::layer(&shared, l, out)?;
        }
        self.work.pending = pending;
        Ok(())
    }

    /// Final norm, head and loss, without a gradient.
    pub(super) fn head(&mut self, pass: &Pass<'_>, layout: &Layout) -> Result<f64> {
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref(), rounded: self.rounded.as_ref() };
        let w = &mut self.work;
        last_norm(&at, layout, w)?;
        Ok(cross_entropy(&w.by_target[0], at.head()?, &layout.targets, &mut w.logits)?.0)
    }

    /// As [`Engine::head`]; leaves the gradient of the last layer's output in `work.dx`.
    pub(super) fn head_backward(&mut self, pass: &Pass<'_>, layout: &Layout, sink: &mut Sink<'_>) -> Result<f64> {
        let at = Placed { model: pass.model, frozen: self.frozen.as_ref(), rounded: self.rounded.as_ref() };
        let w = &mut self.work;
        last_norm(&at, layout, w)?;
        let (rows, width) = (w.normed.rows(), w.normed.dim());
        let [of_target, by_target] = &mut w.by_target;
        by_target.fit(of_target.rows(), width, LABEL)?;
        let head = (&mut *by_target, sink.head());
        let (total, _) = cross_entropy_backward(of_target, at.head()?, &layout.targets, head, &mut w.logits)?;
        w.dnormed.fit(rows, width, LABEL)?;
        sum_runs(by_target, &layout.targets_of_row, &mut w.dnormed)?;
        w.dx.fit(rows, width, LABEL)?;
        let kept = Kept { x: &w.out, rstd: &w.rstd };
        rmsnorm_backward(kept, at.last_norm(), &mut w.dnormed, (&mut w.dx, false), sink.last_norm())?;
        Ok(total)
    }
}

/// Norms the last layer's output, and gives each target its row.
fn last_norm(at: &Placed<'_>, layout: &Layout, w: &mut Work) -> Result<()> {
    let (rows, width) = (w.out.rows(), w.out.dim());
    w.normed.fit(rows, width, LABEL)?;
    fit_list(&mut w.rstd, rows)?;
    let eps = at.model.config.norm_eps as f32;
    let add = w.pending.then_some(&w.forward.delta);
    rmsnorm_kept(&mut w.out, add, at.last_norm(), eps, &mut w.normed, &mut w.rstd)?;
    let of_target = &mut w.by_target[0];
    of_target.fit(layout.row_of_target.len(), width, LABEL)?;
    gather_rows(&w.normed, &layout.row_of_target, of_target)?;
    Ok(())
}
