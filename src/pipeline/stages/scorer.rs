//! A language model where the recipe's device has it: on the CPU, or as launches.

use crate::device::Device;
use crate::error::Result;
use crate::generate;
use crate::generate::scoring::{Bundle, score};
use crate::models::llama::device::{Decoder, decoder};
use crate::models::llama::embedding::Embedder;
use crate::models::llama::{Model, Pooling};
use crate::monitor::Monitor;
use crate::ops::yes_no::Choice;
use crate::tensor::Matrix;

/// Tokens of one forward pass: large enough for fast products, small enough for memory.
pub const PASS: usize = 2048;

/// A model where it runs.
pub enum Scorer<'a> {
    /// On the CPU.
    Cpu(&'a Model),
    /// By launches.
    Kernels(Box<dyn Decoder>),
}

impl<'a> Scorer<'a> {
    /// Copies the weights to `device`, if it is another than the CPU.
    pub fn new(device: &Device, model: &'a Model) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Cpu(model),
            Device::Kernels(device) => Self::Kernels(decoder(device, model)?),
        })
    }

    /// Samples answers.
    pub fn generate(
        &self,
        prompts: &[generate::Prompt],
        stop: &[u32],
        settings: &generate::Settings,
        monitor: &dyn Monitor,
        listener: &mut dyn generate::Listener,
    ) -> Result<()> {
        match self {
            Self::Cpu(model) => generate::generate(model, prompts, stop, settings, monitor, listener),
            Self::Kernels(model) => model.generate(prompts, stop, settings, monitor, listener),
        }
    }

    /// What the model says about two answers behind every prompt.
    pub fn score(&self, bundles: &[Bundle], ids: [u32; 2]) -> Result<Vec<Vec<Choice>>> {
        match self {
            Self::Cpu(model) => score(model, bundles, ids, PASS),
            Self::Kernels(model) => model.score(bundles, ids, PASS),
        }
    }

    /// Makes vectors of texts, of which many begin with `head`; it may be empty.
    pub fn embedder<'b>(&'b self, head: &'b [u32], pooling: Pooling) -> Result<TextEmbedder<'b>> {
        Ok(match self {
            Self::Cpu(model) => TextEmbedder::Cpu(Embedder::new(model, head, pooling)?),
            Self::Kernels(model) => TextEmbedder::Kernels { model: model.as_ref(), head, pooling },
        })
    }
}

/// See [`Scorer::embedder`].
pub enum TextEmbedder<'a> {
    /// On the CPU, where the beginning has been read.
    Cpu(Embedder<'a>),
    /// By launches; the beginning is read again in every pass, with the texts behind it.
    Kernels {
        /// The model.
        model: &'a dyn Decoder,
        /// The beginning.
        head: &'a [u32],
        /// How states become a vector.
        pooling: Pooling,
    },
}

impl TextEmbedder<'_> {
    /// One vector (hidden) a text, in one pass; a text without a token has a zero vector.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Matrix> {
        match self {
            Self::Cpu(embedder) => embedder.embed(texts),
            Self::Kernels { model, head, pooling } => model.embed(head, texts, *pooling),
        }
    }
}
