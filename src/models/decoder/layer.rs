//! One layer of the decoder, forward: for inference and training, on every device. What a backward
//! needs is kept in a [`LayerTape`]; a pass without a backward uses one tape for all layers, as its
//! buffers.
//!
//! ```text
//! input.x --norm--> h --q, k, v--> head norms --rope--> attention --o--+--> mid.x
//!    |_________________________________________________________________|
//! mid.x --norm--> h --gate, up--> activation --down--+--> next
//!    |________________________________________________|
//! ```
//!
//! A family may norm what o and down make before it is added to the residual; that is added by the
//! next norm on its way. Without such norms, on the CPU a product adds to the residual itself; on
//! kernels it writes a matrix of its own, which the next norm adds.

use super::Config;
use super::angles::Angles;
use super::placed::{Norm, Params};
use crate::device::{Device, List, Rows};
use crate::error::{Error, Result};
use crate::models::lora::Target;
use crate::ops::attention::packed::{Inputs, Packed};
use crate::ops::attention::{Heads, cached};
use crate::ops::linear::layers::{self, Forward, Side};
use crate::ops::lora::Dropout;
use crate::ops::rmsnorm::{rmsnorm, rmsnorm_in_place, rmsnorm_kept};
use crate::ops::rope::Positions;
use crate::ops::rows::{RowNumbers, copy_rows, gather_rows};
use crate::tensor::Dtype;

/// What the memory is for, in errors.
pub(crate) const LABEL: &str = "activations";

/// The dropout of an optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDropout {
    /// Probability.
    pub p: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Optimiser step.
    pub step: u32,
}

impl StepDropout {
    /// The mask of the adapter's input in a layer's target.
    fn mask(&self, layer: usize, target: Target) -> Option<Dropout> {
        let stream = (layer * Target::ALL.len() + target as usize) as u32;
        (self.p > 0.0).then(|| Dropout::new(self.p, self.seed, self.step, stream))
    }
}

/// Rows with the 1/rms of each of them, or of each of their heads.
#[derive(Debug)]
pub(crate) struct Normed {
    pub x: Rows,
    pub rstd: List<f32>,
}

/// What one layer keeps. T are all rows of the pass; M those that its upper part is computed for,
/// which are fewer in the last layer.
#[derive(Debug)]
pub(crate) struct LayerTape {
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
    /// Where the family norms them: what attention and the MLP add to the residual before that norm
    /// (M x hidden).
    pub raw_attn: Normed,
    pub raw_mlp: Normed,
    /// (M x intermediate) each.
    pub gate: Rows,
    pub up: Rows,
    /// Low-rank rows of each target's pair, in the order of `Target::ALL`.
    pub low: [Rows; 7],
}

/// Buffers of a forward that no layer keeps.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Normed rows: all of them, and in the last layer those that are asked for.
    pub h: Rows,
    pub asked: Rows,
    /// The last layer's queries of all rows, where a backward follows.
    pub q: Rows,
    pub act: Rows,
    /// What the next norm is to add to the residual.
    pub delta: Rows,
}

/// Rows of no size in a place.
pub(crate) fn empty(device: &Device, dtype: Dtype) -> Result<Rows> {
    Rows::zeros(device, dtype, 0, 0, LABEL)
}

/// Takes this length; what the values are then is not said.
///
/// # Errors
/// Out of memory.
pub(crate) fn fit_list(list: &mut List<f32>, len: usize) -> Result<()> {
    match list {
        List::Cpu(values) => values.resize(len, 0.0),
        List::Kernels(buffer) if buffer.len() != len => *buffer = buffer.device().alloc(len, LABEL)?,
        List::Kernels(_) => {}
    }
    Ok(())
}

impl Normed {
    fn new(device: &Device, dtype: Dtype) -> Result<Self> {
        Ok(Self { x: empty(device, dtype)?, rstd: List::zeros(device, 0, LABEL)? })
    }
}

