//! Random cases of the language model's operators.

use half::bf16;

use crate::device::{Device, DeviceRows, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::attention::{self, Heads};
use crate::ops::cross_entropy::choose;
use crate::ops::linear::decode::{Format, Quantised};
use crate::ops::linear::int8;
use crate::ops::lora::kernel::{self as lora, Adapters, Batch, Beside, Segment};
use crate::ops::lora::wgmma;
use crate::ops::registry::{Check, Class, On, Shape, draw, errors, kernels_of, narrow, wide};
use crate::ops::{cross_entropy, linear, rmsnorm, rope, sampling, swiglu};
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;

/// What f32 or bf16 storage may be off by, in units of the largest term.
fn unit<T: Storage>(f32: f64, bf16: f64) -> f64 {
    if T::NAME == "f32" { f32 } else { bf16 }
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// sum over k of a(k) b(k), and of their sizes.
fn dot(depth: usize, term: impl Fn(usize) -> f64) -> (f64, f64) {
    (0..depth).map(term).fold((0.0, 0.0), |(s, t), v| (s + v, t + v.abs()))
}

fn norm<T: Storage>(device: &Device, [rows, _, width]: Shape, seed: u64) -> Result<Vec<f64>> {
    let x: Vec<T> = draw(rows * width, seed, 0);
    let w: Vec<f32> = draw(width, seed, 1);
    let want = rmsnorm::oracle::rmsnorm(&narrow(&x), &w, 1e-5);
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; x.len()];
            rmsnorm::cpu::rmsnorm(&narrow(&x), &w, 1e-5, &mut y);
            y
        }
        Device::Kernels(device) => {
            let mut on_device = DeviceRows::upload(device, width, &x, "x")?;
            let w = DeviceRows::upload(device, width, &w, "w")?;
            let mut y = DeviceRows::<T>::zeros(device, rows, width, "y")?;
            rmsnorm::kernel::forward(&mut on_device, None, &w, 1e-5, &mut y, None)?;
            narrow(&y.download()?)
        }
    };
    Ok(errors(&got, &want, |i| unit::<T>(4e-6, 8e-3) * (1e-3 + want[i].abs())))
}

fn turn<T: Storage>(device: &Device, [rows, heads, half]: Shape, seed: u64) -> Result<Vec<f64>> {
    // Head widths are whole vectors.
    let (heads, dim) = (heads.min(8), half.min(64).next_multiple_of(8) * 2);
    let x: Vec<T> = draw(rows * heads * dim, seed, 0);
    let mut rng = Rng::new(seed, Use::Synthetic, 4, 0);
    let positions: Vec<u32> = (0..rows).map(|_| rng.below(4096)).collect();
    let want = rope::oracle::apply(&narrow(&x), heads, dim, 1e4, None, &positions);
    let of = rope::Rope::new(dim, 1e4, None);
    let got = match device {
        Device::Cpu => {
            let mut table = rope::Table::new(&Device::Cpu, of);
            table.grow(4096)?;
            let mut y = Rows::Cpu(Matrix::from_vec(rows, heads * dim, narrow(&x))?);
            table.rope(&mut y, &rope::Positions::Cpu(positions))?;
            y.download()?
        }
        Device::Kernels(device) => {
            let mut y = DeviceRows::upload(device, heads * dim, &x, "x")?;
            let positions = rope::kernel::Positions::upload(device, &positions)?;
            rope::kernel::DeviceAngles::new(device, &of, 4096)?.turn(&mut y, (0, heads), &positions, false)?;
            narrow(&y.download()?)
        }
    };
    Ok(errors(&got, &want, |_| unit::<T>(2e-6, 2e-2) * 4.0))
}

