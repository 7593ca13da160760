//! One random case of each operator: values, the oracle's answer, the device's answer, errors in units of the tolerance.

use half::bf16;

use super::{Operator, Run, Shape, Target, language};
use crate::device::{Device, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::linear::int8;
use crate::ops::lora::wgmma;
use crate::ops::{adam, bpr, infonce, linear, merge, spmm, topk};
use crate::rng::{Rng, Use};

const SMALL: [(usize, usize); 3] = [(1, 9), (1, 9), (1, 9)];
const EDGES: [(usize, usize); 3] = [(63, 65), (63, 65), (31, 33)];
const LARGER: [(usize, usize); 3] = [(65, 200), (65, 200), (33, 130)];

/// All that can be checked.
pub const OPERATORS: &[Operator] = &[
    operator("spmm", ["nodes", "edges", "dim"], true, |t, s, narrow, seed| {
        if narrow { propagation::<bf16>(t, s, seed, 2e-2) } else { propagation::<f32>(t, s, seed, 4e-6) }
    }),
    operator("bpr", ["nodes", "triples", "dim"], true, |t, s, narrow, seed| {
        if narrow { ranking::<bf16>(t, s, seed) } else { ranking::<f32>(t, s, seed) }
    }),
    operator("adam", ["rows", "steps", "dim"], true, |t, s, narrow, seed| {
        if narrow { optimiser::<bf16>(t, s, seed) } else { optimiser::<f32>(t, s, seed) }
    }),
    operator("infonce", ["pairs", "-", "dim"], true, |t, s, narrow, seed| {
        if narrow { contrast::<bf16>(t, s, seed, 3e-2) } else { contrast::<f32>(t, s, seed, 3e-5) }
    }),
    operator("topk", ["queries", "items", "dim"], true, |t, s, narrow, seed| {
        if narrow { search::<bf16>(t, s, seed) } else { search::<f32>(t, s, seed) }
    }),
    operator("linear", ["m", "n", "k"], true, |t, s, narrow, seed| {
        if narrow { product::<bf16>(t, s, seed) } else { product::<f32>(t, s, seed) }
    }),
    Operator {
        name: "linear-int8",
        sizes: ["m", "n", "k"],
        classes: CLASSES,
        bf16: false,
        run: Run::Cpu(product_int8),
    },
    Operator { name: "wgmma", sizes: ["m", "n", "k"], classes: DEEP, bf16: false, run: Run::Hopper(product_wgmma) },
    operator("merge", ["rows", "samples", "-"], false, |t, s, _, seed| moments(t, s, seed)),
    operator("rmsnorm", ["rows", "-", "width"], true, language::check_rmsnorm),
    operator("rope", ["rows", "heads", "half"], true, language::check_rope),
    operator("swiglu", ["rows", "-", "width"], true, language::check_swiglu),
    operator("lora", ["rows", "out", "in"], true, language::check_lora),
    operator("decode", ["rows", "out", "in"], true, language::check_decode),
    operator("attention", ["rows", "group", "dim"], true, language::check_attention),
    kernels_only("attention-backward", ["rows", "group", "dim"], language::check_attention_backward),
    kernels_only("decode-attention", ["prefix", "samples", "dim"], language::check_decode_attention),
    operator("cross-entropy", ["rows", "vocab", "width"], true, language::check_cross_entropy),
    operator("sampling", ["rows", "vocab", "-"], false, |t, s, _, seed| language::draw_tokens(t, s, seed)),
];

const CLASSES: &[(&str, [(usize, usize); 3])] = &[("small", SMALL), ("tile edges", EDGES), ("larger", LARGER)];

/// With an inner dimension that goes round the four stages of 64 twice.
const DEEP: &[(&str, [(usize, usize); 3])] = &[
    ("small", SMALL),
    ("tile edges", [(127, 129), (127, 129), (63, 65)]),
    ("larger", [(120, 400), (120, 400), (500, 700)]),
];

const fn operator(
    name: &'static str,
    sizes: [&'static str; 3],
    bf16: bool,
    run: fn(&Target, Shape, bool, u64) -> Result<Vec<f64>>,
) -> Operator {
    Operator { name, sizes, classes: CLASSES, bf16, run: Run::Anywhere(run) }
}

/// Where the CPU has no form of its own with the same inputs.
const fn kernels_only(
    name: &'static str,
    sizes: [&'static str; 3],
    run: fn(&KernelDevice, Shape, bool, u64) -> Result<Vec<f64>>,
) -> Operator {
    Operator { name, sizes, classes: CLASSES, bf16: true, run: Run::Kernels(run) }
}

pub(super) fn draw<T: Storage>(n: usize, seed: u64, salt: u32) -> Vec<T> {
    let mut rng = Rng::new(seed, Use::Synthetic, 11, salt);
    (0..n).map(|_| T::from_f32(rng.normal())).collect()
}

pub(super) fn wide<T: Storage>(x: &[T]) -> Vec<f64> {
    x.iter().map(|v| f64::from(v.to_f32())).collect()
}

pub(super) fn narrow<T: Storage>(x: &[T]) -> Vec<f32> {
    x.iter().map(|v| v.to_f32()).collect()
}

/// |got - want| in units of `tolerance`; a missing value is infinitely wrong.
pub(super) fn errors(got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) -> Vec<f64> {
    let error = |(i, w): (usize, &f64)| got.get(i).map_or(f64::INFINITY, |g| (f64::from(*g) - w).abs() / tolerance(i));
    want.iter().enumerate().map(error).collect()
}

fn propagation<T: Storage>(target: &Target, [nodes, edges, dim]: Shape, seed: u64, unit: f64) -> Result<Vec<f64>> {
    let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
    let nodes = nodes.max(2);
    let half = (nodes / 2) as u32;
    let pairs: Vec<(u32, u32)> = (0..edges)
        .map(|_| (rng.below(half), half + rng.below(nodes as u32 - half)))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .collect();
    let graph = spmm::Adjacency::new(nodes, pairs.into_iter())?;
    let x: Vec<f32> = draw(nodes * dim, seed, 0);
    let want = spmm::oracle::propagate(&graph, &wide(&x), dim, 3);
    let rows = spmm::Lines::from_packed(dim, &x);
    let mut out = spmm::Lines::zeros(nodes, dim);
    match target {
        Target::Cpu => {
            let cpu = &Device::Cpu;
            let mut through = spmm::Propagation::new(cpu, &graph, dim, spmm::Precision::F32)?;
            let (x, mut to) = (spmm::Nodes::from_lines(cpu, rows, "x")?, spmm::Nodes::zeros(cpu, nodes, dim, "out")?);
            spmm::propagate(cpu, &mut through, &x, 3, spmm::Sparse::default(), &mut to)?;
            out = to.lines()?.into_owned();
        }
        Target::Kernels(device) => {
            let graph = spmm::kernel::DeviceGraph::new(device, &graph)?;
            let mut space = spmm::kernel::DeviceWorkspace::<T>::new(device, &graph, dim)?;
            let input = device.upload(rows.values(), "x")?;
            let mut on_device = device.alloc(rows.values().len(), "out")?;
            spmm::kernel::propagate(&graph, &input, 3, &mut space, &mut on_device)?;
            out.values_mut().copy_from_slice(&device.download(&on_device)?);
        }
    }
    Ok(errors(&out.to_packed(), &want, |i| unit * (1.0 + want[i].abs())))
}

fn ranking<T: Storage>(target: &Target, [nodes, size, dim]: Shape, seed: u64) -> Result<Vec<f64>> {
    let (e, e0): (Vec<T>, Vec<f32>) = (draw(nodes * dim, seed, 0), draw(nodes * dim, seed, 1));
    let mut rng = Rng::new(seed, Use::Synthetic, 2, 0);
    let mut ids = || -> Vec<u32> { (0..size).map(|_| rng.below(nodes as u32)).collect() };
    let batch = bpr::Batch { users: ids(), positives: ids(), negatives: ids() };
    let (loss, by_e, _) = bpr::oracle::bpr(&wide(&e), &wide(&e0), dim, &batch, 0.1);
    let (got, gradient) = match target {
        Target::Cpu => {
            let cpu = &Device::Cpu;
            let place = |x: &[f32]| spmm::Nodes::from_lines(cpu, spmm::Lines::from_packed(dim, x), "rows");
            let (rows, rows0) = (place(&narrow(&e))?, place(&e0)?);
            let mut gradient = spmm::Nodes::zeros(cpu, nodes, dim, "gradient")?;
            let mut op = bpr::Bpr::new(cpu, nodes, 0.1)?;
            op.given(&batch)?;
            let (loss, _) = bpr::backward(cpu, &mut op, &rows, &rows0, &mut gradient)?;
            (loss, gradient.lines()?.to_packed())
        }
        Target::Kernels(device) => {
            let mut on_device = bpr::kernel::DeviceBatch::new(device, &batch.users, &batch.positives)?;
            device.write(&mut on_device.negatives, &batch.negatives)?;
            let (e, e0) = (DeviceRows::upload(device, dim, &e, "e")?, DeviceRows::upload(device, dim, &e0, "e0")?);
            let mut gradient = DeviceRows::zeros(device, nodes, dim, "gradient")?;
            let mut weights = device.zeros(nodes, "weights")?;
            let (loss, _) = bpr::kernel::backward(&mut on_device, &e, &e0, 0.1, &mut gradient, &mut weights)?;
            (loss, gradient.download()?)
        }
    };
    let mut all = errors(&gradient, &by_e, |_| 2e-5);
    all.push((got - loss).abs() / (1e-5 * (1.0 + loss.abs())));
    Ok(all)
}

fn optimiser<T: Storage>(target: &Target, [rows, steps, dim]: Shape, seed: u64) -> Result<Vec<f64>> {
    let adam = adam::Adam::new(1e-2);
    let n = rows * dim;
    let start: Vec<f32> = draw(n, seed, 0);
    let mut oracle = adam::oracle::State::new(wide(&start));
    let steps = steps.min(5) as u64;
    let grads: Vec<Vec<T>> = (0..steps).map(|t| draw(n, seed, 1 + t as u32)).collect();
    grads.iter().for_each(|g| oracle.step(&adam, &wide(g), 0.0));
    let got = match target {
        Target::Cpu => {
            let (mut p, mut m, mut v) = (start, vec![0.0; n], vec![0.0; n]);
            for (t, g) in grads.iter().enumerate() {
                let state = adam::State::of(&mut p, &mut m, &mut v);
                adam::step(&Device::Cpu, &adam, t as u64 + 1, state, (&narrow(g)[..], n).into(), None)?;
            }
            p
        }
        Target::Kernels(device) => {
            let mut p = DeviceRows::upload(device, dim, &start, "p")?;
            let mut m = DeviceRows::zeros(device, rows, dim, "m")?;
            let mut v = DeviceRows::zeros(device, rows, dim, "v")?;
            for (t, g) in grads.iter().enumerate() {
                let g = DeviceRows::upload(device, dim, g, "g")?;
                let rows = adam::kernel::Rows { p: &mut p, m: &mut m, v: &mut v, weight: None, touched: None };
                adam::kernel::step(&adam, t as u64 + 1, rows, &g)?;
            }
            p.download()?
        }
    };
    Ok(errors(&got, &oracle.p, |i| 1e-5 * (1.0 + oracle.p[i].abs())))
}

fn contrast<T: Storage>(target: &Target, [n, _, dim]: Shape, seed: u64, unit: f64) -> Result<Vec<f64>> {
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.2, weight: 0.5 };
    let (x, y): (Vec<T>, Vec<T>) = (draw(n * dim, seed, 0), draw(n * dim, seed, 1));
    let (loss, gx, gy, tau) = infonce::oracle::infonce(&wide(&x), &wide(&y), dim, &params);
    let got = match target {
        Target::Cpu => {
            infonce::infonce(&Device::Cpu, (&narrow(&x)[..], dim).into(), (&narrow(&y)[..], dim).into(), &params)?
        }
        Target::Kernels(device) => {
            let (x, y) = (DeviceRows::upload(device, dim, &x, "x")?, DeviceRows::upload(device, dim, &y, "y")?);
            infonce::kernel::infonce(&x, &y, &params)?.into()
        }
    };
    // Terms of a row's gradient are as large as weight / (n tau |x|).
    let term = |rows: &[T], i: usize| {
        let row = &rows[i / dim * dim..][..dim];
        5.0 / n as f64 / wide(row).iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-3)
    };
    let mut all = errors(&got.x.download()?, &gx, |i| unit * term(&x, i));
    all.extend(errors(&got.y.download()?, &gy, |i| unit * term(&y, i)));
    all.push((got.loss - loss).abs() / (3e-5 * (1.0 + loss.abs())));
    all.push((got.tau - tau).abs() / (3e-4 * (1.0 + tau.abs())));
    Ok(all)
}

fn search<T: Storage>(target: &Target, [q, n, dim]: Shape, seed: u64) -> Result<Vec<f64>> {
    let k = 10;
    let (queries, items): (Vec<T>, Vec<T>) = (draw(q * dim, seed, 0), draw(n * dim, seed, 1));
    let (fq, fi) = (narrow(&queries), narrow(&items));
    let want = topk::oracle::topk(&fq, &fi, dim, k, &topk::Nothing);
    let got = match target {
        Target::Cpu => topk::topk(&Device::Cpu, (&fq[..], dim).into(), (&fi[..], dim).into(), k, &topk::Nothing)?.0,
        Target::Kernels(device) => {
            let (queries, items) = (
                DeviceRows::upload(device, dim, &queries, "queries")?,
                DeviceRows::upload(device, dim, &items, "items")?,
            );
            topk::kernel::topk(&queries, &items, k, None)?.0
        }
    };
    let mut all = Vec::new();
    for (got, want) in got.iter().zip(&want) {
        let scores: Vec<f32> = got.iter().map(|h| h.score).collect();
        let want: Vec<f64> = want.iter().map(|h| f64::from(h.score)).collect();
        all.extend(errors(&scores, &want, |_| 4e-6 * (1.0 + dim as f64)));
    }
    Ok(all)
}

fn product<T: Storage>(target: &Target, [m, n, k]: Shape, seed: u64) -> Result<Vec<f64>> {
    use linear::kernel::{Epilogue, Form, gemm};
    let (a, b): (Vec<T>, Vec<T>) = (draw(m * k, seed, 0), draw(n * k, seed, 1));
    let (fa, fb) = (wide(&a), wide(&b));
    let dot = |i: usize, j: usize| (0..k).map(move |l| (i * k + l, j * k + l));
    let cells = || (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
    let want: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| fa[l] * fb[r]).sum()).collect();
    let size: Vec<f64> = cells().map(|(i, j)| dot(i, j).map(|(l, r)| (fa[l] * fb[r]).abs()).sum()).collect();
    let got = match target {
        Target::Cpu => {
            let mut out = vec![0.0; m * n];
            linear::matmul_nt(&narrow(&a), &linear::Weight::from_f32(n, k, narrow(&b))?, &mut out, false);
            out
        }
        Target::Kernels(device) => {
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

fn moments(target: &Target, [rows, samples, _]: Shape, seed: u64) -> Result<Vec<f64>> {
    let mut rng = Rng::new(seed, Use::Synthetic, 3, 0);
    let x: Vec<f64> = (0..rows * samples).map(|_| rng.uniform_f64()).collect();
    let counts: Vec<u32> = (0..rows).map(|_| 1 + rng.below(samples as u32)).collect();
    let (mut mean, mut var) = (vec![0.0; rows], vec![0.0; rows]);
    merge::oracle::moments(&x, samples, &counts, samples, &mut mean, &mut var);
    let (mut m, mut v) = (vec![0.0; rows], vec![0.0; rows]);
    match target {
        Target::Cpu => {
            let of = merge::Samples { values: &x, stride: samples, counts: &counts };
            merge::moments(&Device::Cpu, of, samples, &mut m, &mut v)?;
        }
        Target::Kernels(device) => {
            let (x, counts) = (device.upload(&x, "x")?, device.upload(&counts, "counts")?);
            let (mut dm, mut dv) = (device.alloc(rows, "mean")?, device.alloc(rows, "variance")?);
            merge::kernel::moments(&x, samples, &counts, samples, &mut dm, &mut dv)?;
            (m, v) = (device.download(&dm)?, device.download(&dv)?);
        }
    }
    let error = |(got, want): (&f64, &f64)| (got - want).abs() / 1e-13;
    Ok(m.iter().zip(&mean).chain(v.iter().zip(&var)).map(error).collect())
}
