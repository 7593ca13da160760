//! The cases: operator, shapes, and how inputs are made. Shapes are those of SmolLM2-135M and of LightGCN on ML-1M.

use std::sync::{Arc, OnceLock};

use half::bf16;

use super::Prepared;
use crate::error::Result;
use crate::ops::attention::{self, Heads, Item, Run};
use crate::ops::cross_entropy::{self, Scratch, Targets};
use crate::ops::linear::{self, Dtype, Storage, Weight, matmul_nt};
use crate::ops::{Cost, adam, infonce, rmsnorm, spmm, swiglu, topk};
use crate::rng::{Rng, Use};

/// One line of the table.
#[derive(Debug)]
pub struct Case {
    /// Operator.
    pub op: &'static str,
    /// Shapes in words.
    pub shape: &'static str,
    /// Makes the inputs.
    pub make: fn() -> Result<Prepared>,
}

const fn case(op: &'static str, shape: &'static str, make: fn() -> Result<Prepared>) -> Case {
    Case { op, shape, make }
}

/// All cases, those of one operator together.
pub const CASES: &[Case] = &[
    case("spmm", "9,746 nodes, 200,000 edges, 64 wide, 3 layers", || propagate(6040, 3706, 200_000, 64)),
    case("spmm", "500 nodes, 10,000 edges, 32 wide, 3 layers", || propagate(300, 200, 10_000, 32)),
    case("infonce", "1,024 pairs x 128, with gradients", || contrast(1024, 128)),
    case("infonce", "4,096 pairs x 64, with gradients", || contrast(4096, 64)),
    case("topk", "20 of 20,000 x 64 for 256 queries", || top(256, 20_000, 64)),
    case("topk", "20 of 3,706 x 64 for 1 query", || top(1, 3706, 64)),
    case("linear", "decode M=1, 1536 x 576, bf16", || product(1, 1536, 576, Dtype::Bf16)),
    case("linear", "decode M=1, 1536 x 576, f32", || product(1, 1536, 576, Dtype::F32)),
    case("linear", "decode M=16, 1536 x 576, bf16", || product(16, 1536, 576, Dtype::Bf16)),
    case("linear", "decode M=16, 1536 x 576, f32", || product(16, 1536, 576, Dtype::F32)),
    case("linear", "prefill M=512, 1536 x 576, bf16", || product(512, 1536, 576, Dtype::Bf16)),
    case("linear", "prefill M=512, 1536 x 576, f32", || product(512, 1536, 576, Dtype::F32)),
    case("linear", "head M=1, 49152 x 576, bf16", || product(1, 49_152, 576, Dtype::Bf16)),
    case("attention", "prefill 512, 9 heads, 3 kv heads, 64 wide", || prefill(512)),
    case("attention", "decode 1 row on 1,024 keys", || decode(1, 1024)),
    case("attention", "decode 16 rows on 1,024 keys of their own", || decode(16, 1024)),
    case("rmsnorm", "512 x 576", || norm(512, 576)),
    case("rmsnorm", "1 x 576", || norm(1, 576)),
    case("swiglu", "512 x 1536", || glu(512 * 1536)),
    case("cross_entropy", "64 rows, vocabulary 8,192 x 576, f32, with gradient", || entropy(64, 8192, 576)),
    case("adam", "1,000,000 parameters", || step(1_000_000)),
    case("adam", "100,000 parameters", || step(100_000)),
];

/// All sets together are larger than the caches, up to this many sets.
const ROTATED: usize = 96 << 20;
const SETS: usize = 128;

fn sets(bytes: f64) -> usize {
    (ROTATED as f64 / bytes).ceil().clamp(2.0, SETS as f64) as usize
}

/// Normal values out of a pool, from another place for each stream. The pool's length is a prime, so that rows of any
/// width differ.
fn normals(n: usize, stream: u32) -> Vec<f32> {
    static POOL: OnceLock<Vec<f32>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
        (0..65_537).map(|_| rng.normal()).collect()
    });
    let from = stream as usize * 7919 % pool.len();
    pool[from..].iter().chain(pool.iter().cycle()).take(n).copied().collect()
}