fn gate<T: Storage>(device: &Device, [rows, _, width]: Shape, seed: u64) -> Result<Vec<f64>> {
    let width = width.next_multiple_of(8);
    let both: Vec<T> = draw(rows * 2 * width, seed, 0);
    let side = |first: usize| -> Vec<f32> {
        narrow(&both).chunks_exact(2 * width).flat_map(|row| row[first..first + width].to_vec()).collect()
    };
    let (gate, up) = (side(0), side(width));
    let want = swiglu::oracle::swiglu(&gate, &up);
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; gate.len()];
            swiglu::cpu::swiglu(&gate, &up, &mut y);
            y
        }
        Device::Kernels(device) => {
            let both = DeviceRows::upload(device, 2 * width, &both, "gate and up")?;
            let mut y = DeviceRows::<T>::zeros(device, rows, width, "y")?;
            swiglu::kernel::forward(&both, &mut y)?;
            narrow(&y.download()?)
        }
    };
    Ok(errors(&got, &want, |i| unit::<T>(4e-6, 8e-3) * (1e-2 + want[i].abs())))
}

/// Two adapters and rows without one, forward.
fn adapted<T: Storage>(device: &Device, [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (rank, scale, count) = (8, 0.5f32, 2);
    let (x, w): (Vec<T>, Vec<T>) = (draw(rows * inp, seed, 0), draw(out * inp, seed, 1));
    let (a, b): (Vec<T>, Vec<T>) = (draw(count * rank * inp, seed, 2), draw(count * out * rank, seed, 3));
    let (third, rest) = (rows / 3, rows - rows / 3 * 2);
    let segments = [(third, Some(1)), (third, None), (rest, Some(0))].map(|(rows, adapter)| Segment { rows, adapter });
    let of_row: Vec<Option<usize>> =
        segments.iter().flat_map(|s| std::iter::repeat_n(s.adapter.map(|a| a as usize), s.rows)).collect();
    let [fx, fw, fa, fb] = [&x, &w, &a, &b].map(|m| wide(m));
    let (mut want, mut size) = (Vec::new(), Vec::new());
    for (i, adapter) in of_row.iter().enumerate() {
        let s: Vec<(f64, f64)> = (0..rank)
            .map(|j| adapter.map_or((0.0, 0.0), |n| dot(inp, |k| fx[i * inp + k] * fa[(n * rank + j) * inp + k])))
            .collect();
        for o in 0..out {
            let base = dot(inp, |k| fx[i * inp + k] * fw[o * inp + k]);
            let of_b = |j: usize| adapter.map_or(0.0, |n| fb[(n * out + o) * rank + j] * f64::from(scale));
            let low = dot(rank, |j| s[j].0 * of_b(j));
            want.push(base.0 + low.0);
            size.push(base.1 + (0..rank).map(|j| s[j].1 * of_b(j).abs()).sum::<f64>());
        }
    }
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; rows * out];
            linear::matmul_nt(&narrow(&x), &linear::Weight::from_f32(out, inp, narrow(&w))?, &mut y, false);
            let mut first = 0;
            for s in &segments {
                let rows = first..first + s.rows;
                first += s.rows;
                let Some(n) = s.adapter.map(|a| a as usize) else { continue };
                let (a, b) = (narrow(&a), narrow(&b));
                let (a, b) = (&a[n * rank * inp..][..rank * inp], &b[n * out * rank..][..out * rank]);
                let low = crate::ops::lora::Low { a, b, rank, scale, dropout: None };
                let (x, y) = (&narrow(&x)[rows.start * inp..rows.end * inp], &mut y[rows.start * out..rows.end * out]);
                crate::ops::lora::forward(low, x, y, &mut vec![0.0; s.rows * rank]);
            }
            y
        }
        Device::Kernels(device) => {
            let batch = Batch::new(device, &segments)?;
            let (x, w) = (DeviceRows::upload(device, inp, &x, "x")?, DeviceRows::upload(device, inp, &w, "w")?);
            let low = Adapters {
                a: DeviceRows::upload(device, inp, &a, "a")?,
                b: DeviceRows::upload(device, rank, &b, "b")?,
                count,
                scale,
            };
            let mut s = DeviceRows::zeros(device, rows, rank, "s")?;
            let mut y = DeviceRows::<f32>::zeros(device, rows, out, "y")?;
            lora::shrink(&batch, &x, &low, &mut s)?;
            lora::forward(&batch, &x, &w, &Beside { low: Some((&s, &low)), ..Beside::default() }, &mut y)?;
            y.download()?
        }
    };
    Ok(errors(&got, &want, |i| unit::<T>(4e-6, 8e-3) * size[i] + 1e-30))
}

