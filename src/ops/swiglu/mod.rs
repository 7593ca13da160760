//! SwiGLU (Shazeer, 2020): `y = silu(gate) * up`, `silu(g) = g / (1 + e^-g)`, element by element.
//!
//! Shapes: three slices of one length; y may take gate's place. Cost: about `12 n` FLOP, `12 n` bytes.

mod backward;
mod cpu;
pub mod cuda;
pub mod oracle;

pub use backward::{swiglu_backward, swiglu_kept};
pub use cpu::{swiglu, swiglu_in_place};

use crate::tensor::Cost;

/// Cost of `n` elements.
pub fn cost(n: usize) -> Cost {
    Cost { bytes: 12.0 * n as f64, flops: 12.0 * n as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
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