/// Values of rows.
pub(crate) fn held(rows: &Rows) -> usize {
    rows.rows() * rows.dim()
}

impl LayerTape {
    pub fn new(device: &Device, dtype: Dtype) -> Result<Self> {
        let rows = || empty(device, dtype);
        let normed = || Normed::new(device, dtype);
        Ok(Self {
            input: normed()?,
            q: rows()?,
            k: rows()?,
            v: rows()?,
            raw_q: normed()?,
            raw_k: normed()?,
            attn: rows()?,
            lse: List::zeros(device, 0, LABEL)?,
            mid: normed()?,
            raw_attn: normed()?,
            raw_mlp: normed()?,
            gate: rows()?,
            up: rows()?,
            low: [rows()?, rows()?, rows()?, rows()?, rows()?, rows()?, rows()?],
        })
    }

    /// Values held.
    pub fn values(&self) -> usize {
        let normed = [&self.input, &self.raw_q, &self.raw_k, &self.mid, &self.raw_attn, &self.raw_mlp];
        let normed = normed.map(|n| held(&n.x) + n.rstd.len());
        let rows = [&self.q, &self.k, &self.v, &self.attn, &self.gate, &self.up].map(held);
        let low: usize = self.low.iter().map(held).sum();
        normed.iter().chain(&rows).sum::<usize>() + self.lse.len() + low
    }
}

impl Buffers {
    pub fn new(device: &Device, dtype: Dtype) -> Result<Self> {
        let rows = || empty(device, dtype);
        Ok(Self { h: rows()?, asked: rows()?, q: rows()?, act: rows()?, delta: rows()? })
    }

    /// Values held.
    pub fn values(&self) -> usize {
        [&self.h, &self.asked, &self.q, &self.act, &self.delta].map(held).iter().sum()
    }
}

/// Which keys the rows of a pass see.
#[derive(Clone, Copy)]
pub(crate) enum Keys<'a> {
    /// Those of the pass itself, where a backward follows: of all rows, and of the last layer's.
    Packed { all: &'a Packed, asked: &'a Packed },
    /// A cache, which takes the new keys at `places`.
    Cached { all: &'a cached::Plan, asked: &'a cached::Plan, places: &'a RowNumbers },
}

/// The rows that the last layer is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub side: &'a Side,
    /// Where they are among all rows.
    pub rows: &'a RowNumbers,
    /// Their positions, where no backward follows.
    pub positions: Option<&'a Positions>,
}

/// What the layers of a pass share.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub config: &'a Config,
    pub params: Params<'a>,
    pub angles: &'a Angles,
    pub all: &'a Side,
    pub positions: &'a Positions,
    /// `None`: all rows.
    pub asked: Option<Asked<'a>>,
    pub keys: Keys<'a>,
    pub dropout: Option<StepDropout>,
}

/// An intermediate result, for comparing with another implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Token embeddings (rows, hidden).
    Embedding,
    /// After the first norm (rows, hidden).
    AttentionNorm,
    /// Before rope (rows, heads * head_dim).
    Queries,
    /// Before rope (rows, kv_heads * head_dim).
    Keys,
    /// (rows, kv_heads * head_dim).
    Values,
    /// Before the output projection (rows, heads * head_dim).
    Attention,
    /// After the second norm (rows, hidden).
    MlpNorm,
    /// The residual stream behind a layer (rows, hidden).
    LayerOutput,
}

/// Hears (layer, stage, values) of a pass on the CPU.
pub type Tracer<'a> = &'a mut dyn FnMut(usize, Stage, &[f32]);

pub(super) fn tell(trace: &mut Option<Tracer<'_>>, layer: usize, stage: Stage, rows: &Rows) {
    if let (Some(trace), Rows::Cpu(m)) = (trace, rows) {
        trace(layer, stage, m.as_slice());
    }
}