/// Few rows through a weight in one of the formats of GGUF files.
fn blocks<T: Storage>(device: &Device, [rows, out, inp]: Shape, seed: u64) -> Result<Vec<f64>> {
    let inp = inp.next_multiple_of(32);
    let mut rng = Rng::new(seed, Use::Synthetic, 5, 0);
    let format = [Format::Q8_0, Format::Q4_0, Format::Q4_1][rng.below(3) as usize];
    let (mut bytes, mut w) = (Vec::new(), Vec::new());
    for _ in 0..out * inp / 32 {
        let (d, m) = (half::f16::from_f32(rng.normal() * 0.1), half::f16::from_f32(rng.normal()));
        let (d64, m64) = (f64::from(d.to_f32()), f64::from(m.to_f32()));
        bytes.extend(d.to_le_bytes());
        if format == Format::Q4_1 {
            bytes.extend(m.to_le_bytes());
        }
        let packed: Vec<u8> = (0..if format == Format::Q8_0 { 32 } else { 16 }).map(|_| rng.next_u32() as u8).collect();
        let nibbles = packed.iter().map(|p| p & 15).chain(packed.iter().map(|p| p >> 4)).map(f64::from);
        match format {
            Format::Q8_0 => w.extend(packed.iter().map(|&q| d64 * f64::from(q as i8))),
            Format::Q4_0 => w.extend(nibbles.map(|q| d64 * (q - 8.0))),
            Format::Q4_1 => w.extend(nibbles.map(|q| d64 * q + m64)),
        }
        bytes.extend(packed);
    }
    let x: Vec<T> = draw(rows * inp, seed, 0);
    let fx = wide(&x);
    let cells: Vec<(f64, f64)> =
        (0..rows * out).map(|at| dot(inp, |k| fx[at / out * inp + k] * w[at % out * inp + k])).collect();
    let want: Vec<f64> = cells.iter().map(|c| c.0).collect();
    let all: Vec<f64> = fx.chunks_exact(inp).map(|row| row.iter().map(|v| v.abs()).sum()).collect();
    let got = match device {
        Device::Cpu => {
            let mut y = vec![0.0; rows * out];
            let w = w.iter().map(|&v| v as f32).collect();
            linear::matmul_nt(&narrow(&x), &linear::Weight::from_f32(out, inp, w)?, &mut y, false);
            y
        }
        Device::Kernels(device) => {
            let w = Quantised::upload(device, format, (out, inp), &bytes)?;
            let x = DeviceRows::upload(device, inp, &x, "x")?;
            let mut y = DeviceRows::zeros(device, rows, out, "y")?;
            w.product(&x, None, false, &mut y)?;
            y.download()?
        }
    };
    // Shifted sums are of the size of 8 d x, minima multiply all of x, even where they cancel.
    Ok(errors(&got, &want, |i| 2e-6 * (cells[i].1 + 4.0 * all[i / out]) + 1e-30))
}

fn heads_of(group: usize, dim: usize) -> Heads {
    let group = group % 3 + 1;
    Heads { query: 2 * group, kv: 2, dim: dim.min(128).next_multiple_of(8) }
}

/// One causal sequence, its values' tolerance, and what is uploaded of it.
struct Sequence<T> {
    heads: Heads,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    score: f64,
}

impl<T: Storage> Sequence<T> {
    fn new([rows, group, dim]: Shape, seed: u64) -> Self {
        let heads = heads_of(group, dim);
        let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
        let (q, k, v) = (draw(rows * qw, seed, 0), draw(rows * kw, seed, 1), draw(rows * kw, seed, 2));
        let score = largest(&wide::<T>(&q)) * largest(&wide::<T>(&k)) * (heads.dim as f64).sqrt();
        Self { heads, q, k, v, score }
    }

    fn upload(&self, device: &KernelDevice) -> Result<[DeviceRows<T>; 3]> {
        let (qw, kw) = (self.heads.query * self.heads.dim, self.heads.kv * self.heads.dim);
        Ok([
            DeviceRows::upload(device, qw, &self.q, "q")?,
            DeviceRows::upload(device, kw, &self.k, "k")?,
            DeviceRows::upload(device, kw, &self.v, "v")?,
        ])
    }
}

