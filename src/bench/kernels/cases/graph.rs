//! Graph propagation, BPR with its negatives and its sort, Adam.

use super::{Case, case, copies, rows, sets};
use crate::bench::cases::normals;
use crate::bench::kernels::ceilings::Fetch;
use crate::bench::kernels::{Goal, Prepared, Scale};
use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::adam::{Adam, kernel as adam};
use crate::ops::bpr::{Stream, kernel as bpr};
use crate::ops::spmm::{Adjacency, Lines, kernel as spmm};
use crate::rng::{Rng, Use};
use half::bf16;

const LAYERS: usize = 3;

/// Users, items, edges.
type Size = [usize; 3];
const ML_1M: Size = [6040, 3706, 802_553];
const BOOKS: Size = [52_643, 91_599, 2_984_108];
/// Rows of 64 values in 16 bits are 128 MB: beyond any second-level cache.
const LARGE: Size = [700_000, 300_000, 10_000_000];

pub(super) const CASES: &[Case] = &[
    case("spmm", "ML-1M, 3 layers", |d, s| propagate::<f32>(d, s, ML_1M, 64)),
    case("spmm", "ML-1M, 3 layers", |d, s| propagate::<bf16>(d, s, ML_1M, 64)),
    case("spmm", "books, 3 layers", |d, s| propagate::<f32>(d, s, BOOKS, 64)),
    case("spmm", "books, 3 layers", |d, s| propagate::<bf16>(d, s, BOOKS, 64)),
    case("spmm", "books, 3 layers", |d, s| propagate::<f32>(d, s, BOOKS, 16)),
    case("spmm", "books, 3 layers", |d, s| propagate::<f32>(d, s, BOOKS, 32)),
    case("spmm", "books, 3 layers", |d, s| propagate::<bf16>(d, s, BOOKS, 32)),
    case("spmm", "books, 3 layers", |d, s| propagate::<f32>(d, s, BOOKS, 128)),
    case("spmm", "books, 3 layers", |d, s| propagate::<bf16>(d, s, BOOKS, 128)),
    case("spmm", "books, 3 layers", |d, s| propagate::<bf16>(d, s, BOOKS, 256)),
    case("spmm", "rows beyond the cache, 3 layers", |d, s| propagate::<f32>(d, s, LARGE, 64)),
    case("spmm", "rows beyond the cache, 3 layers", |d, s| propagate::<bf16>(d, s, LARGE, 64)),
    case("bpr", "negatives", |d, s| negatives(d, s, BOOKS, 1 << 20)),
    case("bpr", "loss and gradient", |d, s| rank::<f32>(d, s, ML_1M, 2048)),
    case("bpr", "loss and gradient", |d, s| rank::<bf16>(d, s, ML_1M, 2048)),
    case("bpr", "loss and gradient", |d, s| rank::<f32>(d, s, BOOKS, 65_536)),
    case("bpr", "loss and gradient", |d, s| rank::<bf16>(d, s, BOOKS, 65_536)),
    case("bpr", "sort of keys", |d, s| sort(d, s.of(1 << 20, 4096))),
    case("adam", "all rows", |d, s| step::<f32>(d, s, 10_000)),
    case("adam", "all rows", |d, s| step::<f32>(d, s, 1_000_000)),
    case("adam", "all rows", |d, s| step::<bf16>(d, s, 1_000_000)),
];

/// Sizes that the host build takes: two items, so that a row is long.
fn size(scale: Scale, full: Size) -> Size {
    if scale == Scale::Full { full } else { [500, 2, 1500] }
}

/// Edges between users and items, some items far more often than others.
fn graph([users, items, edges]: Size) -> Result<Adjacency> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 1);
    let mut pair = || {
        let u = rng.uniform();
        let item = ((u * u * items as f32) as usize).min(items - 1);
        (rng.below(users as u32), (users + item) as u32)
    };
    let pairs: Vec<(u32, u32)> = (0..edges).map(|_| pair()).flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    Adjacency::new(users + items, pairs.into_iter())
}

/// Against fetching the rows of the same list alone, and `max((4 nnz + 4 N + 2 N d s) / HBM, fetching)` as the floor, a layer.
fn propagate<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, dim: usize) -> Result<Prepared> {
    let [users, items, count] = size(scale, full);
    let edges = graph([users, items, count])?;
    let (nodes, nnz) = (edges.nodes(), edges.nnz());
    let graph = spmm::DeviceGraph::new(device, &edges)?;
    let mut space = spmm::DeviceWorkspace::<T>::new(device, &graph, dim)?;
    let packed = Lines::from_packed(dim, &normals(nodes * dim, 1));
    let n = sets(scale, 8 * packed.values().len()).min(8);
    let buffers = |_| Ok((device.upload(packed.values(), "x")?, device.alloc(packed.values().len(), "out")?));
    let mut buffers = (0..n).map(buffers).collect::<Result<Vec<_>>>()?;
    let (mut fetch, fetched) = (Fetch::new(device, edges.indices())?, rows::<T>(device, nodes, dim, 2)?);
    let run = move |i: usize| {
        let (x, out) = &mut buffers[i];
        spmm::propagate(&graph, x, LAYERS, &mut space, out).map(drop)
    };
    let [e, v, w] = [nnz, nodes, nodes * dim].map(|n| n as f64);
    let layer = (4.0 * (e + v) + 2.0 * w * size_of::<T>() as f64, e * dim as f64);
    let sizes = [("users", users), ("items", items), ("edges", nnz / 2), ("width", dim), ("layers", LAYERS)];
    Ok(Prepared::new(T::NAME, &sizes, run)
        .sets(n)
        .floor(LAYERS as f64 * layer.0, LAYERS as f64 * layer.1)
        .beside_floor("fetching the same rows", move |_| (0..LAYERS).try_for_each(|_| fetch.run(&fetched).map(drop)))
        .goal(Goal::Beside(0.85)))
}

