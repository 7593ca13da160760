//! The decoder's operators: shapes of SmolLM2-135M.

use std::sync::Arc;

use half::bf16;

use crate::device::{Device, Rows};
use crate::error::Result;
use crate::ops::attention::{self, Heads, Item, Run};
use crate::ops::cross_entropy::{self, Scratch, Targets, choose};
use crate::ops::linear::int8::{self, Codes};
use crate::ops::linear::{self, Storage, Weight, matmul_nt};
use crate::ops::lora::{self, Low};
use crate::ops::registry::{Case, Prepared, host_sets, normals};
use crate::ops::rope::{self, Positions, Rope, Table};
use crate::ops::sampling::{self, Cut, Sampler};
use crate::ops::{rmsnorm, swiglu};
use crate::tensor::{Cost, Dtype, Matrix};

/// A work of functions that cannot fail.
struct Sure {
    cost: Cost,
    sets: usize,
    run: Box<dyn FnMut(usize)>,
}

impl From<Sure> for Prepared {
    fn from(of: Sure) -> Self {
        let mut run = of.run;
        Prepared::of(of.cost, of.sets, move |i| {
            run(i);
            Ok(())
        })
    }
}

macro_rules! cases {
    ($($op:literal $work:literal $make:expr;)*) => {
        /// Shapes of SmolLM2-135M.
        pub(super) const CASES: &[Case] = &[$(Case::cpu($op, $work, || Ok($make?.into()))),*];
    };
}

cases! {
    "linear" "decode M=1, 1536 x 576, bf16" product(1, 1536, 576, Dtype::Bf16);
    "linear" "decode M=1, 1536 x 576, f32" product(1, 1536, 576, Dtype::F32);
    "linear" "decode M=16, 1536 x 576, bf16" product(16, 1536, 576, Dtype::Bf16);
    "linear" "decode M=16, 1536 x 576, f32" product(16, 1536, 576, Dtype::F32);
    "linear" "prefill M=512, 1536 x 576, bf16" product(512, 1536, 576, Dtype::Bf16);
    "linear" "prefill M=512, 1536 x 576, f32" product(512, 1536, 576, Dtype::F32);
    "linear" "head M=1, 49152 x 576, bf16" product(1, 49_152, 576, Dtype::Bf16);
    "linear_int8" "decode M=1, 1536 x 576" product_int8(1, 1536, 576);
    "linear_int8" "decode M=16, 1536 x 576" product_int8(16, 1536, 576);
    "linear_int8" "prefill M=512, 1536 x 576, 4 multiply-adds as 1" product_int8(512, 1536, 576);
    "lora" "512 rows, rank 8, 576 to 576" low_rank(512, 576, 576, 8);
    "rope" "512 rows, 9 heads, 64 wide" turn(512, 9, 64);
    "attention" "prefill 512, 9 heads, 3 kv heads, 64 wide" prefill(512);
    "attention" "decode 1 row on 1,024 keys" decode(1, 1024);
    "attention" "decode 16 rows on 1,024 keys of their own" decode(16, 1024);
    "rmsnorm" "512 x 576" norm(512, 576);
    "rmsnorm" "1 x 576" norm(1, 576);
    "swiglu" "512 x 1536" glu(512 * 1536);
    "choose" "16 rows, vocabulary 49,152 x 576, bf16" answer(16, 49_152, 576);
    "sampling" "a row of 49,152, top-p 0.95" sample(49_152);
    "cross_entropy" "64 rows, vocabulary 8,192 x 576, f32, with gradient" entropy(64, 8192, 576);
}

fn weight(rows: usize, cols: usize, dtype: Dtype, stream: u32) -> Result<Weight> {
    let values = normals(cols, stream);
    let all = (0..rows).flat_map(|r| values.iter().map(move |v| v * (1.0 + r as f32 / 1e4)));
    match dtype {
        Dtype::Bf16 => Weight::new(rows, cols, Storage::Bf16(Arc::new(all.map(bf16::from_f32).collect()))),
        _ => Weight::from_f32(rows, cols, all.collect()),
    }
}

fn product(m: usize, out: usize, inp: usize, dtype: Dtype) -> Result<Sure> {
    let one = weight(out, inp, dtype, 0)?;
    let cost = linear::cost(&one, m);
    let n = host_sets(one.bytes() as f64);
    let weights = (0..n as u32).map(|s| weight(out, inp, dtype, s)).collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Sure { cost, sets: n, run: Box::new(move |i| matmul_nt(&x, &weights[i], &mut y, false)) })
}

fn product_int8(m: usize, out: usize, inp: usize) -> Result<Sure> {
    let one = Codes::new(&weight(out, inp, Dtype::F32, 0)?);
    let cost = int8::cost(std::iter::once(&one), m);
    let weights = (0..host_sets(one.bytes() as f64) as u32)
        .map(|s| Ok(Codes::new(&weight(out, inp, Dtype::F32, s)?)))
        .collect::<Result<Vec<_>>>()?;
    let x = normals(m * inp, 500);
    let mut y = vec![0.0; m * out];
    Ok(Sure {
        cost,
        sets: weights.len(),
        run: Box::new(move |i| {
            let product = int8::Product { weight: &weights[i], y: &mut y, bias: None, accumulate: false };
            int8::matmul_nt_many(&x, inp, &mut [product]);
        }),
    })
}

const HEADS: Heads = Heads { query: 9, kv: 3, dim: 64 };