fn attend<T: Storage>(device: &Device, shape: Shape, seed: u64) -> Result<Vec<f64>> {
    let s = Sequence::<T>::new(shape, seed);
    let (rows, width) = (shape[0], s.heads.query * s.heads.dim);
    let want = attention::oracle::attention(&wide(&s.q), &wide(&s.k), &wide(&s.v), s.heads);
    let got = match device {
        Device::Cpu => {
            let mut out = vec![0.0; s.q.len()];
            attention::causal(&narrow(&s.q), &narrow(&s.k), &narrow(&s.v), s.heads, &[rows], &mut out, None);
            out
        }
        Device::Kernels(device) => {
            let [q, k, v] = s.upload(device)?;
            let mut out = DeviceRows::<T>::zeros(device, rows, width, "out")?;
            let plan = attention::kernel::Plan::new(device, &[attention::kernel::Span::causal(0..rows)])?;
            plan.forward(s.heads, &attention::kernel::Inputs { q: &q, k: &k, v: &v }, &mut out, None)?;
            narrow(&out.download()?)
        }
    };
    Ok(errors(&got, &want, |_| 4.0 * unit::<T>(2e-6 * (1.0 + s.score), 2e-2 + 2e-6 * s.score)))
}

fn attend_back<T: Storage>(device: &KernelDevice, shape: Shape, seed: u64) -> Result<Vec<f64>> {
    use attention::gradient::{Backward, Given, Gradients};
    use attention::kernel::{Inputs, Plan, Span};
    let s = Sequence::<T>::new(shape, seed);
    let (rows, width) = (shape[0], s.heads.query * s.heads.dim);
    let by_out: Vec<T> = draw(rows * width, seed, 3);
    let (q, k, v, g) = (wide(&s.q), wide(&s.k), wide(&s.v), wide(&by_out));
    let want = attention::oracle::gradients(&q, &k, &v, &g, s.heads);
    let [on_q, on_k, on_v] = s.upload(device)?;
    let inputs = Inputs { q: &on_q, k: &on_k, v: &on_v };
    let mut out = DeviceRows::<T>::zeros(device, rows, width, "out")?;
    let mut lse = device.zeros(rows * s.heads.query, "lse")?;
    let spans = [Span::causal(0..rows)];
    Plan::new(device, &spans)?.forward(s.heads, &inputs, &mut out, Some(&mut lse))?;
    let zeros = |like: &DeviceRows<T>| DeviceRows::<f32>::zeros(device, rows, like.dim(), "gradient");
    let (mut dq, mut dk, mut dv) = (zeros(&on_q)?, zeros(&on_k)?, zeros(&on_v)?);
    let by_out = DeviceRows::upload(device, width, &by_out, "by out")?;
    let given = Given { out: &out, lse: &lse, by_out: &by_out };
    Backward::new(device, &spans)?.run(
        s.heads,
        &inputs,
        &given,
        &mut Gradients { q: &mut dq, k: &mut dk, v: &mut dv },
    )?;
    let unit = unit::<T>(2e-6 * (1.0 + s.score), 1e-2 + 2e-6 * s.score);
    let terms = 4.0 + ((s.heads.group() * rows) as f64).sqrt();
    let by_score = largest(&g) * largest(&v) * (s.heads.dim as f64).sqrt();
    let tolerance = [by_score * largest(&k), by_score * largest(&q), largest(&g)].map(|t| unit * terms * t + 1e-30);
    let mut all = Vec::new();
    for ((got, want), tolerance) in [dq, dk, dv].iter().zip(&want).zip(tolerance) {
        all.extend(errors(&got.download()?, want, |_| tolerance));
    }
    Ok(all)
}

