//! Top-K: its name, its kernels, what it is checked on and measured with.

use super::kernel::{DeviceSeen, history};
use super::{Nothing, cost, kernel, oracle, topk};
use crate::device::{Device, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::registry::{
    Case, Check, Goal, ONE, Operator, Prepared, Scale, Shape, TYPES, copies, draw, errors, host_sets, kernels, normals,
    rotated, rows, sets,
};
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;
use half::bf16;

const STRIPED: &[&str] = &["bf16_64", "bf16_128", "bf16_256"];
const FEW: &[&str] = &["bf16_64", "bf16_128"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "topk",
    room: "topk",
    sources: &["topk", "topk_strip"],
    arguments: &[kernel::ScanArgs::LAYOUT, kernel::TopkFinishArgs::LAYOUT, kernel::HistoryArgs::LAYOUT],
    constants: &[
        ("topk_state", kernel::STATE),
        ("topk_strip_bf16_64_queries", kernel::MANY[0].1.queries),
        ("topk_strip_bf16_64_items", kernel::MANY[0].1.items),
        ("topk_strip_bf16_64_tiles", kernel::MANY[0].1.tiles),
        ("topk_strip_bf16_128_queries", kernel::MANY[1].1.queries),
        ("topk_strip_bf16_128_items", kernel::MANY[1].1.items),
        ("topk_strip_bf16_128_tiles", kernel::MANY[1].1.tiles),
        ("topk_strip_bf16_256_queries", kernel::MANY[2].1.queries),
        ("topk_strip_bf16_256_items", kernel::MANY[2].1.items),
        ("topk_strip_bf16_256_tiles", kernel::MANY[2].1.tiles),
        ("topk_strip_few_bf16_64_queries", kernel::FEW[0].1.queries),
        ("topk_strip_few_bf16_64_items", kernel::FEW[0].1.items),
        ("topk_strip_few_bf16_64_tiles", kernel::FEW[0].1.tiles),
        ("topk_strip_few_bf16_128_queries", kernel::FEW[1].1.queries),
        ("topk_strip_few_bf16_128_items", kernel::FEW[1].1.items),
        ("topk_strip_few_bf16_128_tiles", kernel::FEW[1].1.tiles),
    ],
    kernels: kernels! {
        "topk_scan" TYPES ["Q / 64 x splits"] 128 "s d (Q + N) B, 2 Q N d FLOP" "retrieve: the catalogue's best candidates of every query"
        "topk_strip" STRIPED ["q / 128 x splits"] 128 "s d (q + n) B, 2 q n d FLOP" "retrieve: the same, queries whole in shared memory"
        "topk_strip_few" FEW ["q / 64 x splits"] 128 "s d (q + n) B, 2 q n d FLOP" "retrieve: the same for up to 64 queries"
        "topk_join" ONE ["q x splits / (4096 / room)"] 128 "8 q splits room B" "retrieve: candidates of many blocks of a query"
        "topk_finish" TYPES ["Q"] 128 "8 Q splits room B, 2 Q (k + 32) d FLOP" "retrieve: joins the candidates and scores them again in f32"
        "topk_history" TYPES ["Q"] 128 "s d (listed + Q) B, 2 listed d FLOP" "retrieve: the best of each user's own history"
    },
    checks: &[Check::new("topk", ["queries", "items", "dim"], check)],
    cases: &[
        Case::cpu("topk", "20 of 20,000 x 64 for 256 queries", || on_cpu(256, 20_000, 64)),
        Case::cpu("topk", "20 of 3,706 x 64 for 1 query", || on_cpu(1, 3706, 64)),
        Case::kernels("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 100_000, 64, 20], None)),
        Case::kernels("topk", "catalogue", |d, s| search::<f32>(d, s, [1024, 100_000, 64, 20], None)),
        Case::kernels("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 1_000_000, 128, 100], HALF)),
        Case::kernels("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 1_000_000, 128, 10], HALF)),
        Case::kernels("topk", "catalogue", |d, s| search::<bf16>(d, s, [1024, 100_000, 256, 100], None)),
        Case::kernels("topk", "catalogue, wider than shared memory", |d, s| {
            search::<bf16>(d, s, [1024, 100_000, 576, 100], None)
        }),
        Case::kernels("topk", "few queries", |d, s| search::<bf16>(d, s, [1, 2_000_000, 64, 20], BOUND)),
        Case::kernels("topk", "RAFT's shape", |d, s| {
            search::<bf16>(d, s, [1000, 2_000_000, 128, 128], Some(Goal::Seconds(1.5e-3)))
        }),
        Case::kernels("topk", "few queries", |d, s| search::<bf16>(d, s, [1, 2_000_000, 128, 100], BOUND)),
        Case::kernels("topk", "few queries", |d, s| search::<bf16>(d, s, [8, 2_000_000, 128, 100], BOUND)),
        Case::kernels("topk", "few queries", |d, s| search::<f32>(d, s, [1, 1_000_000, 128, 100], BOUND)),
        Case::kernels("topk", "catalogue, 200 seen items a query", |d, s| masked(d, s, [6040, 100_000, 64, 20])),
        Case::kernels("topk", "own history", |d, s| listed::<bf16>(d, s, [16_384, 100_000, 64, 10])),
        Case::kernels("topk", "own history", |d, s| listed::<f32>(d, s, [16_384, 100_000, 64, 10])),
    ],
    counted: &[
        Case::cpu("topk", "20 of 2,000 x 64 for 64 queries", || on_cpu(64, 2000, 64)),
        Case::cpu("topk", "20 of 2,000 x 64 for 1 query", || on_cpu(1, 2000, 64)),
    ],
};

const HALF: Option<Goal> = Some(Goal::Floor(0.5));
const BOUND: Option<Goal> = Some(Goal::Floor(0.85));

/// Numbers of queries and of items around tiles.
pub const QUERIES: &[usize] = &[1, 5, 65, 130];
/// As above.
pub const ITEMS: &[usize] = &[1, 64, 100, 333];
/// Widths that take each of the kernels.
pub const DIMS: &[usize] = &[1, 8, 33, 64, 65, 130, 260];

/// What a score may be off by: `sum` is the largest sum of the sizes of its terms, `most` the
/// largest value on either side. The scan splits f32 values into bf16 planes, which end at 2^-133:
/// each value is off by up to half of that, and a hit by the errors of two scores.
pub fn tolerance(narrow: bool, sum: f64, dim: usize, most: f64) -> f64 {
    let end_of_bf16 = if narrow { 0.0 } else { 2f64.powi(-133) };
    2e-6 * sum + end_of_bf16 * dim as f64 * 2.0 * most + 1e-42
}

fn check(device: &Device, [q, n, dim]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let k = 10;
    let dtype = if narrow { Dtype::Bf16 } else { Dtype::F32 };
    let place = |n: usize, salt| Rows::upload(device, dtype, dim, &draw::<f32>(n * dim, seed, salt), "rows");
    let (queries, items) = (place(q, 0)?, place(n, 1)?);
    let (fq, fi) = (queries.download()?, items.download()?);
    let want = oracle::topk(&fq, &fi, dim, k, &Nothing);
    let (got, _) = topk(device, (&queries).into(), (&items).into(), k, &Nothing)?;
    let most = |x: &[f32]| x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let (a, b) = (most(&fq), most(&fi));
    let mut all = Vec::new();
    for ((got, want), query) in got.iter().zip(&want).zip(fq.chunks_exact(dim)) {
        let size = |item: &[f32]| query.iter().zip(item).map(|(a, b)| f64::from(a * b).abs()).sum::<f64>();
        let sum = fi.chunks_exact(dim).map(size).fold(0.0, f64::max);
        let scores: Vec<f32> = got.iter().map(|h| h.score).collect();
        let want: Vec<f64> = want.iter().map(|h| f64::from(h.score)).collect();
        all.extend(errors(&scores, &want, |_| tolerance(narrow, sum, dim, a.max(b))));
    }
    Ok(all)
}

fn on_cpu(queries: usize, items: usize, dim: usize) -> Result<Prepared> {
    let cost = cost(queries, items, dim);
    let n = host_sets(cost.bytes).min(16);
    let inputs: Vec<_> =
        (0..n as u32).map(|s| (normals(queries * dim, 2 * s), normals(items * dim, 2 * s + 1))).collect();
    Ok(Prepared::of(cost, n, move |i| {
        let (q, x) = ((&inputs[i].0[..], dim).into(), (&inputs[i].1[..], dim).into());
        std::hint::black_box(topk(&Device::Cpu, q, x, 20, &Nothing)?);
        Ok(())
    }))
}

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
    let run = move |i: usize| kernel::topk(&q, &x[i], k, None).map(drop);
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
    let run = move |i: usize| kernel::topk(&q, &x[i], k, Some(&seen)).map(drop);
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
