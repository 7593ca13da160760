//! RMSNorm (Zhang and Sennrich, 2019): `y_i = w_i x_i / sqrt(mean_j x_j^2 + eps)`, each row for
//! itself.
//!
//! Shapes: x, y (rows, width), w (width). Precondition: width > 0. Cost: `4 rows * width` FLOP, `8
//! rows * width + 4 width` bytes.

mod backward;
pub mod cases;
pub(crate) mod cpu;
pub mod kernel;
pub mod oracle;
mod placed;

pub use backward::{Kept, Weight, rmsnorm_again, rmsnorm_backward, rmsnorm_kept};
pub use placed::{rmsnorm, rmsnorm_in_place};

use crate::tensor::Cost;

/// Cost of `rows` rows.
pub fn cost(rows: usize, width: usize) -> Cost {
    let (rows, width) = (rows as f64, width as f64);
    Cost { bytes: 8.0 * rows * width + 4.0 * width, flops: 4.0 * rows * width }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::simd::available;

    proptest! {
        #[test]
        fn cpu_is_the_oracle(rows in 1usize..9, width in 1usize..90, scale in -3i32..4, seed in 0u64..1000) {
            let mut rng = crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0);
            let x: Vec<f32> = (0..rows * width).map(|_| rng.normal() * 10f32.powi(scale)).collect();
            let w: Vec<f32> = (0..width).map(|_| rng.normal()).collect();
            let want = oracle::rmsnorm(&x, &w, 1e-5);
            for level in available() {
                let mut got = vec![f32::NAN; x.len()];
                cpu::rmsnorm_at(level, &x, &w, 1e-5, &mut got);
                for (i, (g, t)) in got.iter().zip(&want).enumerate() {
                    prop_assert!((f64::from(*g) - t).abs() <= 2e-6 * t.abs().max(1e-3), "{level:?} {i}: {g} {t}");
                }
            }
            let (mut got, mut again) = (vec![0.0; x.len()], x.clone());
            cpu::rmsnorm(&x, &w, 1e-5, &mut got);
            cpu::rmsnorm_in_place(&mut again, &w, 1e-5);
            prop_assert_eq!(&got, &again);
        }
    }

    #[test]
    fn a_zero_row_stays_zero_and_nan_is_not_hidden() {
        let mut y = [1.0f32; 6];
        cpu::rmsnorm(&[0.0, 0.0, 0.0, 1.0, f32::NAN, 1.0], &[1.0; 3], 1e-5, &mut y);
        assert_eq!(y[..3], [0.0; 3]);
        assert!(y[3..].iter().all(|v| v.is_nan()));
    }
}
