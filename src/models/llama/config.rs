//! The shape of a Llama-type decoder.

use serde::{Deserialize, Serialize};

use crate::ops::rope;

/// Which family; they differ in biases, in q/k norms and in rope scaling only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Llama 2, 3, 3.1, SmolLM2, and distillations into them.
    Llama,
    /// Qwen2 and 2.5: bias on q, k, v.
    Qwen2,
    /// Qwen3: RMSNorm on each q and k head, no bias.
    Qwen3,
}

/// Shape and constants of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Family.
    pub family: Family,
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

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let parts = super::parts::Part::all(self);
        parts.into_iter().map(|p| p.shape(self)).map(|(rows, cols)| rows as u64 * cols as u64).sum()
    }
}
