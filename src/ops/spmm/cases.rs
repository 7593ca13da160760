//! Propagation: its name, its kernels, what it is checked on and measured with.

use super::{Adjacency, Flags, Lines, Nodes, Precision, Propagation, Sparse, bits, cost, kernel, oracle, propagate};
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
    constants: &[("spmm_chunk", kernel::CHUNK)],
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
        Case::kernels("spmm", "books, a batch of 2,048 there and back", |d, s| of_a_batch::<f32>(d, s, BOOKS, 64)),
        Case::kernels("spmm", "books, a batch of 2,048 there and back", |d, s| of_a_batch::<bf16>(d, s, BOOKS, 64)),
        Case::kernels("spmm", "rows beyond the cache, 3 layers", |d, s| by_kernels::<f32>(d, s, LARGE, 64)),
        Case::kernels("spmm", "rows beyond the cache, 3 layers", |d, s| by_kernels::<bf16>(d, s, LARGE, 64)),
    ],
    counted: &[
        Case::cpu("spmm", "500 nodes, 5,000 edges, 64 wide, 3 layers", || on_cpu(300, 200, 5000, 64, Precision::F32)),
        Case::cpu("spmm", "500 nodes, 5,000 edges, 64 wide, 3 layers, bf16 rows", || {
            on_cpu(300, 200, 5000, 64, Precision::Bf16)
        }),
    ],
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
    // The same with the third of the rows that a batch reads: as outputs, and as inputs.
    let active: Vec<bool> = (0..nodes).map(|_| rng.below(3) == 0).collect();
    let held = match device {
        Device::Cpu => None,
        Device::Kernels(device) => Some(device.upload(&bits(&active), "active rows")?),
    };
    let flags = Some(held.as_ref().map_or(Flags::Cpu(&active), Flags::Kernels));
    let mut some = Nodes::zeros(device, nodes, dim, "some")?;
    propagate(device, &mut through, &rows, 3, Sparse { outputs: flags, inputs: None }, &mut some)?;
    let few: Vec<f32> = x.iter().enumerate().map(|(i, &v)| if active[i / dim.max(1)] { v } else { 0.0 }).collect();
    let (want_few, rows) = (
        oracle::propagate(&graph, &wide(&few), dim, 3),
        Nodes::from_lines(device, Lines::from_packed(dim, &few), "few")?,
    );
    let mut back = Nodes::zeros(device, nodes, dim, "back")?;
    propagate(device, &mut through, &rows, 3, Sparse { outputs: None, inputs: flags }, &mut back)?;
    let longest = (0..nodes).map(|n| graph.neighbours(n).len()).max().unwrap_or(0);
    let largest = x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let scale = largest * (1.0 + (longest as f64).sqrt());
    let mut all = errors(&out.lines()?.to_packed(), &want, |i| tolerance(narrow, want[i], scale));
    let some = errors(&some.lines()?.to_packed(), &want, |i| tolerance(narrow, want[i], scale));
    all.extend(some.into_iter().enumerate().filter(|(i, _)| active[i / dim.max(1)]).map(|(_, error)| error));
    all.extend(errors(&back.lines()?.to_packed(), &want_few, |i| tolerance(narrow, want_few[i], scale)));
    Ok(all)
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
        super::cpu::propagate(&graph, &x[i], 3, super::cpu::Sparse::default(), &mut space, &mut out);
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
        kernel::propagate(&graph, x, DEPTH, Sparse::default(), &mut space, out).map(drop)
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

/// The propagations of a training step: forward for the rows that 2,048 triples read, and back from
/// them. Its floor has all rows of the layers between, and the edges of those rows in one layer of
/// each; rows of the layer mean count where they are wanted.
fn of_a_batch<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, dim: usize) -> Result<Prepared> {
    let [users, items, count] = size(scale, full);
    let edges = graph([users, items, count])?;
    let (nodes, nnz) = (edges.nodes(), edges.nnz());
    let (mut rng, mut active) = (Rng::new(4, Use::Synthetic, 0xbe, 1), vec![false; nodes]);
    for _ in 0..scale.of(2048, 60) {
        let user = rng.below(users as u32) as usize;
        let of = edges.neighbours(user);
        active[user] = true;
        active[users + rng.below(items as u32) as usize] = true;
        if !of.is_empty() {
            active[of[rng.below(of.len() as u32) as usize] as usize] = true;
        }
    }
    let flags = device.upload(&bits(&active), "active rows")?;
    let graph = kernel::DeviceGraph::new(device, &edges)?;
    let mut space = kernel::DeviceWorkspace::<T>::new(device, &graph, dim)?;
    let x = device.upload(Lines::from_packed(dim, &normals(nodes * dim, 1)).values(), "x")?;
    let mut few = Lines::from_packed(dim, &normals(nodes * dim, 2));
    (0..nodes).filter(|&r| !active[r]).for_each(|r| few.row_mut(r).fill(0.0));
    let gradient = device.upload(few.values(), "gradient")?;
    let mut out = device.alloc(few.values().len(), "out")?;
    let run = move |_| {
        let [read, written] = [
            Sparse { outputs: Some(Flags::Kernels(&flags)), inputs: None },
            Sparse { outputs: None, inputs: Some(Flags::Kernels(&flags)) },
        ];
        kernel::propagate(&graph, &x, DEPTH, read, &mut space, &mut out)?;
        kernel::propagate(&graph, &gradient, DEPTH, written, &mut space, &mut out).map(drop)
    };
    let rows = active.iter().filter(|&&a| a).count();
    let near: usize = (0..nodes).filter(|&r| active[r]).map(|r| edges.neighbours(r).len()).sum();
    let (s, d, between) = (size_of::<T>() as f64, dim as f64, (DEPTH - 1) as f64);
    let [e, v, near, rows] = [nnz, nodes, near, rows].map(|n| n as f64);
    let bytes = 2.0 * between * (4.0 * (e + v) + 2.0 * v * d * s) + 8.0 * near + 4.0 * v * d + 8.0 * rows * d;
    let sizes = [("users", users), ("items", items), ("edges", nnz / 2), ("width", dim), ("layers", DEPTH)];
    Ok(Prepared::new(T::NAME, &sizes, run).floor(bytes, 2.0 * (between * e + near) * d))
}
