//! One optimiser step: propagate, rank, propagate back, update.

use super::{Graph, Settings};
use crate::ops::adam::{self, Adam};
use crate::ops::bpr::{Batch, Bpr};
use crate::ops::spmm::{self, Rows, Sparse, Workspace};
use crate::rng::{Rng, Use};

/// Parameters, moments and buffers.
#[derive(Debug, Clone)]
pub struct Trainer<'a> {
    graph: &'a Graph,
    layers: usize,
    lambda: f32,
    adam: Adam,
    pub(super) e0: Rows,
    pub(super) m: Rows,
    pub(super) v: Rows,
    pub(super) steps: u64,
    output: Rows,
    gradient: Rows,
    space: Workspace,
    bpr: Bpr,
}

impl<'a> Trainer<'a> {
    /// Starts from normal(0, `init_std`) values.
    pub fn new(graph: &'a Graph, settings: &Settings) -> Self {
        let nodes = graph.adjacency().nodes();
        let mut e0 = Rows::zeros(nodes, settings.dim);
        for r in 0..nodes {
            let mut rng = Rng::new(settings.seed, Use::Init, r as u32, 0);
            for value in &mut e0.row_mut(r)[..settings.dim] {
                *value = rng.normal() * settings.init_std;
            }
        }
        Self::from_rows(graph, settings, e0)
    }

    /// Starts from the given layer-0 rows (users, then items).
    pub fn from_rows(graph: &'a Graph, settings: &Settings, e0: Rows) -> Self {
        let (nodes, dim) = (graph.adjacency().nodes(), e0.dim());
        assert_eq!(e0.rows(), nodes, "lightgcn: one row a node");
        let zeros = Rows::zeros(nodes, dim);
        Self {
            graph,
            layers: settings.layers,
            lambda: settings.lambda,
            adam: Adam::new(settings.learning_rate),
            m: zeros.clone(),
            v: zeros.clone(),
            steps: 0,
            output: zeros.clone(),
            gradient: zeros,
            space: Workspace::new(nodes, dim, settings.precision),
            bpr: Bpr::new(nodes),
            e0,
        }
    }

    /// Layer-0 rows.
    pub fn layer0(&self) -> &Rows {
        &self.e0
    }

    /// Loss of the batch and, in [`gradient`](Self::gradient), its derivative by layer 0 without the penalty.
    pub fn backward(&mut self, batch: &Batch) -> f64 {
        self.bpr.begin(batch, self.lambda);
        let graph = self.graph.adjacency();
        let read = Sparse::Outputs(self.bpr.active());
        spmm::propagate(graph, &self.e0, self.layers, read, &mut self.space, &mut self.output);
        let loss = self.bpr.backward(batch, &self.output, &self.e0, self.lambda, &mut self.gradient);
        // The propagation is symmetric, so it is its own backward, from the rows that the batch read. `output` is free again
        // and takes the result.
        let written = Sparse::Inputs(self.bpr.active());
        spmm::propagate(graph, &self.gradient, self.layers, written, &mut self.space, &mut self.output);
        loss
    }

    /// The derivative by layer 0 with the penalty, after [`backward`](Self::backward).
    pub fn gradient(&self) -> Rows {
        let mut out = self.output.clone();
        for (r, &w) in self.bpr.penalty().iter().enumerate() {
            for (g, e) in out.row_mut(r).iter_mut().zip(self.e0.row(r)) {
                *g += w * e;
            }
        }
        out
    }

    /// One step; gives the loss before it.
    pub fn step(&mut self, batch: &Batch) -> f64 {
        let loss = self.backward(batch);
        self.steps += 1;
        let width = self.e0.lanes() * spmm::LANE;
        adam::step_rows(
            &self.adam,
            self.steps,
            self.e0.values_mut(),
            self.output.values(),
            self.m.values_mut(),
            self.v.values_mut(),
            width,
            self.bpr.penalty(),
        );
        loss
    }

    /// The layer mean of every node.
    pub fn outputs(&mut self) -> Rows {
        let mut out = Rows::zeros(self.e0.rows(), self.e0.dim());
        spmm::propagate(self.graph.adjacency(), &self.e0, self.layers, Sparse::No, &mut self.space, &mut out);
        out
    }
}
