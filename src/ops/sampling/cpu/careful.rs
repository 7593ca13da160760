//! The draw as it is defined: sums in one order, and a partial selection where something is cut.

use super::super::Cut;
use super::{BLOCK, Sampler};

/// Candidates sorted in the first try of a nucleus.
const FIRST: usize = 256;

impl Sampler {
    /// The token drawn from weights that are there.
    pub(super) fn careful(&mut self, logits: &[f32], cut: Cut, u: f64) -> u32 {
        if (cut.top_k > 0 && cut.top_k < logits.len()) || cut.top_p < 1.0 {
            self.cut(logits, cut);
        }
        self.walk(u)
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