/// What a layer writes.
pub(crate) struct Out<'a, 'b> {
    pub tape: &'a mut LayerTape,
    pub buffers: &'a mut Buffers,
    /// Whether `buffers.delta` is to be added to the tape's input.
    pub pending: bool,
    /// Keys and values of this layer, where the pass has a cache.
    pub cache: Option<&'a mut cached::Cache>,
    /// Where the layer's output goes; `None`: to the tape's input, whose values nobody wants then.
    pub next: Option<&'a mut Rows>,
    pub trace: &'a mut Option<Tracer<'b>>,
}

impl<'a> Shared<'a> {
    /// Rows that a layer's upper part is computed for, if they are fewer than all.
    fn asked(&self, layer: usize) -> Option<Asked<'a>> {
        self.asked.filter(|_| layer + 1 == self.config.layers)
    }

    /// The rows of a layer's upper part.
    pub fn upper(&self, layer: usize) -> &'a Side {
        self.asked(layer).map_or(self.all, |asked| asked.side)
    }

    pub fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.config.layers
    }

    /// A linear layer with its adapter and the mask of the adapter's input.
    pub fn linear(&self, layer: usize, target: Target) -> layers::Layer<'a> {
        let dropout = self.dropout.and_then(|n| n.mask(layer, target));
        layers::Layer { dropout, ..self.params.linear(layer, target) }
    }

    pub fn heads(&self) -> Heads {
        self.config.attention_heads()
    }

    pub fn eps(&self) -> f64 {
        self.config.norm_eps
    }

    /// Whether a backward follows.
    fn kept(&self) -> bool {
        matches!(self.keys, Keys::Packed { .. })
    }

    /// `y = norm(x)`, where `add` is added to x before. y takes x's shape; where a backward follows
    /// the scales are kept.
    fn norm(&self, of: &mut Normed, w: Which, add: Option<&Rows>, y: &mut Rows) -> Result<()> {
        let Which(layer, norm, heads) = w;
        let missing = || Error::failed("decoder", format!("layer {layer} lacks a norm"));
        let w = self.params.norm(layer, norm).ok_or_else(missing)?;
        if self.kept() {
            y.fit(of.x.rows(), of.x.dim(), LABEL)?;
            fit_list(&mut of.rstd, of.x.rows() * heads)?;
            rmsnorm_kept(&mut of.x, add, w, self.eps() as f32, y, &mut of.rstd)?;
        } else {
            rmsnorm(&mut of.x, add, w, self.eps(), y)?;
        }
        Ok(())
    }

    /// Adds what a product makes of `x`, normed where the family has the norm `post`, to the
    /// residual `to`, or leaves it in `delta`: whether the next norm is to add it.
    fn add_to(
        &self,
        (layer, target, post): (usize, Target, Norm),
        x: &Rows,
        to: &mut Rows,
        (low, raw): (&mut Rows, &mut Normed),
        delta: &mut Rows,
    ) -> Result<bool> {
        if self.params.norm(layer, post).is_some() {
            raw.x.fit(to.rows(), to.dim(), LABEL)?;
            let product = Forward { layer: self.linear(layer, target), y: &mut raw.x, low: self.kept().then_some(low) };
            layers::forward(self.upper(layer), x, &mut [product], false)?;
            self.norm(raw, Which(layer, post, 1), None, delta)?;
            return Ok(true);
        }
        let later = !matches!(to, Rows::Cpu(_));
        if later {
            delta.fit(to.rows(), to.dim(), LABEL)?;
        }
        let y = if later { delta } else { to };
        let product = Forward { layer: self.linear(layer, target), y, low: self.kept().then_some(low) };
        layers::forward(self.upper(layer), x, &mut [product], !later)?;
        Ok(later)
    }
}

/// A norm: of which layer, which one, and how many heads it has.
struct Which(usize, Norm, usize);

