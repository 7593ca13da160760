//! What is trained, as one flat vector of parameters: the optimiser, clipping and checkpoints see
//! only this.

use std::ops::Range;

use crate::models::decoder::families::Norms;
use crate::models::decoder::{Config, Layer, Linear, Weights};
use crate::models::lora::{Adapter, Pair, Target};
use crate::ops::linear::Weight;
use crate::rng::{Rng, Use};
use crate::{Error, Result};

impl Adapter {
    /// A fresh adapter: A uniform in `+-1/sqrt(in)` (PEFT's Kaiming uniform with a = sqrt 5), B
    /// zero, so that the adapted model equals the base. Draws depend on (seed, layer, target) only.
    ///
    /// # Errors
    /// Rank 0, no target, or a target named twice.
    pub fn init(config: &Config, rank: usize, alpha: f64, targets: &[Target], seed: u64) -> Result<Self> {
        let mut sorted = targets.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if rank == 0 || sorted.is_empty() || sorted.len() != targets.len() || !alpha.is_finite() {
            return Err(Error::usage("adapter", "needs rank >= 1, a finite alpha, and targets named once each")
                .next("set e.g. rank = 8, alpha = 16, targets = [\"q_proj\", \"v_proj\"]"));
        }
        let pair = |layer: usize, target: Target| {
            let (out, inp) = shape(config, target);
            let bound = 1.0 / (inp as f32).sqrt();
            let mut rng = Rng::new(seed, Use::Init, layer as u32, target as u32);
            Pair { a: (0..rank * inp).map(|_| (rng.uniform() * 2.0 - 1.0) * bound).collect(), b: vec![0.0; out * rank] }
        };
        let pairs = (0..config.layers).map(|l| sorted.iter().map(|&t| pair(l, t)).collect()).collect();
        Ok(Self { rank, alpha, dropout: 0.0, targets: sorted, pairs })
    }

    /// Checks the shapes of all pairs against a model.
    pub fn check(&self, config: &Config) -> Result<()> {
        let wrong =
            |what: String| Err(Error::input("adapter", what).next("use an adapter that was made for this model"));
        if self.rank == 0 || self.pairs.len() != config.layers {
            return wrong(format!("rank {}, {} layers; the model has {}", self.rank, self.pairs.len(), config.layers));
        }
        for (l, pairs) in self.pairs.iter().enumerate() {
            if pairs.len() != self.targets.len() {
                return wrong(format!("layer {l} has {} pairs for {} targets", pairs.len(), self.targets.len()));
            }
            for (pair, &target) in pairs.iter().zip(&self.targets) {
                let (out, inp) = shape(config, target);
                if pair.a.len() != self.rank * inp || pair.b.len() != out * self.rank {
                    return wrong(format!("layer {l} {target:?}: not rank {} on {out} x {inp}", self.rank));
                }
            }
        }
        Ok(())
    }
}

/// (out, in) of a target's linear layer.
pub fn shape(config: &Config, target: Target) -> (usize, usize) {
    let (h, i) = (config.hidden, config.intermediate);
    match target {
        Target::QProj => (config.q_width(), h),
        Target::KProj | Target::VProj => (config.kv_width(), h),
        Target::OProj => (h, config.q_width()),
        Target::GateProj | Target::UpProj => (i, h),
        Target::DownProj => (h, i),
    }
}

/// Parameters that can be visited as flat slices, always in the same order.
pub trait Parameters {
    /// Calls `visit(name, values)` for each tensor.
    ///
    /// # Errors
    /// Storage that cannot be changed in place.
    fn visit_mut(&mut self, visit: &mut dyn FnMut(&str, &mut [f32])) -> Result<()>;

    /// Number of values.
    ///
    /// # Errors
    /// As [`Parameters::visit_mut`].
    fn count(&mut self) -> Result<usize> {
        let mut n = 0;
        self.visit_mut(&mut |_, v| n += v.len())?;
        Ok(n)
    }
}