fn propagate(users: usize, items: usize, edges: usize, dim: usize) -> Result<Prepared> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
    let pairs: Vec<(u32, u32)> = (0..edges)
        .flat_map(|_| {
            let (u, i) = (rng.below(users as u32), users as u32 + rng.below(items as u32));
            [(u, i), (i, u)]
        })
        .collect();
    let graph = spmm::Adjacency::new(users + items, pairs.iter().copied())?;
    let cost = spmm::cost(&graph, dim, 3);
    let n = sets(4.0 * ((users + items) * dim) as f64).min(8);
    let x: Vec<_> = (0..n).map(|s| spmm::Rows::from_packed(dim, &normals((users + items) * dim, s as u32))).collect();
    let mut out = spmm::Rows::zeros(users + items, dim);
    let mut space = spmm::Workspace::new(users + items, dim);
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| spmm::propagate(&graph, &x[i], 3, spmm::Sparse::No, &mut space, &mut out)),
    })
}

fn contrast(n: usize, dim: usize) -> Result<Prepared> {
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.1, weight: 1.0 };
    let x: Vec<_> = (0..3).map(|s| normals(n * dim, s)).collect();
    // Checked once here, so that the timed runs may take success for granted.
    infonce::infonce(&x[0], &x[1], dim, &params, true)?;
    Ok(Prepared {
        cost: infonce::cost(n, dim),
        sets: 3,
        run: Box::new(move |i| {
            drop(std::hint::black_box(infonce::infonce(&x[i], &x[(i + 1) % 3], dim, &params, true)))
        }),
    })
}

fn top(queries: usize, items: usize, dim: usize) -> Result<Prepared> {
    let cost = topk::cost(queries, items, dim);
    let n = sets(cost.bytes).min(16);
    let inputs: Vec<_> =
        (0..n as u32).map(|s| (normals(queries * dim, 2 * s), normals(items * dim, 2 * s + 1))).collect();
    topk::topk(&inputs[0].0, &inputs[0].1, dim, 20, &topk::Nothing)?;
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| {
            let (q, x) = &inputs[i];
            drop(std::hint::black_box(topk::topk(q, x, dim, 20, &topk::Nothing)));
        }),
    })
}

fn weight(rows: usize, cols: usize, dtype: Dtype, stream: u32) -> Result<Weight> {
    let values = normals(cols, stream);
    let all = (0..rows).flat_map(|r| values.iter().map(move |v| v * (1.0 + r as f32 / 1e4)));
    match dtype {
        Dtype::Bf16 => Weight::new(rows, cols, Storage::Bf16(Arc::new(all.map(bf16::from_f32).collect()))),
        _ => Weight::from_f32(rows, cols, all.collect()),
    }
}

fn product(m: usize, out: usize, inp: usize, dtype: Dtype) -> Result<Prepared> {
    let one = weight(out, inp, dtype, 0)?;
    let cost = linear::cost(&one, m);
    let n = sets(one.bytes() as f64);
    let weights = (0..n as u32).map(|s| weight(out, inp, dtype, s)).collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Prepared { cost, sets: n, run: Box::new(move |i| matmul_nt(&x, &weights[i], &mut y, false)) })
}

const HEADS: Heads = Heads { query: 9, kv: 3, dim: 64 };

fn prefill(rows: usize) -> Result<Prepared> {
    let (q_width, kv_width) = (HEADS.query * HEADS.dim, HEADS.kv * HEADS.dim);
    let cost = attention::cost(HEADS, rows, rows * (rows + 1) / 2, rows);
    let n = sets(cost.bytes).min(16);
    let inputs: Vec<_> = (0..n as u32)
        .map(|s| {
            [normals(rows * q_width, 3 * s), normals(rows * kv_width, 3 * s + 1), normals(rows * kv_width, 3 * s + 2)]
        })
        .collect();
    let mut out = vec![0.0; rows * q_width];
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| {
            let [q, k, v] = &inputs[i];
            attention::causal(q, k, v, HEADS, &[rows], &mut out, None);
        }),
    })
}

