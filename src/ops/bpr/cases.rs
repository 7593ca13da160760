//! BPR: its name, its kernels, what it is checked on and measured with.

use super::{Batch, Bpr, Stream, backward, cost, kernel, oracle};
use crate::device::{Device, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::registry::{
    Case, Check, ONE, Operator, Prepared, Scale, Shape, TYPES, copies, draw, errors, kernels, normals, rows, sets, wide,
};
use crate::ops::spmm::cases::{BOOKS, ML_1M, Size, graph, size};
use crate::ops::spmm::{Adjacency, Lines, Nodes, Precision};
use crate::rng::{Rng, Use};
use half::bf16;

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "bpr",
    room: "bpr",
    sources: &["bpr"],
    arguments: &[
        kernel::NegativesArgs::LAYOUT,
        kernel::HardestArgs::LAYOUT,
        kernel::TermsArgs::LAYOUT,
        kernel::RankGradientArgs::LAYOUT,
    ],
    constants: &[("bpr_tile", super::kernel::TILE)],
    kernels: kernels! {
        "bpr_negatives" ONE ["B / 128"] 128 "32 B bytes" "graph: uniform negatives, the CPU's Philox draws"
        "bpr_hardest" TYPES ["B / 4"] 128 "(32 m + (m + 1) s d) B bytes, 2 m B d FLOP" "graph: of m uniform negatives the one that scores highest"
        "bpr_active" ONE ["B / 128"] 128 "24 B bytes" "graph: which rows a batch reads, a bit a node"
        "bpr_terms" TYPES ["B / 4"] 128 "(3 s + 12) B d B, 10 B d FLOP" "graph: scores, slopes and losses of a batch"
        "bpr_keys" ONE ["size / 128"] 128 "20 size B" "graph: which entries of a batch touch which row"
        "sort_tile" ONE ["size / 2048"] 512 "16 size B" "graph: bitonic sort within 2048 keys"
        "sort_step" ONE ["size / 256"] 128 "16 size B" "graph: bitonic sort, one step beyond 2048 keys"
        "bpr_gradient" TYPES ["3 B / 4"] 128 "(4 s + 12) B d B, 4 B d FLOP" "graph: gradient of a batch, each row in batch order"
    },
    checks: &[Check::new("bpr", ["nodes", "triples", "dim"], check)],
    cases: &[
        Case::cpu("bpr", "2,048 triples of 9,746 nodes x 64", || on_cpu(6040, 3706, 2048, 64)),
        Case::kernels("bpr", "negatives", |d, s| negatives(d, s, BOOKS, 1 << 20)),
        Case::kernels("bpr", "hardest of 8", |d, s| hardest::<f32>(d, s, BOOKS, 65_536)),
        Case::kernels("bpr", "hardest of 8", |d, s| hardest::<bf16>(d, s, BOOKS, 65_536)),
        Case::kernels("bpr", "loss and gradient", |d, s| rank::<f32>(d, s, ML_1M, 2048)),
        Case::kernels("bpr", "loss and gradient", |d, s| rank::<bf16>(d, s, ML_1M, 2048)),
        Case::kernels("bpr", "loss and gradient", |d, s| rank::<f32>(d, s, BOOKS, 65_536)),
        Case::kernels("bpr", "loss and gradient", |d, s| rank::<bf16>(d, s, BOOKS, 65_536)),
        Case::kernels("bpr", "sort of keys", |d, s| sort(d, s.of(1 << 20, 4096))),
    ],
    counted: &[Case::cpu("bpr", "256 triples of 500 nodes x 64", || on_cpu(300, 200, 256, 64))],
};

/// Widths of rows, some that no vector divides.
pub const DIMS: &[usize] = &[1, 7, 8, 33, 64, 130];

/// What a value of the gradient by `e` may be off by, whose values are of the size of `scale`.
pub fn tolerance(scale: f64) -> f64 {
    2e-5 * (1.0 + scale)
}

/// What the penalty's gradient may be off by.
pub const PENALTY: f64 = 2e-6;

/// What the loss may be off by.
pub fn loss_tolerance(want: f64) -> f64 {
    1e-5 * (1.0 + want.abs())
}

fn check(device: &Device, [nodes, size, dim]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let (mut e, e0): (Vec<f32>, Vec<f32>) = (draw(nodes * dim, seed, 0), draw(nodes * dim, seed, 1));
    let precision = if narrow { Precision::Bf16 } else { Precision::F32 };
    if narrow {
        e.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32());
    }
    let mut rng = Rng::new(seed, Use::Synthetic, 2, 0);
    let mut ids = || -> Vec<u32> { (0..size).map(|_| rng.below(nodes as u32)).collect() };
    let batch = Batch { users: ids(), positives: ids(), negatives: ids() };
    let (loss, by_e, _) = oracle::bpr(&wide(&e), &wide(&e0), dim, &batch, 0.1);
    let rows = Nodes::stored(device, Lines::from_packed(dim, &e), precision, "e")?;
    let rows0 = Nodes::from_lines(device, Lines::from_packed(dim, &e0), "e0")?;
    let mut gradient = Nodes::zeros(device, nodes, dim, "gradient")?;
    let mut op = Bpr::new(device, nodes, 0.1)?;
    op.given(&batch)?;
    let (got, _) = backward(device, &mut op, &rows, &rows0, &mut gradient)?;
    let mut all = errors(&gradient.lines()?.to_packed(), &by_e, |_| tolerance(1.0));
    all.push((got - loss).abs() / loss_tolerance(loss));
    Ok(all)
}

