//! Logits of two answers and the log-sum-exp of the whole vocabulary, without the vocabulary's
//! logits in memory: panels of the output head stream by and leave a (maximum, sum) each.
//!
//! Shapes: hidden (M, width), already normed; head (vocab, width). Precondition: ids below vocab.
//! Cost: that of the product with the head, less its output: `2 M vocab width` FLOP, `bytes(head) +
//! 4 M width` bytes.

pub(crate) mod cpu;
pub mod kernel;
pub mod oracle;
mod placed;

pub use placed::choose;

use serde::{Deserialize, Serialize};

use crate::ops::linear::Weight;
use crate::tensor::Cost;

/// What the model says about two answers at one position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Logits of the first and the second answer ("Yes", "No").
    pub logits: [f32; 2],
    /// log sum over the vocabulary of e^logit.
    pub log_sum_exp: f64,
}

impl Choice {
    /// Probability of the first answer when only the two compete: `sigmoid(first - second)`.
    pub fn two_way(&self) -> f64 {
        1.0 / (1.0 + (-self.margin()).exp())
    }

    /// Log odds of the first answer when only the two compete.
    pub fn margin(&self) -> f64 {
        f64::from(self.logits[0]) - f64::from(self.logits[1])
    }

    /// Probabilities of both answers among the whole vocabulary.
    pub fn probabilities(&self) -> [f64; 2] {
        self.logits.map(|l| (f64::from(l) - self.log_sum_exp).exp())
    }

    /// How much of the probability the two answers hold together; little means the model says
    /// something else.
    pub fn mass(&self) -> f64 {
        self.probabilities().iter().sum()
    }
}

/// Cost of M rows.
pub fn cost(head: &Weight, rows: usize) -> Cost {
    let m = rows as f64;
    let (vocab, width) = (head.rows() as f64, head.cols() as f64);
    Cost { bytes: head.bytes() as f64 + 4.0 * m * width, flops: 2.0 * m * vocab * width }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Rng, Use};

    proptest! {
        #![proptest_config(crate::testing::cases(32))]
        #[test]
        fn cpu_is_the_oracle(m in 1usize..5, vocab in 2usize..1500, seed in 0u64..1000, scale in 0.1f32..8.0) {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let hidden: Vec<f32> = (0..m * 12).map(|_| rng.normal() * scale).collect();
            let values: Vec<f32> = (0..vocab * 12).map(|_| rng.normal()).collect();
            let ids = [rng.below(vocab as u32), rng.below(vocab as u32)];
            let want = oracle::choose(&hidden, &values, 12, ids);
            let head = Weight::from_f32(vocab, 12, values).unwrap();
            for (g, w) in cpu::choose(&hidden, &head, ids).iter().zip(&want) {
                prop_assert!((f64::from(g.logits[0]) - w.0[0]).abs() <= 1e-4);
                prop_assert!((f64::from(g.logits[1]) - w.0[1]).abs() <= 1e-4);
                prop_assert!((g.log_sum_exp - w.1).abs() <= 1e-4, "{} {}", g.log_sum_exp, w.1);
                prop_assert!((0.0..=1.0).contains(&g.two_way()));
            }
        }
    }

    #[test]
    fn probabilities_of_a_known_case() {
        let choice = Choice { logits: [0.9f32.ln(), 0.1f32.ln()], log_sum_exp: 0.0 };
        assert!((choice.two_way() - 0.9).abs() <= 1e-7 && (choice.mass() - 1.0).abs() <= 1e-7);
    }

    #[test]
    fn nan_is_not_hidden() {
        let head = Weight::from_f32(3, 1, vec![1.0, 2.0, f32::NAN]).unwrap();
        assert!(cpu::choose(&[1.0], &head, [0, 1])[0].log_sum_exp.is_nan());
    }
}
