//! Random cases of cross-entropy and of the scores of chosen tokens.

use super::Tolerance;
use crate::device::{Device, Rows};
use crate::error::Result;
use crate::ops::cross_entropy::{Head, RowTargets, Scratch, choose, cross_entropy_backward, oracle};
use crate::ops::linear::Weight;
use crate::ops::registry::{Check, Shape, drawn, errors};
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;

/// The loss and its gradient.
pub(super) const CASES: &[Check] = &[Check::new("cross_entropy", ["rows", "vocab", "width"], entropy)];

/// The scores of two tokens.
pub(super) const CHOOSE: &[Check] = &[Check::new("choose", ["rows", "vocab", "width"], chosen)];

/// Rows, the head, and both as they are stored.
struct Case {
    h: Rows,
    head: Rows,
    weight: Weight,
    seen: [Vec<f32>; 2],
}

impl Case {
    fn new(device: &Device, [count, vocab, width]: Shape, narrow: bool, seed: u64) -> Result<Self> {
        let h = drawn(device, (count, width), narrow, seed, 0)?;
        let head = drawn(device, (vocab, width), narrow, seed, 1)?;
        let seen = [h.download()?, head.download()?];
        Ok(Self { h, head, weight: Weight::from_f32(vocab, width, seen[1].clone())?, seen })
    }

    fn head(&self) -> Head<'_> {
        match &self.head {
            Rows::Cpu(_) => Head::Cpu(&self.weight, None),
            Rows::F32(head) => Head::F32(head),
            Rows::Bf16(head) => Head::Bf16(head),
        }
    }
}

fn entropy(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let case = Case::new(device, shape, narrow, seed)?;
    let ([count, vocab, width], [h, w]) = (shape, &case.seen);
    let mut rng = Rng::new(seed, Use::Synthetic, 7, 0);
    let tokens: Vec<u32> = (0..count).map(|_| rng.below(vocab as u32)).collect();
    let weights: Vec<f32> = (0..count).map(|_| rng.uniform()).collect();
    let (want, by_h) = oracle::loss(h, w, width, &tokens, &weights);
    let targets = RowTargets::upload(device, &tokens, &weights)?;
    let mut dh = Rows::zeros(device, Dtype::F32, count, width, "dh")?;
    let (loss, _) = cross_entropy_backward(&case.h, case.head(), &targets, (&mut dh, None), &mut Scratch::default())?;
    let off = Tolerance::of(narrow, count, [h, w], width);
    let mut all = errors(&dh.download()?, &by_h, |_| off.gradient);
    all.push((loss - want).abs() / off.loss);
    Ok(all)
}

fn chosen(device: &Device, shape: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let case = Case::new(device, shape, narrow, seed)?;
    let ([count, vocab, width], [h, w]) = (shape, &case.seen);
    let ids = [0, vocab as u32 - 1];
    let off = Tolerance::of(narrow, count, [h, w], width).logit;
    let mut all = Vec::new();
    for (got, (logits, lse)) in choose(&case.h, case.head(), ids)?.iter().zip(&choose::oracle::choose(h, w, width, ids))
    {
        all.extend(errors(&got.logits, logits, |_| off));
        all.push((got.log_sum_exp - lse).abs() / off);
    }
    Ok(all)
}
