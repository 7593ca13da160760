//! GEGLU: its name, its kernels, what it is checked on and measured with.

use half::bf16;

use super::{backward_cost, cost, geglu, geglu_backward, kernel, oracle};
use crate::device::{Device, DeviceRows, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::registry::{
    Case, Check, Operator, Prepared, Scale, Shape, TYPES, draw, errors, host_sets, kernels, normals, rotated, rows,
};
use crate::tensor::{Dtype, Matrix};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "geglu",
    room: "geglu",
    sources: &["geglu"],
    kernels: kernels! {
        "geglu" TYPES ["M w / vector / 256"] 256 "3 s M w B, 16 M w FLOP" "language model: gelu(gate) up, of families like Gemma"
        "geglu_backward" TYPES ["M w / vector / 256"] 256 "5 s M w B, 28 M w FLOP" "language model: its gradient, in place"
    },
    checks: &[
        Check::new("geglu", ["rows", "-", "width"], forward),
        Check::new("geglu_backward", ["rows", "-", "width"], backward),
    ],
    cases: &[
        Case::cpu("geglu", "512 x 1536", || on_cpu(512, 1536, false)),
        Case::cpu("geglu_backward", "512 x 1536", || on_cpu(512, 1536, true)),
        Case::kernels("geglu", "forward", |d, s| by_kernels::<bf16>(d, s, 14_336)),
        Case::kernels("geglu", "forward", |d, s| by_kernels::<f32>(d, s, 1536)),
        Case::kernels("geglu", "backward", |d, s| backward_by_kernels::<bf16>(d, s, 14_336)),
        Case::kernels("geglu", "backward", |d, s| backward_by_kernels::<f32>(d, s, 1536)),
    ],
    counted: &[
        Case::cpu("geglu", "16 x 1536", || on_cpu(16, 1536, false)),
        Case::cpu("geglu_backward", "16 x 1536", || on_cpu(16, 1536, true)),
    ],
    ..Operator::BARE
};

/// What a value may be off by: `size` is that of the terms it is made of. The slope of GELU has a
/// zero near -0.75, where two parts cancel, and below 1e-30 an exponential has no bits left.
pub fn tolerance(narrow: bool, want: f64, size: f64) -> f64 {
    let unit = if narrow { 4.1e-3 } else { 2e-6 };
    unit * want.abs() + 2e-6 * size + 1e-30
}

/// Gate, up and the gradient of the result, as they are stored.
fn draws(device: &Device, [count, _, width]: Shape, narrow: bool, seed: u64) -> Result<[Rows; 3]> {
    let (width, dtype) = (width.next_multiple_of(8), if narrow { Dtype::Bf16 } else { Dtype::F32 });
    let one = |salt, by: f32| {
        let values: Vec<f32> = draw::<f32>(count * width, seed, salt).iter().map(|v| v * by).collect();
        Rows::upload(device, dtype, width, &values, "rows")
    };
    Ok([one(0, 3.0)?, one(1, 1.0)?, one(2, 1.0)?])
}

fn forward(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let [gate, up, _] = draws(device, shape, narrow, seed)?;
    let (g, u) = (gate.download()?, up.download()?);
    let want = oracle::geglu(&g, &u);
    let mut y = gate.zeros_beside(gate.rows(), gate.dim(), "y")?;
    geglu(&gate, &up, &mut y)?;
    Ok(errors(&y.download()?, &want, |i| tolerance(narrow, want[i], f64::from(u[i].abs()))))
}

fn backward(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let [mut gate, mut up, dy] = draws(device, shape, narrow, seed)?;
    let (g, u, d) = (gate.download()?, up.download()?, dy.download()?);
    let (by_gate, by_up) = oracle::backward(&g, &u, &d);
    geglu_backward(&mut gate, &mut up, &dy)?;
    let size = |i: usize| f64::from(d[i].abs()) * (1.0 + f64::from(u[i].abs()));
    let mut all = errors(&gate.download()?, &by_gate, |i| tolerance(narrow, by_gate[i], size(i)));
    all.extend(errors(&up.download()?, &by_up, |i| tolerance(narrow, by_up[i], size(i))));
    Ok(all)
}

fn on_cpu(count: usize, width: usize, back: bool) -> Result<Prepared> {
    let n = count * width;
    let sets = host_sets(12.0 * n as f64);
    let one = |s: u32| Ok(Rows::Cpu(Matrix::from_vec(count, width, normals(n, s))?));
    let mut x = (0..2 * sets as u32).map(one).collect::<Result<Vec<_>>>()?;
    let mut y = one(7)?;
    let cost = if back { backward_cost(n) } else { cost(n) };
    Ok(Prepared::of(cost, sets, move |i| {
        let [gate, up] = &mut x[2 * i..2 * i + 2] else { return Ok(()) };
        if back { geglu_backward(gate, up, &y).map(drop) } else { geglu(gate, up, &mut y).map(drop) }
    }))
}

const ROWS: usize = 8192;

fn by_kernels<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let (x, up) = (rotated::<T>(device, scale, (n, width), 1)?, rows::<T>(device, n, width, 2)?);
    let (count, mut y) = (x.len(), DeviceRows::zeros(device, n, width, "y")?);
    let run = move |i: usize| kernel::forward(&x[i], &up, &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

/// In place, so that values change from run to run: gradients of gradients, which fade. It is bound
/// by memory, to which that is the same.
fn backward_by_kernels<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let (mut x, mut up) = (rotated::<T>(device, scale, (n, width), 1)?, rows::<T>(device, n, width, 2)?);
    let small: Vec<T> = vec![T::from_f32(0.25); n * width];
    let (count, dy) = (x.len(), DeviceRows::upload(device, width, &small, "dy")?);
    let run = move |i: usize| kernel::backward(&mut x[i], &mut up, &dy).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}
