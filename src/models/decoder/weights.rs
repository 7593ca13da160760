//! The weights of a Llama-type decoder, in the layout that the forward pass reads.

use crate::models::lora::Target;
use crate::ops::linear::Weight;

/// `y = x W^T + b`.
#[derive(Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Weight,
    /// Length out; Qwen2's q, k, v only.
    pub bias: Option<Vec<f32>>,
}

/// One decoder layer. Rope uses the half-split ("rotate half") pairing of Hugging Face checkpoints;
/// GGUF files of the Llama family store q and k permuted for the interleaved pairing, and are
/// un-permuted when read.
#[derive(Clone)]
pub struct Layer {
    /// RMSNorm before attention, length hidden.
    pub attn_norm: Vec<f32>,
    /// (heads * head_dim, hidden).
    pub q: Linear,
    /// (kv_heads * head_dim, hidden).
    pub k: Linear,
    /// (kv_heads * head_dim, hidden).
    pub v: Linear,
    /// (hidden, heads * head_dim).
    pub o: Linear,
    /// Qwen3: RMSNorm of each query head, length head_dim.
    pub q_norm: Option<Vec<f32>>,
    /// Qwen3: RMSNorm of each key head, length head_dim.
    pub k_norm: Option<Vec<f32>>,
    /// RMSNorm before the MLP, length hidden.
    pub mlp_norm: Vec<f32>,
    /// Gemma: RMSNorm of attention's result before the residual is added, length hidden.
    pub attn_post_norm: Option<Vec<f32>>,
    /// Gemma: the same of the MLP's result.
    pub mlp_post_norm: Option<Vec<f32>>,
    /// (intermediate, hidden).
    pub gate: Linear,
    /// (intermediate, hidden).
    pub up: Linear,
    /// (hidden, intermediate).
    pub down: Linear,
}

impl Layer {
    /// The linear layer of this name.
    pub fn linear(&self, target: Target) -> &Linear {
        match target {
            Target::QProj => &self.q,
            Target::KProj => &self.k,
            Target::VProj => &self.v,
            Target::OProj => &self.o,
            Target::GateProj => &self.gate,
            Target::UpProj => &self.up,
            Target::DownProj => &self.down,
        }
    }
}

/// A whole model.
#[derive(Clone)]
pub struct Weights {
    /// (vocab, hidden).
    pub embed: Weight,
    /// Decoder layers, first to last.
    pub layers: Vec<Layer>,
    /// Final RMSNorm, length hidden.
    pub norm: Vec<f32>,
    /// (vocab, hidden); `None` when tied to `embed`.
    pub head: Option<Weight>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weights({} layers, embedding {} x {})", self.layers.len(), self.embed.rows(), self.embed.cols())
    }
}

impl Weights {
    /// The output head.
    pub fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}
