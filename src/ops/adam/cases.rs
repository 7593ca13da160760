//! Adam: its name, its kernel, what it is checked on and measured with.

use super::{Adam, State, cost, kernel, oracle, step};
use crate::device::{Device, DeviceRows, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::registry::{
    Case, Check, Operator, Prepared, Scale, Shape, TYPES, copies, draw, errors, host_sets, kernels, normals, rows,
    sets, wide,
};
use crate::tensor::Dtype;
use half::bf16;

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "adam",
    room: "adam",
    sources: &["adam"],
    arguments: &[kernel::AdamArgs::LAYOUT],
    kernels: kernels! {
        "adam_rows" TYPES ["values / 1024, at most 4096"] 256 "(24 + s) N d B, 12 N d FLOP" "graph and projector: the optimiser, rows never touched left out"
    },
    checks: &[Check::new("adam", ["rows", "steps", "dim"], check)],
    cases: &[
        Case::cpu("adam", "1,000,000 parameters", || on_cpu(1_000_000)),
        Case::cpu("adam", "100,000 parameters", || on_cpu(100_000)),
        Case::kernels("adam", "all rows", |d, s| by_kernels::<f32>(d, s, 10_000)),
        Case::kernels("adam", "all rows", |d, s| by_kernels::<f32>(d, s, 1_000_000)),
        Case::kernels("adam", "all rows", |d, s| by_kernels::<bf16>(d, s, 1_000_000)),
    ],
    counted: &[Case::cpu("adam", "20,000 parameters", || on_cpu(20_000))],
    ..Operator::BARE
};

/// Widths of rows, some that no vector divides.
pub const DIMS: &[usize] = &[1, 5, 8, 64, 70];

/// What a parameter may be off by after a few steps.
pub fn tolerance(want: f64) -> f64 {
    1e-5 * (1.0 + want.abs())
}

fn check(device: &Device, [count, steps, dim]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let (adam, n) = (Adam::new(1e-2), count * dim);
    let start: Vec<f32> = draw(n, seed, 0);
    let mut oracle = oracle::State::new(wide(&start));
    let zeros = |label| Rows::zeros(device, Dtype::F32, count, dim, label);
    let mut p = Rows::upload(device, Dtype::F32, dim, &start, "p")?;
    let (mut m, mut v) = (zeros("m")?, zeros("v")?);
    let dtype = if narrow { Dtype::Bf16 } else { Dtype::F32 };
    for t in 1..=steps.min(5) as u64 {
        let g = Rows::upload(device, dtype, dim, &draw::<f32>(n, seed, t as u32), "g")?;
        oracle.step(&adam, &wide(&g.download()?), 0.0);
        let state = State { p: (&mut p).into(), m: (&mut m).into(), v: (&mut v).into() };
        step(device, &adam, t, state, (&g).into(), None)?;
    }
    Ok(errors(&p.download()?, &oracle.p, |i| tolerance(oracle.p[i])))
}

fn on_cpu(n: usize) -> Result<Prepared> {
    let count = host_sets(28.0 * n as f64);
    let g = normals(n, 0);
    let state = || (vec![0.5f32; n], g.clone(), vec![0.0f32; n], vec![0.0f32; n]);
    let mut states: Vec<_> = (0..count).map(|_| state()).collect();
    let (adam, mut t) = (Adam::new(1e-3), 0);
    Ok(Prepared::of(cost(n), count, move |i| {
        t += 1;
        let (p, g, m, v) = &mut states[i];
        step(&Device::Cpu, &adam, t, State::of(p, m, v), (&g[..], g.len()).into(), None).map(drop)
    }))
}

fn by_kernels<T: Storage>(device: &KernelDevice, scale: Scale, nodes: usize) -> Result<Prepared> {
    const DIM: usize = 64;
    let nodes = scale.of(nodes, 20);
    let n = sets(scale, (12 + size_of::<T>()) * nodes * DIM);
    let g = copies(rows::<T>(device, nodes, DIM, 1)?, n)?;
    let state = |_| -> Result<_> {
        let zeros = || DeviceRows::<f32>::zeros(device, nodes, DIM, "moments");
        Ok((rows::<f32>(device, nodes, DIM, 2)?, zeros()?, zeros()?))
    };
    let mut states = (0..n).map(state).collect::<Result<Vec<_>>>()?;
    let mut t = 0;
    let run = move |i: usize| {
        t += 1;
        let (p, m, v) = &mut states[i];
        kernel::step(&Adam::new(1e-3), t, kernel::Rows { p, m, v, weight: None, touched: None }, &g[i]).map(drop)
    };
    Ok(Prepared::new(T::NAME, &[("rows", nodes), ("width", DIM)], run).sets(n))
}