/// Runs layer `l`. Whether `buffers.delta` is to be added to its output.
///
/// # Errors
/// Shapes that do not fit, operands in different places, out of memory.
pub(crate) fn layer(s: &Shared<'_>, l: usize, out: Out<'_, '_>) -> Result<bool> {
    let Out { tape: t, buffers: b, pending, cache, next, trace } = out;
    let c = s.config;
    let asked = s.asked(l);
    let m = s.upper(l).rows();
    // Attention's inputs, for every row.
    s.norm(&mut t.input, Which(l, Norm::Attention, 1), pending.then_some(&b.delta), &mut b.h)?;
    if pending && l > 0 {
        tell(trace, l - 1, Stage::LayerOutput, &t.input.x);
    }
    tell(trace, l, Stage::AttentionNorm, &b.h);
    match s.kept() {
        true => queries_kept(s, l, asked, t, b)?,
        false => queries(s, l, asked, t, b, trace)?,
    }
    let window = c.window_of(l);
    match (s.keys, cache) {
        (Keys::Packed { all, asked: of_asked }, _) => {
            t.attn.fit(m, c.q_width(), LABEL)?;
            fit_list(&mut t.lse, m * c.heads)?;
            let seen = if asked.is_some() { of_asked } else { all };
            seen.attention(s.heads(), window, Inputs { q: &t.q, k: &t.k, v: &t.v }, &mut t.attn, &mut t.lse)?;
        }
        (Keys::Cached { all, asked: of_asked, places }, Some(cache)) => {
            cache.store(&t.k, &t.v, places)?;
            let seen = if asked.is_some() { of_asked } else { all };
            cached::attention(&t.q, cache, seen, window, &mut t.attn)?;
        }
        (Keys::Cached { .. }, None) => return Err(Error::failed("decoder", "a pass over a cache without one")),
    }
    tell(trace, l, Stage::Attention, &t.attn);
    let keeps_input = next.is_some();
    match asked {
        // What follows concerns each row alone, and nobody will ask for the others.
        Some(asked) => {
            t.mid.x.fit(m, c.hidden, LABEL)?;
            gather_rows(&t.input.x, asked.rows, &mut t.mid.x)?;
        }
        None if keeps_input => drop(copy_rows(&t.input.x, &mut t.mid.x, LABEL)?),
        None => std::mem::swap(&mut t.input.x, &mut t.mid.x),
    }
    let [.., low_o, low_gate, low_up, low_down] = &mut t.low;
    let later = s.add_to(
        (l, Target::OProj, Norm::AttentionPost),
        &t.attn,
        &mut t.mid.x,
        (low_o, &mut t.raw_attn),
        &mut b.delta,
    )?;
    // The MLP.
    s.norm(&mut t.mid, Which(l, Norm::Mlp, 1), later.then_some(&b.delta), &mut b.h)?;
    tell(trace, l, Stage::MlpNorm, &b.h);
    t.gate.fit(m, c.intermediate, LABEL)?;
    t.up.fit(m, c.intermediate, LABEL)?;
    let kept = s.kept();
    let mut products = [
        Forward { layer: s.linear(l, Target::GateProj), y: &mut t.gate, low: kept.then_some(low_gate) },
        Forward { layer: s.linear(l, Target::UpProj), y: &mut t.up, low: kept.then_some(low_up) },
    ];
    layers::forward(s.upper(l), &b.h, &mut products, false)?;
    let act = c.family.activation.forward(kept, &mut t.gate, &t.up, &mut b.act)?;
    let to = match next {
        Some(next) => {
            copy_rows(&t.mid.x, next, LABEL)?;
            next
        }
        None => {
            std::mem::swap(&mut t.mid.x, &mut t.input.x);
            &mut t.input.x
        }
    };
    let later = s.add_to((l, Target::DownProj, Norm::MlpPost), act, to, (low_down, &mut t.raw_mlp), &mut b.delta)?;
    if !later {
        tell(trace, l, Stage::LayerOutput, to);
    }
    Ok(later)
}

