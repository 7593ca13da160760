//! The training engine: buffers that live from step to step, and the calls that use them.

use super::batch::Packed;
use super::params::Slots;
use crate::models::llama::{Config, SoftTokens, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::attention::backward::{Heads, Queries};
use crate::ops::cross_entropy;
use crate::ops::linear::Weight;
use crate::ops::linear::stack::Stack;
use crate::ops::lora::{Dropout, Low};
use crate::ops::rope::Rope;
use crate::ops::rope::backward::Angles;
use crate::{Error, Result};

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trained {
    /// The adapter's pairs from `first_layer` on; the model is frozen.
    Adapter {
        /// Layers below carry no gradient.
        first_layer: usize,
    },
    /// Every weight of the model (f32, owned).
    All,
}

/// The model of one pass.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Shape.
    pub config: &'a Config,
    /// Weights; they are not changed by a pass.
    pub weights: &'a Weights,
    /// The adapter, if any.
    pub adapter: Option<&'a Adapter>,
    /// Soft tokens of the batch, if it has any.
    pub soft: Option<&'a SoftTokens>,
}

/// What one layer keeps from forward to backward.
#[derive(Default)]
pub(super) struct Saved {
    /// Input (T x hidden) and its 1/rms.
    pub x: Vec<f32>,
    pub rstd: Vec<f32>,
    /// q, k, v after bias, norms and rope (T x qkv).
    pub qkv: Vec<f32>,
    /// Qwen3: q, k before the head norms (T x qkv), and the heads' 1/rms.
    pub raw: Vec<f32>,
    pub q_rstd: Vec<f32>,
    pub k_rstd: Vec<f32>,
    /// Last layer: q of the asking rows (M x q).
    pub q: Vec<f32>,
    /// Attention's output (M x q) and log-sum-exp (M x heads).
    pub attn: Vec<f32>,
    pub lse: Vec<f32>,
    /// Residual after attention (M x hidden) and its 1/rms.
    pub mid: Vec<f32>,
    pub rstd_mid: Vec<f32>,
    /// Gate and up (M x 2 intermediate).
    pub gate_up: Vec<f32>,
    /// `drop(x) A^T` of each target (rows x r).
    pub z: [Vec<f32>; 7],
}

/// Buffers that no layer keeps.
#[derive(Default)]
pub(super) struct Work {
    /// Normed rows.
    pub h: Vec<f32>,
    pub act: Vec<f32>,
    pub dx: Vec<f32>,
    pub dh: Vec<f32>,
    pub dact: Vec<f32>,
    pub dattn: Vec<f32>,
    pub dq: Vec<f32>,
    pub dqkv: Vec<f32>,
    pub dkv_heads: Vec<f32>,
    /// Last layer's output at the asking rows, its norm and 1/rms.
    pub out: Vec<f32>,
    pub normed: Vec<f32>,
    pub rstd_out: Vec<f32>,
    pub dnormed: Vec<f32>,
    pub head: cross_entropy::Scratch,
}

/// Sets the length; what is inside is whatever was there.
pub(super) fn fit(v: &mut Vec<f32>, len: usize) {
    v.resize(len, 0.0);
}

/// Layers of a backward pass.
#[derive(Clone, Copy)]
pub(super) struct Range {
    /// The lowest that it reaches.
    pub bottom: usize,
    /// The lowest whose pairs are trained.
    pub trained: usize,
}

/// Forward and backward passes on the CPU. Keeps its buffers: use one engine for all steps.
#[derive(Default)]
pub struct Engine {
    pub(super) angles: Angles,
    pub(super) saved: Vec<Saved>,
    pub(super) work: Work,
    /// Query rows: all of the batch, and those that are learnt from.
    pub(super) all: Queries,
    pub(super) asking: Queries,
    pub(super) asking_names: Vec<u64>,
}

/// The dropout of an optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Probability.
    pub p: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser step.
    pub step: u32,
}

/// Widths that are used everywhere.
#[derive(Clone, Copy)]
pub(super) struct Widths {
    pub hidden: usize,
    pub inner: usize,
    pub q: usize,
    pub kv: usize,
    pub qkv: usize,
    pub heads: Heads,
    pub eps: f32,
}