impl Parameters for Adapter {
    fn visit_mut(&mut self, visit: &mut dyn FnMut(&str, &mut [f32])) -> Result<()> {
        for (l, pairs) in self.pairs.iter_mut().enumerate() {
            for (pair, target) in pairs.iter_mut().zip(&self.targets) {
                visit(&format!("{l}.{target:?}.A"), &mut pair.a);
                visit(&format!("{l}.{target:?}.B"), &mut pair.b);
            }
        }
        Ok(())
    }
}

impl Parameters for Weights {
    fn visit_mut(&mut self, visit: &mut dyn FnMut(&str, &mut [f32])) -> Result<()> {
        let matrix = |name: String, w: &mut Weight, visit: &mut dyn FnMut(&str, &mut [f32])| -> Result<()> {
            let values = w.f32_mut().ok_or_else(|| {
                Error::usage(&name, "full training needs weights that are owned, unshared f32")
                    .next("copy the weights to f32 first, or train an adapter")
            })?;
            visit(&name, values);
            Ok(())
        };
        matrix("embed".into(), &mut self.embed, visit)?;
        for (l, layer) in self.layers.iter_mut().enumerate() {
            visit(&format!("{l}.attn_norm"), &mut layer.attn_norm);
            let Layer { q, k, v, o, gate, up, down, .. } = layer;
            for (name, linear) in ["q", "k", "v", "o", "gate", "up", "down"].iter().zip([q, k, v, o, gate, up, down]) {
                matrix(format!("{l}.{name}"), &mut linear.weight, visit)?;
                if let Some(b) = &mut linear.bias {
                    visit(&format!("{l}.{name}.bias"), b);
                }
            }
            for (name, norm) in [("q_norm", &mut layer.q_norm), ("k_norm", &mut layer.k_norm)] {
                if let Some(w) = norm {
                    visit(&format!("{l}.{name}"), w);
                }
            }
            visit(&format!("{l}.mlp_norm"), &mut layer.mlp_norm);
            for (name, norm) in
                [("attn_post_norm", &mut layer.attn_post_norm), ("mlp_post_norm", &mut layer.mlp_post_norm)]
            {
                if let Some(w) = norm {
                    visit(&format!("{l}.{name}"), w);
                }
            }
        }
        visit("norm", &mut self.norm);
        if let Some(head) = &mut self.head {
            matrix("head".into(), head, visit)?;
        }
        Ok(())
    }
}

/// Where each gradient of a layer lies in the flat vector of full training.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LayerSlots {
    pub attn_norm: Range<usize>,
    /// q, k, v, o, gate, up, down: weight and bias.
    pub linear: [(Range<usize>, Option<Range<usize>>); 7],
    pub q_norm: Option<Range<usize>>,
    pub k_norm: Option<Range<usize>>,
    pub mlp_norm: Range<usize>,
    pub attn_post_norm: Option<Range<usize>>,
    pub mlp_post_norm: Option<Range<usize>>,
}

/// Where each gradient lies in the flat vector of full training.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slots {
    pub embed: Range<usize>,
    pub layers: Vec<LayerSlots>,
    pub norm: Range<usize>,
    pub head: Range<usize>,
    pub total: usize,
}

