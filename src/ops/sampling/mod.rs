//! The next token from logits: temperature, then top-k, then top-p (nucleus), then one uniform
//! number by inverse transform in the order of the vocabulary.
//!
//! Definition. Order tokens by (logit descending, id ascending). Weights are `e^((logit - max) /
//! temperature)`. Keep the first `top_k` (0: all) and of them the shortest prefix with at least
//! `top_p` of their weight. With u in [0, 1) the token is the first one, by id, at which the
//! running sum of kept weights exceeds u times their total. Temperature 0 is greedy: the largest
//! logit, the lowest id on a tie.
//!
//! One number a token (and not one Gumbel number for each entry of the vocabulary) keeps the draw
//! cheap and the same on every device. -inf is a forbidden token; NaN, +inf and "everything
//! forbidden" are errors.
//!
//! Cost: about 20 FLOP and 8 bytes for each entry of the vocabulary.

pub mod cases;
mod cpu;
mod errors;
pub mod kernel;
pub mod oracle;
mod placed;

pub use cpu::{Sampler, greedy};
pub use kernel::Draw;
pub use placed::sample;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::Cost;

/// How the distribution is cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// In (0, 1]; 1 keeps all.
    pub top_p: f64,
}

impl Cut {
    /// Refuses values out of range; `place` names where they come from.
    pub fn check(&self, place: &str) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let what = format!("{} is no temperature", self.temperature);
            return Err(Error::usage(format!("{place}.temperature"), what).next("use 0 (greedy) or a positive number"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let what = format!("{} is not in (0, 1]", self.top_p);
            return Err(Error::usage(format!("{place}.top_p"), what).next("use 1 to keep all tokens"));
        }
        Ok(())
    }
}

/// Cost of one row.
pub fn cost(vocab: usize) -> Cost {
    Cost { bytes: 8.0 * vocab as f64, flops: 20.0 * vocab as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Rng, Use};

    fn pick(logits: &[f32], cut: Cut, u: f64) -> Result<u32> {
        Sampler::default().pick(logits, cut, u)
    }

    proptest! {
        #[test]
        fn cpu_is_the_oracle(
            n in 1usize..3000, temperature in 0.2f32..2.0, top_k in 0usize..60, top_p in 0.05f64..1.0,
            all: bool, u in 0.0f64..1.0, seed in 0u64..1000, ties: bool,
        ) {
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let mut logits: Vec<f32> = (0..n).map(|_| rng.normal() * 3.0).collect();
            if ties {
                logits.iter_mut().for_each(|l| *l = l.round());
            }
            if n > 3 {
                logits[2] = f32::NEG_INFINITY;
            }
            let cut = Cut { temperature, top_k, top_p: if all { 1.0 } else { top_p } };
            let token = pick(&logits, cut, u).unwrap() as usize;
            let intervals = oracle::intervals(&logits, cut);
            // A token at the edge of the nucleus may differ by rounding when top_p falls on its
            // edge.
            if oracle::edge(&logits, cut) > 1e-5 {
                let (low, high) = intervals[token];
                prop_assert!(high > low, "token {token} is not kept");
                prop_assert!(low - 1e-5 <= u && u <= high + 1e-5, "{token}: {low} <= {u} <= {high}");
            }
            prop_assert!(logits[token] > f32::NEG_INFINITY);
            let best = pick(&logits, Cut { temperature: 0.0, ..cut }, u).unwrap();
            let one = pick(&logits, Cut { top_k: 1, ..cut }, u).unwrap();
            prop_assert_eq!(best, one);
            prop_assert_eq!(best as usize, oracle::greedy(&logits));
        }
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.1f32.ln(), 0.2f32.ln(), f32::NEG_INFINITY, 0.7f32.ln()];
        let cut = Cut { temperature: 1.0, top_k: 0, top_p: 1.0 };
        let mut counts = [0u32; 4];
        for i in 0..10_000 {
            let u = Rng::new(3, Use::Token, 0, 0).at(i).uniform_f64();
            counts[pick(&logits, cut, u).unwrap() as usize] += 1;
        }
        for (count, want) in counts.iter().zip([1000.0, 2000.0, 0.0, 7000.0]) {
            assert!((f64::from(*count) - want).abs() <= 200.0, "{counts:?}");
        }
    }

    #[test]
    fn unusable_logits_and_settings_are_errors() {
        let cut = Cut { temperature: 1.0, top_k: 0, top_p: 1.0 };
        for bad in [vec![], vec![1.0, f32::NAN], vec![f32::INFINITY, 0.0], vec![f32::NEG_INFINITY; 3]] {
            for temperature in [0.0, 1.0] {
                let error = pick(&bad, Cut { temperature, ..cut }, 0.5).unwrap_err();
                assert!(!error.what().is_empty() && !error.next_step().is_empty());
            }
        }
        for bad in [Cut { temperature: -1.0, ..cut }, Cut { temperature: f32::NAN, ..cut }, Cut { top_p: 0.0, ..cut }] {
            assert!(bad.check("sampling").is_err(), "{bad:?}");
        }
        assert!(cut.check("sampling").is_ok());
    }

    #[test]
    fn the_ends_of_u_pick_kept_tokens() {
        let cut = Cut { temperature: 1.0, top_k: 2, top_p: 1.0 };
        assert_eq!(pick(&[0.0, 5.0, 1.0, 4.0], cut, 0.0).unwrap(), 1);
        assert_eq!(pick(&[0.0, 5.0, 1.0, 4.0], cut, 1.0 - 1e-16).unwrap(), 3);
        assert_eq!(pick(&[1.0, 1.0, 1.0], Cut { top_k: 2, ..cut }, 0.999).unwrap(), 1, "ties: the lower id is kept");
    }
}
