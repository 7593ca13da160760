//! LoRA adapters: `W x + (alpha / r) B A x` on chosen linear layers (Hu et al., 2021).

use serde::{Deserialize, Serialize};

/// A linear layer that can carry an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `self_attn.q_proj`
    QProj,
    /// `self_attn.k_proj`
    KProj,
    /// `self_attn.v_proj`
    VProj,
    /// `self_attn.o_proj`
    OProj,
    /// `mlp.gate_proj`
    GateProj,
    /// `mlp.up_proj`
    UpProj,
    /// `mlp.down_proj`
    DownProj,
}

impl Target {
    /// All, in the order of a layer's forward pass.
    pub const ALL: [Target; 7] = [
        Target::QProj,
        Target::KProj,
        Target::VProj,
        Target::OProj,
        Target::GateProj,
        Target::UpProj,
        Target::DownProj,
    ];
}

/// The pair of small matrices of one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// (r, in), row-major; random at the start (PEFT: Kaiming uniform with a = sqrt 5).
    pub a: Vec<f32>,
    /// (out, r), row-major; zero at the start.
    pub b: Vec<f32>,
}

/// An adapter for a whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank.
    pub rank: usize,
    /// Scale numerator; the product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Dropout on the adapter's input in training; kept for PEFT's config.
    pub dropout: f64,
    /// Which layers carry a pair, in forward order.
    pub targets: Vec<Target>,
    /// `pairs[layer][t]` belongs to `targets[t]`.
    pub pairs: Vec<Vec<Pair>>,
}

impl Adapter {
    /// `alpha / rank`.
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }

    /// The pair of a layer's target, if it has one.
    pub fn pair(&self, layer: usize, target: Target) -> Option<&Pair> {
        let t = self.targets.iter().position(|&x| x == target)?;
        self.pairs.get(layer)?.get(t)
    }
}
