//! Weights and adapters on their way to a device.

use crate::device::{Buffer, DeviceRows, KernelDevice};
use crate::models::llama::device::upload::{matrix, norm};
use crate::models::llama::{Layer, Linear};
use crate::models::lora::{Adapter, Target};
use crate::ops::lora::cuda::Adapters;
use crate::{Error, Result};

/// A linear layer.
pub(super) struct DeviceLinear {
    pub weight: DeviceRows<f32>,
    pub bias: Option<Buffer<f32>>,
}

/// A decoder layer. Targets stand apart, because dropout gives each an input of its own.
pub(super) struct DeviceLayer {
    pub attn_norm: DeviceRows<f32>,
    pub q_norm: Option<DeviceRows<f32>>,
    pub k_norm: Option<DeviceRows<f32>>,
    pub mlp_norm: DeviceRows<f32>,
    /// In the order of [`Target::ALL`].
    pub linear: Vec<DeviceLinear>,
}

impl DeviceLayer {
    pub fn upload(device: &KernelDevice, layer: &Layer) -> Result<Self> {
        let linear = |l: &Linear| -> Result<DeviceLinear> {
            let bias = l.bias.as_deref().map(|b| device.upload(b, "bias")).transpose()?;
            Ok(DeviceLinear { weight: matrix(device, &[&l.weight], "weights")?, bias })
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

/// An adapter as it was when it was uploaded.
pub(super) struct DeviceAdapter {
    of: Adapter,
    /// By layer, then in the order of the adapter's targets.
    pairs: Vec<Vec<Adapters<f32>>>,
}

impl DeviceAdapter {
    pub fn upload(device: &KernelDevice, adapter: &Adapter) -> Result<Self> {
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

    /// Whether it still has these values.
    pub fn is(&self, adapter: &Adapter) -> bool {
        self.of == *adapter
    }

    /// The pair of a layer's target, if it has one.
    pub fn pair(&self, layer: usize, target: Target) -> Option<&Adapters<f32>> {
        let t = self.of.targets.iter().position(|&x| x == target)?;
        self.pairs.get(layer)?.get(t)
    }
}
