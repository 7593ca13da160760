//! A model ready to run: configuration, weights, rope, and perhaps an adapter.

use std::sync::Arc;

use super::projections::{Arithmetic, LayerCodes, codes};
use super::{Config, SoftTokens, Weights};
use crate::error::{Error, Result};
use crate::models::lora::{Adapter, Target};
use crate::ops::linear::Weight;
use crate::ops::rope::Rope;

/// A decoder. Cloning shares the weights.
#[derive(Clone)]
pub struct Model {
    config: Arc<Config>,
    weights: Arc<Weights>,
    pub(super) rope: Arc<Rope>,
    pub(super) lora: Option<Arc<Lora>>,
    pub(super) soft: Option<Arc<SoftTokens>>,
    pub(super) codes: Option<Arc<Vec<LayerCodes>>>,
}

impl Model {
    /// Checks that the weights have the shapes that the configuration says.
    pub fn new(config: Config, weights: Weights) -> Result<Self> {
        check(&config, &weights)?;
        let rope = Rope::new(config.head_dim, config.rope_theta, config.rope_scaling);
        Ok(Self {
            config: Arc::new(config),
            weights: Arc::new(weights),
            rope: Arc::new(rope),
            lora: None,
            soft: None,
            codes: None,
        })
    }

    /// The same model with its layers' products done so; embeddings, output head and adapters stay in f32.
    pub fn with_arithmetic(&self, arithmetic: Arithmetic) -> Self {
        let codes = match arithmetic {
            Arithmetic::F32 => None,
            Arithmetic::Int8 => Some(self.codes.clone().unwrap_or_else(|| Arc::new(codes(&self.weights.layers)))),
        };
        Self { codes, ..self.clone() }
    }

    /// The same model with an adapter (or, with `None`, without), applied on the fly: the weights stay as they are.
    pub fn with_adapter(&self, adapter: Option<&Adapter>) -> Result<Self> {
        let lora = adapter.map(|a| Lora::new(&self.config, a).map(Arc::new)).transpose()?;
        Ok(Self { lora, ..self.clone() })
    }

    /// The same model with soft tokens (or, with `None`, without): it reads their ids too.
    ///
    /// # Errors
    /// Vectors of another width, or ids within the vocabulary.
    pub fn with_soft(&self, soft: Option<SoftTokens>) -> Result<Self> {
        soft.as_ref().map_or(Ok(()), |s| s.check(self.config.vocab, self.config.hidden))?;
        Ok(Self { soft: soft.map(Arc::new), ..self.clone() })
    }

    /// The soft tokens that it reads.
    pub fn soft(&self) -> Option<&SoftTokens> {
        self.soft.as_deref()
    }

    /// Shape and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

/// An adapter in the layout that the forward pass reads.
pub(super) struct Lora {
    scale: f32,
    /// `pairs[layer][target]`.
    pairs: Vec<[Option<Pair>; 7]>,
}

pub(super) struct Pair {
    /// (r, in).
    pub(super) a: Weight,
    /// (r, out): B transposed.
    pub(super) b_t: Vec<f32>,
}

/// (in, out) of a target.
fn shape(config: &Config, target: Target) -> (usize, usize) {
    let (hidden, inner) = (config.hidden, config.intermediate);
    match target {
        Target::QProj => (hidden, config.q_width()),
        Target::KProj | Target::VProj => (hidden, config.kv_width()),
        Target::OProj => (config.q_width(), hidden),
        Target::GateProj | Target::UpProj => (hidden, inner),
        Target::DownProj => (inner, hidden),
    }
}

impl Lora {
    /// `alpha / r`.
    pub(super) fn scale(&self) -> f32 {
        self.scale
    }

    /// The pair of a target, if it carries one.
    pub(super) fn pair(&self, layer: usize, target: Target) -> Option<&Pair> {
        self.pairs.get(layer)?[target as usize].as_ref()
    }

