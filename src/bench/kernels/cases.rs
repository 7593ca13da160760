//! The cases: shapes of an 8B model of the Llama kind, of SmolLM2, and of LightGCN on ML-1M and on larger sets.

use half::bf16;

use super::Prepared;
use crate::bench::cases::normals;
use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::attention::cuda::{Inputs, Plan, Span};
use crate::ops::attention::{Heads, decode};
use crate::ops::linear::decode::{Format, Quantised, product};
use crate::ops::lora::cuda::{self as lora, Adapters, Batch, Beside, Segment};
use crate::ops::sampling::Cut;
use crate::ops::sampling::cuda::{Draw, sample};
use crate::ops::{cross_entropy, infonce, rmsnorm, spmm, swiglu, topk};
use crate::rng::{Rng, Use};

/// How large cases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As their shape says.
    Full,
    /// A few of everything: the host build takes microseconds for what a GPU takes nanoseconds for.
    Tiny,
}

impl Scale {
    /// `full`, or `tiny`.
    fn of(self, full: usize, tiny: usize) -> usize {
        if self == Scale::Full { full } else { tiny }
    }
}

/// One line of the list.
#[derive(Debug)]
pub struct Case {
    /// Operator.
    pub op: &'static str,
    /// Shapes in words.
    pub shape: &'static str,
    /// Makes the inputs.
    pub make: fn(&KernelDevice, Scale) -> Result<Prepared>,
}

const fn case(op: &'static str, shape: &'static str, make: fn(&KernelDevice, Scale) -> Result<Prepared>) -> Case {
    Case { op, shape, make }
}

/// All cases, those of one operator together.
pub const CASES: &[Case] = &[
    case("spmm", "9,746 nodes, 2,000,000 edges, 64 wide, 3 layers, f32", |d, s| {
        propagate::<f32>(d, s.of(4873, 9), s.of(1_000_000, 40))
    }),
    case("spmm", "the same, bf16", |d, s| propagate::<bf16>(d, s.of(4873, 9), s.of(1_000_000, 40))),
    case("infonce", "16,384 pairs x 64, bf16, with gradients", |d, s| contrast(d, s.of(16_384, 20))),
    case("topk", "20 of 100,000 x 64 for 1,024 queries, bf16", |d, s| search(d, s.of(1024, 5), s.of(100_000, 200))),
    case("lora", "4,096 rows, 4096 to 4096, bf16, no adapter", |d, s| {
        linear::<bf16>(d, s.of(4096, 9), s.of(4096, 40), 0)
    }),
    case("lora", "the same with an adapter of rank 16", |d, s| linear::<bf16>(d, s.of(4096, 9), s.of(4096, 40), 16)),
    case("lora", "512 rows, 1536 to 1536, f32, rank 8", |d, s| linear::<f32>(d, s.of(512, 9), s.of(1536, 40), 8)),
    case("decode", "1 row, 4096 to 14336, bf16", |d, s| few(d, 1, s.of(14_336, 40), s.of(4096, 64), None)),
    case("decode", "16 rows, 4096 to 14336, bf16", |d, s| few(d, 16, s.of(14_336, 40), s.of(4096, 64), None)),
    case("decode", "1 row, 4096 to 14336, Q8_0", |d, s| {
        few(d, 1, s.of(14_336, 40), s.of(4096, 64), Some(Format::Q8_0))
    }),
    case("decode", "16 rows, 4096 to 14336, Q4_1", |d, s| {
        few(d, 16, s.of(14_336, 40), s.of(4096, 64), Some(Format::Q4_1))
    }),
    case("attention", "4,096 rows, 32 heads, 8 kv heads, 128 wide, causal, bf16", |d, s| attend(d, s.of(4096, 20))),
    case("decode-attention", "16 samples behind 4,096 tokens, 32 heads, 8 kv heads, 128 wide, bf16", |d, s| {
        samples(d, s.of(4096, 40), s.of(16, 3))
    }),
    case("rmsnorm", "8,192 x 4,096, bf16", |d, s| norm(d, s.of(8192, 5), s.of(4096, 64))),
    case("swiglu", "8,192 x 14,336, bf16", |d, s| gate(d, s.of(8192, 5), s.of(14_336, 64))),
    case("cross-entropy", "1,024 rows, vocabulary 49,152 x 576, bf16, with gradient", |d, s| {
        entropy(d, s.of(1024, 5), s.of(49_152, 200), s.of(576, 32))
    }),
    case("sampling", "64 rows of 49,152, top-p 0.95", |d, s| draw(d, s.of(64, 3), s.of(49_152, 300))),
];

