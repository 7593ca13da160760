//! Symmetric normalised propagation over an undirected graph without edge weights:
//! `P(X) = 1/(L+1) * sum over l = 0..L of A^l X` with `A = D^-1/2 B D^-1/2`, `B` the 0/1 adjacency.
//!
//! `A` is symmetric, so the backward of `P` is `P` itself. No value array is stored: with `Z =
//! D^-1/2 X` a layer is `S = B Z`, `X' = D^-1/2 S`, `Z' = D^-1 S`, and a row of `S` is a plain sum
//! of gathered rows. Sums run in a fixed order, so the result has the same bits for every number of
//! threads and every instruction set.
//!
//! Cost of a layer: `nnz d` additions, and `nnz (4 + b d)` bytes of gathers, mostly from cache,
//! beside `(8 + 2 b) N d` bytes of rows read and written; b is 4, or 2 with [`Precision::Bf16`].

pub mod cases;
mod cpu;
pub mod kernel;
pub mod lines;
mod nodes;
pub mod oracle;

pub(in crate::ops) use nodes::At;

pub use cpu::Precision;
pub use lines::{LANE, Lane, Lines};
pub use nodes::Nodes;

use half::bf16;

use crate::device::{Buffer, Device, Place, mixed};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Rows of the graph are handed out in this many pieces of about equal work.
const PIECES: usize = 64;

/// The 0/1 adjacency of an undirected graph, CSR, columns of a row ascending and distinct.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjacency {
    indptr: Vec<usize>,
    indices: Vec<u32>,
    inv_sqrt: Vec<f32>,
    pieces: Vec<std::ops::Range<usize>>,
}

impl Adjacency {
    /// From directed pairs `(from, to)` that must contain each edge in both directions. Repeats are
    /// dropped.
    pub fn new(nodes: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Result<Self> {
        if u32::try_from(nodes).is_err() {
            return Err(Error::input("graph", format!("{nodes} nodes; at most 2^32 - 1 can be numbered")));
        }
        let mut count = vec![0usize; nodes + 1];
        for (from, to) in pairs.clone() {
            if from as usize >= nodes || to as usize >= nodes {
                return Err(Error::input("graph", format!("edge {from} - {to} is outside the {nodes} nodes")));
            }
            count[from as usize + 1] += 1;
        }
        for i in 0..nodes {
            count[i + 1] += count[i];
        }
        let mut indices = vec![0u32; count[nodes]];
        let mut next = count.clone();
        for (from, to) in pairs {
            indices[next[from as usize]] = to;
            next[from as usize] += 1;
        }
        let mut indptr = vec![0usize; nodes + 1];
        let mut kept = 0;
        for r in 0..nodes {
            let (from, to) = (count[r], count[r + 1]);
            indices[from..to].sort_unstable();
            let start = kept;
            for i in from..to {
                if kept == start || indices[kept - 1] != indices[i] {
                    indices[kept] = indices[i];
                    kept += 1;
                }
            }
            indptr[r + 1] = kept;
        }
        indices.truncate(kept);
        let inv_sqrt = indptr
            .windows(2)
            .map(|w| if w[1] > w[0] { (1.0 / ((w[1] - w[0]) as f64).sqrt()) as f32 } else { 0.0 })
            .collect();
        let pieces = balance(&indptr);
        Ok(Self { indptr, indices, inv_sqrt, pieces })
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.inv_sqrt.len()
    }

    /// Stored entries: twice the number of edges.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// Columns of all rows, row after row.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Neighbours of `node`, ascending.
    pub fn neighbours(&self, node: usize) -> &[u32] {
        &self.indices[self.indptr[node]..self.indptr[node + 1]]
    }

    /// `degree^-1/2`, 0 for a node without edges.
    pub fn inv_sqrt(&self) -> &[f32] {
        &self.inv_sqrt
    }
}

/// Ranges of rows with about equal `entries + rows`.
fn balance(indptr: &[usize]) -> Vec<std::ops::Range<usize>> {
    let nodes = indptr.len() - 1;
    let work = |r: usize| indptr[r] + r;
    let mut pieces = Vec::with_capacity(PIECES);
    let mut from = 0;
    for piece in 1..=PIECES {
        let goal = work(nodes) * piece / PIECES;
        let mut to = from;
        while to < nodes && (work(to + 1) <= goal || piece == PIECES) {
            to += 1;
        }
        if to > from {
            pieces.push(from..to);
        }
        from = to;
    }
    pieces
}

/// A graph at the place where it is propagated over, with the buffers that a propagation needs.
#[derive(Debug)]
pub struct Propagation<'a> {
    nodes: usize,
    dim: usize,
    graph: Graph<'a>,
}

#[derive(Debug)]
enum Graph<'a> {
    Cpu(&'a Adjacency, cpu::Workspace),
    F32(kernel::DeviceGraph, kernel::DeviceWorkspace<f32>),
    Bf16(kernel::DeviceGraph, kernel::DeviceWorkspace<bf16>),
}

