//! Next-token cross-entropy straight from hidden states, at chosen rows only: the head's product,
//! the softmax and the gradient, a few rows at a time, so that the logits of a whole batch never
//! exist.
//!
//! `loss = sum_i w_i (lse(h_i W^T) - (h_i W^T)[t_i])`; `dh_i = w_i (softmax - onehot) W`.
//! Cost: `2 R vocab hidden` FLOP forward, the same for dh, and for dW.

pub mod cases;
pub mod choose;
pub mod kernel;
pub mod oracle;
mod placed;

pub use choose::{Choice, choose};
pub use placed::{Head, RowTargets, cross_entropy, cross_entropy_backward};

use rayon::prelude::*;

use super::linear::{Weight, matmul_nn, matmul_nt, matmul_tn};
use crate::tensor::profile::timed;
use crate::tensor::simd::{exp, fold2, vectorized};
use crate::tensor::soft_cap::{soft_cap, times_slope};

/// Logits held at a time (values): 64 MB.
const HELD: usize = 16 << 20;

vectorized! {
    fn row_max(s: &[f32]) -> f32 {
        let mut tops = [f32::NEG_INFINITY; 16];
        let (blocks, rest) = s.as_chunks::<16>();
        for b in blocks {
            for i in 0..16 {
                tops[i] = if b[i] > tops[i] { b[i] } else { tops[i] };
            }
        }
        let mut max = f32::NEG_INFINITY;
        for v in tops.iter().chain(rest) {
            max = if *v > max { *v } else { max };
        }
        max
    }

    fn exponentials(s: &mut [f32], max: f32) -> f32 {
        for v in &mut *s {
            *v = exp(*v - max);
        }
        fold2(s, s, |a, _| a)
    }

    fn scale_row(s: &mut [f32], by: f32) {
        for v in s {
            *v *= by;
        }
    }
}

/// Buffers kept between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f32>,
}

/// The targets and the weight of each row in the sum.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'a> {
    /// Token of each row.
    pub tokens: &'a [u32],
    /// Weight of each row.
    pub weights: &'a [f32],
}

/// Cost of `rows` rows: the product with the head, and as much again for each gradient.
pub fn cost(head: &Weight, rows: usize, by_hidden: bool, by_head: bool) -> crate::tensor::Cost {
    let one = crate::ops::linear::cost(head, rows);
    let times = 1.0 + f64::from(u8::from(by_hidden)) + f64::from(u8::from(by_head));
    let hidden = 4.0 * (rows * head.cols()) as f64;
    crate::tensor::Cost { bytes: times * (head.bytes() as f64 + hidden), flops: times * one.flops }
}

/// Returns the weighted loss sum, in f64. With `dh` (R x hidden) writes its gradient, with `dw`
/// (vocab x hidden) adds the head's.
pub(crate) fn loss(
    h: &[f32],
    head: &Weight,
    targets: Targets<'_>,
    dh: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
    scratch: &mut Scratch,
) -> f64 {
    capped_loss(h, (head, None), targets, dh, dw, scratch)
}

/// As [`loss`], with a soft cap of the logits.
pub(crate) fn capped_loss(
    h: &[f32],
    (head, cap): (&Weight, Option<f32>),
    targets: Targets<'_>,
    mut dh: Option<&mut [f32]>,
    mut dw: Option<&mut [f32]>,
    scratch: &mut Scratch,
) -> f64 {
    let _timed = timed("cross_entropy", || cost(head, targets.tokens.len(), dh.is_some(), dw.is_some()));
    let (vocab, hidden) = (head.rows(), head.cols());
    let rows = targets.tokens.len();
    assert_eq!((h.len(), targets.weights.len()), (rows * hidden, rows), "cross entropy: shapes");
    let step = (HELD / vocab).max(1);
    let mut total = 0.0;
    for from in (0..rows).step_by(step) {
        let n = step.min(rows - from);
        let h = &h[from * hidden..(from + n) * hidden];
        scratch.logits.resize(n * vocab, 0.0);
        matmul_nt(h, head, &mut scratch.logits, false);
        let lines = scratch.logits.par_chunks_exact_mut(vocab).enumerate();
        let losses: Vec<f64> = lines
            .map(|(i, logits)| {
                let (token, weight) = (targets.tokens[from + i] as usize, targets.weights[from + i]);
                let kept = cap.map(|cap| {
                    soft_cap(logits, cap);
                    (cap, logits.to_vec())
                });
                let (max, of_target) = (row_max(logits), logits[token]);
                let sum = exponentials(logits, max);
                scale_row(logits, weight / sum);
                logits[token] -= weight;
                if let Some((cap, capped)) = kept {
                    times_slope(logits, &capped, cap);
                }
                f64::from(weight) * (f64::from(sum).ln() + f64::from(max) - f64::from(of_target))
            })
            .collect();
        total += losses.iter().sum::<f64>();
        if let Some(dh) = &mut dh {
            let dh = &mut dh[from * hidden..(from + n) * hidden];
            matmul_nn(&scratch.logits, head, dh, false);
        }
        if let Some(dw) = &mut dw {
            matmul_tn(&scratch.logits, vocab, h, hidden, dw, 1.0, true);
        }
    }
    total
}
