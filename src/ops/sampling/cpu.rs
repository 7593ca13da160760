//! Sampling on the CPU: one vector pass for the weights, one for their sums; a partial selection
//! where something is cut, never a sort of the whole vocabulary.

use super::{Cut, errors};
use crate::error::Result;
use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Simd, Task};

/// Weights summed together.
const BLOCK: usize = 64;
/// Candidates sorted in the first try of a nucleus.
const FIRST: usize = 256;

/// Room that is used again from token to token.
#[derive(Debug, Default)]
pub struct Sampler {
    weights: Vec<f32>,
    ids: Vec<u32>,
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

/// Checks the logits and returns the largest.
fn largest(logits: &[f32]) -> Result<f32> {
    if logits.iter().any(|l| l.is_nan()) {
        return Err(errors::nan());
    }
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if top == f32::INFINITY {
        return Err(errors::infinite());
    }
    if top == f32::NEG_INFINITY {
        return Err(errors::nothing());
    }
    Ok(top)
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
        self.weights.clear();
        self.weights.extend_from_slice(logits);
        self.weights.resize(logits.len().next_multiple_of(BLOCK), f32::NEG_INFINITY);
        simd::run(simd::level(), Weigh { to: &mut self.weights, top, inverse: 1.0 / cut.temperature });
        if (cut.top_k > 0 && cut.top_k < logits.len()) || cut.top_p < 1.0 {
            self.cut(logits, cut);
        }
        Ok(self.walk(u))
    }

    /// Sets the weights of everything that is not kept to zero.
    fn cut(&mut self, logits: &[f32], cut: Cut) {
        let by_rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        self.ids.clear();
        self.ids.extend(0..logits.len() as u32);
        let mut limit = logits.len();
        if cut.top_k > 0 && cut.top_k < limit {
            limit = cut.top_k;
            self.ids.select_nth_unstable_by(limit - 1, by_rank);
            self.ids.truncate(limit);
        }
        if cut.top_p < 1.0 {
            let total: f64 = self.ids.iter().map(|&i| f64::from(self.weights[i as usize])).sum();
            let (goal, mut tried) = (cut.top_p * total, FIRST.min(limit));
            loop {
                if tried < limit {
                    self.ids.select_nth_unstable_by(tried - 1, by_rank);
                }
                self.ids[..tried].sort_unstable_by(by_rank);
                let mut sum = 0.0;
                let reached = self.ids[..tried].iter().position(|&i| {
                    sum += f64::from(self.weights[i as usize]);
                    sum >= goal
                });
                if let Some(last) = reached {
                    self.ids.truncate(last + 1);
                    break;
                }
                if tried == limit {
                    break;
                }
                tried = (tried * 8).min(limit);
            }
        }
        self.ids.sort_unstable();
        let mut kept = self.ids.iter().copied().peekable();
        for (i, w) in self.weights.iter_mut().enumerate() {
            if kept.next_if_eq(&(i as u32)).is_none() {
                *w = 0.0;
            }
        }
    }

    /// The first id at which the running sum exceeds u times the total.
    fn walk(&self, u: f64) -> u32 {
        let block = |b: &[f32]| b.iter().map(|&w| f64::from(w)).sum::<f64>();
        let total: f64 = self.weights.chunks_exact(BLOCK).map(block).sum();
        let goal = u * total;
        let (mut before, mut last) = (0.0, 0);
        for (n, weights) in self.weights.chunks_exact(BLOCK).enumerate() {
            let sum = block(weights);
            let mut at = before;
            if before + sum > goal {
                for (i, _) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                    last = n * BLOCK + i;
                    at += f64::from(weights[i]);
                    if at > goal {
                        break;
                    }
                }
                return last as u32;
            }
            if let Some(i) = weights.iter().rposition(|&w| w > 0.0) {
                last = n * BLOCK + i;
            }
            before += sum;
        }
        last as u32
    }
}