fn on_cpu(users: u32, items: u32, batch: usize, dim: usize) -> Result<Prepared> {
    let nodes = (users + items) as usize;
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 1);
    let mut draw = |from: u32, below: u32| -> Vec<u32> { (0..batch).map(|_| from + rng.below(below)).collect() };
    let batches: Vec<Batch> = (0..8)
        .map(|_| Batch { users: draw(0, users), positives: draw(users, items), negatives: draw(users, items) })
        .collect();
    let e = Nodes::from_lines(&Device::Cpu, Lines::from_packed(dim, &normals(nodes * dim, 0)), "e")?;
    let mut gradient = Nodes::zeros(&Device::Cpu, nodes, dim, "gradient")?;
    let mut op = Bpr::new(&Device::Cpu, nodes, 1e-4)?;
    Ok(Prepared::of(cost(batch, dim), batches.len(), move |i| {
        op.given(&batches[i])?;
        std::hint::black_box(backward(&Device::Cpu, &mut op, &e, &e, &mut gradient)?);
        Ok(())
    }))
}

/// Users of a batch, and an item of each.
fn batch(device: &KernelDevice, edges: &Adjacency, users: usize, n: usize) -> Result<kernel::DeviceBatch> {
    let mut rng = Rng::new(2, Use::Synthetic, 0xbe, 2);
    let mut triple = || loop {
        let user = rng.below(users as u32);
        let items = edges.neighbours(user as usize);
        if !items.is_empty() {
            return (user, items[rng.below(items.len() as u32) as usize]);
        }
    };
    let (users, items): (Vec<u32>, Vec<u32>) = (0..n).map(|_| triple()).unzip();
    kernel::DeviceBatch::new(device, &users, &items)
}

/// Each user's items; one more item than the graph has, so that each user lacks one.
fn items_of(device: &KernelDevice, edges: &Adjacency, users: usize, items: usize) -> Result<kernel::DeviceItems> {
    let (mut starts, mut nodes) = (vec![0u64], Vec::new());
    for user in 0..users {
        nodes.extend_from_slice(edges.neighbours(user));
        starts.push(nodes.len() as u64);
    }
    kernel::DeviceItems::new(device, &starts, &nodes, users as u32, items as u32 + 1)
}

fn negatives(device: &KernelDevice, scale: Scale, full: Size, triples: usize) -> Result<Prepared> {
    let [users, items, count] = size(scale, full);
    let edges = graph([users, items, count])?;
    let known = items_of(device, &edges, users, items)?;
    let n = scale.of(triples, 300);
    let mut batch = batch(device, &edges, users, n)?;
    let sizes = [("triples", n), ("users", users), ("items", items)];
    let stream = |i: usize| Stream { seed: 7, epoch: i as u32, first: 0 };
    Ok(Prepared::new("u32", &sizes, move |i| kernel::negatives(&known, &mut batch, stream(i)).map(drop)))
}

fn hardest<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, triples: usize) -> Result<Prepared> {
    const DIM: usize = 64;
    let [users, items, count] = size(scale, full);
    let (edges, n) = (graph([users, items, count])?, scale.of(triples, 300));
    let known = items_of(device, &edges, users, items)?;
    let mut batch = batch(device, &edges, users, n)?;
    let nodes = edges.nodes() + 1;
    let count = sets(scale, size_of::<T>() * nodes * DIM).min(16);
    let e = copies(rows::<T>(device, nodes, DIM, 1)?, count)?;
    let sizes = [("triples", n), ("nodes", nodes), ("width", DIM)];
    let stream = |i: usize| Stream { seed: 7, epoch: i as u32, first: 0 };
    let run = move |i: usize| kernel::hardest(&known, &mut batch, stream(i), 8, &e[i % e.len()]).map(drop);
    let bytes = n as f64 * 9.0 * (DIM * size_of::<T>()) as f64;
    Ok(Prepared::new(T::NAME, &sizes, run).sets(count).floor(bytes, 16.0 * (n * DIM) as f64))
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
    kernel::negatives(&known, &mut batch, Stream { seed: 7, epoch: 0, first: 0 })?;
    let count = sets(scale, (size_of::<T>() + 8) * nodes * DIM).min(16);
    let e = copies(rows::<T>(device, nodes, DIM, 1)?, count)?;
    let e0 = copies(rows::<f32>(device, nodes, DIM, 2)?, count)?;
    let mut by_e = DeviceRows::zeros(device, nodes, DIM, "by e")?;
    let mut weights = device.zeros(nodes, "weights")?;
    let mut active = device.zeros(nodes.div_ceil(32), "active rows")?;
    let run = move |i: usize| {
        kernel::mark(&batch, &mut active)?;
        kernel::backward(&mut batch, &e[i], &e0[i], 1e-4, &mut by_e, &mut weights).map(drop)
    };
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
        kernel::sort(&mut keys).map(drop)
    };
    Ok(Prepared::new("u64", &[("keys", n)], run).floor(16.0 * n as f64, 0.0))
}
