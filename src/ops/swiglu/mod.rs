//! SwiGLU (Shazeer, 2020): `y = silu(gate) * up`, `silu(g) = g / (1 + e^-g)`, element by element.
//!
//! Shapes: three slices of one length; y may take gate's place. Cost: about `12 n` FLOP, `12 n`
//! bytes.

mod backward;
pub mod cases;
pub(crate) mod cpu;
pub mod kernel;
pub mod oracle;

pub use backward::{swiglu_backward, swiglu_kept};

use crate::device::{Rows, mixed};
use crate::error::{Error, Result};

use crate::tensor::Cost;

/// Cost of `n` elements.
pub fn cost(n: usize) -> Cost {
    Cost { bytes: 12.0 * n as f64, flops: 12.0 * n as f64 }
}

/// `gate = silu(gate) up`, where nobody wants the gate any more.
///
/// # Errors
/// Shapes that differ, operands in different places.
pub fn swiglu_in_place(gate: &mut Rows, up: &Rows) -> Result<Cost> {
    let places = [gate.place(), up.place()];
    if (gate.rows(), gate.dim()) != (up.rows(), up.dim()) {
        let what = format!("gate of {} x {}, up of {} x {}", gate.rows(), gate.dim(), up.rows(), up.dim());
        return Err(Error::failed("swiglu", what));
    }
    match (gate, up) {
        (Rows::Cpu(gate), Rows::Cpu(up)) => {
            cpu::swiglu_in_place(gate.as_mut_slice(), up.as_slice());
            Ok(cost(up.as_slice().len()))
        }
        (Rows::F32(gate), Rows::F32(up)) => kernel::forward_in_place(gate, up),
        (Rows::Bf16(gate), Rows::Bf16(up)) => kernel::forward_in_place(gate, up),
        _ => Err(mixed("swiglu", &places)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::cpu::{swiglu, swiglu_in_place};
    use super::{cpu, oracle};
    use crate::tensor::simd::available;

    proptest! {
        #[test]
        fn cpu_is_the_oracle(n in 0usize..100, spread in 0.1f32..40.0, seed in 0u64..1000) {
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let gate: Vec<f32> = (0..n).map(|_| rng.normal() * spread).collect();
            let up: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
            let want = oracle::swiglu(&gate, &up);
            for level in available() {
                let mut got = gate.clone();
                cpu::in_place_at(level, &mut got, &up);
                for (i, (g, t)) in got.iter().zip(&want).enumerate() {
                    // Below 1e-30 the f32 exponential flushes to zero.
                    prop_assert!((f64::from(*g) - t).abs() <= 1e-6 * t.abs() + 1e-30, "{level:?} {i}: {g} {t}");
                }
            }
            let mut got = vec![f32::NAN; n];
            swiglu(&gate, &up, &mut got);
            let mut again = gate.clone();
            swiglu_in_place(&mut again, &up);
            prop_assert_eq!(got, again);
        }
    }

    #[test]
    fn extremes() {
        let mut g = [1e30, -1e30, f32::NAN, 0.0];
        swiglu_in_place(&mut g, &[1.0; 4]);
        assert_eq!((g[0], g[3]), (1e30, 0.0));
        assert!(g[1].abs() <= 1e-7 && g[2].is_nan(), "{g:?}");
    }
}
