//! One optimiser step on whatever device a run uses.

use std::borrow::Cow;

use super::{Graph, Settings, Trainer};
use crate::data::UserIdx;
use crate::device::{Buffer, Device, DeviceRows, KernelDevice};
use crate::error::Result;
use crate::ops::adam::{self, Adam};
use crate::ops::bpr::{self, Batch};
use crate::ops::spmm::cuda::{DeviceGraph, DeviceWorkspace, propagate};
use crate::ops::spmm::{LANE, Rows};

/// Where a batch lies in its epoch: negatives are drawn by this name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub epoch: u32,
    /// Number of the batch's first edge in the epoch's order.
    pub first: u32,
}

/// Layer 0 and its moments.
pub(super) type Tensors<'a> = [Cow<'a, Rows>; 3];

/// The trainer of the CPU, or the same steps as launches.
pub(super) enum Engine<'a> {
    Cpu(Box<Trainer<'a>>),
    Kernels(Box<DeviceTrainer>),
}

impl<'a> Engine<'a> {
    /// Starts from the same values on every device.
    pub fn new(device: &Device, graph: &'a Graph, settings: &Settings) -> Result<Self> {
        let trainer = Trainer::new(graph, settings);
        Ok(match device {
            Device::Cpu => Self::Cpu(Box::new(trainer)),
            Device::Kernels(device) => Self::Kernels(Box::new(DeviceTrainer::new(device, graph, settings, &trainer)?)),
        })
    }

    /// Whether the batch must come with its negatives.
    pub fn wants_negatives(&self) -> bool {
        matches!(self, Self::Cpu(_))
    }

    /// Goes on from a checkpoint.
    pub fn restore(&mut self, [e0, m, v]: [Rows; 3], steps: u64) -> Result<()> {
        match self {
            Self::Cpu(t) => (t.e0, t.m, t.v, t.steps) = (e0, m, v, steps),
            Self::Kernels(t) => {
                t.e0 = t.upload(&e0)?;
                t.m = t.upload(&m)?;
                t.v = t.upload(&v)?;
                t.steps = steps;
            }
        }
        Ok(())
    }

    /// Optimiser steps so far.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Cpu(t) => t.steps,
            Self::Kernels(t) => t.steps,
        }
    }

    /// Layer 0 and its moments.
    pub fn tensors(&self) -> Result<Tensors<'_>> {
        Ok(match self {
            Self::Cpu(t) => [&t.e0, &t.m, &t.v].map(Cow::Borrowed),
            Self::Kernels(t) => {
                let [e0, m, v] = [&t.e0, &t.m, &t.v].map(|rows| t.download(rows));
                [Cow::Owned(e0?), Cow::Owned(m?), Cow::Owned(v?)]
            }
        })
    }

    /// One step; the loss before it.
    pub fn step(&mut self, batch: &Batch, place: Place) -> Result<f64> {
        match self {
            Self::Cpu(t) => Ok(t.step(batch)),
            Self::Kernels(t) => t.step(batch, place),
        }
    }

    /// The layer mean of every node, of the layer 0 that `e0` is, or of the present one.
    pub fn outputs(&mut self, e0: Option<Rows>) -> Result<Rows> {
        match self {
            Self::Cpu(t) => {
                if let Some(e0) = e0 {
                    t.e0 = e0;
                }
                Ok(t.outputs())
            }
            Self::Kernels(t) => {
                if let Some(e0) = e0 {
                    t.e0 = t.upload(&e0)?;
                }
                propagate(&t.graph, t.e0.values(), t.layers, &mut t.space, t.output.values_mut())?;
                t.download(&t.output)
            }
        }
    }
}

/// Parameters, moments and buffers on a device. Rows have the padding of [`Rows`] as values of their own: they start at
/// zero, their gradient is zero, and so they stay.
pub(super) struct DeviceTrainer {
    device: KernelDevice,
    graph: DeviceGraph,
    lists: bpr::cuda::UserItems,
    space: DeviceWorkspace<f32>,
    e0: DeviceRows<f32>,
    m: DeviceRows<f32>,
    v: DeviceRows<f32>,
    output: DeviceRows<f32>,
    gradient: DeviceRows<f32>,
    penalty: Buffer<f32>,
    adam: Adam,
    dim: usize,
    layers: usize,
    lambda: f32,
    seed: u64,
    steps: u64,
}

impl DeviceTrainer {
    fn new(device: &KernelDevice, graph: &Graph, settings: &Settings, start: &Trainer<'_>) -> Result<Self> {
        let (nodes, width) = (graph.adjacency().nodes(), settings.dim.div_ceil(LANE) * LANE);
        let (mut starts, mut items) = (vec![0u64], Vec::with_capacity(graph.edges()));
        for user in 0..graph.users() {
            items.extend_from_slice(graph.nodes_of(UserIdx(user as u32)));
            starts.push(items.len() as u64);
        }
        let lists = bpr::cuda::UserItems::new(device, &starts, &items, graph.users() as u32, graph.items() as u32)?;
        let on_device = DeviceGraph::new(device, graph.adjacency())?;
        let zeros = |label| DeviceRows::zeros(device, nodes, width, label);
        Ok(Self {
            space: DeviceWorkspace::new(device, &on_device, settings.dim)?,
            graph: on_device,
            lists,
            e0: DeviceRows::upload(device, width, start.layer0().values(), "layer 0")?,
            m: zeros("first moments")?,
            v: zeros("second moments")?,
            output: zeros("layer mean")?,
            gradient: zeros("gradient of the layer mean")?,
            penalty: device.zeros(nodes, "penalty")?,
            device: device.clone(),
            adam: Adam::new(settings.learning_rate),
            dim: settings.dim,
            layers: settings.layers,
            lambda: settings.lambda,
            seed: settings.seed,
            steps: 0,
        })
    }

    fn upload(&self, rows: &Rows) -> Result<DeviceRows<f32>> {
        DeviceRows::upload(&self.device, self.e0.dim(), rows.values(), "layer 0")
    }

    fn download(&self, rows: &DeviceRows<f32>) -> Result<Rows> {
        let mut out = Rows::zeros(rows.rows(), self.dim);
        out.values_mut().copy_from_slice(&rows.download()?);
        Ok(out)
    }

    fn step(&mut self, batch: &Batch, place: Place) -> Result<f64> {
        let mut triples = bpr::cuda::DeviceBatch::new(&self.device, &batch.users, &batch.positives)?;
        bpr::cuda::negatives(&self.lists, &mut triples, self.seed, place.epoch, place.first)?;
        propagate(&self.graph, self.e0.values(), self.layers, &mut self.space, self.output.values_mut())?;
        let (gradient, penalty) = (&mut self.gradient, &mut self.penalty);
        let (loss, _) = bpr::cuda::backward(&mut triples, &self.output, &self.e0, self.lambda, gradient, penalty)?;
        // The propagation is symmetric, so it is its own backward. `output` is free again and takes the result.
        propagate(&self.graph, self.gradient.values(), self.layers, &mut self.space, self.output.values_mut())?;
        self.steps += 1;
        let (p, m, v) = (&mut self.e0, &mut self.m, &mut self.v);
        adam::cuda::step_rows(&self.adam, self.steps, p, &self.output, m, v, Some(&self.penalty), None)?;
        Ok(loss)
    }
}