fn prefill(rows: usize) -> Result<Sure> {
    let (q_width, kv_width) = (HEADS.query * HEADS.dim, HEADS.kv * HEADS.dim);
    let cost = attention::cost(HEADS, rows, rows * (rows + 1) / 2, rows);
    let n = host_sets(cost.bytes).min(16);
    let inputs: Vec<_> = (0..n as u32)
        .map(|s| {
            [normals(rows * q_width, 3 * s), normals(rows * kv_width, 3 * s + 1), normals(rows * kv_width, 3 * s + 2)]
        })
        .collect();
    let mut out = vec![0.0; rows * q_width];
    Ok(Sure {
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

fn decode(rows: usize, keys: usize) -> Result<Sure> {
    let cost = attention::cost(HEADS, rows, rows * keys, rows * keys);
    let n = host_sets(cost.bytes).min(24);
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
    Ok(Sure {
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

fn norm(rows: usize, width: usize) -> Result<Sure> {
    let n = host_sets(8.0 * (rows * width) as f64);
    let x: Vec<_> = (0..n as u32).map(|s| normals(rows * width, s)).collect();
    let (w, mut y) = (vec![1.0; width], vec![0.0; rows * width]);
    let cost = rmsnorm::cost(rows, width);
    Ok(Sure { cost, sets: n, run: Box::new(move |i| rmsnorm::cpu::rmsnorm(&x[i], &w, 1e-5, &mut y)) })
}

fn glu(n: usize) -> Result<Sure> {
    let count = host_sets(12.0 * n as f64);
    let x: Vec<_> = (0..count as u32).map(|s| normals(n, s)).collect();
    let mut y = vec![0.0; n];
    let run = move |i: usize| swiglu::cpu::swiglu(&x[i], &x[(i + 1) % x.len()], &mut y);
    Ok(Sure { cost: swiglu::cost(n), sets: count, run: Box::new(run) })
}

fn entropy(rows: usize, vocab: usize, hidden: usize) -> Result<Sure> {
    let heads = (0..4).map(|s| weight(vocab, hidden, Dtype::F32, s)).collect::<Result<Vec<_>>>()?;
    let (h, mut dh) = (normals(rows * hidden, 9), vec![0.0; rows * hidden]);
    let tokens: Vec<u32> = (0..rows as u32).map(|i| i * 7919 % vocab as u32).collect();
    let weights = vec![1.0 / rows as f32; rows];
    let mut scratch = Scratch::default();
    // Product, gradient: the head is read twice.
    let once = linear::cost(&heads[0], rows);
    let cost = Cost { bytes: 2.0 * heads[0].bytes() as f64 + 8.0 * h.len() as f64, flops: 2.0 * once.flops };
    Ok(Sure {
        cost,
        sets: heads.len(),
        run: Box::new(move |i| {
            let targets = Targets { tokens: &tokens, weights: &weights };
            std::hint::black_box(cross_entropy::loss(&h, &heads[i], targets, Some(&mut dh), None, &mut scratch));
        }),
    })
}

fn turn(rows: usize, heads: usize, dim: usize) -> Result<Sure> {
    let mut table = Table::new(&Device::Cpu, Rope::new(dim, 1e5, None));
    table.grow(rows)?;
    let positions = Positions::Cpu((0..rows as u32).collect());
    let n = host_sets(4.0 * (rows * heads * dim) as f64);
    let set = |s| Ok(Rows::Cpu(Matrix::from_vec(rows, heads * dim, normals(rows * heads * dim, s))?));
    let mut x: Vec<Rows> = (0..n as u32).map(set).collect::<Result<_>>()?;
    let run = move |i: usize| drop(table.rope(&mut x[i], &positions));
    Ok(Sure { cost: rope::cost(rows, heads, dim), sets: n, run: Box::new(run) })
}

fn low_rank(rows: usize, inp: usize, out: usize, rank: usize) -> Result<Sure> {
    let (a, b) = (normals(rank * inp, 1), normals(out * rank, 2));
    let x: Vec<_> = (0..8).map(|s| normals(rows * inp, s)).collect();
    let (mut y, mut z) = (vec![0.0; rows * out], vec![0.0; rows * rank]);
    let cost = Low { a: &a, b: &b, rank, scale: 2.0, dropout: None }.cost(rows * inp, 1.0);
    Ok(Sure {
        cost,
        sets: x.len(),
        run: Box::new(move |i| {
            let low = Low { a: &a, b: &b, rank, scale: 2.0, dropout: None };
            lora::forward(low, &x[i], &mut y, &mut z);
        }),
    })
}

fn answer(rows: usize, vocab: usize, hidden: usize) -> Result<Sure> {
    let heads = (0..3).map(|s| weight(vocab, hidden, Dtype::Bf16, s)).collect::<Result<Vec<_>>>()?;
    let h = normals(rows * hidden, 9);
    Ok(Sure {
        cost: choose::cost(&heads[0], rows),
        sets: heads.len(),
        run: Box::new(move |i| drop(std::hint::black_box(choose::cpu::choose(&h, &heads[i], [5, 7])))),
    })
}

fn sample(vocab: usize) -> Result<Sure> {
    let n = host_sets(4.0 * vocab as f64);
    let logits: Vec<_> = (0..n as u32).map(|s| normals(vocab, s)).collect();
    let (mut sampler, cut) = (Sampler::default(), Cut { temperature: 0.6, top_k: 0, top_p: 0.95 });
    sampler.pick(&logits[0], cut, 0.5)?;
    Ok(Sure {
        cost: sampling::cost(vocab),
        sets: n,
        run: Box::new(move |i| drop(std::hint::black_box(sampler.pick(&logits[i], cut, 0.5)))),
    })
}
