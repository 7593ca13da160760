//! Propagation: its name, its kernels, what it is checked on and measured with.

use super::{Adjacency, Lines, Nodes, Precision, Propagation, Sparse, cost, kernel, oracle, propagate};
use crate::device::{Device, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::peak::Fetch;
use crate::ops::registry::{
    Case, Check, Goal, Operator, Prepared, Scale, Shape, TYPES, draw, errors, host_sets, kernels, normals, rows, sets,
    wide,
};
use crate::rng::{Rng, Use};
use half::bf16;

const LAYERS: &[&str] = &["f32_4", "f32_8", "f32_16", "f32_32", "bf16_4", "bf16_8", "bf16_16", "bf16_32"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "spmm",
    room: "spmm",
    sources: &["spmm"],
    arguments: &[kernel::SpmmLayerArgs::LAYOUT],
    kernels: kernels! {
        "spmm_start" TYPES ["values / (128 vectors), at most 4096"] 128 "(8 + s) N d B" "graph: z = D^-1/2 x before the first layer"
        "spmm_layer" LAYERS ["chunks / 4"] 128 "4 nnz + (2 s + 8) N d B, nnz d + 3 N d FLOP" "graph: a layer of propagation and its layer mean, forward and backward"
        "spmm_reduce" TYPES ["long rows"] 128 "4 chunks d B" "graph: rows of more than 256 neighbours"
    },
    checks: &[Check::new("spmm", ["nodes", "edges", "dim"], check)],
    cases: &[
        Case::cpu("spmm", "9,746 nodes, 200,000 edges, 64 wide, 3 layers", || {
            on_cpu(6040, 3706, 200_000, 64, Precision::F32)
        }),
        Case::cpu("spmm", "9,746 nodes, 200,000 edges, 64 wide, 3 layers, bf16 rows", || {
            on_cpu(6040, 3706, 200_000, 64, Precision::Bf16)
        }),
        Case::cpu("spmm", "500 nodes, 10,000 edges, 32 wide, 3 layers", || {
            on_cpu(300, 200, 10_000, 32, Precision::F32)
        }),
        Case::kernels("spmm", "ML-1M, 3 layers", |d, s| by_kernels::<f32>(d, s, ML_1M, 64)),
        Case::kernels("spmm", "ML-1M, 3 layers", |d, s| by_kernels::<bf16>(d, s, ML_1M, 64)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<f32>(d, s, BOOKS, 64)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<bf16>(d, s, BOOKS, 64)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<f32>(d, s, BOOKS, 16)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<f32>(d, s, BOOKS, 32)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<bf16>(d, s, BOOKS, 32)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<f32>(d, s, BOOKS, 128)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<bf16>(d, s, BOOKS, 128)),
        Case::kernels("spmm", "books, 3 layers", |d, s| by_kernels::<bf16>(d, s, BOOKS, 256)),
        Case::kernels("spmm", "rows beyond the cache, 3 layers", |d, s| by_kernels::<f32>(d, s, LARGE, 64)),
        Case::kernels("spmm", "rows beyond the cache, 3 layers", |d, s| by_kernels::<bf16>(d, s, LARGE, 64)),
    ],
    counted: &[
        Case::cpu("spmm", "500 nodes, 5,000 edges, 64 wide, 3 layers", || on_cpu(300, 200, 5000, 64, Precision::F32)),
        Case::cpu("spmm", "500 nodes, 5,000 edges, 64 wide, 3 layers, bf16 rows", || {
            on_cpu(300, 200, 5000, 64, Precision::Bf16)
        }),
    ],
    ..Operator::BARE
};

/// Widths that take each of the kernels, and some that no vector divides.
pub const DIMS: &[usize] = &[1, 3, 16, 31, 64, 130, 264];

/// What a value may be off by: each layer rounds its storage once and its sum a few times. `scale`
/// is the largest input times `1 + sqrt(longest row)`; below the normal numbers a step of the
/// storage counts.
pub fn tolerance(narrow: bool, want: f64, scale: f64) -> f64 {
    let (unit, step) = if narrow { (8e-3, 4e-40) } else { (1e-6, 1e-43) };
    unit * (want.abs() + scale) + step
}

fn check(device: &Device, [nodes, edges, dim]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
    let nodes = nodes.max(2);
    let half = (nodes / 2) as u32;
    let pairs: Vec<(u32, u32)> = (0..edges)
        .map(|_| (rng.below(half), half + rng.below(nodes as u32 - half)))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .collect();
    let graph = Adjacency::new(nodes, pairs.into_iter())?;
    let x: Vec<f32> = draw(nodes * dim, seed, 0);
    let want = oracle::propagate(&graph, &wide(&x), dim, 3);
    let precision = if narrow { Precision::Bf16 } else { Precision::F32 };
    let mut through = Propagation::new(device, &graph, dim, precision)?;
    let rows = Nodes::from_lines(device, Lines::from_packed(dim, &x), "x")?;
    let mut out = Nodes::zeros(device, nodes, dim, "out")?;
    propagate(device, &mut through, &rows, 3, Sparse::default(), &mut out)?;
    let longest = (0..nodes).map(|n| graph.neighbours(n).len()).max().unwrap_or(0);
    let largest = x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = largest * (1.0 + (longest as f64).sqrt());
    Ok(errors(&out.lines()?.to_packed(), &want, |i| tolerance(narrow, want[i], scale)))
}

fn on_cpu(users: usize, items: usize, edges: usize, dim: usize, precision: Precision) -> Result<Prepared> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
    let pairs: Vec<(u32, u32)> = (0..edges)
        .flat_map(|_| {
            let (u, i) = (rng.below(users as u32), users as u32 + rng.below(items as u32));
            [(u, i), (i, u)]
        })
        .collect();
    let graph = Adjacency::new(users + items, pairs.iter().copied())?;
    let cost = cost(&graph, dim, 3, precision);
    let n = host_sets(4.0 * ((users + items) * dim) as f64).min(8);
    let x: Vec<_> = (0..n as u32).map(|s| Lines::from_packed(dim, &normals((users + items) * dim, s))).collect();
    let mut out = Lines::zeros(users + items, dim);
    let mut space = super::cpu::Workspace::new(users + items, dim, precision);
    // Below `propagate`, which borrows its graph, by one match.
    Ok(Prepared::of(cost, n, move |i| {
        super::cpu::propagate(&graph, &x[i], 3, Sparse::default(), &mut space, &mut out);
        Ok(())
    }))
}

