//! InfoNCE: its name, its kernels, what it is checked on and measured with.

use super::{Params, Similarity, cost, infonce, kernel, oracle};
use crate::device::{Device, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::registry::{
    Case, Check, Goal, ONE, Operator, Prepared, Scale, Shape, TYPES, draw, errors, kernels, normals, rows, wide,
};
use crate::tensor::Dtype;
use half::bf16;

const STRIPS: &[&str] = &["f32_64", "bf16_64", "bf16_128", "bf16_256"];

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "infonce",
    room: "infonce",
    sources: &["infonce", "infonce_bounded"],
    arguments: &[
        kernel::FinishArgs::LAYOUT,
        kernel::online::LseArgs::LAYOUT,
        kernel::online::ContrastBackwardArgs::LAYOUT,
        kernel::bounded::SumsArgs::LAYOUT,
        kernel::bounded::ReduceArgs::LAYOUT,
    ],
    constants: &[
        ("infonce_columns", crate::ops::linear::kernel::TILE),
        ("infonce_shared_f32", kernel::online::shared::<f32>()),
        ("infonce_shared_bf16", kernel::online::shared::<bf16>()),
        ("infonce_own_f32_64", kernel::bounded::F32[0].own),
        ("infonce_sums_shared_f32_64", kernel::bounded::F32[0].sums_shared::<f32>()),
        ("infonce_gradient_shared_f32_64", kernel::bounded::F32[0].shared::<f32>()),
        ("infonce_own_bf16_64", kernel::bounded::BF16[0].own),
        ("infonce_sums_shared_bf16_64", kernel::bounded::BF16[0].sums_shared::<bf16>()),
        ("infonce_gradient_shared_bf16_64", kernel::bounded::BF16[0].shared::<bf16>()),
        ("infonce_own_bf16_128", kernel::bounded::BF16[1].own),
        ("infonce_sums_shared_bf16_128", kernel::bounded::BF16[1].sums_shared::<bf16>()),
        ("infonce_gradient_shared_bf16_128", kernel::bounded::BF16[1].shared::<bf16>()),
        ("infonce_own_bf16_256", kernel::bounded::BF16[2].own),
        ("infonce_sums_shared_bf16_256", kernel::bounded::BF16[2].sums_shared::<bf16>()),
        ("infonce_gradient_shared_bf16_256", kernel::bounded::BF16[2].shared::<bf16>()),
    ],
    kernels: kernels! {
        "infonce_sums" STRIPS ["min(64, n / 128) x 8 or more"] 128 "2 s n d B, 2 n^2 d FLOP" "align: sums of bounded exponentials, both directions"
        "infonce_reduce" ONE ["n / 128"] 128 "up to 300 n B" "align: parts of these sums, joined in order"
        "infonce_gradient" STRIPS ["n / 128 x 2"] 128 "2 (s + 4) n d B, 8 n^2 d FLOP" "align: gradients of both sides, and by tau"
        "infonce_norms" TYPES ["n / 4"] 128 "s n d B, 2 n d FLOP" "align: 1 / |row|"
        "infonce_lse" TYPES ["n / 64"] 128 "2 s n d B, 2 n^2 d FLOP" "align: log-sum-exp of a direction, where scores have no bound"
        "infonce_backward" TYPES ["n / 64 x d / 64"] 128 "(2 s + 4) n d B, 4 n^2 d FLOP" "align: gradient of a side, and by tau, likewise"
        "infonce_finish" TYPES ["n / 4"] 128 "(s + 8) n d B" "align: derivative of the normalisation"
        "infonce_terms" ONE ["n / 128"] 128 "32 n B" "align: terms of the loss and of its derivative by tau"
    },
    checks: &[Check::new("infonce", ["pairs", "-", "dim"], check)],
    cases: &[
        Case::cpu("infonce", "1,024 pairs x 128, with gradients", || on_cpu(1024, 128)),
        Case::cpu("infonce", "4,096 pairs x 64, with gradients", || on_cpu(4096, 64)),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 64, Some(0.35))),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 128, Some(0.45))),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 256, Some(0.55))),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 4096, 64, None)),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<f32>(d, s, 4096, 64, None)),
        Case::kernels("infonce", "loss and gradients", |d, s| contrast::<f32>(d, s, 32_768, 128, None)),
        Case::kernels("infonce", "without a bound: inner products", |d, s| unbounded::<bf16>(d, s, 32_768, 128)),
        Case::kernels("infonce", "without a bound: inner products", |d, s| unbounded::<f32>(d, s, 4096, 64)),
    ],
    counted: &[Case::cpu("infonce", "256 pairs x 64, with gradients", || on_cpu(256, 64))],
};

/// Numbers of pairs that tiles divide, and some that they do not.
pub const PAIRS: &[usize] = &[1, 2, 17, 63, 64, 65, 130, 193];
/// Widths that take each of the kernels.
pub const DIMS: &[usize] = &[1, 7, 32, 33, 64, 72, 128, 130, 256, 260];