/// Queries, keys and values of a pass without a backward: queries of the rows that are asked for
/// alone.
fn queries(
    s: &Shared<'_>,
    l: usize,
    asked: Option<Asked<'_>>,
    t: &mut LayerTape,
    b: &mut Buffers,
    trace: &mut Option<Tracer<'_>>,
) -> Result<()> {
    let (c, rows) = (s.config, s.all.rows());
    t.k.fit(rows, c.kv_width(), LABEL)?;
    t.v.fit(rows, c.kv_width(), LABEL)?;
    t.q.fit(s.upper(l).rows(), c.q_width(), LABEL)?;
    let product = |target, y| Forward { layer: s.linear(l, target), y, low: None };
    let mut of_queries = s.positions;
    if let Some(asked) = asked {
        b.asked.fit(asked.side.rows(), c.hidden, LABEL)?;
        gather_rows(&b.h, asked.rows, &mut b.asked)?;
        layers::forward(asked.side, &b.asked, &mut [product(Target::QProj, &mut t.q)], false)?;
        let mut products = [product(Target::KProj, &mut t.k), product(Target::VProj, &mut t.v)];
        layers::forward(s.all, &b.h, &mut products, false)?;
        of_queries = asked.positions.ok_or_else(|| Error::failed("decoder", "rows without positions"))?;
    } else {
        let mut products =
            [product(Target::QProj, &mut t.q), product(Target::KProj, &mut t.k), product(Target::VProj, &mut t.v)];
        layers::forward(s.all, &b.h, &mut products, false)?;
    }
    for (stage, rows) in [(Stage::Queries, &t.q), (Stage::Keys, &t.k), (Stage::Values, &t.v)] {
        tell(trace, l, stage, rows);
    }
    for (norm, x) in [(Norm::Query, &mut t.q), (Norm::Key, &mut t.k)] {
        if let Some(w) = s.params.norm(l, norm) {
            rmsnorm_in_place(x, w, s.eps())?;
        }
    }
    let windowed = c.window_of(l).is_some();
    s.angles.queries(windowed).rope(&mut t.q, of_queries)?;
    s.angles.keys(windowed).rope(&mut t.k, s.positions)?;
    Ok(())
}

/// The same where a backward follows: it wants queries of every row before their norm.
fn queries_kept(s: &Shared<'_>, l: usize, asked: Option<Asked<'_>>, t: &mut LayerTape, b: &mut Buffers) -> Result<()> {
    let (c, rows) = (s.config, s.all.rows());
    let head_norms = [Norm::Query, Norm::Key].map(|norm| s.params.norm(l, norm).is_some());
    let [low_q, low_k, low_v, ..] = &mut t.low;
    {
        let to_q = if head_norms[0] { &mut t.raw_q.x } else { &mut t.q };
        let to_k = if head_norms[1] { &mut t.raw_k.x } else { &mut t.k };
        to_q.fit(rows, c.q_width(), LABEL)?;
        to_k.fit(rows, c.kv_width(), LABEL)?;
        t.v.fit(rows, c.kv_width(), LABEL)?;
        let product = |target, y, low| Forward { layer: s.linear(l, target), y, low: Some(low) };
        let mut products = [
            product(Target::QProj, to_q, low_q),
            product(Target::KProj, to_k, low_k),
            product(Target::VProj, &mut t.v, low_v),
        ];
        layers::forward(s.all, &b.h, &mut products, false)?;
    }
    if head_norms[0] {
        s.norm(&mut t.raw_q, Which(l, Norm::Query, c.heads), None, &mut t.q)?;
    }
    if head_norms[1] {
        s.norm(&mut t.raw_k, Which(l, Norm::Key, c.kv_heads), None, &mut t.k)?;
    }
    let windowed = c.window_of(l).is_some();
    s.angles.queries(windowed).rope(&mut t.q, s.positions)?;
    s.angles.keys(windowed).rope(&mut t.k, s.positions)?;
    if let Some(asked) = asked {
        std::mem::swap(&mut t.q, &mut b.q);
        t.q.fit(asked.side.rows(), c.q_width(), LABEL)?;
        gather_rows(&b.q, asked.rows, &mut t.q)?;
    }
    Ok(())
}