impl Widths {
    pub fn of(c: &Config) -> Self {
        let heads = Heads { heads: c.heads, kv_heads: c.kv_heads, dim: c.head_dim };
        let (q, kv) = (c.q_width(), c.kv_width());
        Self { hidden: c.hidden, inner: c.intermediate, q, kv, qkv: q + 2 * kv, heads, eps: c.norm_eps as f32 }
    }

    /// First column of q, k, v in qkv, of gate, up in gate_up; 0 for the others.
    pub fn column(&self, target: Target) -> usize {
        match target {
            Target::KProj => self.q,
            Target::VProj => self.q + self.kv,
            Target::UpProj => self.inner,
            _ => 0,
        }
    }
}

/// The dropout of a layer's target.
pub(super) fn mask(noise: Option<Noise>, layer: usize, target: Target) -> Option<Dropout> {
    let n = noise.filter(|n| n.p > 0.0)?;
    let stream = (layer * Target::ALL.len() + target as usize) as u32;
    Some(Dropout::new(n.p, n.seed, n.step, stream))
}

/// The adapter's part of a layer's target, ready for the operator.
pub(super) fn low<'a>(
    model: Model<'a>,
    noise: Option<Noise>,
    layer: usize,
    target: Target,
    names: &'a [u64],
) -> Option<Low<'a>> {
    let adapter = model.adapter?;
    let pair = adapter.pair(layer, target)?;
    let dropout = mask(noise, layer, target).map(|mask| (mask, names));
    Some(Low { a: &pair.a, b: &pair.b, rank: adapter.rank, scale: adapter.scale(), dropout })
}

/// A stack of one, two or three weights.
pub(super) fn stack<'a, 'b>(weights: &'b [&'a Weight]) -> Stack<'b>
where
    'a: 'b,
{
    Stack(weights)
}

/// Fails on a batch that the model cannot read or learn from.
pub(super) fn check(model: Model<'_>, batch: &Packed) -> Result<()> {
    let c = model.config;
    if batch.learnt.is_empty() {
        return Err(Error::input("training batch", "nothing to learn in it"));
    }
    if c.layers == 0 || model.weights.layers.len() != c.layers || c.kv_heads == 0 || !c.heads.is_multiple_of(c.kv_heads)
    {
        return Err(Error::input("model", "the weights do not fit the configuration"));
    }
    let soft = |t: u32| model.soft.is_some_and(|s| s.row(t).is_some());
    if let Some(t) = batch.tokens.iter().find(|&&t| t as usize >= c.vocab && !soft(t)) {
        return Err(Error::input("training batch", format!("token {t} is neither in the vocabulary nor soft")));
    }
    Ok(())
}

/// Fails on gradients of another length than what is trained; where each of all weights has its own in the flat one.
pub(super) fn check_lengths(
    model: Model<'_>,
    trained: Trained,
    gradient: &[f32],
    by_soft: Option<&[f32]>,
) -> Result<Option<Slots>> {
    if let Some(by) = by_soft
        && by.len() != model.soft.map_or(0, SoftTokens::values)
    {
        return Err(Error::failed("training", format!("gradient of {} values for the soft tokens", by.len())));
    }
    let slots = (trained == Trained::All).then(|| Slots::of(model.weights));
    let expected = match (&slots, model.adapter) {
        (Some(slots), _) => slots.total,
        (None, Some(adapter)) => adapter.pairs.iter().flatten().map(|p| p.a.len() + p.b.len()).sum(),
        (None, None) => return Err(Error::usage("training", "there is no adapter to train")),
    };
    if gradient.len() != expected {
        let what = format!("gradient of {} values for {expected} parameters", gradient.len());
        return Err(Error::failed("training", what));
    }
    Ok(slots)
}

/// Adds the rows of soft tokens in `dx`, the gradient (tokens, hidden) of the embedded tokens.
pub(super) fn add_soft(by_soft: &mut [f32], soft: &SoftTokens, tokens: &[u32], dx: &[f32], width: usize) {
    for (d, &token) in dx.chunks_exact(width).zip(tokens) {
        let Some(row) = soft.row(token) else { continue };
        by_soft[row * width..][..width].iter_mut().zip(d).for_each(|(r, d)| *r += d);
    }
}