impl Slots {
    /// The order of [`Parameters::visit_mut`] for weights.
    pub fn of(weights: &Weights) -> Self {
        let mut next = 0;
        let mut take = |n: usize| {
            next += n;
            next - n..next
        };
        let size = |w: &Weight| w.rows() * w.cols();
        let embed = take(size(&weights.embed));
        let mut layers = Vec::with_capacity(weights.layers.len());
        for l in &weights.layers {
            let mut slots = LayerSlots { attn_norm: take(l.attn_norm.len()), ..LayerSlots::default() };
            for (slot, target) in slots.linear.iter_mut().zip(Target::ALL) {
                let Linear { weight, bias } = l.linear(target);
                *slot = (take(size(weight)), bias.as_ref().map(|b| take(b.len())));
            }
            slots.q_norm = l.q_norm.as_ref().map(|w| take(w.len()));
            slots.k_norm = l.k_norm.as_ref().map(|w| take(w.len()));
            slots.mlp_norm = take(l.mlp_norm.len());
            slots.attn_post_norm = l.attn_post_norm.as_ref().map(|w| take(w.len()));
            slots.mlp_post_norm = l.mlp_post_norm.as_ref().map(|w| take(w.len()));
            layers.push(slots);
        }
        let norm = take(weights.norm.len());
        let head = weights.head.as_ref().map_or(embed.clone(), |w| take(size(w)));
        Self { embed, layers, norm, head, total: next }
    }
}

/// Where the gradients of an adapter's pair lie: (A, B) of `targets[t]` in `layer`.
pub(super) fn pair_slots(adapter: &Adapter, layer: usize, t: usize) -> (Range<usize>, Range<usize>) {
    // All layers have the same shapes.
    let sizes = |pairs: &[Pair]| pairs.iter().map(|p| p.a.len() + p.b.len()).sum::<usize>();
    let start = layer * sizes(&adapter.pairs[0]) + sizes(&adapter.pairs[layer][..t]);
    let pair = &adapter.pairs[layer][t];
    let middle = start + pair.a.len();
    (start..middle, middle..middle + pair.b.len())
}

impl Weights {
    /// A random f32 model to train from scratch: matrices normal with deviation 0.02 (those that
    /// write to the residual divided by `sqrt(2 layers)`, as GPT-2), norms one, biases zero.
    ///
    /// # Errors
    /// A shape that overflows.
    pub fn init(config: &Config, seed: u64) -> Result<Self> {
        let mut stream = 0;
        let mut matrix = |rows: usize, cols: usize, deviation: f32| {
            let mut rng = Rng::new(seed, Use::Init, u32::MAX, stream);
            stream += 1;
            let count = rows.checked_mul(cols).ok_or_else(|| Error::input("model", "a weight's shape overflows"))?;
            Weight::from_f32(rows, cols, (0..count).map(|_| rng.normal() * deviation).collect())
        };
        let embed = matrix(config.vocab, config.hidden, 0.02)?;
        let mut layers = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            let mut linear = |target: Target| -> Result<Linear> {
                let (out, inp) = shape(config, target);
                let residual = matches!(target, Target::OProj | Target::DownProj);
                let deviation = if residual { 0.02 / (2.0 * config.layers as f32).sqrt() } else { 0.02 };
                let biased = config.family.qkv_bias && matches!(target, Target::QProj | Target::KProj | Target::VProj);
                Ok(Linear { weight: matrix(out, inp, deviation)?, bias: biased.then(|| vec![0.0; out]) })
            };
            let post_norm = || (config.family.norms == Norms::BeforeAndAfter).then(|| vec![1.0; config.hidden]);
            let head_norm = || config.family.qk_norm.then(|| vec![1.0; config.head_dim]);
            layers.push(Layer {
                attn_norm: vec![1.0; config.hidden],
                q: linear(Target::QProj)?,
                k: linear(Target::KProj)?,
                v: linear(Target::VProj)?,
                o: linear(Target::OProj)?,
                q_norm: head_norm(),
                k_norm: head_norm(),
                mlp_norm: vec![1.0; config.hidden],
                attn_post_norm: post_norm(),
                mlp_post_norm: post_norm(),
                gate: linear(Target::GateProj)?,
                up: linear(Target::UpProj)?,
                down: linear(Target::DownProj)?,
            });
        }
        let head = if config.tied { None } else { Some(matrix(config.vocab, config.hidden, 0.02)?) };
        Ok(Self { embed, layers, norm: vec![1.0; config.hidden], head })
    }
}
