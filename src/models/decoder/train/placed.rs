//! The model of a pass where the pass runs: borrowed on the CPU, its frozen matrices rounded once
//! where they are multiplied in bf16; on a device the frozen weights are copied once, an adapter
//! when it changed.

use super::engine::Model;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory;
pub(super) use crate::models::decoder::placed::Norm;
use crate::models::decoder::placed::{self as decoder, Params, PlacedAdapter, Purpose};
use crate::models::decoder::{Arithmetic, Config, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::cross_entropy::Head;
use crate::ops::linear::bf16;
use crate::ops::linear::layers::Layer;
use crate::ops::rmsnorm;

/// A frozen model on a device, in f32, with the adapter of the last pass.
pub(super) struct Frozen {
    config: Config,
    placed: decoder::Placed,
    /// As it was when it was copied.
    adapter: Option<(Adapter, PlacedAdapter)>,
}

impl Frozen {
    /// Copies `weights`; `None` for the CPU, which reads them where they are.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration.
    pub fn upload(device: &Device, config: &Config, weights: &Weights) -> Result<Option<Self>> {
        if let Device::Cpu = device {
            return Ok(None);
        }
        if config.layers == 0 {
            return Err(Error::input("model", "the weights do not fit the configuration"));
        }
        let placed = decoder::Placed::new(device, config, weights, Purpose::Training)?;
        Ok(Some(Self { config: config.clone(), placed, adapter: None }))
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
            Some(adapter) if self.adapter.as_ref().is_some_and(|(of, _)| of == adapter) => {}
            Some(adapter) => {
                self.adapter = None;
                self.adapter = Some((adapter.clone(), PlacedAdapter::new(&self.placed, &self.config, adapter)?));
            }
        }
        Ok(())
    }
}

/// The matrices of a frozen model's layers in bf16, on the CPU.
pub(super) struct Rounded {
    config: Config,
    placed: decoder::Placed,
}

impl Rounded {
    /// Rounds `weights` where `arithmetic` is bf16; those that are stored so are shared.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration, or that are not finite in bf16.
    pub fn of(arithmetic: Arithmetic, config: &Config, weights: &Weights) -> Result<Option<Self>> {
        if arithmetic.of_training() != Arithmetic::Bf16 {
            return Ok(None);
        }
        let matrices = weights.layers.iter().flat_map(|l| Target::ALL.map(|t| &l.linear(t).weight));
        let next = "set model.arithmetic to \"f32\", or use a smaller model";
        memory::ask("model.arithmetic", matrices.map(bf16::copied).sum(), next)?;
        let placed = decoder::Placed::new(&Device::Cpu, config, weights, Purpose::Inference(Arithmetic::Bf16))?;
        Ok(Some(Self { config: config.clone(), placed }))
    }

    /// Fails on a model of another configuration.
    pub fn check(&self, model: Model<'_>) -> Result<()> {
        if *model.config == self.config {
            return Ok(());
        }
        Err(Error::failed("training", "the model is another than the one that was rounded"))
    }
}

/// The parameters of a pass where it runs.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub model: Model<'a>,
    pub frozen: Option<&'a Frozen>,
    pub rounded: Option<&'a Rounded>,
}

impl<'a> Placed<'a> {
    /// The parameters of the layers.
    pub fn params(&self) -> Params<'a> {
        match self.frozen {
            Some(frozen) => {
                Params::Placed { placed: &frozen.placed, adapter: frozen.adapter.as_ref().map(|(_, placed)| placed) }
            }
            None => Params::Borrowed {
                weights: self.model.weights,
                adapter: self.model.adapter,
                rounded: self.rounded.map(|r| &r.placed),
            },
        }
    }

    /// A norm of a layer; `None` where the family has none.
    pub fn norm(&self, layer: usize, which: Norm) -> Option<rmsnorm::Weight<'a>> {
        self.params().norm(layer, which)
    }

    /// The norm behind the last layer.
    pub fn last_norm(&self) -> rmsnorm::Weight<'a> {
        self.params().last_norm()
    }

    /// The output head.
    ///
    /// # Errors
    /// None today.
    pub fn head(&self) -> Result<Head<'a>> {
        self.params().head(self.model.config)
    }

    /// Which of the adapter's pairs a layer's target has.
    pub fn pair(&self, target: Target) -> Option<usize> {
        self.model.adapter?.targets.iter().position(|&t| t == target)
    }

    /// A linear layer with its adapter, without dropout.
    pub fn linear(&self, layer: usize, target: Target) -> Layer<'a> {
        self.params().linear(layer, target)
    }
}
