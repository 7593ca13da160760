//! The forward pass, which keeps what the backward needs.

use super::Pass;
use crate::Result;
use crate::device::{Buffer, DeviceRows};
use crate::models::llama::{SoftTokens, soft};
use crate::models::lora::Target;
use crate::ops::attention::Heads;
use crate::ops::attention::cuda::Inputs;
use crate::ops::copy::{add, duplicate, gather};
use crate::ops::cross_entropy::cuda as cross_entropy;
use crate::ops::rmsnorm::cuda as rmsnorm;
use crate::ops::swiglu::cuda as swiglu;

/// Rows with the 1/rms of each of their heads.
pub(super) struct Normed {
    pub x: DeviceRows<f32>,
    pub rstd: Buffer<f32>,
}

/// What a layer keeps. T are all rows, M those that its upper part is computed for.
pub(super) struct Saved {
    /// Input (T x hidden).
    pub input: Normed,
    /// After bias, head norms and rope: q (M x q), k and v (T x kv).
    pub q: DeviceRows<f32>,
    pub k: DeviceRows<f32>,
    pub v: DeviceRows<f32>,
    /// Qwen3: q and k before the head norms.
    pub raw_q: Option<Normed>,
    pub raw_k: Option<Normed>,
    /// Attention's output (M x q) and log-sum-exp (M x heads).
    pub attn: DeviceRows<f32>,
    pub lse: Buffer<f32>,
    /// Residual after attention (M x hidden).
    pub mid: Normed,
    /// (M x intermediate) each.
    pub gate: DeviceRows<f32>,
    pub up: DeviceRows<f32>,
    /// `scale drop(x) A^T` of each target.
    pub s: [Option<DeviceRows<f32>>; 7],
}