/// Keys and values of the kv heads of one sequence.
type Cache = Vec<(Vec<f32>, Vec<f32>)>;

fn decode(rows: usize, keys: usize) -> Result<Prepared> {
    let cost = attention::cost(HEADS, rows, rows * keys, rows * keys);
    let n = sets(cost.bytes).min(24);
    let q = normals(rows * HEADS.query * HEADS.dim, 0);
    let base = normals(keys * HEADS.dim, 1);
    let cache = |_| -> Cache {
        let head = |_| {
            let (mut k, mut v) = (Vec::new(), Vec::new());
            attention::append(&mut k, &mut v, 0, &base, &base, HEADS.dim, HEADS.dim);
            (k, v)
        };
        (0..HEADS.kv).map(head).collect()
    };
    let stored: Vec<Vec<Cache>> = (0..n).map(|_| (0..rows).map(cache).collect()).collect();
    let mut out = vec![0.0; q.len()];
    Ok(Prepared {
        cost,
        sets: n,
        run: Box::new(move |i| {
            let items: Vec<Item<'_>> = stored[i]
                .iter()
                .map(|cache| Item {
                    rows: 1,
                    runs: cache.iter().map(|(k, v)| vec![Run { keys: k, values: v, len: keys }]).collect(),
                })
                .collect();
            attention::attend(&q, HEADS, &items, &mut out, None);
        }),
    })
}

fn norm(rows: usize, width: usize) -> Result<Prepared> {
    let n = sets(8.0 * (rows * width) as f64);
    let x: Vec<_> = (0..n as u32).map(|s| normals(rows * width, s)).collect();
    let (w, mut y) = (vec![1.0; width], vec![0.0; rows * width]);
    let cost = rmsnorm::cost(rows, width);
    Ok(Prepared { cost, sets: n, run: Box::new(move |i| rmsnorm::rmsnorm(&x[i], &w, 1e-5, &mut y)) })
}

fn glu(n: usize) -> Result<Prepared> {
    let count = sets(12.0 * n as f64);
    let x: Vec<_> = (0..count as u32).map(|s| normals(n, s)).collect();
    let mut y = vec![0.0; n];
    let run = move |i: usize| swiglu::swiglu(&x[i], &x[(i + 1) % x.len()], &mut y);
    Ok(Prepared { cost: swiglu::cost(n), sets: count, run: Box::new(run) })
}

fn entropy(rows: usize, vocab: usize, hidden: usize) -> Result<Prepared> {
    let heads = (0..4).map(|s| weight(vocab, hidden, Dtype::F32, s)).collect::<Result<Vec<_>>>()?;
    let (h, mut dh) = (normals(rows * hidden, 9), vec![0.0; rows * hidden]);
    let tokens: Vec<u32> = (0..rows as u32).map(|i| i * 7919 % vocab as u32).collect();
    let weights = vec![1.0 / rows as f32; rows];
    let mut scratch = Scratch::default();
    // Product, gradient: the head is read twice.
    let once = linear::cost(&heads[0], rows);
    let cost = Cost { bytes: 2.0 * heads[0].bytes() as f64 + 8.0 * h.len() as f64, flops: 2.0 * once.flops };
    Ok(Prepared {
        cost,
        sets: heads.len(),
        run: Box::new(move |i| {
            let targets = Targets { tokens: &tokens, weights: &weights };
            std::hint::black_box(cross_entropy::loss(&h, &heads[i], targets, Some(&mut dh), None, &mut scratch));
        }),
    })
}

fn step(n: usize) -> Result<Prepared> {
    let count = sets(28.0 * n as f64);
    let g = normals(n, 0);
    let state = || (vec![0.5f32; n], g.clone(), vec![0.0f32; n], vec![0.0f32; n]);
    let mut states: Vec<_> = (0..count).map(|_| state()).collect();
    let adam = adam::Adam::new(1e-3);
    let mut t = 0;
    Ok(Prepared {
        cost: adam::cost(n),
        sets: count,
        run: Box::new(move |i| {
            t += 1;
            let (p, g, m, v) = &mut states[i];
            adam::step(&adam, t, p, g, m, v);
        }),
    })
}
