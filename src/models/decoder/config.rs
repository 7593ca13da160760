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
    /// How many positions a row of a windowed layer sees, its own included; `None`: all before it. Which layers
    /// have a window is the family's matter: see [`Self::window_of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
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
    pub fn window_of(&self, _layer: usize) -> Option<usize> {
        match self.family.windows {
            Windows::Never => None,
            Windows::EveryLayer => self.window,
        }
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