/// Bytes of inputs that are rotated through, beyond a GPU's second-level cache.
const ROTATED: usize = 256 << 20;

fn sets(bytes: usize) -> usize {
    (ROTATED / bytes.max(1) + 1).clamp(2, 16)
}

fn rows<T: Storage>(device: &KernelDevice, n: usize, width: usize, stream: u32) -> Result<DeviceRows<T>> {
    let values: Vec<T> = normals(n * width, stream).into_iter().map(T::from_f32).collect();
    DeviceRows::upload(device, width, &values, "bench")
}

/// Edges between two sides of equal size.
fn graph(side: usize, edges: usize) -> Result<spmm::Adjacency> {
    let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 1);
    let mut pair = || (rng.below(side as u32), side as u32 + rng.below(side as u32));
    let pairs: Vec<(u32, u32)> = (0..edges).map(|_| pair()).flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    spmm::Adjacency::new(2 * side, pairs.into_iter())
}

fn propagate<T: Storage>(device: &KernelDevice, side: usize, edges: usize) -> Result<Prepared> {
    const DIM: usize = 64;
    let graph = spmm::cuda::DeviceGraph::new(device, &graph(side, edges)?)?;
    let mut space = spmm::cuda::DeviceWorkspace::<T>::new(device, &graph, DIM)?;
    let input = spmm::Rows::from_packed(DIM, &normals(2 * side * DIM, 1));
    let (x, mut out) = (device.upload(input.values(), "x")?, device.alloc(input.values().len(), "out")?);
    let run = move |_| spmm::cuda::propagate(&graph, &x, 3, &mut space, &mut out).map(drop);
    Ok(Prepared { sets: 1, run: Box::new(run) })
}

fn contrast(device: &KernelDevice, n: usize) -> Result<Prepared> {
    let (x, y) = (rows::<bf16>(device, n, 64, 1)?, rows::<bf16>(device, n, 64, 2)?);
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.2, weight: 1.0 };
    Ok(Prepared { sets: 1, run: Box::new(move |_| infonce::cuda::infonce(&x, &y, &params).map(drop)) })
}

fn search(device: &KernelDevice, queries: usize, items: usize) -> Result<Prepared> {
    let (q, x) = (rows::<bf16>(device, queries, 64, 1)?, rows::<bf16>(device, items, 64, 2)?);
    Ok(Prepared { sets: 1, run: Box::new(move |_| topk::cuda::topk(&q, &x, 20, None).map(drop)) })
}

fn linear<T: Storage>(device: &KernelDevice, m: usize, width: usize, rank: usize) -> Result<Prepared> {
    let n = sets(size_of::<T>() * width * width);
    let weights = (0..n as u32).map(|s| rows::<T>(device, width, width, s)).collect::<Result<Vec<_>>>()?;
    let adapter = (rank > 0).then_some(0);
    let batch = Batch::new(device, &[Segment { rows: m, adapter }])?;
    let low = Adapters {
        a: rows::<T>(device, rank, width, 70)?,
        b: rows::<T>(device, width, rank.max(1), 71)?,
        count: 1,
        scale: 0.5,
    };
    let (x, mut y) = (rows::<T>(device, m, width, 72)?, DeviceRows::<T>::zeros(device, m, width, "y")?);
    let mut s = DeviceRows::<T>::zeros(device, m, rank.max(1), "s")?;
    let run = move |i: usize| {
        if rank > 0 {
            lora::shrink(&batch, &x, &low, &mut s)?;
        }
        let low = (rank > 0).then_some((&s, &low));
        lora::forward(&batch, &x, &weights[i], &Beside { low, ..Beside::default() }, &mut y).map(drop)
    };
    Ok(Prepared { sets: n, run: Box::new(run) })
}

fn few(device: &KernelDevice, m: usize, out: usize, inp: usize, format: Option<Format>) -> Result<Prepared> {
    let (x, mut y) = (rows::<bf16>(device, m, inp, 1)?, DeviceRows::<f32>::zeros(device, m, out, "y")?);
    let n = sets(2 * out * inp);
    let Some(format) = format else {
        let weights = (0..n as u32).map(|s| rows::<bf16>(device, out, inp, s)).collect::<Result<Vec<_>>>()?;
        return Ok(Prepared {
            sets: n,
            run: Box::new(move |i| product(&x, &weights[i], None, false, &mut y).map(drop)),
        });
    };
    // Any bytes are blocks; a scale of 1 keeps numbers finite.
    let block = if format == Format::Q8_0 { 34 } else { 20 };
    let one = half::f16::ONE.to_le_bytes();
    let mut bytes = vec![0x5au8; out * (inp / 32) * block];
    for block in bytes.chunks_exact_mut(block) {
        block[..2].copy_from_slice(&one);
        if format == Format::Q4_1 {
            block[2..4].copy_from_slice(&one);
        }
    }
    let weights = (0..n).map(|_| Quantised::upload(device, format, (out, inp), &bytes)).collect::<Result<Vec<_>>>()?;
    Ok(Prepared { sets: n, run: Box::new(move |i| weights[i].product(&x, None, false, &mut y).map(drop)) })
}

