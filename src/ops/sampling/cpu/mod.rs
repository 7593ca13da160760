//! Sampling on the CPU: a few vector passes over the vocabulary, and neither a list of it nor a
//! sort.
//!
//! The [`careful`] way is the definition in one fixed order of additions. The [`quick`] one adds up
//! in vectors, in another order, and knows how far apart the two sums can be. Where a choice lies
//! closer to its limit than that, it leaves the row to the careful one: so both draw the same
//! token, always.

mod careful;
mod quick;

use super::{Cut, errors};
use crate::error::Result;
use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Simd, Task, vectorized};

/// Weights summed together.
const BLOCK: usize = 64;

/// Room that is used again from token to token.
#[derive(Debug, Default)]
pub struct Sampler {
    /// `e^((logit - top) / temperature)`, zeros where something is cut; padded to whole blocks.
    weights: Vec<f32>,
    ids: Vec<u32>,
    /// Of each block of weights.
    sums: Vec<f64>,
}

/// `to = e^((x - top) / temperature)`; both padded to whole vectors.
struct Weigh<'a> {
    to: &'a mut [f32],
    top: f32,
    inverse: f32,
}

impl Task for Weigh<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for chunk in self.to.chunks_exact_mut(S::N) {
            // SAFETY: a chunk is one vector.
            unsafe {
                let x = S::sub(S::load(chunk.as_ptr()), S::splat(self.top));
                S::store(chunk.as_mut_ptr(), S::exp(S::mul(x, S::splat(self.inverse))));
            }
        }
    }
}

vectorized! {
    /// The largest value, and whether one is NaN.
    fn survey(logits: &[f32]) -> (f32, bool) {
        let (blocks, rest) = logits.as_chunks::<BLOCK>();
        let (mut top, mut nan) = ([f32::NEG_INFINITY; BLOCK], [0u32; BLOCK]);
        for block in blocks {
            for ((top, nan), &x) in top.iter_mut().zip(&mut nan).zip(block) {
                *top = if x > *top { x } else { *top };
                *nan |= u32::from(x.is_nan());
            }
        }
        let top = top.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        (top, nan.contains(&1) || rest.iter().any(|x| x.is_nan()))
    }
}

/// Checks the logits and returns the largest.
fn largest(logits: &[f32]) -> Result<f32> {
    match survey(logits) {
        (_, true) => Err(errors::nan()),
        (f32::INFINITY, _) => Err(errors::infinite()),
        (f32::NEG_INFINITY, _) => Err(errors::nothing()),
        (top, _) => Ok(top),
    }
}

/// The largest logit's id, the lowest on a tie.
pub fn greedy(logits: &[f32]) -> Result<u32> {
    let top = largest(logits)?;
    Ok(logits.iter().position(|&l| l == top).unwrap_or(0) as u32)
}

impl Sampler {
    /// See the contract. `u` is uniform in [0, 1).
    pub fn pick(&mut self, logits: &[f32], cut: Cut, u: f64) -> Result<u32> {
        let _timed = timed("sampling", || super::cost(logits.len()));
        if cut.temperature == 0.0 || cut.top_k == 1 {
            return greedy(logits);
        }
        let top = largest(logits)?;
        self.weigh(logits, top, cut.temperature);
        if let Some(token) = self.quick(logits, top, cut, u) {
            return Ok(token);
        }
        // What was cut has lost its weight.
        self.weigh(logits, top, cut.temperature);
        Ok(self.careful(logits, cut, u))
    }

    fn weigh(&mut self, logits: &[f32], top: f32, temperature: f32) {
        self.weights.clear();
        self.weights.extend_from_slice(logits);
        self.weights.resize(logits.len().next_multiple_of(BLOCK), f32::NEG_INFINITY);
        simd::run(simd::level(), Weigh { to: &mut self.weights, top, inverse: 1.0 / temperature });
    }
}

#[cfg(test)]
mod tests;
