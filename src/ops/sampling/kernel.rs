//! The kernel of `kernels/sampling.cu`.

use super::{Cut, errors};
use crate::device::{DeviceRows, KernelDevice, Launch, Pointer, arguments};
use crate::error::{Error, Result};
use crate::rng::{self, Use};
use crate::tensor::Cost;

arguments! {
    /// Of `sampling`.
    struct SamplingArgs {
        logits: Pointer,
        vocab: u32,
        stride: u64,
        key_x: u32,
        key_y: u32,
        draws: Pointer,
        temperature: f32,
        top_k: u32,
        top_p: f64,
        tokens: Pointer,
    }
}

/// Most entries of a vocabulary: what a block's chunks hold.
pub(super) const MOST: usize = 1 << 20;
/// Bytes of the kernel's `Shared`.
pub(super) const SHARED: usize = 16 * 8 * 8 + 8 * 8 + 1024 * 12 + 16 * 8 + 8 + 8;

/// Which number of which stream a row draws: the same whatever batch the row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Data row.
    pub row: u32,
    /// Sample of the row.
    pub sample: u32,
    /// Token of the sample.
    pub step: u64,
}

/// The next token of each row of `logits`. Errors name the first row that has no usable logits.
pub fn sample(
    device: &KernelDevice,
    logits: &DeviceRows<f32>,
    seed: u64,
    draws: &[Draw],
    cut: Cut,
) -> Result<(Vec<u32>, Cost)> {
    cut.check("sampling")?;
    let (rows, vocab) = (logits.rows(), logits.dim());
    if draws.len() != rows || vocab > MOST {
        return Err(Error::failed("sampling", format!("{} draws for {rows} rows of {vocab} logits", draws.len())));
    }
    let [key_x, key_y] = rng::key(seed, Use::Token);
    let packed: Vec<[u64; 2]> = draws.iter().map(|d| [u64::from(d.row) | u64::from(d.sample) << 32, d.step]).collect();
    let draws_on_device = device.upload(&packed, "draws")?;
    let tokens = device.alloc::<u32>(rows, "tokens")?;
    let one = super::cost(vocab);
    let cost = Cost { bytes: one.bytes * rows as f64, flops: one.flops * rows as f64 };
    let top_k = u32::try_from(cut.top_k).unwrap_or(0);
    let args = SamplingArgs {
        logits: logits.pointer(),
        vocab: logits.dim_u32(),
        stride: logits.stride() as u64,
        key_x,
        key_y,
        draws: draws_on_device.pointer(),
        temperature: cut.temperature,
        top_k,
        top_p: cut.top_p,
        tokens: tokens.pointer(),
    };
    let launch = Launch::new("sampling", rows, 512, cost).shared(SHARED);
    // SAFETY: a block and a draw a row.
    let cost = unsafe { device.launch(&launch, &[args.arg()]) }?;
    let tokens = device.download(&tokens)?;
    for (token, draw) in tokens.iter().zip(draws) {
        let error = match u32::MAX - token {
            0 => errors::nan(),
            1 => errors::infinite(),
            2 => errors::nothing(),
            _ => continue,
        };
        return Err(error.within(format!("row {}, sample {}, token {}", draw.row, draw.sample, draw.step)));
    }
    Ok((tokens, cost))
}
