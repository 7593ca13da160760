//! The decoder by launches: the same passes as [`super::forward`] with weights, keys and values on a device. Rows of token
//! embeddings, soft tokens among them, are gathered on the CPU.

mod choose;
mod embed;
mod generate;
mod pass;
mod room;
mod score;
mod step;
pub(super) mod upload;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;

use super::{Config, Layer, Model, Pooling, SoftTokens, check};
use crate::device::{Buffer, DeviceRows, KernelDevice, Storage};
use crate::error::{Error, Result};
use crate::generate::scoring::Bundle;
use crate::generate::{Listener, Prompt, Settings};
use crate::models::lora::Target;
use crate::monitor::Monitor;
use crate::ops::attention::Heads;
use crate::ops::linear::Weight;
use crate::ops::linear::decode::Quantised;
use crate::ops::lora::cuda::Adapters;
use crate::ops::rope::cuda::DeviceAngles;
use crate::ops::yes_no::Choice;
use crate::tensor::Dtype;
use crate::tensor::Matrix;

/// A weight.
enum Stored<T: Storage> {
    Rows(DeviceRows<T>),
    /// In the blocks of its file, where values are f32. Decode steps, which are bound by bytes, multiply with them; products of more rows
    /// widen them for as long as they take.
    Blocks(Box<Quantised>),
}

impl<T: Storage> Stored<T> {
    fn blocks(&self) -> Option<&Quantised> {
        match self {
            Stored::Rows(_) => None,
            Stored::Blocks(blocks) => Some(blocks),
        }
    }

    /// What `product` makes of the weight's rows.
    fn with<R>(&self, product: impl FnOnce(&DeviceRows<T>) -> Result<R>) -> Result<R> {
        match self {
            Stored::Rows(rows) => product(rows),
            Stored::Blocks(blocks) => match (&blocks.widen()? as &dyn Any).downcast_ref::<DeviceRows<T>>() {
                Some(rows) => product(rows),
                None => Err(Error::failed("decoder", format!("quantised weights beside values in {}", T::NAME))),
            },
        }
    }
}

/// A layer's product, perhaps with an adapter.
struct DeviceLinear<T: Storage> {
    weight: Stored<T>,
    bias: Option<Buffer<f32>>,
    low: Option<Adapters<T>>,
}

struct DeviceLayer<T: Storage> {
    attn_norm: DeviceRows<f32>,
    q: DeviceLinear<T>,
    k: DeviceLinear<T>,
    v: DeviceLinear<T>,
    o: DeviceLinear<T>,
    q_norm: Option<DeviceRows<f32>>,
    k_norm: Option<DeviceRows<f32>>,
    mlp_norm: DeviceRows<f32>,
    /// Gate, then up: their outputs stand side by side.
    gate_up: DeviceLinear<T>,
    down: DeviceLinear<T>,
}

/// A decoder on a device; weights, activations, keys and values are stored as `T`.
pub struct DeviceModel<T: Storage> {
    config: Config,
    device: KernelDevice,
    embed: Weight,
    soft: Option<Arc<SoftTokens>>,
    layers: Vec<DeviceLayer<T>>,
    norm: DeviceRows<f32>,
    head: Stored<T>,
    angles: DeviceAngles,
    /// Whether decode steps are recorded.
    recording: bool,
    counted: [AtomicUsize; 3],
}

/// What a model has done to sample answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Passes over prompts.
    pub reads: usize,
    /// Decode steps that were recorded.
    pub recorded: usize,
    /// Replays of a recorded step for a later one.
    pub replayed: usize,
}

#[derive(Clone, Copy)]
enum Counted {
    Read,
    Recorded,
    Replayed,
}

impl<T: Storage> DeviceModel<T> {
    /// Whether decode steps are recorded and replayed: they are unless `RALLREC_NO_RECORDING` is set. Tokens do not change.
    #[must_use]
    pub fn with_recording(mut self, on: bool) -> Self {
        self.recording = on;
        self
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let [reads, recorded, replayed] = self.counted.each_ref().map(|count| count.load(Ordering::Relaxed));
        Counts { reads, recorded, replayed }
    }

    fn count(&self, what: Counted) {
        self.counted[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether decode steps read quantised blocks in all layers.
    pub fn decodes_blocks(&self) -> bool {
        let all = |l: &DeviceLayer<T>| {
            [&l.q, &l.k, &l.v, &l.o, &l.gate_up, &l.down].iter().all(|l| l.weight.blocks().is_some())
        };
        !self.layers.is_empty() && self.layers.iter().all(all)
    }

    fn heads(&self) -> Heads {
        Heads { query: self.config.heads, kv: self.config.kv_heads, dim: self.config.head_dim }
    }

    fn check(&self, prompt: &[u32], more: usize) -> Result<()> {
        check::tokens(&self.config, self.soft.as_deref(), prompt, more, || "prompt".into())
    }
}

/// A decoder on a device, whatever it stores.
pub trait Decoder {
    /// See [`DeviceModel::score`].
    fn score(&self, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>>;

    /// See [`DeviceModel::generate`].
    fn generate(
        &self,
        prompts: &[Prompt],
        stop: &[u32],
        settings: &Settings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()>;

    /// See [`DeviceModel::embed`].
    fn embed(&self, head: &[u32], texts: &[&[u32]], pooling: Pooling) -> Result<Matrix>;

    /// The storage of weights, activations, keys and values.
    fn storage(&self) -> &'static str;
}

impl<T: Storage> Decoder for DeviceModel<T> {
    fn score(&self, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>> {
        DeviceModel::score(self, bundles, ids, pass_tokens)
    }

    fn generate(
        &self,
        prompts: &[Prompt],
        stop: &[u32],
        settings: &Settings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        DeviceModel::generate(self, prompts, stop, settings, monitor, listener)
    }

    fn embed(&self, head: &[u32], texts: &[&[u32]], pooling: Pooling) -> Result<Matrix> {
        DeviceModel::embed(self, head, texts, pooling)
    }

    fn storage(&self) -> &'static str {
        T::NAME
    }
}

/// Copies `model` to `device`: as bf16 where the matrices of all layers are bf16 in memory, as f32 otherwise, so that nothing
/// that f16 or quantised weights hold is rounded away.
///
/// # Errors
/// As [`DeviceModel::upload`].
pub fn decoder(device: &KernelDevice, model: &Model) -> Result<Box<dyn Decoder>> {
    let narrow =
        |layer: &Layer| Target::ALL.iter().all(|target| layer.linear(*target).weight.dtype() == Some(Dtype::Bf16));
    let layers = &model.weights().layers;
    Ok(if !layers.is_empty() && layers.iter().all(narrow) {
        Box::new(DeviceModel::<bf16>::upload(device, model)?)
    } else {
        Box::new(DeviceModel::<f32>::upload(device, model)?)
    })
}
