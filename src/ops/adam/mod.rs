//! Adam (Kingma and Ba 2015, algorithm 1) with the bias corrections where PyTorch puts them.
//!
//! Cost: 28 bytes and about 12 FLOP a parameter.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

use serde::{Deserialize, Serialize};

use super::bpr::Penalty;
use crate::device::{Device, Place, View, ViewMut, mixed};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// The step's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Step size, above 0.
    pub learning_rate: f32,
    /// Decay of the first moment, 0 to 1.
    pub beta1: f32,
    /// Decay of the second moment, 0 to 1.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl Adam {
    /// The usual decays 0.9 and 0.999, epsilon 1e-8.
    pub fn new(learning_rate: f32) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// Step size and root factor of step number `t`, bias corrections included.
    fn corrected(&self, t: u64) -> (f32, f32) {
        let exponent = i32::try_from(t).unwrap_or(i32::MAX);
        let c1 = 1.0 - f64::from(self.beta1).powi(exponent);
        let c2 = 1.0 - f64::from(self.beta2).powi(exponent);
        ((f64::from(self.learning_rate) / c1) as f32, c2.sqrt() as f32)
    }
}

/// What a step changes: parameters with their first and second moments, at one place and of one
/// shape.
#[derive(Debug)]
pub struct State<'a> {
    /// Parameters.
    pub p: ViewMut<'a>,
    /// First moments.
    pub m: ViewMut<'a>,
    /// Second moments.
    pub v: ViewMut<'a>,
}

impl<'a> State<'a> {
    /// Of three lists on the CPU.
    pub fn of(p: &'a mut [f32], m: &'a mut [f32], v: &'a mut [f32]) -> Self {
        let of = |values: &'a mut [f32]| {
            let dim = values.len();
            ViewMut::Cpu { values, dim }
        };
        Self { p: of(p), m: of(m), v: of(v) }
    }
}

/// Cost of a step on `n` parameters.
pub fn cost(n: usize) -> Cost {
    Cost { bytes: 28.0 * n as f64, flops: 12.0 * n as f64 }
}

/// Step number `t` (from 1): updates the state from the gradient `g`, which may be stored in bf16
/// on a device with kernels. With a penalty row `r` gets the extra gradient `weight[r] * p` (the
/// derivative of `weight/2 |p|^2`).
///
/// # Errors
/// Shapes that differ, operands at different places, a device that fails.
pub fn step(
    device: &Device,
    adam: &Adam,
    t: u64,
    state: State<'_>,
    g: View<'_>,
    penalty: Option<Penalty<'_>>,
) -> Result<Cost> {
    let places = [Place::of(device), state.p.place(), state.m.place(), state.v.place(), g.place()];
    let apart = || mixed("adam", &places);
    match (device, state, g) {
        (
            Device::Cpu,
            State {
                p: ViewMut::Cpu { values: p, dim },
                m: ViewMut::Cpu { values: m, .. },
                v: ViewMut::Cpu { values: v, .. },
            },
            View::Cpu { values: g, .. },
        ) => {
            let weight = match penalty {
                None => &[][..],
                Some(Penalty::Cpu(weight)) => weight,
                Some(Penalty::Kernels(_)) => return Err(apart()),
            };
            let rows = p.len().checked_div(dim).unwrap_or(0);
            if [g.len(), m.len(), v.len()] != [p.len(); 3] || (penalty.is_some() && weight.len() != rows) {
                let what =
                    format!("gradient {}, moments {} and {}, weights {}", g.len(), m.len(), v.len(), weight.len());
                return Err(Error::failed("adam", format!("{what} do not fit {rows} x {dim} parameters")));
            }
            let n = p.len();
            cpu::step(adam, t, cpu::Rows { p, g, m, v, width: dim.max(1) }, weight);
            Ok(cost(n))
        }
        (Device::Kernels(_), State { p: ViewMut::F32(p), m: ViewMut::F32(m), v: ViewMut::F32(v) }, g) => {
            let weight = match penalty {
                None => None,
                Some(Penalty::Kernels(weight)) => Some(weight),
                Some(Penalty::Cpu(_)) => return Err(apart()),
            };
            let rows = kernel::Rows { p, m, v, weight, touched: None };
            match g {
                View::F32(g) => kernel::step(adam, t, rows, g),
                View::Bf16(g) => kernel::step(adam, t, rows, g),
                View::Cpu { .. } => Err(apart()),
            }
        }
        _ => Err(apart()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn matches_the_oracle_over_steps(
            start in prop::collection::vec(-2.0f32..2.0, 1..50),
            seed in 0u64..1000,
            weight in prop::sample::select(vec![0.0f32, 0.3]),
        ) {
            let adam = Adam::new(1e-2);
            let n = start.len();
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            let mut o = oracle::State::new(start.iter().map(|&x| f64::from(x)).collect());
            for t in 1..=5 {
                let g: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
                let state = State::of(&mut p, &mut m, &mut v);
                step(&Device::Cpu, &adam, t, state, (&g[..], n).into(), Some(Penalty::Cpu(&[weight]))).unwrap();
                o.step(&adam, &g.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), f64::from(weight));
            }
            for (a, b) in p.iter().zip(&o.p) {
                prop_assert!((f64::from(*a) - b).abs() <= 5e-6 * (1.0 + b.abs()), "{} and not {}", a, b);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let (mut p, mut m, mut v) = (vec![0.0; 6], vec![0.0; 6], vec![0.0; 5]);
        let adam = Adam::new(0.1);
        let g = [0.0; 6];
        assert!(step(&Device::Cpu, &adam, 1, State::of(&mut p, &mut m, &mut v), (&g[..], 6).into(), None).is_err());
        let mut v = vec![0.0; 6];
        let mut with = |weight: &[f32]| {
            let state = State::of(&mut p, &mut m, &mut v);
            step(&Device::Cpu, &adam, 1, state, (&g[..], 6).into(), Some(Penalty::Cpu(weight)))
        };
        assert!(with(&[0.1, 0.2]).is_err() && with(&[]).is_err() && with(&[0.1]).is_ok());
        let host = Device::Kernels(crate::device::KernelDevice::host(0));
        let state = State::of(&mut p, &mut m, &mut v);
        assert!(step(&host, &adam, 1, state, (&g[..], 6).into(), None).is_err(), "lists of the CPU on a device");
    }
}
