//! A language model where the recipe's device has it.

use std::borrow::Cow;

use crate::device::Device;
use crate::error::Result;
use crate::generate;
use crate::generate::Pooling;
use crate::generate::scoring::{Bundle, score};
use crate::models::decoder::Model;
use crate::monitor::Monitor;
use crate::ops::cross_entropy::Choice;
use crate::tensor::Matrix;

/// Tokens of one forward pass: large enough for fast products, small enough for memory.
pub const PASS: usize = 2048;

/// A model where it runs.
pub struct Scorer<'a>(Cow<'a, Model>);

impl<'a> Scorer<'a> {
    /// Copies the weights to `device`, if it is another than the CPU.
    pub fn new(device: &Device, model: &'a Model) -> Result<Self> {
        Ok(Self(match device {
            Device::Cpu => Cow::Borrowed(model),
            device => Cow::Owned(model.on(device)?),
        }))
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
        generate::generate(&self.0, prompts, stop, settings, monitor, listener)
    }

    /// What the model says about two answers behind every prompt.
    pub fn score(&self, bundles: &[Bundle], ids: [u32; 2]) -> Result<Vec<Vec<Choice>>> {
        score(&self.0, bundles, ids, PASS)
    }

    /// Makes vectors of texts, of which many begin with `head`; it may be empty.
    pub fn embed(&self, head: &[u32], texts: &[&[u32]], pooling: Pooling) -> Result<Matrix> {
        generate::embed(&self.0, head, texts, pooling)
    }
}
