//! The backward pass: from the last layer's output down to the lowest layer that is trained.

use super::super::engine::Range;
use super::Pass;
use super::batch::Side;
use super::forward::{Normed, Saved};
use super::product::Read;
use crate::Result;
use crate::device::DeviceRows;
use crate::models::lora::Target;
use crate::ops::attention::cuda::Inputs;
use crate::ops::attention::gradient::{Given, Gradients as ByAttention};
use crate::ops::copy::{add, scatter};
use crate::ops::lora::cuda::Gradients;
use crate::ops::rmsnorm::cuda as rmsnorm;
use crate::ops::swiglu::cuda as swiglu;

/// The gradients of the pairs that are trained; they stay on the device until the pass is over.
pub(super) struct Found {
    range: Range,
    /// Whether the gradient of the embedded tokens is wanted.
    to_tokens: bool,
    pub pairs: Vec<(usize, Target, Gradients)>,
}

impl Found {
    pub fn new(range: Range, to_tokens: bool) -> Self {
        Self { range, to_tokens, pairs: Vec::new() }
    }
}

/// Where a product's gradient by its input goes; true: it is added.
type To<'a> = Option<(&'a mut DeviceRows<f32>, bool)>;

impl Pass<'_> {
    /// True where one of these targets has a pair that is trained: its input is needed again.
    fn wants(&self, found: &Found, l: usize, targets: &[Target]) -> bool {
        let pair = |&t: &Target| self.engine.adapter.as_ref().is_some_and(|a| a.pair(l, t).is_some());
        l >= found.range.trained && targets.iter().any(pair)
    }

    fn product_backward(
        &self,
        found: &mut Found,
        (l, target): (usize, Target),
        side: &Side,
        read: Read<'_>,
        dy: &DeviceRows<f32>,
        dx: To<'_>,
    ) -> Result<()> {
        let product = self.product(l, target, side);
        let mut by = if l >= found.range.trained { product.gradients()? } else { None };
        product.backward(read, dy, dx, by.as_mut())?;
        found.pairs.extend(by.map(|by| (l, target, by)));
        Ok(())
    }

    /// Starts from the gradient of the last layer's output at the asking rows. Gives that of the embedded tokens, where it
    /// is wanted.
    pub fn backward(
        &self,
        saved: &mut Vec<Saved>,
        mut dx: DeviceRows<f32>,
        found: &mut Found,
    ) -> Result<Option<DeviceRows<f32>>> {
        let mut l = self.engine.config.layers;
        while let Some(layer) = saved.pop() {
            l -= 1;
            match self.layer_backward(l, layer, dx, found)? {
                Some(below) => dx = below,
                None => return Ok(None),
            }
        }
        Ok(Some(dx))
    }

    fn layer_backward(
        &self,
        l: usize,
        mut s: Saved,
        mut dx: DeviceRows<f32>,
        found: &mut Found,
    ) -> Result<Option<DeviceRows<f32>>> {
        let (c, layer) = (&self.engine.config, &self.engine.layers[l]);
        let (all, side, last) = (&self.batch.all, self.asking(l), self.is_last(l));
        let low = |t: Target| s.s[t as usize].as_ref();
        // MLP: dx is the gradient of the layer's output.
        let mut dact = self.zeros(side.rows, c.intermediate)?;
        let act = if self.wants(found, l, &[Target::DownProj]) {
            let mut act = self.zeros(side.rows, c.intermediate)?;
            swiglu::forward_apart(&s.gate, &s.up, &mut act)?;
            Some(act)
        } else {
            None
        };
        let read = Read { x: act.as_ref(), s: low(Target::DownProj) };
        self.product_backward(found, (l, Target::DownProj), side, read, &dx, Some((&mut dact, false)))?;
        drop(act);
        swiglu::backward_apart(&mut s.gate, &mut s.up, &dact)?;
        let h = self.again(&mut s.mid, &layer.mlp_norm, self.wants(found, l, &[Target::GateProj, Target::UpProj]))?;
        let mut dh = self.zeros(side.rows, c.hidden)?;
        let read = |target| Read { x: h.as_ref(), s: low(target) };
        let (gate, up) = (Target::GateProj, Target::UpProj);
        self.product_backward(found, (l, gate), side, read(gate), &s.gate, Some((&mut dh, false)))?;
        self.product_backward(found, (l, up), side, read(up), &s.up, Some((&mut dh, true)))?;
        rmsnorm::backward(&s.mid.x, &layer.mlp_norm, &s.mid.rstd, &dh, true, &mut dx)?;
        // Attention: dx is the gradient of the residual after it.
        let mut dattn = self.zeros(side.rows, c.q_width())?;
        let read = Read { x: Some(&s.attn), s: low(Target::OProj) };
        self.product_backward(found, (l, Target::OProj), side, read, &dx, Some((&mut dattn, false)))?;
        let mut dq = self.zeros(side.rows, c.q_width())?;
        let (mut dk, mut dv) = (self.zeros(all.rows, c.kv_width())?, self.zeros(all.rows, c.kv_width())?);
        side.backward.run(
            self.heads(),
            &Inputs { q: &s.q, k: &s.k, v: &s.v },
            &Given { out: &s.attn, lse: &s.lse, by_out: &dattn },
            &mut ByAttention { q: &mut dq, k: &mut dk, v: &mut dv },
        )?;
        let angles = &self.engine.angles.0;
        angles.turn(&mut dq, (0, c.heads), &side.positions, true)?;
        angles.turn(&mut dk, (0, c.kv_heads), &all.positions, true)?;
        let dq = self.head_norm_backward(dq, s.raw_q.as_ref(), layer.q_norm.as_ref())?;
        let dk = self.head_norm_backward(dk, s.raw_k.as_ref(), layer.k_norm.as_ref())?;
        // Nothing below the lowest layer of an adapter is trained, but for what the model reads.
        let below = l > found.range.bottom || found.to_tokens;
        let qkv = [Target::QProj, Target::KProj, Target::VProj];
        let h = self.again(&mut s.input, &layer.attn_norm, self.wants(found, l, &qkv))?;
        let asking = match &h {
            Some(h) if last => Some(self.at_asking(h)?),
            _ => None,
        };
        let mut dh = self.zeros(all.rows, c.hidden)?;
        // In the last layer the queries are fewer rows than keys and values.
        let mut by_queries = if last { Some(self.zeros(side.rows, c.hidden)?) } else { None };
        for (target, dy, accumulate) in [(qkv[0], &dq, false), (qkv[1], &dk, !last), (qkv[2], &dv, true)] {
            let queries = target == Target::QProj;
            let (side, x) = if queries { (side, asking.as_ref().or(h.as_ref())) } else { (all, h.as_ref()) };
            let to = match &mut by_queries {
                Some(by_queries) if queries => by_queries,
                _ => &mut dh,
            };
            let read = Read { x, s: low(target) };
            self.product_backward(found, (l, target), side, read, dy, below.then_some((to, accumulate)))?;
        }
        if !below {
            return Ok(None);
        }
        if let Some(by_queries) = by_queries {
            add(&by_queries, None, Some(&self.batch.places), &mut dh)?;
            let mut at_all = self.zeros(all.rows, c.hidden)?;
            scatter(&dx, &self.batch.places, &mut at_all)?;
            dx = at_all;
        }
        rmsnorm::backward(&s.input.x, &layer.attn_norm, &s.input.rstd, &dh, true, &mut dx)?;
        Ok(Some(dx))
    }

    /// The normed rows once more, where they are wanted.
    fn again(&self, of: &mut Normed, norm: &DeviceRows<f32>, wanted: bool) -> Result<Option<DeviceRows<f32>>> {
        if !wanted {
            return Ok(None);
        }
        let mut h = self.zeros(of.x.rows(), of.x.dim())?;
        rmsnorm::forward(&mut of.x, None, norm, self.eps(), &mut h, None)?;
        Ok(Some(h))
    }

    fn head_norm_backward(
        &self,
        dy: DeviceRows<f32>,
        raw: Option<&Normed>,
        norm: Option<&DeviceRows<f32>>,
    ) -> Result<DeviceRows<f32>> {
        let (Some(raw), Some(norm)) = (raw, norm) else { return Ok(dy) };
        let mut dx = self.zeros(dy.rows(), dy.dim())?;
        rmsnorm::backward(&raw.x, norm, &raw.rstd, &dy, false, &mut dx)?;
        Ok(dx)
    }
}
