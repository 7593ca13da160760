//! The same draw in vector passes.
//!
//! A cut is a rank, and ranks follow the logits: so a limit is found by halving, a pass a time. A
//! pass counts and weighs the tokens above a logit. When few are left between the two limits, those
//! alone are put in order.

use super::super::Cut;
use super::{BLOCK, Sampler};
use crate::tensor::simd::{self, Simd, Task};

/// Tokens that are put in order rather than halved again.
const FEW: u64 = 256;
/// Temperatures below the largest logit where weights are zero: beyond what [`Simd::exp`] gives.
const DEEP: f32 = 100.0;

/// Tokens above a logit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Above {
    count: u64,
    weight: f64,
}

const NOBODY: Above = Above { count: 0, weight: 0.0 };

/// The tokens whose logit is above `limit`.
struct Look<'a> {
    logits: &'a [f32],
    weights: &'a [f32],
    limit: f32,
}

impl Task for Look<'_> {
    type Out = Above;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Above {
        let from = self.limit.next_up();
        let whole = self.logits.len() / S::N * S::N;
        let mut all = NOBODY;
        // SAFETY: both hold `whole` values.
        unsafe {
            // A lane counts to 2^24, of a vocabulary of 2^27 tokens.
            let (mut sums, mut counts) = (S::zeros_wide(), S::splat(0.0));
            for i in (0..whole).step_by(S::N) {
                let x = S::load(self.logits.as_ptr().add(i));
                sums = S::add_wide(sums, S::keep_from(S::load(self.weights.as_ptr().add(i)), x, from));
                counts = S::add(counts, S::keep_from(S::splat(1.0), x, from));
            }
            all.weight += S::sum_wide(sums);
            all.count += S::sum_wide(S::add_wide(S::zeros_wide(), counts)) as u64;
        }
        for (_, &w) in self.logits.iter().zip(self.weights).skip(whole).filter(|(x, _)| **x >= from) {
            all.weight += f64::from(w);
            all.count += 1;
        }
        all
    }
}

/// The tokens with `low < logit <= high`, in the order of ids.
struct Between<'a> {
    logits: &'a [f32],
    low: f32,
    high: f32,
    ids: &'a mut Vec<u32>,
}

impl Task for Between<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.ids.clear();
        let (from, to) = (self.low.next_up(), self.high.next_up());
        for (n, block) in self.logits.chunks(BLOCK).enumerate() {
            if block.len() == BLOCK {
                // SAFETY: a block is a number of whole vectors.
                let any = unsafe {
                    let mut any = S::splat(0.0);
                    for i in (0..BLOCK).step_by(S::N) {
                        let x = S::load(block.as_ptr().add(i));
                        let inside = S::sub(S::keep_from(S::splat(1.0), x, from), S::keep_from(S::splat(1.0), x, to));
                        any = S::max(any, inside);
                    }
                    S::largest(any) > 0.0
                };
                if !any {
                    continue;
                }
            }
            for (i, &x) in block.iter().enumerate() {
                if from <= x && x < to {
                    self.ids.push((n * BLOCK + i) as u32);
                }
            }
        }
    }
}

/// Takes the weight of tokens whose logit is not above `limit`.
struct Clear<'a> {
    logits: &'a [f32],
    weights: &'a mut [f32],
    limit: f32,
}

impl Task for Clear<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let from = self.limit.next_up();
        let whole = self.logits.len() / S::N * S::N;
        // SAFETY: both hold `whole` values.
        unsafe {
            for i in (0..whole).step_by(S::N) {
                let w = self.weights.as_mut_ptr().add(i);
                S::store(w, S::keep_from(S::load(w), S::load(self.logits.as_ptr().add(i)), from));
            }
        }
        for (w, _) in self.weights.iter_mut().zip(self.logits).skip(whole).filter(|(_, x)| **x < from) {
            *w = 0.0;
        }
    }
}

/// The sum of each block.
struct Blocks<'a> {
    weights: &'a [f32],
    sums: &'a mut Vec<f64>,
}

impl Task for Blocks<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.sums.clear();
        for block in self.weights.chunks_exact(BLOCK) {
            // SAFETY: a block is a number of whole vectors.
            unsafe {
                let mut sums = S::zeros_wide();
                for i in (0..BLOCK).step_by(S::N) {
                    sums = S::add_wide(sums, S::load(block.as_ptr().add(i)));
                }
                self.sums.push(S::sum_wide(sums));
            }
        }
    }
}

/// How far two sums of the same `n` weights, at most `total`, or limits made of them, can be apart
/// when they are added up in different orders: each is within `n 2^-53` of the true one.
fn apart(n: usize, total: f64) -> f64 {
    4.0 * n as f64 * f64::EPSILON * total
}

