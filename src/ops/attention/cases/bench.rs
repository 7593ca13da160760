//! Works of attention that are measured: those of an 8B model of the Llama kind, and of
//! SmolLM2-135M.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::attention::gradient::{Backward, Given, Gradients};
use crate::ops::attention::kernel::{Inputs, Plan, Span};
use crate::ops::attention::{self, Heads, Item, Run, decode};
use crate::ops::registry::{Case, Goal, Prepared, Scale, copies, host_sets, normals, rows, sets};
use half::bf16;

/// Forward and backward.
pub(super) const CASES: &[Case] = &[
    Case::cpu("attention", "prefill 512, 9 heads, 3 kv heads, 64 wide", || prefill(512)),
    Case::cpu("attention", "decode 1 row on 1,024 keys", || on_keys(1, 1024)),
    Case::cpu("attention", "decode 16 rows on 1,024 keys of their own", || on_keys(16, 1024)),
    Case::kernels("attention", "forward, causal", |d, s| attend::<bf16>(d, s, LARGE, &[4096])),
    Case::kernels("attention", "forward, causal", |d, s| attend::<bf16>(d, s, LARGE, &[16_384])),
    Case::kernels("attention", "forward, ragged", |d, s| attend::<bf16>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "forward, causal", |d, s| attend::<f32>(d, s, LARGE, &[2048])),
    Case::kernels("attention", "forward, ragged", |d, s| attend::<f32>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "backward, causal", |d, s| gradient::<bf16>(d, s, LARGE, &[4096])),
    Case::kernels("attention", "backward, ragged", |d, s| gradient::<bf16>(d, s, SMALL, &RAGGED)),
    Case::kernels("attention", "backward, causal", |d, s| gradient::<f32>(d, s, LARGE, &[2048])),
    Case::kernels("attention", "backward, ragged", |d, s| gradient::<f32>(d, s, SMALL, &RAGGED)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[
    Case::cpu("attention", "prefill 64, 9 heads, 3 kv heads, 64 wide", || prefill(64)),
    Case::cpu("attention", "decode 4 rows on 256 keys of their own", || on_keys(4, 256)),
];

/// A decode step, whose samples share a prompt.
pub(super) const DECODE: &[Case] = &[
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, LARGE, [16, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, LARGE, [64, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<bf16>(d, s, SMALL, [16, 1024, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<f32>(d, s, LARGE, [16, 4096, 64])),
    Case::kernels("attention_decode", "samples behind one prompt", |d, s| samples::<f32>(d, s, SMALL, [16, 1024, 64])),
];

/// Of an 8B model of the Llama kind, and of SmolLM2-135M.
const LARGE: Heads = Heads { query: 32, kv: 8, dim: 128 };

const SMALL: Heads = Heads { query: 9, kv: 3, dim: 64 };

/// Lengths of prompts of one batch.
const RAGGED: [usize; 16] = [310, 785, 512, 97, 640, 258, 411, 333, 129, 702, 64, 480, 222, 571, 350, 190];

/// Sequences that see themselves alone, a few short ones on the host build; their rows and (query,
/// key) pairs.
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
    let run = move |_| plan.forward(heads, None, &qkv.inputs(), &mut out, None).map(drop);
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
    Plan::new(device, &spans)?.forward(heads, None, &qkv.inputs(), &mut out, Some(&mut lse))?;
    let (plan, by_out) = (Backward::new(device, &spans)?, rows::<T>(device, n, wide, 4)?);
    let zeros = |width| DeviceRows::<f32>::zeros(device, n, width, "gradient");
    let (mut q, mut k, mut v) = (zeros(wide)?, zeros(narrow)?, zeros(narrow)?);
    let run = move |_| {
        let given = Given { out: &out, lse: &lse, by_out: &by_out };
        let mut to = Gradients { q: &mut q, k: &mut k, v: &mut v };
        plan.run(heads, None, &qkv.inputs(), &given, &mut to).map(drop)
    };
    let bytes = moved::<T>(heads, n) + (size_of::<T>() * n * wide + 4 * n * (wide + 2 * narrow)) as f64;
    let names = names(heads, n, spans.len(), pairs);
    Ok(Prepared::new(T::NAME, &names, run).floor(bytes, 10.0 * pairs as f64 * wide as f64))
}

/// `count` samples behind `prefix` keys, each with `own` of its own; against as many prompts that
/// share nothing.
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
    let run = move |i: usize| plan.forward(None, &Inputs { q: &q, k: &ks[i], v: &vs[i] }, &mut out).map(drop);

    let each = |i: usize| {
        let at = i * (prefix + own);
        let own = std::iter::once(at + prefix..at + prefix + own).collect();
        decode::Prompt { prefix: at..at + prefix, own }
    };
    let apart = decode::Plan::new(device, heads, &(0..count).map(each).collect::<Vec<_>>())?;
    let qkv = Qkv::<T>::new(device, heads, [count, alone])?;
    let mut out = DeviceRows::zeros(device, count, widths(heads).0, "out")?;
    let beside = move |_| apart.forward(None, &qkv.inputs(), &mut out).map(drop);

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

fn prefill(rows: usize) -> Result<Prepared> {
    let (q_width, kv_width) = (SMALL.query * SMALL.dim, SMALL.kv * SMALL.dim);
    let cost = attention::cost(SMALL, rows, rows * (rows + 1) / 2, rows);
    let n = host_sets(cost.bytes).min(16);
    let inputs: Vec<_> = (0..n as u32)
        .map(|s| {
            [normals(rows * q_width, 3 * s), normals(rows * kv_width, 3 * s + 1), normals(rows * kv_width, 3 * s + 2)]
        })
        .collect();
    let mut out = vec![0.0; rows * q_width];
    Ok(Prepared::of(cost, n, move |i| {
        let [q, k, v] = &inputs[i];
        attention::causal(q, k, v, SMALL, &[rows], &mut out, None);
        Ok(())
    }))
}

/// Keys and values of the kv heads of one sequence.
type Cache = Vec<(Vec<f32>, Vec<f32>)>;

fn on_keys(rows: usize, keys: usize) -> Result<Prepared> {
    let cost = attention::cost(SMALL, rows, rows * keys, rows * keys);
    let n = host_sets(cost.bytes).min(24);
    let q = normals(rows * SMALL.query * SMALL.dim, 0);
    let base = normals(keys * SMALL.dim, 1);
    let cache = |_| -> Cache {
        let head = |_| {
            let (mut k, mut v) = (Vec::new(), Vec::new());
            attention::append(&mut k, &mut v, 0, &base, &base, SMALL.dim, SMALL.dim);
            (k, v)
        };
        (0..SMALL.kv).map(head).collect()
    };
    let stored: Vec<Vec<Cache>> = (0..n).map(|_| (0..rows).map(cache).collect()).collect();
    let mut out = vec![0.0; q.len()];
    Ok(Prepared::of(cost, n, move |i| {
        let items: Vec<Item<'_>> = stored[i]
            .iter()
            .map(|cache| Item {
                rows: 1,
                runs: cache.iter().map(|(k, v)| vec![Run { keys: k, values: v, len: keys }]).collect(),
            })
            .collect();
        attention::attend(&q, SMALL, &items, &mut out, None);
        Ok(())
    }))
}