    fn new(config: &Config, adapter: &Adapter) -> Result<Self> {
        let wrong = |what: String| {
            Error::input("adapter", what).next("use an adapter that was trained on this model's architecture")
        };
        if adapter.rank == 0 || adapter.pairs.len() != config.layers {
            let (rank, layers) = (adapter.rank, adapter.pairs.len());
            return Err(wrong(format!("rank {rank}, {layers} layers for a model of {} layers", config.layers)));
        }
        let mut pairs = Vec::with_capacity(config.layers);
        for (layer, given) in adapter.pairs.iter().enumerate() {
            if given.len() != adapter.targets.len() {
                return Err(wrong(format!(
                    "layer {layer} has {} pairs for {} targets",
                    given.len(),
                    adapter.targets.len()
                )));
            }
            let mut row: [Option<Pair>; 7] = Default::default();
            for (&target, pair) in adapter.targets.iter().zip(given) {
                let ((inp, out), rank) = (shape(config, target), adapter.rank);
                if pair.a.len() != rank * inp || pair.b.len() != out * rank {
                    let (a, b) = (pair.a.len(), pair.b.len());
                    return Err(wrong(format!(
                        "layer {layer}, {target:?}: A has {a} values and B {b}, not {rank} x {inp} and {out} x {rank}"
                    )));
                }
                let b_t = (0..rank * out).map(|i| pair.b[i % out * rank + i / out]).collect();
                row[target as usize] = Some(Pair { a: Weight::from_f32(rank, inp, pair.a.clone())?, b_t });
            }
            pairs.push(row);
        }
        Ok(Self { scale: adapter.scale(), pairs })
    }
}

fn check(config: &Config, weights: &Weights) -> Result<()> {
    let wrong =
        |place: &str, what: String| Err(Error::input(format!("model: {place}"), what).next("load the model again"));
    let c = config;
    if c.vocab == 0 || c.hidden == 0 || c.kv_heads == 0 || c.head_dim == 0 || !c.heads.is_multiple_of(c.kv_heads.max(1))
    {
        return wrong("config", format!("{} heads, {} kv heads, head width {}", c.heads, c.kv_heads, c.head_dim));
    }
    if !c.head_dim.is_multiple_of(2) {
        return wrong("config", format!("odd head width {}", c.head_dim));
    }
    let matrix = |place: &str, w: &Weight, out: usize, inp: usize| {
        if (w.rows(), w.cols()) == (out, inp) {
            return Ok(());
        }
        wrong(place, format!("{} x {} instead of {out} x {inp}", w.rows(), w.cols()))
    };
    let vector = |place: &str, v: &[f32], n: usize| {
        if v.len() == n { Ok(()) } else { wrong(place, format!("{} values instead of {n}", v.len())) }
    };
    matrix("embedding", &weights.embed, c.vocab, c.hidden)?;
    matrix("head", weights.head(), c.vocab, c.hidden)?;
    vector("norm", &weights.norm, c.hidden)?;
    if weights.layers.len() != c.layers {
        return wrong("layers", format!("{} instead of {}", weights.layers.len(), c.layers));
    }
    for (i, layer) in weights.layers.iter().enumerate() {
        vector(&format!("layer {i} attn_norm"), &layer.attn_norm, c.hidden)?;
        vector(&format!("layer {i} mlp_norm"), &layer.mlp_norm, c.hidden)?;
        for norm in [&layer.q_norm, &layer.k_norm].into_iter().flatten() {
            vector(&format!("layer {i} head norm"), norm, c.head_dim)?;
        }
        for target in Target::ALL {
            let linear = layer.linear(target);
            let (inp, out) = shape(c, target);
            matrix(&format!("layer {i} {target:?}"), &linear.weight, out, inp)?;
            if let Some(bias) = &linear.bias {
                vector(&format!("layer {i} {target:?} bias"), bias, out)?;
            }
        }
    }
    Ok(())
}