/// What loss and gradients may be off by.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// The loss.
    pub loss: f64,
    /// The derivative by tau.
    pub tau: f64,
    /// A value of the gradient by x.
    pub x: f64,
    /// A value of the gradient by y.
    pub y: f64,
}

/// (loss, by x, by y, by tau) of the oracle.
pub type Definition = (f64, Vec<f64>, Vec<f64>, f64);

impl Tolerance {
    /// For rows `x` and `y` of width `dim`, whose answer is `want`. Stored in bf16 only the second
    /// product's left operand is rounded, to 2^-9 of weights that sum to at most 4.
    pub fn of(narrow: bool, [x, y]: [&[f64]; 2], dim: usize, params: &Params, want: &Definition) -> Self {
        let unit = if narrow { 8e-3 } else { 4e-6 };
        let (sharp, n) = (1.0 / f64::from(params.tau), (x.len() / dim) as f64);
        // A gradient is a difference of sums whose terms are as large as weight / (n tau |x|).
        let terms = |rows: &[f64], g: &[f64]| {
            let norms = rows.chunks_exact(dim).map(|r| r.iter().map(|v| v * v).sum::<f64>().sqrt());
            let least = norms.filter(|&norm| norm > 0.0).fold(f64::MAX, f64::min);
            let scale = if params.similarity == Similarity::Cosine { 1.0 / least } else { 4.0 };
            g.iter().fold(1e-30f64, |m, v| m.max(v.abs())) + 4.0 * sharp * scale / n
        };
        let (loss, by_x, by_y, tau) = want;
        Self {
            loss: 4e-6 * (1.0 + sharp) * (1.0 + loss.abs()),
            tau: 1e-5 * (1.0 + sharp) * (sharp + tau.abs()),
            x: unit * (1.0 + sharp) * terms(x, by_x),
            y: unit * (1.0 + sharp) * terms(y, by_y),
        }
    }
}

fn check(device: &Device, [n, _, dim]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let params = Params { similarity: Similarity::Cosine, tau: 0.2, weight: 0.5 };
    let dtype = if narrow { Dtype::Bf16 } else { Dtype::F32 };
    let place = |salt, label| Rows::upload(device, dtype, dim, &draw::<f32>(n * dim, seed, salt), label);
    let (x, y) = (place(0, "x")?, place(1, "y")?);
    let (wide_x, wide_y) = (wide(&x.download()?), wide(&y.download()?));
    let want = oracle::infonce(&wide_x, &wide_y, dim, &params);
    let got = infonce(device, (&x).into(), (&y).into(), &params)?;
    let tolerance = Tolerance::of(narrow, [&wide_x, &wide_y], dim, &params, &want);
    let mut all = errors(&got.x.download()?, &want.1, |_| tolerance.x);
    all.extend(errors(&got.y.download()?, &want.2, |_| tolerance.y));
    all.push((got.loss - want.0).abs() / tolerance.loss);
    all.push((got.tau - want.3).abs() / tolerance.tau);
    Ok(all)
}

fn on_cpu(n: usize, dim: usize) -> Result<Prepared> {
    let params = Params { similarity: Similarity::Cosine, tau: 0.1, weight: 1.0 };
    let x: Vec<_> = (0..3).map(|s| normals(n * dim, s)).collect();
    Ok(Prepared::of(cost(n, dim), 3, move |i| {
        let (x, y) = ((&x[i][..], dim).into(), (&x[(i + 1) % 3][..], dim).into());
        std::hint::black_box(infonce(&Device::Cpu, x, y, &params)?);
        Ok(())
    }))
}

/// Counted at `8 n^2 d` FLOP, whatever the kernels do: scores once, and a product for each
/// gradient, of scores kept.
fn contrast<T: Storage>(
    device: &KernelDevice,
    scale: Scale,
    pairs: usize,
    dim: usize,
    goal: Option<f64>,
) -> Result<Prepared> {
    let params = Params { similarity: Similarity::Cosine, tau: 0.2, weight: 1.0 };
    let prepared = by::<T>(device, scale, pairs, dim, params)?;
    Ok(match goal {
        Some(share) => prepared.goal(Goal::Floor(share)),
        None => prepared,
    })
}

/// The kernels with running maxima.
fn unbounded<T: Storage>(device: &KernelDevice, scale: Scale, pairs: usize, dim: usize) -> Result<Prepared> {
    let params = Params { similarity: Similarity::InnerProduct, tau: dim as f32, weight: 1.0 };
    by::<T>(device, scale, pairs, dim, params)
}

fn by<T: Storage>(device: &KernelDevice, scale: Scale, pairs: usize, dim: usize, params: Params) -> Result<Prepared> {
    let n = scale.of(pairs, 70);
    let (x, y) = (rows::<T>(device, n, dim, 1)?, rows::<T>(device, n, dim, 2)?);
    let (nf, values) = (n as f64, (n * dim) as f64);
    let run = move |_| kernel::infonce(&x, &y, &params).map(drop);
    let bytes = values * (2.0 * size_of::<T>() as f64 + 8.0);
    Ok(Prepared::new(T::NAME, &[("pairs", n), ("width", dim)], run).floor(bytes, 8.0 * nf * values))
}
