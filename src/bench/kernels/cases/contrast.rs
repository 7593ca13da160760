//! The contrastive loss and the projector before it.

use super::{Case, case, rotated, rows};
use crate::bench::kernels::{Goal, Prepared, Scale};
use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::infonce::{Params, Similarity, kernel as infonce};
use crate::ops::linear::kernel::{Epilogue, Form, gemm};
use crate::ops::mlp::{Activation, Mlp, kernel as mlp};
use half::bf16;

pub(super) const CASES: &[Case] = &[
    case("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 64, Some(0.35))),
    case("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 128, Some(0.45))),
    case("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 32_768, 256, Some(0.55))),
    case("infonce", "loss and gradients", |d, s| contrast::<bf16>(d, s, 4096, 64, None)),
    case("infonce", "loss and gradients", |d, s| contrast::<f32>(d, s, 4096, 64, None)),
    case("infonce", "loss and gradients", |d, s| contrast::<f32>(d, s, 32_768, 128, None)),
    case("infonce", "without a bound: inner products", |d, s| unbounded::<bf16>(d, s, 32_768, 128)),
    case("infonce", "without a bound: inner products", |d, s| unbounded::<f32>(d, s, 4096, 64)),
    case("mlp", "forward and backward", |d, s| project(d, s, 4096)),
    case("mlp", "forward and backward", |d, s| project(d, s, 65_536)),
    case("gemm", "A B^T", |d, s| product::<bf16>(d, s, Form::Nt)),
    case("gemm", "A B", |d, s| product::<bf16>(d, s, Form::Nn)),
    case("gemm", "A^T B", |d, s| product::<bf16>(d, s, Form::Tn)),
    case("gemm", "A B^T", |d, s| product::<f32>(d, s, Form::Nt)),
    case("gemm", "A B", |d, s| product::<f32>(d, s, Form::Nn)),
    case("gemm", "A^T B", |d, s| product::<f32>(d, s, Form::Tn)),
];

/// Counted at `8 n^2 d` FLOP, whatever the kernels do: scores once, and a product for each gradient, of scores kept.
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
    let run = move |_| infonce::infonce(&x, &y, &params).map(drop);
    let bytes = values * (2.0 * size_of::<T>() as f64 + 8.0);
    Ok(Prepared::new(T::NAME, &[("pairs", n), ("width", dim)], run).floor(bytes, 8.0 * nf * values))
}

/// Five products: two forward, the gradients of both weights and of what lies between.
fn project(device: &KernelDevice, scale: Scale, n: usize) -> Result<Prepared> {
    let shape = match scale {
        Scale::Full => Mlp { input: 1152, hidden: 128, output: 64, activation: Activation::Relu },
        Scale::Tiny => Mlp { input: 40, hidden: 20, output: 12, activation: Activation::Relu },
    };
    let n = scale.of(n, 30);
    let p = mlp::DeviceTensors::upload(device, &shape, &shape.init(1))?;
    let mut g = mlp::DeviceTensors::zeros(device, &shape)?;
    let x = rotated::<f32>(device, scale, (n, shape.input), 1)?;
    let (sets, by_out) = (x.len(), rows::<f32>(device, n, shape.output, 2)?);
    let run = move |i: usize| {
        let (_, saved, _) = mlp::forward(&shape, &p, &x[i])?;
        mlp::backward(&shape, &p, &x[i], &saved, &by_out, &mut g).map(drop)
    };
    let Mlp { input, hidden, output, .. } = shape;
    let [nf, first, second] = [n, input * hidden, hidden * output].map(|n| n as f64);
    let sizes = [("rows", n), ("in", input), ("hidden", hidden), ("out", output)];
    let bytes = 4.0 * (2.0 * nf * input as f64 + 2.0 * nf * output as f64 + 3.0 * (first + second));
    Ok(Prepared::new("f32", &sizes, run).sets(sets).floor(bytes, nf * (4.0 * first + 6.0 * second)))
}

fn product<T: Storage>(device: &KernelDevice, scale: Scale, form: Form) -> Result<Prepared> {
    let n = scale.of(4096, 70);
    let (a, b) = (rows::<T>(device, n, n, 1)?, rows::<T>(device, n, n, 2)?);
    let mut out = DeviceRows::zeros(device, n, n, "out")?;
    let run = move |_| gemm(form, &a, &b, &Epilogue::default(), &mut out).map(drop);
    Ok(Prepared::new(T::NAME, &[("m", n), ("n", n), ("k", n)], run))
}
