//! Rotary position embedding (Su et al., 2021), half-split pairing: element i of a head turns with
//! element i + head_dim/2 by the angle `position * frequency_i`.
//!
//! Shapes: x (rows, heads, head_dim), in place; one position a row. Precondition: head_dim even.
//! Cost: `3 rows heads head_dim` FLOP, `8 rows heads head_dim` bytes. The inverse turn (negative
//! angles) is also its backward.

pub mod cases;
mod frequencies;
pub mod kernel;
pub mod oracle;
mod table;

pub use frequencies::Rope;
pub use table::{Positions, Table};

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
    use crate::device::{Device, Rows};
    use crate::tensor::Matrix;

    const LLAMA31: Scaling =
        Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };

    proptest! {
        #[test]
        fn cpu_is_the_oracle(
            heads in 1usize..4, half in 1usize..40, scaled: bool, seed in 0u64..1000,
            positions in proptest::collection::vec(0u32..2_000, 1..5),
        ) {
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let dim = 2 * half;
            let x: Vec<f32> = (0..positions.len() * heads * dim).map(|_| rng.normal()).collect();
            let scaling = scaled.then_some(LLAMA31);
            let rope = Rope::new(dim, 500_000.0, scaling);
            let mut table = Table::new(&Device::Cpu, rope);
            table.grow(2_000).unwrap();
            let mut rows = Rows::Cpu(Matrix::from_vec(positions.len(), heads * dim, x.clone()).unwrap());
            let on_cpu = Positions::Cpu(positions.clone());
            table.rope(&mut rows, &on_cpu).unwrap();
            let got = rows.download().unwrap();
            let want = oracle::apply(&x, heads, dim, 500_000.0, scaling.as_ref(), &positions);
            for (g, w) in got.iter().zip(&want) {
                prop_assert!((f64::from(*g) - w).abs() <= 1e-6 * (1.0 + w.abs()), "{g} {w}");
            }
            table.rope_backward(&mut rows, &on_cpu).unwrap();
            for (g, w) in rows.download().unwrap().iter().zip(&x) {
                prop_assert!((g - w).abs() <= 2e-6 * (1.0 + w.abs()), "inverse {g} {w}");
            }
        }
    }

    /// Angles of far positions come from f64.
    #[test]
    fn a_far_position_is_as_exact_as_a_near_one() {
        let x: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
        let mut table = Table::new(&Device::Cpu, Rope::new(16, 500_000.0, None));
        table.grow(100_000).unwrap();
        let mut row = Rows::Cpu(Matrix::from_vec(1, 16, x.clone()).unwrap());
        table.rope(&mut row, &Positions::Cpu(vec![99_999])).unwrap();
        let want = oracle::apply(&x, 1, 16, 500_000.0, None, &[99_999]);
        for (g, w) in row.download().unwrap().iter().zip(&want) {
            assert!((f64::from(*g) - w).abs() <= 1e-6 * (1.0 + w.abs()), "{g} {w}");
        }
    }

    #[test]
    fn scores_depend_on_distance_only() {
        let mut table = Table::new(&Device::Cpu, Rope::new(8, 10_000.0, None));
        table.grow(2000).unwrap();
        let turned = |x: [f32; 8], position: u32| {
            let mut row = Rows::Cpu(Matrix::from_vec(1, 8, x.to_vec()).unwrap());
            table.rope(&mut row, &Positions::Cpu(vec![position])).unwrap();
            row.download().unwrap()
        };
        let score = |a: u32, b: u32| -> f32 {
            let q = turned([1.0, 2.0, -1.0, 0.5, 0.3, -2.0, 1.5, 0.7], a);
            let k = turned([0.2, -1.0, 0.4, 1.0, 2.0, 0.1, -0.3, 1.1], b);
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
