//! One optimiser step: propagate, rank, propagate back, update.

use std::borrow::Cow;

use super::{Graph, LightGcnSettings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory;
use crate::ops::adam::{self, Adam};
use crate::ops::bpr::{self, Batch, Bpr, Choice, Penalty, Stream, UserItems};
use crate::ops::spmm::{self, Lines, Nodes, Propagation, Sparse};
use crate::rng::{Rng, Use};

/// Parameters, moments and buffers, on the device that the steps are made on.
#[derive(Debug)]
pub struct Trainer<'a> {
    device: Device,
    graph: &'a Graph,
    through: Propagation<'a>,
    items: UserItems<'a>,
    layers: usize,
    candidates: u32,
    adam: Adam,
    e0: Nodes,
    m: Nodes,
    v: Nodes,
    steps: u64,
    output: Nodes,
    gradient: Nodes,
    bpr: Bpr,
}

/// Where a batch's negatives come from.
#[derive(Debug, Clone, Copy)]
pub enum Negatives {
    /// The batch brings them.
    Given,
    /// They are drawn on the device.
    Drawn(Stream),
}

impl<'a> Trainer<'a> {
    /// Starts from normal(0, `init_std`) values, the same on every device.
    ///
    /// # Errors
    /// A device without room.
    pub fn new(device: &Device, graph: &'a Graph, settings: &LightGcnSettings) -> Result<Self> {
        let nodes = graph.adjacency().nodes();
        if matches!(device, Device::Cpu) {
            // Layer 0, its two moments, the layer mean and its gradient.
            let bytes = (nodes as u64).saturating_mul(settings.dim as u64).saturating_mul(5 * 4);
            let next = "set a smaller graph.lightgcn.dim, or take fewer users and items";
            memory::ask("graph.lightgcn.dim", bytes, next)?;
        }
        let mut e0 = Lines::zeros(nodes, settings.dim);
        for r in 0..nodes {
            let mut rng = Rng::new(settings.seed, Use::Init, r as u32, 0);
            for value in &mut e0.row_mut(r)[..settings.dim] {
                *value = rng.normal() * settings.init_std;
            }
        }
        Self::from_rows(device, graph, settings, e0)
    }

    /// Starts from the given layer-0 rows (users, then items).
    ///
    /// # Errors
    /// Not one row a node; a device without room.
    pub fn from_rows(device: &Device, graph: &'a Graph, settings: &LightGcnSettings, e0: Lines) -> Result<Self> {
        let (adjacency, dim) = (graph.adjacency(), e0.dim());
        let nodes = adjacency.nodes();
        if e0.rows() != nodes {
            return Err(Error::failed("lightgcn", format!("{} rows for {nodes} nodes", e0.rows())));
        }
        let zeros = |label| Nodes::zeros(device, nodes, dim, label);
        Ok(Self {
            through: Propagation::new(device, adjacency, dim, settings.precision)?,
            items: UserItems::new(device, adjacency, graph.users(), graph.items())?,
            e0: Nodes::from_lines(device, e0, "layer 0")?,
            m: zeros("first moments")?,
            v: zeros("second moments")?,
            output: zeros("layer mean")?,
            gradient: zeros("gradient of the layer mean")?,
            bpr: Bpr::new(device, nodes, settings.lambda)?,
            adam: Adam::new(settings.learning_rate),
            layers: settings.layers,
            candidates: settings.negative_candidates,
            steps: 0,
            device: device.clone(),
            graph,
        })
    }

    /// Goes on from a checkpoint: layer 0, its moments, and the number of steps made.
    pub(super) fn restore(&mut self, [e0, m, v]: [Lines; 3], steps: u64) -> Result<()> {
        self.e0 = Nodes::from_lines(&self.device, e0, "layer 0")?;
        self.m = Nodes::from_lines(&self.device, m, "first moments")?;
        self.v = Nodes::from_lines(&self.device, v, "second moments")?;
        self.steps = steps;
        Ok(())
    }

