//! AdamW: its name, what it is checked on and measured with. It runs on the CPU, where adapters
//! are.

use super::{AdamW, oracle};
use crate::device::Device;
use crate::error::Result;
use crate::ops::adam;
use crate::ops::registry::{Case, Check, On, Operator, Prepared, Shape, draw, errors, host_sets, normals, wide};

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "adamw",
    room: "adamw",
    checks: &[Check::new("adamw", ["rows", "steps", "dim"], check).only(On::Cpu)],
    cases: &[Case::cpu("adamw", "1,000,000 parameters", || on_cpu(1_000_000))],
    counted: &[Case::cpu("adamw", "20,000 parameters", || on_cpu(20_000))],
    ..Operator::BARE
};

/// What a parameter may be off by after ten steps.
pub fn tolerance(want: f64) -> f64 {
    2e-6 * (1.0 + want.abs())
}

fn constants(step: u64) -> AdamW {
    AdamW { lr: 1e-2 / step as f64, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, step }
}

fn check(_: &Device, [rows, steps, dim]: Shape, _: bool, seed: u64) -> Result<Vec<f64>> {
    let n = rows * dim;
    let mut p: Vec<f32> = draw(n, seed, 0);
    let (mut m, mut v, mut oracle) = (vec![0.0; n], vec![0.0; n], oracle::State::new(wide(&p)));
    for step in 1..=steps.min(10) as u64 {
        let g: Vec<f32> = draw(n, seed, step as u32);
        constants(step).apply(&mut p, &g, &mut m, &mut v, 0.5)?;
        oracle.step(&constants(step), &wide(&g), 0.5);
    }
    Ok(errors(&p, &oracle.p, |i| tolerance(oracle.p[i])))
}

fn on_cpu(n: usize) -> Result<Prepared> {
    let count = host_sets(28.0 * n as f64);
    let g = normals(n, 0);
    let mut states: Vec<_> = (0..count).map(|_| (vec![0.5f32; n], vec![0.0f32; n], vec![0.0f32; n])).collect();
    let mut t = 0;
    Ok(Prepared::of(adam::cost(n), count, move |i| {
        t += 1;
        let (p, m, v) = &mut states[i];
        constants(t).apply(p, &g, m, v, 1.0).map(drop)
    }))
}