/// A step of samples behind one prompt.
fn decode<T: Storage>(device: &KernelDevice, [prefix, samples, dim]: Shape, seed: u64) -> Result<Vec<f64>> {
    use attention::decode::{Plan, Prompt};
    let heads = heads_of(samples, dim);
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let mut rng = Rng::new(seed, Use::Synthetic, 6, 0);
    let (mut own, mut keys) = (Vec::new(), prefix);
    for _ in 0..samples {
        let n = 1 + rng.below(40) as usize;
        own.push(keys..keys + n);
        keys += n;
    }
    let (q, k, v): (Vec<T>, Vec<T>, Vec<T>) =
        (draw(samples * qw, seed, 0), draw(keys * kw, seed, 1), draw(keys * kw, seed, 2));
    let (fq, fk, fv) = (wide(&q), wide(&k), wide(&v));
    let mut want = Vec::new();
    for (sample, own) in own.iter().enumerate() {
        let seen = |x: &[f64]| [&x[..prefix * kw], &x[own.start * kw..own.end * kw]].concat();
        want.extend(attention::oracle::attention(&fq[sample * qw..][..qw], &seen(&fk), &seen(&fv), heads));
    }
    let score = largest(&fq) * largest(&fk) * (heads.dim as f64).sqrt();
    let on_device = [(qw, &q), (kw, &k), (kw, &v)].map(|(width, x)| DeviceRows::upload(device, width, x, "x"));
    let [q, k, v] = on_device;
    let (q, k, v) = (q?, k?, v?);
    let mut out = DeviceRows::<T>::zeros(device, samples, qw, "out")?;
    let plan = Plan::new(device, heads, &[Prompt { prefix: 0..prefix, own }])?;
    plan.forward(&attention::kernel::Inputs { q: &q, k: &k, v: &v }, &mut out)?;
    Ok(errors(&narrow(&out.download()?), &want, |_| 4.0 * unit::<T>(2e-6 * (1.0 + score), 2e-2 + 2e-6 * score)))
}

fn entropy<T: Storage>(device: &Device, [rows, vocab, width]: Shape, seed: u64) -> Result<Vec<f64>> {
    let vocab = vocab.max(2);
    let (h, w): (Vec<T>, Vec<T>) = (draw(rows * width, seed, 0), draw(vocab * width, seed, 1));
    let mut rng = Rng::new(seed, Use::Synthetic, 7, 0);
    let tokens: Vec<u32> = (0..rows).map(|_| rng.below(vocab as u32)).collect();
    let weights: Vec<f32> = (0..rows).map(|_| rng.uniform()).collect();
    let ids = [0, vocab as u32 - 1];
    let (fh, fw) = (narrow(&h), narrow(&w));
    let (want, by_h) = cross_entropy::oracle::loss(&fh, &fw, width, &tokens, &weights);
    let chosen = choose::oracle::choose(&fh, &fw, width, ids);
    let (loss, gradient, choices) = match device {
        Device::Cpu => {
            let head = linear::Weight::from_f32(vocab, width, fw.clone())?;
            let targets = cross_entropy::Targets { tokens: &tokens, weights: &weights };
            let mut dh = vec![0.0; fh.len()];
            let scratch = &mut cross_entropy::Scratch::default();
            let loss = cross_entropy::loss(&fh, &head, targets, Some(&mut dh), None, scratch);
            (loss, dh, choose::cpu::choose(&fh, &head, ids))
        }
        Device::Kernels(device) => {
            let (h, head) = (DeviceRows::upload(device, width, &h, "h")?, DeviceRows::upload(device, width, &w, "w")?);
            let targets = cross_entropy::kernel::DeviceTargets::upload(device, &tokens, &weights)?;
            let mut dh = DeviceRows::zeros(device, rows, width, "dh")?;
            let (loss, _) = cross_entropy::kernel::loss(&h, &head, &targets, Some(&mut dh))?;
            (loss, dh.download()?, choose::kernel::choose(&h, &head, ids)?.0)
        }
    };
    // Logits are f32 sums of `width` products of this size; a probability is off by what its logit is off by.
    let top = |x: &[f32]| largest(&wide(x));
    let logit = 1e-6 * (1.0 + top(&fh) * top(&fw) * width as f64);
    let slope = (4.0 * logit + unit::<T>(1e-6, 8e-3)) * top(&fw) * 2.0;
    let mut all = errors(&gradient, &by_h, |_| slope);
    all.push((loss - want).abs() / (2.0 * logit * (rows as f64 + 1.0)));
    for (got, (logits, lse)) in choices.iter().zip(&chosen) {
        all.extend(errors(&got.logits, logits, |_| logit));
        all.push((got.log_sum_exp - lse).abs() / logit);
    }
    Ok(all)
}