    /// Optimiser steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets the learning rate of the next steps.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.adam.learning_rate = rate;
    }

    /// Layer-0 rows.
    ///
    /// # Errors
    /// A device that fails.
    pub fn layer0(&self) -> Result<Cow<'_, Lines>> {
        self.e0.lines()
    }

    /// Layer 0 and its moments.
    pub(super) fn tensors(&self) -> Result<[Cow<'_, Lines>; 3]> {
        Ok([self.e0.lines()?, self.m.lines()?, self.v.lines()?])
    }

    /// Loss of the batch and, in [`gradient`](Self::gradient), its derivative by layer 0 without
    /// the penalty.
    ///
    /// # Errors
    /// Nodes that do not exist, users for whom no negative exists, a device that fails.
    pub fn backward(&mut self, batch: &Batch, negatives: Negatives) -> Result<f64> {
        let (device, through) = (&self.device, &mut self.through);
        let (users, positives) = (&batch.users, &batch.positives);
        match negatives {
            // Which negatives are the hardest is known when every node has its output row.
            Negatives::Drawn(stream) if self.candidates > 1 => {
                spmm::propagate(device, through, &self.e0, self.layers, Sparse::default(), &mut self.output)?;
                let choice = Choice::Hardest { candidates: self.candidates, e: &self.output };
                self.bpr.drawn(&self.items, users, positives, stream, choice)?;
            }
            negatives => {
                match negatives {
                    Negatives::Given => self.bpr.given(batch)?,
                    Negatives::Drawn(stream) => {
                        self.bpr.drawn(&self.items, users, positives, stream, Choice::Uniform)?;
                    }
                }
                // The propagation may leave out what the batch does not read.
                let read = Sparse { outputs: Some(self.bpr.active()), ..Sparse::default() };
                spmm::propagate(device, through, &self.e0, self.layers, read, &mut self.output)?;
            }
        }
        let (loss, _) = bpr::backward(device, &mut self.bpr, &self.output, &self.e0, &mut self.gradient)?;
        // The propagation is symmetric, so it is its own backward, from the rows that the batch
        // read. `output` is free again and takes the result.
        let written = Sparse { inputs: Some(self.bpr.active()), ..Sparse::default() };
        spmm::propagate(device, through, &self.gradient, self.layers, written, &mut self.output)?;
        Ok(loss)
    }

    /// The derivative by layer 0 with the penalty, after [`backward`](Self::backward).
    ///
    /// # Errors
    /// A device that fails.
    pub fn gradient(&self) -> Result<Lines> {
        let (mut out, e0) = (self.output.lines()?.into_owned(), self.e0.lines()?);
        let weights = match self.bpr.penalty() {
            Penalty::Cpu(weights) => Cow::Borrowed(weights),
            Penalty::Kernels(weights) => Cow::Owned(weights.device().download(weights)?),
        };
        for (r, &w) in weights.iter().enumerate() {
            for (g, e) in out.row_mut(r).iter_mut().zip(e0.row(r)) {
                *g += w * e;
            }
        }
        Ok(out)
    }

    /// One step; gives the loss before it.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn step(&mut self, batch: &Batch, negatives: Negatives) -> Result<f64> {
        let loss = self.backward(batch, negatives)?;
        self.steps += 1;
        let state = adam::State { p: self.e0.view_mut(), m: self.m.view_mut(), v: self.v.view_mut() };
        adam::step(&self.device, &self.adam, self.steps, state, self.output.view(), Some(self.bpr.penalty()))?;
        Ok(loss)
    }

    /// The layer mean of every node, of the layer 0 that `e0` is, or of the present one.
    ///
    /// # Errors
    /// A device that fails.
    pub fn outputs(&mut self, e0: Option<Lines>) -> Result<Lines> {
        if let Some(e0) = e0 {
            self.e0 = Nodes::from_lines(&self.device, e0, "layer 0")?;
        }
        // `output` is written before it is read again.
        let (through, out) = (&mut self.through, &mut self.output);
        spmm::propagate(&self.device, through, &self.e0, self.layers, Sparse::default(), out)?;
        Ok(out.lines()?.into_owned())
    }

    /// What it trains on.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }
}
