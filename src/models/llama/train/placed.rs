//! The model of a pass where the pass runs: borrowed on the CPU; on a device the frozen weights are copied once, an adapter
//! when it changed.

use super::engine::Model;
use crate::device::{Buffer, Device, DeviceRows, KernelDevice};
use crate::error::{Error, Result};
use crate::models::llama::device::upload::{matrix, norm};
use crate::models::llama::{self, Config, Linear, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::cross_entropy::Head;
use crate::ops::lora::adapted::{Layer, Pair, Weight};
use crate::ops::lora::cuda::Adapters;
use crate::ops::rmsnorm;

/// A linear layer.
struct LinearOnKernels {
    weight: DeviceRows<f32>,
    bias: Option<Buffer<f32>>,
}

/// A decoder layer.
struct LayerOnKernels {
    attn_norm: DeviceRows<f32>,
    q_norm: Option<DeviceRows<f32>>,
    k_norm: Option<DeviceRows<f32>>,
    mlp_norm: DeviceRows<f32>,
    /// In the order of [`Target::ALL`].
    linear: Vec<LinearOnKernels>,
}

/// An adapter as it was when it was uploaded.
struct AdapterOnKernels {
    of: Adapter,
    /// By layer, then in the order of the adapter's targets.
    pairs: Vec<Vec<Adapters<f32>>>,
}

/// A frozen model on a device, in f32, with the adapter of the last pass.
pub(super) struct Frozen {
    device: KernelDevice,
    config: Config,
    layers: Vec<LayerOnKernels>,
    norm: DeviceRows<f32>,
    head: DeviceRows<f32>,
    adapter: Option<AdapterOnKernels>,
}

impl Frozen {
    /// Copies `weights`; `None` for the CPU, which reads them where they are.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration.
    pub fn upload(device: &Device, config: &Config, weights: &Weights) -> Result<Option<Self>> {
        let Device::Kernels(device) = device else { return Ok(None) };
        if config.layers == 0 || weights.layers.len() != config.layers {
            return Err(Error::input("model", "the weights do not fit the configuration"));
        }
        Ok(Some(Self {
            layers: weights.layers.iter().map(|l| LayerOnKernels::upload(device, l)).collect::<Result<_>>()?,
            norm: norm(device, &weights.norm)?,
            head: matrix(device, &[weights.head()], "output head")?,
            config: config.clone(),
            device: device.clone(),
            adapter: None,
        }))
    }

    /// Makes the device's adapter that of `model`, which must be the model that was uploaded.
    ///
    /// # Errors
    /// Another model; out of memory.
    pub fn adapt(&mut self, model: Model<'_>) -> Result<()> {
        if *model.config != self.config {
            return Err(Error::failed("training", "the model is another than the one on the device"));
        }
        match model.adapter {
            None => self.adapter = None,
            Some(adapter) if self.adapter.as_ref().is_some_and(|a| a.of == *adapter) => {}
            Some(adapter) => {
                adapter.check(&self.config)?;
                self.adapter = None;
                self.adapter = Some(AdapterOnKernels::upload(&self.device, adapter)?);
            }
        }
        Ok(())
    }
}

impl LayerOnKernels {
    fn upload(device: &KernelDevice, layer: &llama::Layer) -> Result<Self> {
        let linear = |l: &Linear| -> Result<LinearOnKernels> {
            let bias = l.bias.as_deref().map(|b| device.upload(b, "bias")).transpose()?;
            Ok(LinearOnKernels { weight: matrix(device, &[&l.weight], "weights")?, bias })
        };
        let head_norm = |v: &Option<Vec<f32>>| v.as_deref().map(|v| norm(device, v)).transpose();
        Ok(Self {
            attn_norm: norm(device, &layer.attn_norm)?,
            q_norm: head_norm(&layer.q_norm)?,
            k_norm: head_norm(&layer.k_norm)?,
            mlp_norm: norm(device, &layer.mlp_norm)?,
            linear: Target::ALL.iter().map(|target| linear(layer.linear(*target))).collect::<Result<_>>()?,
        })
    }
}

impl AdapterOnKernels {
    fn upload(device: &KernelDevice, adapter: &Adapter) -> Result<Self> {
        let mut pairs = Vec::with_capacity(adapter.pairs.len());
        for layer in &adapter.pairs {
            let mut of_layer = Vec::with_capacity(layer.len());
            for pair in layer {
                // The shapes were checked against the model; a rank of 0 was refused.
                let inp = pair.a.len().checked_div(adapter.rank).unwrap_or(0);
                if inp == 0 {
                    return Err(Error::failed("adapter", "a pair without values"));
                }
                of_layer.push(Adapters {
                    a: DeviceRows::upload(device, inp, &pair.a, "adapter A")?,
                    b: DeviceRows::upload(device, adapter.rank, &pair.b, "adapter B")?,
                    count: 1,
                    scale: adapter.scale(),
                });
            }
            pairs.push(of_layer);
        }
        Ok(Self { of: adapter.clone(), pairs })
    }
}

/// Which norm of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    Attention,
    Query,
    Key,
    Mlp,
}