const HEADS: Heads = Heads { query: 32, kv: 8, dim: 128 };

fn attend(device: &KernelDevice, n: usize) -> Result<Prepared> {
    let (wide, narrow) = (HEADS.query * HEADS.dim, HEADS.kv * HEADS.dim);
    let (q, k, v) =
        (rows::<bf16>(device, n, wide, 1)?, rows::<bf16>(device, n, narrow, 2)?, rows::<bf16>(device, n, narrow, 3)?);
    let (plan, mut out) = (Plan::new(device, &[Span::causal(0..n)])?, DeviceRows::zeros(device, n, wide, "out")?);
    let run = move |_| plan.forward(HEADS, &Inputs { q: &q, k: &k, v: &v }, &mut out, None).map(drop);
    Ok(Prepared { sets: 1, run: Box::new(run) })
}

fn samples(device: &KernelDevice, prefix: usize, n: usize) -> Result<Prepared> {
    const OWN: usize = 64;
    let (wide, narrow) = (HEADS.query * HEADS.dim, HEADS.kv * HEADS.dim);
    let keys = prefix + n * OWN;
    let (q, k, v) = (
        rows::<bf16>(device, n, wide, 1)?,
        rows::<bf16>(device, keys, narrow, 2)?,
        rows::<bf16>(device, keys, narrow, 3)?,
    );
    let own = (0..n).map(|i| prefix + i * OWN..prefix + (i + 1) * OWN).collect();
    let plan = decode::Plan::new(device, HEADS, &[decode::Prompt { prefix: 0..prefix, own }])?;
    let mut out = DeviceRows::zeros(device, n, wide, "out")?;
    let run = move |_| plan.forward(&Inputs { q: &q, k: &k, v: &v }, &mut out).map(drop);
    Ok(Prepared { sets: 1, run: Box::new(run) })
}

fn norm(device: &KernelDevice, n: usize, width: usize) -> Result<Prepared> {
    let (mut x, w) = (rows::<bf16>(device, n, width, 1)?, rows::<f32>(device, 1, width, 2)?);
    let mut y = DeviceRows::zeros(device, n, width, "y")?;
    let run = move |_| rmsnorm::cuda::forward(&mut x, None, &w, 1e-5, &mut y, None).map(drop);
    Ok(Prepared { sets: 1, run: Box::new(run) })
}

fn gate(device: &KernelDevice, n: usize, width: usize) -> Result<Prepared> {
    let (x, mut y) = (rows::<bf16>(device, n, 2 * width, 1)?, DeviceRows::zeros(device, n, width, "y")?);
    Ok(Prepared { sets: 1, run: Box::new(move |_| swiglu::cuda::forward(&x, &mut y).map(drop)) })
}

fn entropy(device: &KernelDevice, n: usize, vocab: usize, width: usize) -> Result<Prepared> {
    let (h, head) = (rows::<bf16>(device, n, width, 1)?, rows::<bf16>(device, vocab, width, 2)?);
    let tokens: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
    let targets = cross_entropy::cuda::DeviceTargets::upload(device, &tokens, &vec![1.0; n])?;
    let mut dh = DeviceRows::zeros(device, n, width, "dh")?;
    let run = move |_| cross_entropy::cuda::loss(&h, &head, &targets, Some(&mut dh)).map(drop);
    Ok(Prepared { sets: 1, run: Box::new(run) })
}

fn draw(device: &KernelDevice, n: usize, vocab: usize) -> Result<Prepared> {
    let cut = Cut { temperature: 0.8, top_k: 0, top_p: 0.95 };
    let logits = rows::<f32>(device, n, vocab, 1)?;
    let draws: Vec<Draw> = (0..n as u32).map(|row| Draw { row, sample: 0, step: 0 }).collect();
    let device = device.clone();
    Ok(Prepared { sets: 1, run: Box::new(move |_| sample(&device, &logits, 7, &draws, cut).map(drop)) })
}