/// Users of a batch, and an item of each.
fn batch(device: &KernelDevice, edges: &Adjacency, users: usize, n: usize) -> Result<bpr::DeviceBatch> {
    let mut rng = Rng::new(2, Use::Synthetic, 0xbe, 2);
    let mut triple = || loop {
        let user = rng.below(users as u32);
        let items = edges.neighbours(user as usize);
        if !items.is_empty() {
            return (user, items[rng.below(items.len() as u32) as usize]);
        }
    };
    let (users, items): (Vec<u32>, Vec<u32>) = (0..n).map(|_| triple()).unzip();
    bpr::DeviceBatch::new(device, &users, &items)
}

/// Each user's items; one more item than the graph has, so that each user lacks one.
fn items_of(device: &KernelDevice, edges: &Adjacency, users: usize, items: usize) -> Result<bpr::DeviceItems> {
    let (mut starts, mut nodes) = (vec![0u64], Vec::new());
    for user in 0..users {
        nodes.extend_from_slice(edges.neighbours(user));
        starts.push(nodes.len() as u64);
    }
    bpr::DeviceItems::new(device, &starts, &nodes, users as u32, items as u32 + 1)
}

fn negatives(device: &KernelDevice, scale: Scale, full: Size, triples: usize) -> Result<Prepared> {
    let [users, items, count] = size(scale, full);
    let edges = graph([users, items, count])?;
    let known = items_of(device, &edges, users, items)?;
    let n = scale.of(triples, 300);
    let mut batch = batch(device, &edges, users, n)?;
    let sizes = [("triples", n), ("users", users), ("items", items)];
    Ok(Prepared::new("u32", &sizes, move |i| {
        bpr::negatives(&known, &mut batch, Stream { seed: 7, epoch: i as u32, first: 0 }).map(drop)
    }))
}

/// Rows of three nodes a triple are read in both storages, and their gradients written.
fn rank<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, triples: usize) -> Result<Prepared> {
    const DIM: usize = 64;
    let [users, items, count] = size(scale, full);
    let (edges, n) = (graph([users, items, count])?, scale.of(triples, 700));
    // The item beyond the graph's can be a negative.
    let nodes = edges.nodes() + 1;
    let known = items_of(device, &edges, users, items)?;
    let mut batch = batch(device, &edges, users, n)?;
    bpr::negatives(&known, &mut batch, Stream { seed: 7, epoch: 0, first: 0 })?;
    let count = sets(scale, (size_of::<T>() + 8) * nodes * DIM).min(16);
    let e = copies(rows::<T>(device, nodes, DIM, 1)?, count)?;
    let e0 = copies(rows::<f32>(device, nodes, DIM, 2)?, count)?;
    let mut by_e = DeviceRows::zeros(device, nodes, DIM, "by e")?;
    let mut weights = device.zeros(nodes, "weights")?;
    let run = move |i: usize| bpr::backward(&mut batch, &e[i], &e0[i], 1e-4, &mut by_e, &mut weights).map(drop);
    let values = (n * DIM) as f64;
    let sizes = [("triples", n), ("nodes", nodes), ("width", DIM)];
    let bytes = values * (3.0 * size_of::<T>() as f64 + 24.0);
    Ok(Prepared::new(T::NAME, &sizes, run).sets(count).floor(bytes, 14.0 * values))
}

/// The floor of a sort that reads and writes its keys once.
fn sort(device: &KernelDevice, n: usize) -> Result<Prepared> {
    let mut rng = Rng::new(3, Use::Synthetic, 0xbe, 3);
    let values: Vec<u64> =
        (0..n).map(|_| u64::from(rng.below(u32::MAX)) << 32 | u64::from(rng.below(u32::MAX))).collect();
    let mut keys = device.upload(&values, "keys")?;
    let device = device.clone();
    let run = move |_| {
        device.write(&mut keys, &values)?;
        bpr::sort(&mut keys).map(drop)
    };
    Ok(Prepared::new("u64", &[("keys", n)], run).floor(16.0 * n as f64, 0.0))
}

fn step<T: Storage>(device: &KernelDevice, scale: Scale, nodes: usize) -> Result<Prepared> {
    const DIM: usize = 64;
    let nodes = scale.of(nodes, 20);
    let n = sets(scale, (12 + size_of::<T>()) * nodes * DIM);
    let g = copies(rows::<T>(device, nodes, DIM, 1)?, n)?;
    let state = |_| -> Result<_> {
        let zeros = || DeviceRows::<f32>::zeros(device, nodes, DIM, "moments");
        Ok((rows::<f32>(device, nodes, DIM, 2)?, zeros()?, zeros()?))
    };
    let mut states = (0..n).map(state).collect::<Result<Vec<_>>>()?;
    let mut t = 0;
    let run = move |i: usize| {
        t += 1;
        let (p, m, v) = &mut states[i];
        adam::step(&Adam::new(1e-3), t, adam::Rows { p, m, v, weight: None, touched: None }, &g[i]).map(drop)
    };
    Ok(Prepared::new(T::NAME, &[("rows", nodes), ("width", DIM)], run).sets(n))
}
