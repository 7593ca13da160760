//! Random cases of attention.

use super::{gradient_tolerance, score_bound, tolerance};
use crate::device::{Device, DeviceRows, KernelDevice, List, Rows, Storage};
use crate::error::Result;
use crate::ops::attention::kernel::{Inputs as OnDevice, Span};
use crate::ops::attention::packed::{Given, Gradients, Inputs};
use crate::ops::attention::{Heads, Packed, causal, decode, oracle};
use crate::ops::registry::{Check, On, Shape, both, draw, drawn, errors, narrow, stored, wide};
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;

/// Forward and backward.
pub(super) const CASES: &[Check] = &[
    Check::new("attention", ["rows", "group", "dim"], forward),
    Check::new("attention_backward", ["rows", "group", "dim"], backward),
];

/// A step of decoding.
pub(super) const DECODE: &[Check] =
    &[Check::new("attention_decode", ["prefix", "samples", "dim"], both!(kernels step)).only(On::Kernels)];

fn heads_of(group: usize, dim: usize) -> Heads {
    let group = group % 3 + 1;
    Heads { query: 2 * group, kv: 2, dim: dim.min(128).next_multiple_of(8) }
}

/// None for most seeds, half of the keys for the others.
fn window_of(keys: usize, seed: u64) -> Option<usize> {
    seed.is_multiple_of(3).then_some(keys.div_ceil(2))
}

/// One causal sequence.
struct Sequence {
    heads: Heads,
    window: Option<usize>,
    plan: Packed,
    q: Rows,
    k: Rows,
    v: Rows,
    /// Queries, keys and values as they are stored.
    seen: [Vec<f64>; 3],
}

impl Sequence {
    fn new(device: &Device, [count, group, dim]: Shape, narrow: bool, seed: u64) -> Result<Self> {
        let heads = heads_of(group, dim);
        let one = |width, salt| drawn(device, (count, width), narrow, seed, salt);
        let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
        let (q, k, v) = (one(qw, 0)?, one(kw, 1)?, one(kw, 2)?);
        let seen = [wide(&q.download()?), wide(&k.download()?), wide(&v.download()?)];
        let plan = Packed::new(device, stored(narrow), &[Span::causal(0..count)])?;
        Ok(Self { heads, window: window_of(count, seed), plan, q, k, v, seen })
    }

    /// The result and its log-sum-exp.
    fn run(&self) -> Result<(Rows, List<f32>)> {
        let mut out = self.q.zeros_beside(self.q.rows(), self.q.dim(), "out")?;
        let mut lse = List::zeros(&self.q.device(), self.q.rows() * self.heads.query, "lse")?;
        self.plan.attention(self.heads, self.window, self.inputs(), &mut out, &mut lse)?;
        Ok((out, lse))
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { q: &self.q, k: &self.k, v: &self.v }
    }
}

fn forward(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let s = Sequence::new(device, shape, narrow, seed)?;
    let [q, k, v] = &s.seen;
    let off = tolerance(narrow, score_bound(q, k, s.heads.dim));
    let want = oracle::attention_within(q, k, v, s.heads, s.window);
    let mut all = errors(&s.run()?.0.download()?, &want, |_| off);
    if let (Rows::Cpu(q), Rows::Cpu(k), Rows::Cpu(v), None) = (&s.q, &s.k, &s.v, s.window) {
        // The routine over a cache, whose keys are stored in blocks.
        let mut out = vec![0.0; q.as_slice().len()];
        causal(q.as_slice(), k.as_slice(), v.as_slice(), s.heads, &[shape[0]], &mut out, None);
        all.extend(errors(&out, &want, |_| off));
    }
    Ok(all)
}

fn backward(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let s = Sequence::new(device, shape, narrow, seed)?;
    let by_out = drawn(device, (shape[0], s.q.dim()), narrow, seed, 3)?;
    let ([q, k, v], g) = (&s.seen, wide(&by_out.download()?));
    let want = oracle::gradients_within(q, k, v, &g, (s.heads, s.window));
    let off = gradient_tolerance(narrow, s.heads, shape[0], [q, k, v, &g]);
    let (out, lse) = s.run()?;
    let zeros = |like: &Rows| Rows::zeros(device, Dtype::F32, like.rows(), like.dim(), "gradient");
    let (mut dq, mut dk, mut dv) = (zeros(&s.q)?, zeros(&s.k)?, zeros(&s.v)?);
    let given = Given { out: &out, lse: &lse, by_out: &by_out };
    let mut gradients = Gradients { q: &mut dq, k: &mut dk, v: &mut dv };
    s.plan.attention_backward(s.heads, s.window, s.inputs(), given, &mut gradients, &mut Vec::new())?;
    let mut all = Vec::new();
    for ((got, want), off) in [dq, dk, dv].iter().zip(&want).zip(off) {
        all.extend(errors(&got.download()?, want, |_| off));
    }
    Ok(all)
}

/// A step of samples behind one prompt.
fn step<T: Storage>(device: &KernelDevice, [prefix, samples, dim]: Shape, seed: u64) -> Result<Vec<f64>> {
    use decode::{Plan, Prompt};
    let heads = heads_of(samples, dim);
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let mut rng = Rng::new(seed, Use::Synthetic, 6, 0);
    let (mut own, mut keys) = (Vec::new(), prefix);
    for _ in 0..samples {
        let n = 1 + rng.below(40) as usize;
        own.push(keys..keys + n);
        keys += n;
    }
    let window = window_of(prefix, seed);
    let (q, k, v): (Vec<T>, Vec<T>, Vec<T>) =
        (draw(samples * qw, seed, 0), draw(keys * kw, seed, 1), draw(keys * kw, seed, 2));
    let (fq, fk, fv) = (wide(&q), wide(&k), wide(&v));
    let mut want = Vec::new();
    for (sample, own) in own.iter().enumerate() {
        let seen = |x: &[f64]| [&x[..prefix * kw], &x[own.start * kw..own.end * kw]].concat();
        let query = &fq[sample * qw..][..qw];
        want.extend(oracle::attention_within(query, &seen(&fk), &seen(&fv), heads, window));
    }
    let off = tolerance(T::NAME == "bf16", score_bound(&fq, &fk, heads.dim));
    let up = |width, x: &[T]| DeviceRows::upload(device, width, x, "x");
    let (q, k, v) = (up(qw, &q)?, up(kw, &k)?, up(kw, &v)?);
    let mut out = DeviceRows::<T>::zeros(device, samples, qw, "out")?;
    let plan = Plan::new(device, heads, &[Prompt { prefix: 0..prefix, own }])?;
    plan.forward(window, &OnDevice { q: &q, k: &k, v: &v }, &mut out)?;
    Ok(errors(&narrow(&out.download()?), &want, |_| off))
}
