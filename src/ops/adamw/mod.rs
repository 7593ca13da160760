//! AdamW (Loshchilov & Hutter, 2019) with PyTorch's order of operations: `p -= lr wd p`, then `m =
//! b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 -
//! b2^t) + eps)`.
//!
//! Cost: 16 bytes read and 12 written an element.

pub mod cases;
pub mod oracle;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::vectorized;

/// Constants of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

vectorized! {
    fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: [f32; 7]) {
        let [keep, b1, b2, root, eps, size, scale] = c;
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * scale;
            *m += (g - *m) * (1.0 - b1);
            *v = *v * b2 + g * g * (1.0 - b2);
            *p = *p * keep - size * (*m / (v.sqrt() / root + eps));
        }
    }
}

impl AdamW {
    /// One update with gradient `scale g` (`scale` carries the clipping).
    ///
    /// # Errors
    /// Slices of different lengths.
    pub fn apply(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], scale: f32) -> Result<Cost> {
        let _timed = timed("adamw", || crate::ops::adam::cost(p.len()));
        let count = p.len();
        if [g.len(), m.len(), v.len()] != [count; 3] {
            let what = format!("{count} parameters, {} gradients, moments of {} and {}", g.len(), m.len(), v.len());
            return Err(Error::failed("adamw", what));
        }
        let t = self.step as f64;
        let constants = [
            (1.0 - self.lr * self.weight_decay) as f32,
            self.betas.0 as f32,
            self.betas.1 as f32,
            (1.0 - self.betas.1.powf(t)).sqrt() as f32,
            self.eps as f32,
            (self.lr / (1.0 - self.betas.0.powf(t))) as f32,
            scale,
        ];
        let n = 1 << 15;
        (p.par_chunks_mut(n), g.par_chunks(n), m.par_chunks_mut(n), v.par_chunks_mut(n))
            .into_par_iter()
            .for_each(|(p, g, m, v)| update(p, g, m, v, constants));
        Ok(crate::ops::adam::cost(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_steps_match_the_formula_in_f64() {
        let n = 37;
        let mut p: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
        let (mut m, mut v) = (vec![0.0f32; n], vec![0.0f32; n]);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let mut want = oracle::State::new(wide(&p));
        for step in 1..=10u64 {
            let g: Vec<f32> = (0..n).map(|i| ((i as f32 + 1.3) * step as f32).cos()).collect();
            let adam = AdamW { lr: 1e-2 / step as f64, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, step };
            adam.apply(&mut p, &g, &mut m, &mut v, 0.5).unwrap();
            assert!(adam.apply(&mut p, &g[1..], &mut m, &mut v, 0.5).is_err());
            want.step(&adam, &wide(&g), 0.5);
        }
        for (p, w) in p.iter().zip(&want.p) {
            assert!((f64::from(*p) - w).abs() <= cases::tolerance(*w), "{p} against {w}");
        }
    }
}
