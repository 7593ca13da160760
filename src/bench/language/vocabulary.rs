//! What is done over a whole vocabulary: cross-entropy, Yes / No, the draw of tokens.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::cross_entropy::kernel::{DeviceTargets, loss, scores};
use crate::ops::registry::{Case, Prepared, Scale, rotated, rows};
use crate::ops::sampling::Cut;
use crate::ops::sampling::kernel::{Draw, sample};
use half::bf16;

/// Vocabulary and width of SmolLM2, and of an 8B model of the Llama kind.
const SMALL: [usize; 2] = [49_152, 576];
const LARGE: [usize; 2] = [128_256, 4096];

pub(super) const CASES: &[Case] = &[
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<bf16>(d, s, 1024, SMALL)),
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<f32>(d, s, 1024, SMALL)),
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<bf16>(d, s, 512, LARGE)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<bf16>(d, s, 16, SMALL)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<f32>(d, s, 256, SMALL)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<bf16>(d, s, 64, LARGE)),
    Case::kernels("sampling", "top-p 0.95", |d, s| {
        draw(d, s, 64, SMALL[0], Cut { temperature: 0.8, top_k: 0, top_p: 0.95 })
    }),
    Case::kernels("sampling", "top-k 50, top-p 0.95", |d, s| {
        draw(d, s, 64, LARGE[0], Cut { temperature: 0.8, top_k: 50, top_p: 0.95 })
    }),
    Case::kernels("sampling", "no cut", |d, s| {
        draw(d, s, 64, SMALL[0], Cut { temperature: 1.0, top_k: 0, top_p: 1.0 })
    }),
    Case::kernels("sampling", "top-p 0.95", |d, s| {
        draw(d, s, 1, SMALL[0], Cut { temperature: 0.8, top_k: 0, top_p: 0.95 })
    }),
];

fn size(scale: Scale, n: usize, [vocab, width]: [usize; 2]) -> [usize; 3] {
    [scale.of(n, 5), scale.of(vocab, 300), scale.of(width, 32)]
}

fn names([n, vocab, width]: [usize; 3]) -> [(&'static str, usize); 3] {
    [("rows", n), ("vocabulary", vocab), ("width", width)]
}

/// Logits once, and a product for the gradient of the hidden states; the head is frozen.
fn entropy<T: Storage>(device: &KernelDevice, scale: Scale, n: usize, of: [usize; 2]) -> Result<Prepared> {
    let size = size(scale, n, of);
    let [n, vocab, width] = size;
    let (h, head) = (rows::<T>(device, n, width, 1)?, rows::<T>(device, vocab, width, 2)?);
    let tokens: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
    let targets = DeviceTargets::upload(device, &tokens, &vec![1.0; n])?;
    let mut dh = DeviceRows::zeros(device, n, width, "dh")?;
    let run = move |_| loss(&h, &head, &targets, Some(&mut dh)).map(drop);
    let [n, v, d] = size.map(|n| n as f64);
    Ok(Prepared::new(T::NAME, &names(size), run).floor(size_of::<T>() as f64 * (v + 2.0 * n) * d, 4.0 * n * v * d))
}

fn answers<T: Storage>(device: &KernelDevice, scale: Scale, n: usize, of: [usize; 2]) -> Result<Prepared> {
    let size = size(scale, n, of);
    let [n, vocab, width] = size;
    let (h, head) = (rows::<T>(device, n, width, 1)?, rotated::<T>(device, scale, (vocab, width), 2)?);
    let (sets, ids) = (head.len(), device.upload(&[7u32, 11], "answer tokens")?);
    let run = move |i: usize| scores(&h, &head[i], &ids, 2).map(drop);
    let [n, v, d] = size.map(|n| n as f64);
    Ok(Prepared::new(T::NAME, &names(size), run).sets(sets).floor(size_of::<T>() as f64 * (v + n) * d, 2.0 * n * v * d))
}

/// Every logit once.
fn draw(device: &KernelDevice, scale: Scale, n: usize, vocab: usize, cut: Cut) -> Result<Prepared> {
    let (n, vocab) = (scale.of(n, n.min(3)), scale.of(vocab, 300));
    let logits = rotated::<f32>(device, scale, (n, vocab), 1)?;
    let draws: Vec<Draw> = (0..n as u32).map(|row| Draw { row, sample: 0, step: 0 }).collect();
    let (sets, device) = (logits.len(), device.clone());
    let run = move |i: usize| sample(&device, &logits[i], 7, &draws, cut).map(drop);
    Ok(Prepared::new("f32", &[("rows", n), ("vocabulary", vocab)], run).sets(sets).floor(4.0 * (n * vocab) as f64, 0.0))
}