/// Layers of the measured propagations of kernels.
const DEPTH: usize = 3;

/// Users, items, edges.
pub(in crate::ops) type Size = [usize; 3];
/// MovieLens-1M.
pub(in crate::ops) const ML_1M: Size = [6040, 3706, 802_553];
/// Amazon books, as LightGCN's authors cut it.
pub(in crate::ops) const BOOKS: Size = [52_643, 91_599, 2_984_108];
/// Rows of 64 values in 16 bits are 128 MB: beyond any second-level cache.
const LARGE: Size = [700_000, 300_000, 10_000_000];

/// Sizes that the host build takes: two items, so that a row is long.
pub(in crate::ops) fn size(scale: Scale, full: Size) -> Size {
    if scale == Scale::Full { full } else { [500, 2, 1500] }
}

/// Edges between users and items, some items far more often than others.
pub(in crate::ops) fn graph([users, items, edges]: Size) -> Result<Adjacency> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 1);
    let mut pair = || {
        let u = rng.uniform();
        let item = ((u * u * items as f32) as usize).min(items - 1);
        (rng.below(users as u32), (users + item) as u32)
    };
    let pairs: Vec<(u32, u32)> = (0..edges).map(|_| pair()).flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    Adjacency::new(users + items, pairs.into_iter())
}

/// Against fetching the rows of the same list alone, and `max((4 nnz + 4 N + 2 N d s) / HBM,
/// fetching)` as the floor, a layer.
fn by_kernels<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, dim: usize) -> Result<Prepared> {
    let [users, items, count] = size(scale, full);
    let edges = graph([users, items, count])?;
    let (nodes, nnz) = (edges.nodes(), edges.nnz());
    let graph = kernel::DeviceGraph::new(device, &edges)?;
    let mut space = kernel::DeviceWorkspace::<T>::new(device, &graph, dim)?;
    let packed = Lines::from_packed(dim, &normals(nodes * dim, 1));
    let n = sets(scale, 8 * packed.values().len()).min(8);
    let buffers = |_| Ok((device.upload(packed.values(), "x")?, device.alloc(packed.values().len(), "out")?));
    let mut buffers = (0..n).map(buffers).collect::<Result<Vec<_>>>()?;
    let (mut fetch, fetched) = (Fetch::new(device, edges.indices())?, rows::<T>(device, nodes, dim, 2)?);
    let run = move |i: usize| {
        let (x, out) = &mut buffers[i];
        kernel::propagate(&graph, x, DEPTH, &mut space, out).map(drop)
    };
    let [e, v, w] = [nnz, nodes, nodes * dim].map(|n| n as f64);
    let layer = (4.0 * (e + v) + 2.0 * w * size_of::<T>() as f64, e * dim as f64);
    let sizes = [("users", users), ("items", items), ("edges", nnz / 2), ("width", dim), ("layers", DEPTH)];
    Ok(Prepared::new(T::NAME, &sizes, run)
        .sets(n)
        .floor(DEPTH as f64 * layer.0, DEPTH as f64 * layer.1)
        .beside_floor("fetching the same rows", move |_| (0..DEPTH).try_for_each(|_| fetch.run(&fetched).map(drop)))
        .goal(Goal::Beside(0.85)))
}