/// The parameters of a pass where it runs.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub model: Model<'a>,
    pub frozen: Option<&'a Frozen>,
}

impl<'a> Placed<'a> {
    /// A norm of a layer; `None` where the family has none.
    pub fn norm(&self, layer: usize, which: Norm) -> Option<rmsnorm::Weight<'a>> {
        if let Some(frozen) = self.frozen {
            let l = &frozen.layers[layer];
            let norm = match which {
                Norm::Attention => Some(&l.attn_norm),
                Norm::Query => l.q_norm.as_ref(),
                Norm::Key => l.k_norm.as_ref(),
                Norm::Mlp => Some(&l.mlp_norm),
            };
            return norm.map(rmsnorm::Weight::Kernels);
        }
        let l = &self.model.weights.layers[layer];
        let norm = match which {
            Norm::Attention => Some(&l.attn_norm),
            Norm::Query => l.q_norm.as_ref(),
            Norm::Key => l.k_norm.as_ref(),
            Norm::Mlp => Some(&l.mlp_norm),
        };
        norm.map(|w| rmsnorm::Weight::Cpu(w))
    }

    /// The norm behind the last layer.
    pub fn last_norm(&self) -> rmsnorm::Weight<'a> {
        match self.frozen {
            Some(frozen) => rmsnorm::Weight::Kernels(&frozen.norm),
            None => rmsnorm::Weight::Cpu(&self.model.weights.norm),
        }
    }

    /// The output head.
    pub fn head(&self) -> Head<'a> {
        match self.frozen {
            Some(frozen) => Head::F32(&frozen.head),
            None => Head::Cpu(self.model.weights.head()),
        }
    }

    /// Which of the adapter's pairs a layer's target has.
    pub fn pair(&self, target: Target) -> Option<usize> {
        self.model.adapter?.targets.iter().position(|&t| t == target)
    }

    /// A linear layer with its adapter, without dropout.
    pub fn linear(&self, layer: usize, target: Target) -> Layer<'a> {
        let t = self.pair(target);
        if let Some(frozen) = self.frozen {
            let linear = &frozen.layers[layer].linear[target as usize];
            let pair = frozen.adapter.as_ref().zip(t).map(|(a, t)| Pair::Kernels(&a.pairs[layer][t]));
            return Layer { weight: Weight::Kernels(&linear.weight, linear.bias.as_ref()), pair, dropout: None };
        }
        let linear = self.model.weights.layers[layer].linear(target);
        let pair = self.model.adapter.zip(t).map(|(adapter, t)| {
            let pair = &adapter.pairs[layer][t];
            Pair::Cpu { a: &pair.a, b: &pair.b, rank: adapter.rank, scale: adapter.scale() }
        });
        Layer { weight: Weight::Cpu(&linear.weight, linear.bias.as_deref()), pair, dropout: None }
    }
}