/// Where the passes of training run.
pub trait Backend {
    /// As [`Engine::gradient`]; also adds the gradient by the vectors of `model.soft` to `by_soft` (tokens, hidden). With
    /// it the pass goes down to the embeddings, also where an adapter's lower layers are not trained.
    ///
    /// # Errors
    /// As [`Engine::gradient`]; what the device can meet; something to train that it cannot.
    #[allow(clippy::too_many_arguments)]
    fn gradient_with_soft(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        trained: Trained,
        noise: Option<Noise>,
        scale: f32,
        gradient: &mut [f32],
        by_soft: Option<&mut [f32]>,
    ) -> Result<f64>;
}

impl Backend for Engine {
    fn gradient_with_soft(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        trained: Trained,
        noise: Option<Noise>,
        scale: f32,
        gradient: &mut [f32],
        by_soft: Option<&mut [f32]>,
    ) -> Result<f64> {
        self.prepare(model, batch)?;
        let slots = check_lengths(model, trained, gradient, by_soft.as_deref())?;
        let lowest = match trained {
            Trained::All => 0,
            Trained::Adapter { first_layer } => first_layer.min(model.config.layers - 1),
        };
        let bottom = if by_soft.is_some() { 0 } else { lowest };
        self.forward(model, batch, noise, bottom);
        let head_gradient = slots.as_ref().map(|s| (&mut *gradient, s));
        let total = self.head(model, batch, scale, head_gradient, true);
        let range = Range { bottom, trained: lowest };
        self.backward(model, batch, noise, range, slots.as_ref(), gradient, by_soft);
        Ok(total)
    }
}

impl Engine {
    /// A fresh engine.
    pub fn new() -> Self {
        Self::default()
    }

    fn prepare(&mut self, model: Model<'_>, batch: &Packed) -> Result<()> {
        check(model, batch)?;
        let c = model.config;
        let longest = batch.positions.iter().max().map_or(0, |&p| p as usize + 1);
        self.angles.grow(&Rope::new(c.head_dim, c.rope_theta, c.rope_scaling), longest);
        self.all = Queries::new((0..batch.rows()).collect(), &batch.segments, &batch.groups);
        let rows: Vec<usize> = batch.learnt.iter().map(|l| l.row).collect();
        self.asking_names = rows.iter().map(|&r| batch.names[r]).collect();
        self.asking = Queries::new(rows, &batch.segments, &batch.groups);
        Ok(())
    }

    /// Sum of weighted losses over the batch's learnt tokens; no gradient, no dropout, little memory.
    ///
    /// # Errors
    /// An empty batch, or a model whose parts do not fit.
    pub fn loss(&mut self, model: Model<'_>, batch: &Packed) -> Result<f64> {
        self.prepare(model, batch)?;
        self.forward(model, batch, None, model.config.layers);
        Ok(self.head(model, batch, 1.0, None, false))
    }

    /// Adds the gradient of `scale * loss` to `gradient` (flat, in the order of [`super::Parameters`]) and returns the
    /// loss sum (without `scale`).
    ///
    /// # Errors
    /// An empty batch, a model whose parts do not fit, or a gradient of the wrong length.
    pub fn gradient(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        trained: Trained,
        noise: Option<Noise>,
        scale: f32,
        gradient: &mut [f32],
    ) -> Result<f64> {
        self.gradient_with_soft(model, batch, trained, noise, scale, gradient, None)
    }

    /// Bytes held in buffers.
    pub fn bytes(&self) -> usize {
        let w = &self.work;
        let work = [&w.h, &w.act, &w.dx, &w.dh, &w.dact, &w.dattn, &w.dq, &w.dqkv, &w.dkv_heads, &w.out];
        let mut n: usize = work.iter().map(|v| v.capacity()).sum();
        for s in &self.saved {
            let kept = [&s.x, &s.rstd, &s.qkv, &s.raw, &s.q, &s.attn, &s.lse, &s.mid, &s.rstd_mid, &s.gate_up];
            n += kept.iter().map(|v| v.capacity()).sum::<usize>() + s.z.iter().map(Vec::capacity).sum::<usize>();
        }
        4 * n
    }
}
