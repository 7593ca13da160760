//! Attention: forward, backward, and the decode step whose samples share a prompt.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::attention::gradient::{Backward, Given, Gradients};
use crate::ops::attention::kernel::{Inputs, Plan, Span};
use crate::ops::attention::{Heads, decode};
use crate::ops::registry::{Case, Goal, Prepared, Scale, copies, rows, sets};
use half::bf16;

/// Of an 8B model of the Llama kind, and of SmolLM2-135M.
const LARGE: Heads = Heads { query: 32, kv: 8, dim: 128 };
const SMALL: Heads = Heads { query: 9, kv: 3, dim: 64 };

pub(super) const CASES: &[Case] = &[
    Case::kernels("attention", "forward, causal", |d, s| attend::<bf16>(d, s, LARGE, &[4096])),
    Case::kernels("attention", "forward, causal", |d, s| attend::<bf16>(d, s, LARGE, &[16_384])),
    Case::kernels("attention", "forward, ragged", |d, s| attend::<bf16>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "forward, causal", |d, s| attend::<f32>(d, s, LARGE, &[2048])),
    Case::kernels("attention", "forward, ragged", |d, s| attend::<f32>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "backward, causal", |d, s| gradient::<bf16>(d, s, LARGE, &[4096])),
    Case::kernels("attention", "backward, ragged", |d, s| gradient::<bf16>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "backward, causal", |d, s| gradient::<f32>(d, s, LARGE, &[2048])),
    Case::kernels("attention", "backward, ragged", |d, s| gradient::<f32>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, LARGE, [16, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, LARGE, [64, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, SMALL, [16, 1024, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<f32>(d, s, LARGE, [16, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<f32>(d, s, SMALL, [16, 1024, 64])),
];

/// Lengths of prompts of one batch.
const RAGGED: [usize; 16] = [310, 785, 512, 97, 640, 258, 411, 333, 129, 702, 64, 480, 222, 571, 350, 190];

/// Sequences that see themselves alone, a few short ones on the host build; their rows and (query, key) pairs.
fn spans(scale: Scale, lengths: &[usize]) -> (Vec<Span>, usize, usize) {
    let (mut spans, mut at, mut pairs) = (Vec::new(), 0, 0);
    for &length in lengths.iter().take(scale.of(lengths.len(), 2)) {
        let n = scale.of(length, 20);
        spans.push(Span::causal(at..at + n));
        at += n;
        pairs += n * (n + 1) / 2;
    }
    (spans, at, pairs)
}

/// On the host build one kv head, with its group.
fn fewer(scale: Scale, heads: Heads) -> Heads {
    if scale == Scale::Full { heads } else { Heads { query: heads.group(), kv: 1, ..heads } }
}

fn widths(heads: Heads) -> (usize, usize) {
    (heads.query * heads.dim, heads.kv * heads.dim)
}

fn names(heads: Heads, n: usize, sequences: usize, pairs: usize) -> [(&'static str, usize); 6] {
    [
        ("rows", n),
        ("sequences", sequences),
        ("pairs", pairs),
        ("heads", heads.query),
        ("kv heads", heads.kv),
        ("width", heads.dim),
    ]
}

struct Qkv<T: Storage>([DeviceRows<T>; 3]);

impl<T: Storage> Qkv<T> {
    fn new(device: &KernelDevice, heads: Heads, rows_of: [usize; 2]) -> Result<Self> {
        let (wide, narrow) = widths(heads);
        let [queries, keys] = rows_of;
        Ok(Self([rows(device, queries, wide, 1)?, rows(device, keys, narrow, 2)?, rows(device, keys, narrow, 3)?]))
    }

    fn inputs(&self) -> Inputs<'_, T> {
        let [q, k, v] = &self.0;
        Inputs { q, k, v }
    }
}

/// Bytes of queries, keys, values and the result.
fn moved<T: Storage>(heads: Heads, n: usize) -> f64 {
    let (wide, narrow) = widths(heads);
    (size_of::<T>() * n * (2 * wide + 2 * narrow)) as f64
}

/// Two products of a head's width for each pair.
fn attend<T: Storage>(device: &KernelDevice, scale: Scale, heads: Heads, lengths: &[usize]) -> Result<Prepared> {
    let (heads, (spans, n, pairs)) = (fewer(scale, heads), spans(scale, lengths));
    let qkv = Qkv::<T>::new(device, heads, [n, n])?;
    let plan = Plan::new(device, &spans)?;
    let mut out = DeviceRows::zeros(device, n, widths(heads).0, "out")?;
    let flops = 4.0 * pairs as f64 * widths(heads).0 as f64;
    let run = move |_| plan.forward(heads, &qkv.inputs(), &mut out, None).map(drop);
    let names = names(heads, n, spans.len(), pairs);
    Ok(Prepared::new(T::NAME, &names, run).floor(moved::<T>(heads, n), flops))
}

/// Five products for each pair, however many the kernels make.
fn gradient<T: Storage>(device: &KernelDevice, scale: Scale, heads: Heads, lengths: &[usize]) -> Result<Prepared> {
    let (heads, (spans, n, pairs)) = (fewer(scale, heads), spans(scale, lengths));
    let (wide, narrow) = widths(heads);
    let qkv = Qkv::<T>::new(device, heads, [n, n])?;
    let mut out = DeviceRows::zeros(device, n, wide, "out")?;
    let mut lse = device.zeros(n * heads.query, "log-sums")?;
    Plan::new(device, &spans)?.forward(heads, &qkv.inputs(), &mut out, Some(&mut lse))?;
    let (plan, by_out) = (Backward::new(device, &spans)?, rows::<T>(device, n, wide, 4)?);
    let zeros = |width| DeviceRows::<f32>::zeros(device, n, width, "gradient");
    let (mut q, mut k, mut v) = (zeros(wide)?, zeros(narrow)?, zeros(narrow)?);
    let run = move |_| {
        let given = Given { out: &out, lse: &lse, by_out: &by_out };
        let mut to = Gradients { q: &mut q, k: &mut k, v: &mut v };
        plan.run(heads, &qkv.inputs(), &given, &mut to).map(drop)
    };
    let bytes = moved::<T>(heads, n) + (size_of::<T>() * n * wide + 4 * n * (wide + 2 * narrow)) as f64;
    let names = names(heads, n, spans.len(), pairs);
    Ok(Prepared::new(T::NAME, &names, run).floor(bytes, 10.0 * pairs as f64 * wide as f64))
}

/// `count` samples behind `prefix` keys, each with `own` of its own; against as many prompts that share nothing.
fn samples<T: Storage>(
    device: &KernelDevice,
    scale: Scale,
    heads: Heads,
    [count, prefix, own]: [usize; 3],
) -> Result<Prepared> {
    let heads = fewer(scale, heads);
    let (count, prefix, own) = (scale.of(count, 3), scale.of(prefix, 300), scale.of(own, 5));
    let (shared, alone) = (prefix + count * own, count * (prefix + own));
    let narrow = widths(heads).1;
    let n = sets(scale, 2 * size_of::<T>() * shared * narrow).min(64);
    let first = Qkv::<T>::new(device, heads, [count, shared])?.0;
    let [q, k, v] = first;
    let (ks, vs) = (copies(k, n)?, copies(v, n)?);
    let after = |i: usize| prefix + i * own..prefix + (i + 1) * own;
    let prompt = decode::Prompt { prefix: 0..prefix, own: (0..count).map(after).collect() };
    let plan = decode::Plan::new(device, heads, &[prompt])?;
    let mut out = DeviceRows::zeros(device, count, widths(heads).0, "out")?;
    let run = move |i: usize| plan.forward(&Inputs { q: &q, k: &ks[i], v: &vs[i] }, &mut out).map(drop);

    let each = |i: usize| {
        let at = i * (prefix + own);
        let own = std::iter::once(at + prefix..at + prefix + own).collect();
        decode::Prompt { prefix: at..at + prefix, own }
    };
    let apart = decode::Plan::new(device, heads, &(0..count).map(each).collect::<Vec<_>>())?;
    let qkv = Qkv::<T>::new(device, heads, [count, alone])?;
    let mut out = DeviceRows::zeros(device, count, widths(heads).0, "out")?;
    let beside = move |_| apart.forward(&qkv.inputs(), &mut out).map(drop);

    let [s, p, t] = [count, prefix, own].map(|n| n as f64);
    let bound = s * (p + t) / (p + s * t);
    let bytes = 2.0 * (size_of::<T>() * narrow) as f64 * (p + s * t);
    let flops = 4.0 * s * widths(heads).0 as f64 * (p + t);
    let sizes = [
        ("samples", count),
        ("prefix", prefix),
        ("own", own),
        ("heads", heads.query),
        ("kv heads", heads.kv),
        ("width", heads.dim),
    ];
    Ok(Prepared::new(T::NAME, &sizes, run)
        .sets(n)
        .floor(bytes, flops)
        .beside("reading the prompt for each sample", beside)
        .goal(Goal::Beside(0.7 * bound)))
}