/// How far the uniform number lies outside the interval of the token that was drawn.
fn draw_tokens(device: &Device, [rows, vocab, _]: Shape, seed: u64) -> Result<Vec<f64>> {
    let logits: Vec<f32> = draw::<f32>(rows * vocab, seed, 0).iter().map(|l| l * 3.0).collect();
    let cut = sampling::Cut { temperature: 0.8, top_k: 20, top_p: 0.9 };
    let draws: Vec<sampling::kernel::Draw> =
        (0..rows as u32).map(|row| sampling::kernel::Draw { row, sample: row % 5, step: u64::from(row) }).collect();
    let number = |d: &sampling::kernel::Draw| Rng::new(seed, Use::Token, d.row, d.sample).at(d.step).uniform_f64();
    let tokens = match device {
        Device::Cpu => {
            let mut sampler = sampling::Sampler::default();
            let each = logits.chunks_exact(vocab).zip(&draws);
            each.map(|(row, d)| sampler.pick(row, cut, number(d))).collect::<Result<Vec<u32>>>()?
        }
        Device::Kernels(device) => {
            let logits = DeviceRows::upload(device, vocab, &logits, "logits")?;
            sampling::kernel::sample(device, &logits, seed, &draws, cut)?.0
        }
    };
    let each = logits.chunks_exact(vocab).zip(&draws).zip(&tokens);
    let error = |((row, d), &token): ((&[f32], &sampling::kernel::Draw), &u32)| {
        if sampling::oracle::edge(row, cut) <= 1e-5 {
            return 0.0;
        }
        let (low, high) = sampling::oracle::intervals(row, cut)[token as usize];
        let u = number(d);
        if high > low { (low - u).max(u - high).max(0.0) / 1e-5 } else { f64::INFINITY }
    };
    Ok(each.map(error).collect())
}

fn product<T: Storage>(device: &Device, [m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    use linear::kernel::{Epilogue, Form, gemm};
    let (a, b): (Vec<T>, Vec<T>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let (fa, fb) = (wide(&a), wide(&b));
    let dot = |i: usize, j: usize| (0..k).map(move |l| (i * k + l, j * k + l));
    let cells = || (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
    let want: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| fa[l] * fb[r]).sum()).collect();
    let size: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| (fa[l] * fb[r]).abs()).sum()).collect();
    let got = match device {
        Device::Cpu => {
            let mut out = vec![0.0; m * n];
            linear::matmul_nt(&narrow(&a), &linear::Weight::from_f32(n, k, narrow(&b))?, &mut out, false);
            out
        }
        Device::Kernels(device) => {
            let (a, b) = (DeviceRows::upload(device, k, &a, "a")?, DeviceRows::upload(device, k, &b, "b")?);
            let mut out = DeviceRows::zeros(device, m, n, "out")?;
            gemm(Form::Nt, &a, &b, &Epilogue::default(), &mut out)?;
            out.download()?
        }
    };
    Ok(errors(&got, &want, |i| 2e-6 * size[i] + 1e-30))
}

