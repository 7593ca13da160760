//! The choice on the CPU.

use rayon::prelude::*;

use super::Choice;
use crate::ops::linear::{Weight, matmul_nt_panel};
use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Simd, Task};
use crate::tensor::soft_cap::soft_cap;

/// Rows of the head in a panel; fixed, so that the order of additions is.
const PANEL: usize = 768;

/// (maximum, sum of e^(x - maximum)) of a slice.
struct Partial<'a>(&'a [f32]);

impl Task for Partial<'_> {
    type Out = (f32, f32);
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let (x, n) = (self.0, self.0.len());
        let whole = n / S::N * S::N;
        let top = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
        // SAFETY: lanes stay below n; the tail is padded to a vector.
        unsafe {
            let mut sum = S::splat(0.0);
            for i in (0..whole).step_by(S::N) {
                sum = S::add(sum, S::exp(S::sub(S::load(x.as_ptr().add(i)), S::splat(top))));
            }
            let mut tail = [f32::NEG_INFINITY; 16];
            tail[..n - whole].copy_from_slice(&x[whole..]);
            sum = S::add(sum, S::exp(S::sub(S::load(tail.as_ptr()), S::splat(top))));
            (top, S::sum(sum))
        }
    }
}

/// See the contract: one choice for each row of `hidden`. Panics when the shapes or ids do not fit.
pub fn choose(hidden: &[f32], head: &Weight, ids: [u32; 2]) -> Vec<Choice> {
    capped_choose(hidden, (head, None), ids)
}

/// As [`choose`], with a soft cap of the logits.
pub fn capped_choose(hidden: &[f32], (head, cap): (&Weight, Option<f32>), ids: [u32; 2]) -> Vec<Choice> {
    let _timed = timed("choose", || super::cost(head, hidden.len() / head.cols().max(1)));
    let (vocab, width) = (head.rows(), head.cols());
    assert!(width > 0 && hidden.len().is_multiple_of(width), "choose: {} values, width {width}", hidden.len());
    assert!(ids.iter().all(|&i| (i as usize) < vocab), "choose: ids {ids:?}, vocabulary {vocab}");
    let (m, level) = (hidden.len() / width, simd::level());
    let panel = |p: usize| {
        let range = p * PANEL..((p + 1) * PANEL).min(vocab);
        let mut logits = vec![0.0f32; m * range.len()];
        matmul_nt_panel(hidden, head, range.clone(), &mut logits);
        if let Some(cap) = cap {
            soft_cap(&mut logits, cap);
        }
        let rows = logits.chunks_exact(range.len()).map(|row| {
            let picked = ids.map(|i| range.contains(&(i as usize)).then(|| row[i as usize - range.start]));
            (simd::run(level, Partial(row)), picked)
        });
        rows.collect::<Vec<_>>()
    };
    let panels: Vec<_> = (0..vocab.div_ceil(PANEL)).into_par_iter().map(panel).collect();
    (0..m)
        .map(|row| {
            let mut logits = [f32::NAN; 2];
            let mut top = f64::NEG_INFINITY;
            for ((t, _), picked) in panels.iter().map(|p| p[row]) {
                top = if t.is_nan() { f64::NAN } else { f64::from(t).max(top) };
                for (l, p) in logits.iter_mut().zip(picked) {
                    *l = p.unwrap_or(*l);
                }
            }
            let sum: f64 =
                panels.iter().map(|p| p[row].0).map(|(t, s)| f64::from(s) * (f64::from(t) - top).exp()).sum();
            Choice { logits, log_sum_exp: top + sum.ln() }
        })
        .collect()
}