impl<'a> Propagation<'a> {
    /// Of rows of width `dim`, whose copies between the layers are kept as `precision` says.
    ///
    /// # Errors
    /// A device without room.
    pub fn new(device: &Device, graph: &'a Adjacency, dim: usize, precision: Precision) -> Result<Self> {
        let at = match (device, precision) {
            (Device::Cpu, _) => Graph::Cpu(graph, cpu::Workspace::new(graph.nodes(), dim, precision)),
            (Device::Kernels(device), Precision::F32) => {
                let graph = kernel::DeviceGraph::new(device, graph)?;
                let space = kernel::DeviceWorkspace::new(device, &graph, dim)?;
                Graph::F32(graph, space)
            }
            (Device::Kernels(device), Precision::Bf16) => {
                let graph = kernel::DeviceGraph::new(device, graph)?;
                let space = kernel::DeviceWorkspace::new(device, &graph, dim)?;
                Graph::Bf16(graph, space)
            }
        };
        Ok(Self { nodes: graph.nodes(), dim, graph: at })
    }
}

/// One flag a node, where the propagation is.
#[derive(Debug, Clone, Copy)]
pub enum Flags<'a> {
    /// On the CPU.
    Cpu(&'a [bool]),
    /// On a device: a bit a node, as [`bits`] gives them.
    Kernels(&'a Buffer<u32>),
}

impl<'a> Flags<'a> {
    fn on_cpu(self) -> Result<&'a [bool]> {
        match self {
            Self::Cpu(flags) => Ok(flags),
            Self::Kernels(_) => Err(Error::failed("spmm", "the flags of rows lie on a device, the rows on the CPU")),
        }
    }
}

/// Rows that can be passed over; by default none. The cost that a propagation states is that of all
/// rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sparse<'a> {
    /// Only these rows of the result are wanted; the others hold unspecified values.
    pub outputs: Option<Flags<'a>>,
    /// Only these rows of `x` are not zero.
    pub inputs: Option<Flags<'a>>,
}

/// A bit a flag, the first in the lowest bit of the first word.
pub fn bits(flags: &[bool]) -> Vec<u32> {
    let word = |flags: &[bool]| flags.iter().enumerate().fold(0, |word, (i, &f)| word | u32::from(f) << i);
    flags.chunks(32).map(word).collect()
}

/// `out = 1/(layers+1) * sum over l of A^l x`.
///
/// `x` and `out` are `nodes x dim` in f32. Rows of the last layer that are not wanted may be left
/// out, and neighbours that are zero left out of the first: [`Sparse`] says which.
///
/// # Errors
/// Rows, flags or a propagation of other shapes or at another place; a device that fails.
pub fn propagate(
    device: &Device,
    through: &mut Propagation<'_>,
    x: &Nodes,
    layers: usize,
    sparse: Sparse<'_>,
    out: &mut Nodes,
) -> Result<Cost> {
    let (nodes, dim) = (through.nodes, through.dim);
    let flags = |f: Option<Flags<'_>>| match f {
        Some(Flags::Cpu(f)) => f.len() == nodes,
        Some(Flags::Kernels(f)) => f.len() == nodes.div_ceil(32),
        None => true,
    };
    if (x.rows(), x.dim()) != (nodes, dim) || (out.rows(), out.dim()) != (nodes, dim) {
        let what = format!("x is {} x {}, out {} x {}", x.rows(), x.dim(), out.rows(), out.dim());
        return Err(Error::failed("spmm", format!("{what}; {nodes} x {dim} are needed")));
    }
    if !flags(sparse.outputs) || !flags(sparse.inputs) {
        return Err(Error::failed("spmm", format!("a flag is needed for each of {nodes} nodes")));
    }
    match (device, &mut through.graph, &x.at, &mut out.at) {
        (Device::Cpu, Graph::Cpu(graph, space), At::Cpu(x), At::Cpu(out)) => {
            let Sparse { outputs, inputs } = sparse;
            let [outputs, inputs] = [outputs, inputs].map(|f| f.map(Flags::on_cpu).transpose());
            let sparse = cpu::Sparse { outputs: outputs?, inputs: inputs? };
            cpu::propagate(graph, x, layers, sparse, space, out);
            Ok(cost(graph, dim, layers, space.precision()))
        }
        (Device::Kernels(_), Graph::F32(graph, space), At::F32(x), At::F32(out)) => {
            kernel::propagate(graph, x.values(), layers, sparse, space, out.values_mut())
        }
        (Device::Kernels(_), Graph::Bf16(graph, space), At::F32(x), At::F32(out)) => {
            kernel::propagate(graph, x.values(), layers, sparse, space, out.values_mut())
        }
        _ => Err(mixed("spmm", &[Place::of(device), x.place(), out.place()])),
    }
}

/// Cost of one [`propagate`] of `layers` layers at width `dim`.
pub fn cost(graph: &Adjacency, dim: usize, layers: usize, precision: Precision) -> Cost {
    let (nnz, n, d, l) = (graph.nnz() as f64, graph.nodes() as f64, dim as f64, layers as f64);
    let size = precision.bytes() as f64;
    Cost { bytes: l * (nnz * (4.0 + size * d) + (8.0 + 2.0 * size) * n * d), flops: l * (nnz * d + 4.0 * n * d) }
}
