//! Rotary position embedding (Su et al., 2021), half-split pairing: element i of a head turns with element
//! i + head_dim/2 by the angle `position * frequency_i`.
//!
//! Shapes: x (rows, heads, head_dim), in place; one position a row. Precondition: head_dim even. Cost: `3 rows
//! heads head_dim` FLOP, `8 rows heads head_dim` bytes. The inverse turn (negative angles) is also its backward.

mod backward;
pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

pub use backward::{Positions, Table};
pub use cpu::{Angles, Rope};

use serde::{Deserialize, Serialize};

use crate::tensor::Cost;

/// Llama-3.1's frequency scaling ("llama3" in config.json).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Wavelengths above `original_context / low_freq_factor` are divided by this.
    pub factor: f64,
    /// Low-frequency bound.
    pub low_freq_factor: f64,
    /// High-frequency bound: shorter wavelengths are untouched.
    pub high_freq_factor: f64,
    /// Context length of pre-training.
    pub original_context: usize,
}

/// Cost of one call.
pub fn cost(rows: usize, heads: usize, head_dim: usize) -> Cost {
    let n = (rows * heads * head_dim) as f64;
    Cost { bytes: 8.0 * n, flops: 3.0 * n }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LLAMA31: Scaling =
        Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };

    proptest! {
        #[test]
        fn cpu_is_the_oracle(
            heads in 1usize..4, half in 1usize..40, scaled: bool, seed in 0u64..1000,
            positions in proptest::collection::vec(0u32..100_000, 1..5),
        ) {
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let dim = 2 * half;
            let x: Vec<f32> = (0..positions.len() * heads * dim).map(|_| rng.normal()).collect();
            let scaling = scaled.then_some(LLAMA31);
            let rope = Rope::new(dim, 500_000.0, scaling);
            let angles = rope.angles(positions.iter().copied());
            let mut got = x.clone();
            angles.apply(&mut got, heads);
            let want = oracle::apply(&x, heads, dim, 500_000.0, scaling.as_ref(), &positions);
            for (g, w) in got.iter().zip(&want) {
                prop_assert!((f64::from(*g) - w).abs() <= 1e-6 * (1.0 + w.abs()), "{g} {w}");
            }
            angles.apply_inverse(&mut got, heads);
            for (g, w) in got.iter().zip(&x) {
                prop_assert!((g - w).abs() <= 2e-6 * (1.0 + w.abs()), "inverse {g} {w}");
            }
        }
    }

    #[test]
    fn scores_depend_on_distance_only() {
        let rope = Rope::new(8, 10_000.0, None);
        let score = |a: u32, b: u32| -> f32 {
            let (mut q, mut k) =
                ([1.0, 2.0, -1.0, 0.5, 0.3, -2.0, 1.5, 0.7], [0.2, -1.0, 0.4, 1.0, 2.0, 0.1, -0.3, 1.1]);
            rope.angles([a].into_iter()).apply(&mut q, 1);
            rope.angles([b].into_iter()).apply(&mut k, 1);
            q.iter().zip(&k).map(|(a, b)| a * b).sum()
        };
        assert!((score(5, 2) - score(1005, 1002)).abs() <= 1e-5);
        assert!((score(5, 2) - score(5, 3)).abs() > 1e-3);
    }

    #[test]
    fn scaling_leaves_short_waves_and_divides_long_ones() {
        let (plain, scaled) = (Rope::new(128, 5e5, None), Rope::new(128, 5e5, Some(LLAMA31)));
        let (p, s) = (plain.frequencies(), scaled.frequencies());
        assert_eq!(p[0], s[0]);
        assert!((s[63] * 8.0 - p[63]).abs() <= 1e-18);
        assert!(s.iter().zip(p).any(|(s, p)| *s < *p * 0.99 && *s > *p * 0.13), "a smooth part between");
    }
}
