//! Similarity and top-K: the whole catalogue, few queries, each user's own history.

use super::{Case, case, copies, rotated, rows, sets};
use crate::bench::kernels::{Goal, Prepared, Scale};
use crate::device::{KernelDevice, Storage};
use crate::error::Result;
use crate::ops::topk::kernel::{DeviceSeen, history, topk};
use crate::rng::{Rng, Use};
use half::bf16;

pub(super) const CASES: &[Case] = &[
    case("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 100_000, 64, 20], None)),
    case("topk", "catalogue", |d, s| search::<f32>(d, s, [1024, 100_000, 64, 20], None)),
    case("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 1_000_000, 128, 100], Some(Goal::Floor(0.5)))),
    case("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 1_000_000, 128, 10], Some(Goal::Floor(0.5)))),
    case("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 100_000, 256, 100], None)),
    case("topk", "catalogue, wider than shared memory", |d, s| search::<bf16>(d, s, [1024, 100_000, 576, 100], None)),
    case("topk", "few queries", |d, s| search::<bf16>(d, s, [1, 2_000_000, 64, 20], Some(Goal::Floor(0.85)))),
    case("topk", "RAFT's shape", |d, s| search::<bf16>(d, s, [1000, 2_000_000, 128, 128], Some(Goal::Seconds(1.5e-3)))),
    case("topk", "few queries", |d, s| search::<bf16>(d, s, [1, 2_000_000, 128, 100], Some(Goal::Floor(0.85)))),
    case("topk", "few queries", |d, s| search::<bf16>(d, s, [8, 2_000_000, 128, 100], Some(Goal::Floor(0.85)))),
    case("topk", "few queries", |d, s| search::<f32>(d, s, [1, 1_000_000, 128, 100], Some(Goal::Floor(0.85)))),
    case("topk", "catalogue, 200 seen items a query", |d, s| masked(d, s, [6040, 100_000, 64, 20])),
    case("topk", "own history", |d, s| listed::<bf16>(d, s, [16_384, 100_000, 64, 10])),
    case("topk", "own history", |d, s| listed::<f32>(d, s, [16_384, 100_000, 64, 10])),
];

/// Queries, items, width, k.
type Size = [usize; 4];

fn size(scale: Scale, [queries, items, dim, k]: Size) -> Size {
    [scale.of(queries, queries.min(70)), scale.of(items, 1300), dim, k]
}

fn names([queries, items, width, k]: Size) -> [(&'static str, usize); 4] {
    [("queries", queries), ("items", items), ("width", width), ("k", k)]
}

/// Every item and query once, and their scores.
fn floor<T: Storage>([queries, items, dim, k]: Size) -> (f64, f64) {
    let [q, n, d, k] = [queries, items, dim, k].map(|n| n as f64);
    (size_of::<T>() as f64 * d * (q + n) + 8.0 * q * k, 2.0 * q * n * d)
}

fn search<T: Storage>(device: &KernelDevice, scale: Scale, full: Size, goal: Option<Goal>) -> Result<Prepared> {
    let size = size(scale, full);
    let [queries, items, dim, k] = size;
    let (q, x) = (rows::<T>(device, queries, dim, 1)?, rotated::<T>(device, scale, (items, dim), 2)?);
    let (n, (bytes, flops)) = (x.len(), floor::<T>(size));
    let run = move |i: usize| topk(&q, &x[i], k, None).map(drop);
    let prepared = Prepared::new(T::NAME, &names(size), run).sets(n).floor(bytes, flops);
    Ok(match goal {
        Some(goal) => prepared.goal(goal),
        None => prepared,
    })
}

/// `count` distinct rows below `items`, ascending.
fn list(rng: &mut Rng, items: usize, count: usize) -> Vec<u32> {
    let mut list: Vec<u32> = (0..count).map(|_| rng.below(items as u32)).collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn masked(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [queries, items, dim, k] = size;
    let (q, x) = (rows::<bf16>(device, queries, dim, 1)?, rotated::<bf16>(device, scale, (items, dim), 2)?);
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 4);
    let lists: Vec<Vec<u32>> = (0..queries).map(|_| list(&mut rng, items, scale.of(200, 20))).collect();
    let seen = DeviceSeen::new(device, lists.iter().map(Vec::as_slice))?;
    let (n, (bytes, flops)) = (x.len(), floor::<bf16>(size));
    let run = move |i: usize| topk(&q, &x[i], k, Some(&seen)).map(drop);
    Ok(Prepared::new("bf16", &names(size), run).sets(n).floor(bytes, flops))
}

/// Bound by fetching the rows of each list.
fn listed<T: Storage>(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [queries, items, dim, k] = size;
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 5);
    let x = copies(rows::<T>(device, items, dim, 1)?, sets(scale, size_of::<T>() * items * dim))?;
    let targets: Vec<u32> = (0..queries).map(|_| rng.below(items as u32)).collect();
    let lists: Vec<Vec<u32>> = (0..queries).map(|_| list(&mut rng, items, scale.of(165, 12))).collect();
    let n = x.len();
    let run = move |i: usize| {
        let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        history(&x[i], &targets, &lists, k).map(drop)
    };
    Ok(Prepared::new(T::NAME, &names(size), run).sets(n))
}
