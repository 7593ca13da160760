//! The shape of a Llama-type decoder.

use serde::{Deserialize, Serialize};

use super::families::{Family, Windows};
use crate::ops::attention::Heads;
use crate::ops::rope;

/// Shape and constants of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Family.
    pub family: &'static Family,
    /// Number of tokens in the vocabulary (rows of the embedding).
    pub vocab: usize,
    /// Residual width.
    pub hidden: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads (GQA); divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// RMSNorm epsilon.
    pub norm_eps: f64,
    /// Rope base.
    pub rope_theta: f64,
    /// Rope scaling, if any.
    pub rope_scaling: Option<rope::Scaling>,
    /// How many positions a row of a windowed layer sees, its own included; `None`: all before it.
    /// Which layers have a window is the family's matter: see [`Self::window_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Where some layers have a window: every so-many-th sees all before it; `None`: not one of
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_every: Option<usize>,
    /// Rope base of the layers with a window, which have no scaling then; `None`: the base of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rope_theta: Option<f64>,
    /// What attention's scores are divided by the square root of; `None`: the head width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_scalar: Option<f64>,
    /// Soft cap of attention's scores: `cap tanh(score / cap)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_cap: Option<f64>,
    /// Soft cap of the logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_cap: Option<f64>,
    /// Longest sequence in tokens.
    pub context: usize,
    /// The output head is the embedding.
    pub tied: bool,
    /// Token put in front of every text, when the tokenizer does so.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
}

impl Config {
    /// Width of all query heads.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// How many positions a row of layer `layer` sees, its own included; `None`: all before it.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let full = self.full_every.is_some_and(|every| (layer + 1).is_multiple_of(every));
        self.window.filter(|_| self.family.windows != Windows::Never && !full)
    }

    /// What embeddings are multiplied by.
    pub fn embedding_scale(&self) -> f32 {
        if self.family.scaled_embeddings { (self.hidden as f32).sqrt() } else { 1.0 }
    }

    /// Query heads, key and value heads, and their width.
    pub fn attention_heads(&self) -> Heads {
        Heads { query: self.heads, kv: self.kv_heads, dim: self.head_dim }
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let parts = super::parts::Part::all(self);
        parts.into_iter().map(|p| p.shape(self)).map(|(rows, cols)| rows as u64 * cols as u64).sum()
    }
}