impl Pass<'_> {
    pub(super) fn heads(&self) -> Heads {
        let c = &self.engine.config;
        Heads { query: c.heads, kv: c.kv_heads, dim: c.head_dim }
    }

    pub(super) fn zeros(&self, rows: usize, width: usize) -> Result<DeviceRows<f32>> {
        self.engine.zeros(rows, width)
    }

    fn scales(&self, count: usize) -> Result<Buffer<f32>> {
        self.engine.device.zeros(count, "scales of norms")
    }

    /// The last layer's output at the asking rows, and what the layers from `lowest` on keep, that one first.
    pub fn forward(
        &self,
        tokens: &[u32],
        soft: Option<&SoftTokens>,
        lowest: usize,
    ) -> Result<(Vec<Saved>, DeviceRows<f32>)> {
        let (engine, width) = (self.engine, self.engine.config.hidden);
        let mut embedded = vec![0.0; tokens.len() * width];
        for (&token, row) in tokens.iter().zip(embedded.chunks_exact_mut(width)) {
            soft::read(&engine.embed, soft, token, row);
        }
        let mut x = DeviceRows::upload(&engine.device, width, &embedded, "activations of training")?;
        let mut kept = Vec::with_capacity(engine.config.layers - lowest);
        for l in 0..engine.config.layers {
            let (saved, next) = self.layer(l, x)?;
            x = next;
            if l >= lowest {
                kept.push(saved);
            }
        }
        Ok((kept, x))
    }

    fn layer(&self, l: usize, mut x: DeviceRows<f32>) -> Result<(Saved, DeviceRows<f32>)> {
        let (c, layer, eps) = (&self.engine.config, &self.engine.layers[l], self.eps());
        let (all, side, last) = (&self.batch.all, self.asking(l), self.is_last(l));
        let mut s: [Option<DeviceRows<f32>>; 7] = Default::default();
        // Keys and values of every row; queries, and all that follows, of those that are asked.
        let mut h = self.zeros(all.rows, c.hidden)?;
        let mut rstd = self.scales(all.rows)?;
        rmsnorm::forward(&mut x, None, &layer.attn_norm, eps, &mut h, Some(&mut rstd))?;
        let asking = if last { Some(self.at_asking(&h)?) } else { None };
        let mut q = self.zeros(side.rows, c.q_width())?;
        let (mut k, mut v) = (self.zeros(all.rows, c.kv_width())?, self.zeros(all.rows, c.kv_width())?);
        for (target, side, x, y) in [
            (Target::QProj, side, asking.as_ref().unwrap_or(&h), &mut q),
            (Target::KProj, all, &h, &mut k),
            (Target::VProj, all, &h, &mut v),
        ] {
            s[target as usize] = self.product(l, target, side).forward(x, false, y)?;
        }
        let (q_heads, k_heads) = (side.rows * c.heads, all.rows * c.kv_heads);
        let (mut q, raw_q) = self.head_norm(q, layer.q_norm.as_ref(), q_heads)?;
        let (mut k, raw_k) = self.head_norm(k, layer.k_norm.as_ref(), k_heads)?;
        let angles = &self.engine.angles.0;
        angles.turn(&mut q, (0, c.heads), &side.positions, false)?;
        angles.turn(&mut k, (0, c.kv_heads), &all.positions, false)?;
        let mut attn = self.zeros(side.rows, c.q_width())?;
        let mut lse = self.scales(q_heads)?;
        side.plan.forward(self.heads(), &Inputs { q: &q, k: &k, v: &v }, &mut attn, Some(&mut lse))?;
        let mut mid = if last { self.at_asking(&x)? } else { duplicate(&x, "activations of training")? };
        s[Target::OProj as usize] = self.product(l, Target::OProj, side).forward(&attn, true, &mut mid)?;
        // The MLP.
        let mut h = self.zeros(side.rows, c.hidden)?;
        let mut rstd_mid = self.scales(side.rows)?;
        rmsnorm::forward(&mut mid, None, &layer.mlp_norm, eps, &mut h, Some(&mut rstd_mid))?;
        let (mut gate, mut up) = (self.zeros(side.rows, c.intermediate)?, self.zeros(side.rows, c.intermediate)?);
        s[Target::GateProj as usize] = self.product(l, Target::GateProj, side).forward(&h, false, &mut gate)?;
        s[Target::UpProj as usize] = self.product(l, Target::UpProj, side).forward(&h, false, &mut up)?;
        let mut act = self.zeros(side.rows, c.intermediate)?;
        swiglu::forward_apart(&gate, &up, &mut act)?;
        let mut out = duplicate(&mid, "activations of training")?;
        s[Target::DownProj as usize] = self.product(l, Target::DownProj, side).forward(&act, true, &mut out)?;
        let input = Normed { x, rstd };
        let mid = Normed { x: mid, rstd: rstd_mid };
        Ok((Saved { input, q, k, v, raw_q, raw_k, attn, lse, mid, gate, up, s }, out))
    }

    /// The asking rows of a matrix of all rows.
    pub(super) fn at_asking(&self, x: &DeviceRows<f32>) -> Result<DeviceRows<f32>> {
        let mut out = self.zeros(self.batch.asking.rows, x.dim())?;
        gather(x, &self.batch.places, &mut out)?;
        Ok(out)
    }

    /// `x` with each of its heads normed, and what it was before; without a norm only itself.
    fn head_norm(
        &self,
        mut x: DeviceRows<f32>,
        norm: Option<&DeviceRows<f32>>,
        heads: usize,
    ) -> Result<(DeviceRows<f32>, Option<Normed>)> {
        let Some(norm) = norm else { return Ok((x, None)) };
        let mut y = self.zeros(x.rows(), x.dim())?;
        let mut rstd = self.scales(heads)?;
        rmsnorm::forward(&mut x, None, norm, self.eps(), &mut y, Some(&mut rstd))?;
        Ok((y, Some(Normed { x, rstd })))
    }

    /// Final norm, head and loss (with the scale in its weights); the gradient by the last layer's output.
    pub fn head(&self, mut out: DeviceRows<f32>) -> Result<(f64, DeviceRows<f32>)> {
        let (engine, b, width) = (self.engine, self.batch, self.engine.config.hidden);
        let mut normed = self.zeros(out.rows(), width)?;
        let mut rstd = self.scales(out.rows())?;
        rmsnorm::forward(&mut out, None, &engine.norm, self.eps(), &mut normed, Some(&mut rstd))?;
        let mut of_target = self.zeros(b.row_of_target.len(), width)?;
        gather(&normed, &b.row_of_target, &mut of_target)?;
        let mut by_target = self.zeros(of_target.rows(), width)?;
        let (total, _) = cross_entropy::loss(&of_target, &engine.head, &b.targets, Some(&mut by_target))?;
        let mut dnormed = self.zeros(out.rows(), width)?;
        add(&by_target, Some(&b.targets_of_row), None, &mut dnormed)?;
        let mut dx = self.zeros(out.rows(), width)?;
        rmsnorm::backward(&out, &engine.norm, &rstd, &dnormed, false, &mut dx)?;
        Ok((total, dx))
    }
}
