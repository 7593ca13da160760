//! The kernels of `kernels/spmm.cu`: the graph's chunks, and the launches of one propagation.

use bytemuck::{Pod, Zeroable};

use super::{Adjacency, Flags, LANE, Sparse};
use crate::device::{Arg, Buffer, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Neighbours that one warp sums.
pub(super) const CHUNK: usize = 256;
const THREADS: u32 = 128;
/// Vectors that one thread of the first kernel copies, at least.
const START_BLOCKS: usize = 4096;

arguments! {
    /// Of `spmm_layer`.
    struct SpmmLayerArgs {
        z: Pointer,
        indices: Pointer,
        chunks: Pointer,
        chunk_count: u64,
        partial_count: u64,
        inv_sqrt: Pointer,
        stride: u32,
        scale: f32,
        partials: Pointer,
        next: Pointer,
        total: Pointer,
        wanted: Pointer,
        filled: Pointer,
    }
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Chunk {
    begin: u64,
    count: u32,
    row: u32,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Long {
    row: u32,
    count: u32,
    first: u64,
}

/// A graph on a device, cut into warps' shares: rows of more than 256 neighbours first, in pieces;
/// then whole rows, the longest first.
#[derive(Debug)]
pub struct DeviceGraph {
    nodes: usize,
    nnz: usize,
    indices: Buffer<u32>,
    inv_sqrt: Buffer<f32>,
    chunks: Buffer<Chunk>,
    partial_chunks: usize,
    long: Buffer<Long>,
}

impl DeviceGraph {
    /// Copies `graph`.
    pub fn new(device: &KernelDevice, graph: &Adjacency) -> Result<Self> {
        let nodes = graph.nodes();
        let mut order: Vec<u32> = (0..nodes as u32).collect();
        order.sort_by_key(|&r| std::cmp::Reverse(graph.neighbours(r as usize).len()));
        let (mut chunks, mut long) = (Vec::with_capacity(nodes), Vec::new());
        for &row in &order {
            let (begin, length) = (graph.indptr[row as usize], graph.neighbours(row as usize).len());
            if length > CHUNK {
                let count = length.div_ceil(CHUNK) as u32;
                long.push(Long { row, count, first: chunks.len() as u64 });
            }
            for from in (0..length.max(1)).step_by(CHUNK) {
                let count = (length - from).min(CHUNK) as u32;
                chunks.push(Chunk { begin: (begin + from) as u64, count, row });
            }
        }
        let partial_chunks = long.iter().map(|l: &Long| l.count as usize).sum();
        Ok(Self {
            nodes,
            nnz: graph.nnz(),
            indices: device.upload(graph.indices(), "graph columns")?,
            inv_sqrt: device.upload(graph.inv_sqrt(), "graph degrees")?,
            chunks: device.upload(&chunks, "graph chunks")?,
            partial_chunks,
            long: device.upload(&long, "graph long rows")?,
        })
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Buffers of [`propagate`], kept between calls.
#[derive(Debug)]
pub struct DeviceWorkspace<T: Storage> {
    now: Buffer<T>,
    next: Buffer<T>,
    partials: Buffer<f32>,
    stride: usize,
}

impl<T: Storage> DeviceWorkspace<T> {
    /// For rows of width `dim` of `graph`.
    pub fn new(device: &KernelDevice, graph: &DeviceGraph, dim: usize) -> Result<Self> {
        let stride = dim.div_ceil(LANE) * LANE;
        let values = graph.nodes * stride;
        Ok(Self {
            now: device.alloc(values, "propagation layer")?,
            next: device.alloc(values, "propagation layer")?,
            partials: device.alloc(graph.partial_chunks * stride, "propagation partials")?,
            stride,
        })
    }
}

/// What one layer must move and compute.
fn layer_cost(graph: &DeviceGraph, stride: usize, bytes: usize, last: bool) -> Cost {
    let (nnz, n, d, s) = (graph.nnz as f64, graph.nodes as f64, stride as f64, bytes as f64);
    let written = if last { 0.0 } else { n * d * s };
    Cost { bytes: 4.0 * nnz + n * d * s + written + 8.0 * n * d + 20.0 * n, flops: nnz * d + 3.0 * n * d }
}

/// The words of a bit a node; none for all nodes.
fn words<'a>(flags: Option<Flags<'a>>, nodes: usize) -> Result<Option<&'a Buffer<u32>>> {
    match flags {
        None => Ok(None),
        Some(Flags::Kernels(words)) if words.len() == nodes.div_ceil(32) => Ok(Some(words)),
        Some(Flags::Kernels(words)) => {
            Err(Error::failed("spmm", format!("{} words of flags for {nodes} nodes", words.len())))
        }
        Some(Flags::Cpu(_)) => Err(Error::failed("spmm", "the flags of rows lie on the CPU, the rows on a device")),
    }
}

/// `out = 1/(layers+1) * sum over l of A^l x` as [`super::propagate`]; rows of `x` and `out` are
/// laid out as [`super::Lines`], layers between are stored as `T`. A row that is not wanted keeps
/// no layer mean and is not made in the last layer; a row that is zero is not read. What these save
/// is not in the cost, since which rows they are is known on the device alone.
pub fn propagate<T: Storage>(
    graph: &DeviceGraph,
    x: &Buffer<f32>,
    layers: usize,
    sparse: Sparse<'_>,
    space: &mut DeviceWorkspace<T>,
    out: &mut Buffer<f32>,
) -> Result<Cost> {
    let (nodes, stride) = (graph.nodes, space.stride);
    let values = nodes * stride;
    if x.len() != values || out.len() != values || space.now.len() != values {
        let what = format!("x has {} values, out {}, the workspace {}", x.len(), out.len(), space.now.len());
        return Err(Error::failed("spmm", format!("{what}; {nodes} rows of {stride} are needed")));
    }
    let (wanted, filled) = (words(sparse.outputs, nodes)?, words(sparse.inputs, nodes)?);
    if values == 0 {
        return Ok(Cost::default());
    }
    let arg = |words: Option<&Buffer<u32>>| words.map_or(Arg::Pointer(0), Buffer::arg);
    let pointer = |words: Option<&Buffer<u32>>| words.map_or(Pointer::NULL, Buffer::pointer);
    let device = x.device();
    let (stride_arg, size) = (Arg::U32(stride as u32), size_of::<T>());
    let blocks = values.div_ceil(THREADS as usize * T::VECTOR).min(START_BLOCKS);
    let cost = Cost { bytes: values as f64 * (8.0 + size as f64), flops: values as f64 };
    let start = Launch::new(T::pick("spmm_start_f32", "spmm_start_bf16"), blocks, THREADS, cost);
    // SAFETY: x, now and out hold `values`; a degree and a bit a row; `stride` is a multiple of
    // every vector.
    let mut total = unsafe {
        let (values, z) = (Arg::U64(values as u64), space.now.arg());
        let rows = [x.arg(), graph.inv_sqrt.arg(), values, stride_arg, z, out.arg(), arg(wanted), arg(filled)];
        device.launch(&start, &rows)?
    };
    let lanes = (stride / T::VECTOR).next_power_of_two().clamp(4, 32);
    let kernel = match lanes {
        4 => T::pick("spmm_layer_f32_4", "spmm_layer_bf16_4"),
        8 => T::pick("spmm_layer_f32_8", "spmm_layer_bf16_8"),
        16 => T::pick("spmm_layer_f32_16", "spmm_layer_bf16_16"),
        _ => T::pick("spmm_layer_f32_32", "spmm_layer_bf16_32"),
    };
    for layer in 1..=layers {
        let last = layer == layers;
        let scale = if last { 1.0 / (layers + 1) as f32 } else { 1.0 };
        let args = SpmmLayerArgs {
            z: space.now.pointer(),
            indices: graph.indices.pointer(),
            chunks: graph.chunks.pointer(),
            chunk_count: graph.chunks.len() as u64,
            partial_count: graph.partial_chunks as u64,
            inv_sqrt: graph.inv_sqrt.pointer(),
            stride: stride as u32,
            scale,
            partials: space.partials.pointer(),
            next: if last { Pointer::NULL } else { space.next.pointer() },
            total: out.pointer(),
            wanted: pointer(wanted),
            filled: pointer(filled.filter(|_| layer == 1)),
        };
        let (scale, next) = (Arg::F32(scale), if last { Arg::Pointer(0) } else { space.next.arg() });
        let cost = layer_cost(graph, stride, size, last);
        let blocks = graph.chunks.len().div_ceil(THREADS as usize / 32);
        // SAFETY: chunks lie within the columns, columns below `nodes` (Adjacency); a partial for
        // every chunk of a long row; layers and totals hold `values`, flags a bit a node.
        let spent = unsafe {
            let (degrees, partials) = (graph.inv_sqrt.arg(), space.partials.arg());
            let spent = device.launch(&Launch::new(kernel, blocks, THREADS, cost), &[args.arg()])?;
            let moved = graph.partial_chunks as f64 * stride as f64;
            let cost = Cost { bytes: 4.0 * moved, flops: moved };
            let kernel = T::pick("spmm_reduce_f32", "spmm_reduce_bf16");
            let reduce = Launch::new(kernel, graph.long.len(), THREADS, cost);
            let rows = [graph.long.arg(), partials, degrees, stride_arg, scale, next, out.arg(), arg(wanted)];
            device.launch(&reduce, &rows)?;
            spent
        };
        total.bytes += spent.bytes;
        total.flops += spent.flops;
        std::mem::swap(&mut space.now, &mut space.next);
    }
    Ok(total)
}