/// Halves `low .. high` until few tokens are between, or all of one logit. `beyond` says whether
/// the limit is at or below a logit with these tokens above it, and nothing where that cannot be
/// told; it is true for `low` and false for `high`.
fn halve(
    (mut low, mut high): ((f32, Above), (f32, Above)),
    look: impl Fn(f32) -> Above,
    beyond: impl Fn(Above) -> Option<bool>,
) -> Option<(f32, (f32, Above))> {
    while low.1.count - high.1.count > FEW {
        let middle = low.0 / 2.0 + high.0 / 2.0;
        if !(low.0 < middle && middle < high.0) {
            break;
        }
        let at = look(middle);
        if beyond(at)? {
            low = (middle, at);
        } else {
            high = (middle, at);
        }
    }
    Some((low.0, high))
}

impl Sampler {
    /// The token that [`Self::careful`] draws, from weights that are there; nothing where the order
    /// of additions could decide.
    pub(super) fn quick(&mut self, logits: &[f32], top: f32, cut: Cut, u: f64) -> Option<u32> {
        if cut.top_k > 0 && cut.top_k < logits.len() {
            self.keep_first(logits, top, cut)?;
        }
        if cut.top_p < 1.0 {
            self.keep_nucleus(logits, top, cut)?;
        }
        self.walk_quickly(u)
    }

    /// Keeps the weights of the first `top_k` tokens.
    fn keep_first(&mut self, logits: &[f32], top: f32, cut: Cut) -> Option<()> {
        let (k, weights) = (cut.top_k as u64, &self.weights);
        let look = |limit| simd::run(simd::level(), Look { logits, weights, limit });
        // What is forbidden has no weight to lose.
        if look(f32::NEG_INFINITY).count <= k {
            return Some(());
        }
        let (mut deep, mut low) = (cut.temperature, (top, NOBODY));
        while low.1.count < k {
            let limit = (top - deep).min(top.next_down());
            if !limit.is_finite() {
                return None;
            }
            low = (limit, look(limit));
            deep *= 4.0;
        }
        let high = (top, NOBODY);
        let (low, high) = halve((low, high), look, |at| Some(at.count >= k))?;
        self.in_order(logits, low, high.0);
        let kept = (k - high.1.count) as usize;
        self.drop_others(logits, low, kept);
        Some(())
    }

    /// Keeps the weights of the nucleus.
    fn keep_nucleus(&mut self, logits: &[f32], top: f32, cut: Cut) -> Option<()> {
        let weights = &self.weights;
        let look = |limit| simd::run(simd::level(), Look { logits, weights, limit });
        let total = look(f32::NEG_INFINITY).weight;
        let (goal, apart) = (cut.top_p * total, apart(logits.len(), total));
        let beyond = |at: Above| match at.weight - goal {
            d if d > apart => Some(true),
            d if d < -apart => Some(false),
            _ => None,
        };
        // Tokens of less than the average of what may be left out can all be left out.
        let light = (1.0 - cut.top_p) * total / logits.len() as f64;
        let guess = top + cut.temperature * (light.ln() as f32).max(-DEEP);
        let deepest = (top - DEEP * cut.temperature).min(top.next_down());
        let mut low = None;
        for limit in [guess, deepest] {
            if limit < top && limit.is_finite() {
                let at = look(limit);
                if beyond(at) == Some(true) {
                    low = Some((limit, at));
                    break;
                }
            }
        }
        let high = (top, NOBODY);
        if beyond(high.1)? {
            return None;
        }
        let (low, high) = halve((low?, high), look, beyond)?;
        self.in_order(logits, low, high.0);
        let mut sum = high.1.weight;
        let last = self.ids.iter().position(|&i| {
            sum += f64::from(self.weights[i as usize]);
            sum - goal >= -apart
        })?;
        if sum - goal <= apart {
            return None;
        }
        self.drop_others(logits, low, last + 1);
        Some(())
    }

    /// The tokens with `low < logit <= high` by rank.
    fn in_order(&mut self, logits: &[f32], low: f32, high: f32) {
        simd::run(simd::level(), Between { logits, low, high, ids: &mut self.ids });
        // Those of one logit are in order already.
        self.ids.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    }

    /// Takes the weights of tokens at or below `low`, and of those in order behind the first
    /// `kept`.
    fn drop_others(&mut self, logits: &[f32], low: f32, kept: usize) {
        simd::run(simd::level(), Clear { logits, weights: &mut self.weights, limit: low });
        for &i in &self.ids[kept..] {
            self.weights[i as usize] = 0.0;
        }
    }

    /// The first id at which the running sum exceeds u times the total.
    fn walk_quickly(&mut self, u: f64) -> Option<u32> {
        simd::run(simd::level(), Blocks { weights: &self.weights, sums: &mut self.sums });
        let total: f64 = self.sums.iter().sum();
        let (goal, apart) = (u * total, apart(self.weights.len(), total));
        let mut before = 0.0;
        for (n, (sum, weights)) in self.sums.iter().zip(self.weights.as_chunks::<BLOCK>().0).enumerate() {
            // Blocks without a doubt are passed by; in others doubt is looked for at each token.
            if before + sum - goal < -apart {
                before += sum;
                continue;
            }
            let mut at = before;
            for (i, &w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                at += f64::from(w);
                match at - goal {
                    d if d > apart => return Some((n * BLOCK + i) as u32),
                    d if d >= -apart => return None,
                    _ => {}
                }
            }
            before += sum;
        }
        None
    }
}
