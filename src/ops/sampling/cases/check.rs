//! Random cases of the draw of tokens.

use super::TOLERANCE;
use crate::device::{Device, DeviceRows};
use crate::error::Result;
use crate::ops::registry::{Check, Shape, draw};
use crate::ops::sampling;
use crate::rng::{Rng, Use};

/// Random cases.
pub(super) const CASES: &[Check] =
    &[Check::new("sampling", ["rows", "vocab", "-"], |device, shape, _, seed| draw_tokens(device, shape, seed))
        .one_storage()];

/// How far the uniform number lies outside the interval of the token that was drawn.
fn draw_tokens(device: &Device, [rows, vocab, _]: Shape, seed: u64) -> Result<Vec<f64>> {
    let logits: Vec<f32> = draw::<f32>(rows * vocab, seed, 0).iter().map(|l| l * 3.0).collect();
    let cut = sampling::Cut { temperature: 0.8, top_k: 20, top_p: 0.9 };
    let draws: Vec<sampling::kernel::Draw> =
        (0..rows as u32).map(|row| sampling::kernel::Draw { row, sample: row % 5, step: u64::from(row) }).collect();
    let number = |d: &sampling::kernel::Draw| Rng::new(seed, Use::Token, d.row, d.sample).at(d.step).uniform_f64();
    let tokens = match device {
        Device::Cpu => {
            let mut sampler = sampling::Sampler::default();
            let each = logits.chunks_exact(vocab).zip(&draws);
            each.map(|(row, d)| sampler.pick(row, cut, number(d))).collect::<Result<Vec<u32>>>()?
        }
        Device::Kernels(device) => {
            let logits = DeviceRows::upload(device, vocab, &logits, "logits")?;
            sampling::kernel::sample(device, &logits, seed, &draws, cut)?.0
        }
    };
    let each = logits.chunks_exact(vocab).zip(&draws).zip(&tokens);
    let error = |((row, d), &token): ((&[f32], &sampling::kernel::Draw), &u32)| {
        if sampling::oracle::edge(row, cut) <= TOLERANCE {
            return 0.0;
        }
        let (low, high) = sampling::oracle::intervals(row, cut)[token as usize];
        let u = number(d);
        if high > low { (low - u).max(u - high).max(0.0) / TOLERANCE } else { f64::INFINITY }
    };
    Ok(each.map(error).collect())
}