/// Against the product of the values: the bound of what codes may change, and f32's rounding.
fn product_int8([m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (x, w): (Vec<f32>, Vec<f32>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let codes = int8::Codes::new(&linear::Weight::from_f32(n, k, w.clone())?);
    let mut y = vec![f32::NAN; m * n];
    int8::matmul_nt_many(&x, k, &mut [int8::Product { weight: &codes, y: &mut y, bias: None, accumulate: false }]);
    let (want, bound): (Vec<f64>, Vec<f64>) = int8::oracle::matmul_nt(&x, &w, k).into_iter().unzip();
    Ok(errors(&y, &want, |i| bound[i] + 1e-5))
}

/// Forward and backward with an adapter of rank 8, a bias in the forward, and adding to what is there.
fn product_wgmma(device: &KernelDevice, [m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    const RANK: usize = 8;
    let of = |rows, dim, salt| -> Vec<bf16> { draw(rows * dim, seed, salt) };
    let (bias, before): (Vec<f32>, Vec<f32>) = (draw(n, seed, 4), draw(m * n, seed, 5));
    let up = |values: &[bf16], dim| DeviceRows::upload(device, dim, values, "operand");
    let (x, s) = (of(m, k, 0), of(m, RANK, 2));
    let mut all = Vec::new();
    // Rows of the right operands lie along the depth, then, in the backward, across it.
    for turned in [false, true] {
        let (w, b) = if turned { (of(k, n, 1), of(RANK, n, 3)) } else { (of(n, k, 1), of(n, RANK, 3)) };
        let product = |x: &[f32], w: &[f32], depth: usize| {
            let along: Vec<f32> =
                (0..n * depth).map(|i| if turned { w[i % depth * n + i / depth] } else { w[i] }).collect();
            linear::oracle::matmul_nt(x, &along, depth, None)
        };
        // The sums, and those of the sizes of their terms.
        let sums = |f: fn(f32) -> f32| -> Vec<f64> {
            let [x, w, s, b] = [&x, &w, &s, &b].map(|v| v.iter().map(|v| f(v.to_f32())).collect::<Vec<_>>());
            let (main, beside) = (product(&x, &w, k), product(&s, &b, RANK));
            let rest = |i: usize| f64::from(f(before[i])) + if turned { 0.0 } else { f64::from(f(bias[i % n])) };
            main.iter().zip(&beside).enumerate().map(|(i, (a, b))| a + b + rest(i)).collect()
        };
        let (want, size) = (sums(|v| v), sums(f32::abs));
        let (dx, ds) = (up(&x, k)?, up(&s, RANK)?);
        let mut y = DeviceRows::upload(device, n, &before, "y")?;
        if turned {
            wgmma::backward(&dx, (&up(&w, n)?, 0..k), Some((&ds, &up(&b, n)?)), true, &mut y)?;
        } else {
            let bias = device.upload(&bias, "bias")?;
            wgmma::forward(&dx, &up(&w, k)?, Some((&ds, &up(&b, RANK)?)), Some(&bias), true, &mut y)?;
        }
        all.extend(errors(&y.download()?, &want, |i| 2e-6 * size[i] + 1e-30));
    }
    Ok(all)
}

/// Both storage types of one function.
macro_rules! both {
    ($of:ident) => {
        |device, shape, narrow, seed| {
            if narrow { $of::<bf16>(device, shape, seed) } else { $of::<f32>(device, shape, seed) }
        }
    };
    (kernels $of:ident) => {
        |device, shape, narrow, seed| {
            let device = kernels_of(device)?;
            if narrow { $of::<bf16>(device, shape, seed) } else { $of::<f32>(device, shape, seed) }
        }
    };
}

/// With an inner dimension that goes round the four stages of 64 twice.
const DEEP: &[Class] = &[
    ("small", [(1, 9), (1, 9), (1, 9)]),
    ("tile edges", [(127, 129), (127, 129), (63, 65)]),
    ("larger", [(120, 400), (120, 400), (500, 700)]),
];

/// The lists.
pub(super) const CHECKS: &[Check] = &[
    Check::new("linear", ["m", "n", "k"], both!(product)),
    Check::new("linear_int8", ["m", "n", "k"], |_, shape, _, seed| product_int8(shape, seed))
        .one_storage()
        .only(On::Cpu),
    Check::new("linear_decode", ["rows", "out", "in"], both!(blocks)),
    Check::new("lora", ["rows", "out", "in"], both!(adapted)),
    Check::new("lora_sm90a", ["m", "n", "k"], |device, shape, _, seed| product_wgmma(kernels_of(device)?, shape, seed))
        .one_storage()
        .only(On::Hopper)
        .shapes(DEEP),
    Check::new("rmsnorm", ["rows", "-", "width"], both!(norm)),
    Check::new("rope", ["rows", "heads", "half"], both!(turn)),
    Check::new("swiglu", ["rows", "-", "width"], both!(gate)),
    Check::new("attention", ["rows", "group", "dim"], both!(attend)),
    Check::new("attention_backward", ["rows", "group", "dim"], both!(kernels attend_back)).only(On::Kernels),
    Check::new("attention_decode", ["prefix", "samples", "dim"], both!(kernels decode)).only(On::Kernels),
    Check::new("cross_entropy", ["rows", "vocab", "width"], both!(entropy)),
    Check::new("sampling", ["rows", "vocab", "-"], |device, shape, _, seed| draw_tokens(device, shape, seed))
        .one_storage(),
];
