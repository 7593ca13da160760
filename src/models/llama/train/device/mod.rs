//! The passes of adapter training by launches: the frozen model is uploaded once, an adapter when it changed, a batch each
//! pass; activations stay on the device, the loss and the gradient of the adapter come back. f32 storage.
//!
//! The same masks of dropout, the same layout of the gradient and the same rows as [`super::Engine`]: an optimiser cannot
//! tell the two apart, but for the order in which sums are taken.

mod backward;
mod batch;
mod forward;
mod product;
mod upload;

use super::batch::Packed;
use super::engine::{Backend, Model, Noise, Range, Trained, add_soft, check, check_lengths};
use super::params::pair_slots;
use crate::device::{DeviceRows, KernelDevice};
use crate::models::llama::device::upload::{matrix, norm};
use crate::models::llama::{Config, Weights};
use crate::models::lora::Target;
use crate::ops::linear::Weight;
use crate::ops::rope::Rope;
use crate::ops::rope::cuda::DeviceAngles;
use crate::{Error, Result};
use backward::Found;
use batch::{DeviceBatch, Side};
use product::Product;
use upload::{DeviceAdapter, DeviceLayer};

/// A frozen model on a device, and the passes that train an adapter of it.
pub struct DeviceEngine {
    device: KernelDevice,
    config: Config,
    /// Rows of token embeddings, soft tokens among them, are gathered on the CPU.
    embed: Weight,
    layers: Vec<DeviceLayer>,
    norm: DeviceRows<f32>,
    head: DeviceRows<f32>,
    rope: Rope,
    /// Of the positions that were met so far, and how many these are.
    angles: (DeviceAngles, usize),
    adapter: Option<DeviceAdapter>,
}

/// What the steps of one pass share.
struct Pass<'a> {
    engine: &'a DeviceEngine,
    batch: &'a DeviceBatch,
    noise: Option<Noise>,
}

impl DeviceEngine {
    /// Copies `weights`.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration.
    pub fn upload(device: &KernelDevice, config: &Config, weights: &Weights) -> Result<Self> {
        if config.layers == 0 || weights.layers.len() != config.layers {
            return Err(Error::input("model", "the weights do not fit the configuration"));
        }
        let rope = Rope::new(config.head_dim, config.rope_theta, config.rope_scaling);
        Ok(Self {
            layers: weights.layers.iter().map(|l| DeviceLayer::upload(device, l)).collect::<Result<_>>()?,
            norm: norm(device, &weights.norm)?,
            head: matrix(device, &[weights.head()], "output head")?,
            angles: (DeviceAngles::new(device, &rope, 1)?, 1),
            embed: weights.embed.clone(),
            config: config.clone(),
            device: device.clone(),
            adapter: None,
            rope,
        })
    }

    /// Makes sure that positions `0 .. len` have their angles.
    fn grow(&mut self, len: usize) -> Result<()> {
        if len > self.angles.1 {
            let room = len.next_power_of_two();
            self.angles = (DeviceAngles::new(&self.device, &self.rope, room)?, room);
        }
        Ok(())
    }

    fn zeros(&self, rows: usize, width: usize) -> Result<DeviceRows<f32>> {
        DeviceRows::zeros(&self.device, rows, width, "activations of training")
    }
}

impl Pass<'_> {
    /// A target's linear layer with its adapter, for the rows of `side`.
    fn product<'a>(&'a self, layer: usize, target: Target, side: &'a Side) -> Product<'a> {
        Product {
            side,
            linear: &self.engine.layers[layer].linear[target as usize],
            low: self.engine.adapter.as_ref().and_then(|a| a.pair(layer, target)),
            mask: super::engine::mask(self.noise, layer, target),
        }
    }

    /// Rows whose upper part of `layer` is computed: in the last one, those that are learnt from.
    fn asking(&self, layer: usize) -> &Side {
        if self.is_last(layer) { &self.batch.asking } else { &self.batch.all }
    }

    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.engine.config.layers
    }

    fn eps(&self) -> f32 {
        self.engine.config.norm_eps as f32
    }
}

impl Backend for DeviceEngine {
    /// As on the CPU. The model must be the one that was uploaded; every weight is not trained here.
    fn gradient_with_soft(
        &mut self,
        model: Model<'_>,
        batch: &Packed,
        trained: Trained,
        noise: Option<Noise>,
        scale: f32,
        gradient: &mut [f32],
        by_soft: Option<&mut [f32]>,
    ) -> Result<f64> {
        check(model, batch)?;
        let (Trained::Adapter { first_layer }, Some(adapter)) = (trained, model.adapter) else {
            return Err(Error::usage("training", "on a device, adapters alone are trained").next("use the CPU"));
        };
        if *model.config != self.config {
            return Err(Error::failed("training", "the model is another than the one on the device"));
        }
        adapter.check(&self.config)?;
        check_lengths(model, trained, gradient, by_soft.as_deref())?;
        if self.adapter.as_ref().is_none_or(|a| !a.is(adapter)) {
            self.adapter = None;
            self.adapter = Some(DeviceAdapter::upload(&self.device, adapter)?);
        }
        self.grow(batch.positions.iter().max().map_or(0, |&p| p as usize + 1))?;
        let trained = first_layer.min(self.config.layers - 1);
        let range = Range { bottom: if by_soft.is_some() { 0 } else { trained }, trained };
        let on_device = DeviceBatch::upload(&self.device, batch, scale)?;
        let pass = Pass { engine: self, batch: &on_device, noise };
        let (mut saved, out) = pass.forward(&batch.tokens, model.soft, range.bottom)?;
        let (total, dx) = pass.head(out)?;
        let mut found = Found::new(range, by_soft.is_some());
        let dx = pass.backward(&mut saved, dx, &mut found)?;
        for (layer, target, by) in found.pairs {
            let Some(t) = adapter.targets.iter().position(|&t| t == target) else { continue };
            let (a, b) = pair_slots(adapter, layer, t);
            add(&mut gradient[a], &by.a.download()?);
            add(&mut gradient[b], &by.b.download()?);
        }
        if let (Some(by_soft), Some(soft), Some(dx)) = (by_soft, model.soft, dx) {
            add_soft(by_soft, soft, &batch.tokens, &dx.download()?, self.config.hidden);
        }
        Ok(total / f64::from(scale))
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
}
