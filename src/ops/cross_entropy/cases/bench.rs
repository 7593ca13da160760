//! Works over a whole vocabulary that are measured: SmolLM2's, and that of an 8B model of the Llama
//! kind.

use std::sync::Arc;

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::cross_entropy::kernel::{DeviceTargets, loss, scores};
use crate::ops::cross_entropy::{self, Scratch, Targets, choose};
use crate::ops::linear::{self, Storage as Stored, Weight};
use crate::ops::registry::{Case, Prepared, Scale, normals, rotated, rows};
use crate::tensor::{Cost, Dtype};
use half::bf16;

/// Loss, gradient, scores.
pub(super) const CASES: &[Case] = &[
    Case::cpu("cross_entropy", "64 rows, vocabulary 8,192 x 576, f32, with gradient", || on_cpu(64, 8192, 576)),
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<bf16>(d, s, 1024, SMALL)),
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<f32>(d, s, 1024, SMALL)),
    Case::kernels("cross_entropy", "loss and gradient", |d, s| entropy::<bf16>(d, s, 512, LARGE)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<bf16>(d, s, 16, SMALL)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<f32>(d, s, 256, SMALL)),
    Case::kernels("cross_entropy", "Yes / No", |d, s| answers::<bf16>(d, s, 64, LARGE)),
];

/// A small work of the answers whose instructions are counted.
pub(super) const COUNTED_CHOOSE: &[Case] =
    &[Case::cpu("choose", "4 rows, vocabulary 2,048 x 576, bf16", || answer(4, 2048, 576))];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] =
    &[Case::cpu("cross_entropy", "8 rows, vocabulary 1,024 x 576, f32, with gradient", || on_cpu(8, 1024, 576))];

/// Yes and No.
pub(super) const CHOOSE: &[Case] =
    &[Case::cpu("choose", "16 rows, vocabulary 49,152 x 576, bf16", || answer(16, 49_152, 576))];

/// Vocabulary and width of SmolLM2, and of an 8B model of the Llama kind.
const SMALL: [usize; 2] = [49_152, 576];

const LARGE: [usize; 2] = [128_256, 4096];

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

fn weight(rows: usize, cols: usize, dtype: Dtype, stream: u32) -> Result<Weight> {
    let values = normals(cols, stream);
    let all = (0..rows).flat_map(|r| values.iter().map(move |v| v * (1.0 + r as f32 / 1e4)));
    match dtype {
        Dtype::Bf16 => Weight::new(rows, cols, Stored::Bf16(Arc::new(all.map(bf16::from_f32).collect()))),
        _ => Weight::from_f32(rows, cols, all.collect()),
    }
}

fn on_cpu(rows: usize, vocab: usize, hidden: usize) -> Result<Prepared> {
    let heads = (0..4).map(|s| weight(vocab, hidden, Dtype::F32, s)).collect::<Result<Vec<_>>>()?;
    let (h, mut dh) = (normals(rows * hidden, 9), vec![0.0; rows * hidden]);
    let tokens: Vec<u32> = (0..rows as u32).map(|i| i * 7919 % vocab as u32).collect();
    let weights = vec![1.0 / rows as f32; rows];
    let mut scratch = Scratch::default();
    // Product, gradient: the head is read twice.
    let once = linear::cost(&heads[0], rows);
    let cost = Cost { bytes: 2.0 * heads[0].bytes() as f64 + 8.0 * h.len() as f64, flops: 2.0 * once.flops };
    Ok(Prepared::of(cost, heads.len(), move |i| {
        let targets = Targets { tokens: &tokens, weights: &weights };
        std::hint::black_box(cross_entropy::loss(&h, &heads[i], targets, Some(&mut dh), None, &mut scratch));
        Ok(())
    }))
}

fn answer(rows: usize, vocab: usize, hidden: usize) -> Result<Prepared> {
    let heads = (0..3).map(|s| weight(vocab, hidden, Dtype::Bf16, s)).collect::<Result<Vec<_>>>()?;
    let h = normals(rows * hidden, 9);
    Ok(Prepared::of(choose::cost(&heads[0], rows), heads.len(), move |i| {
        drop(std::hint::black_box(choose::cpu::choose(&h, &heads[i], [5, 7])));
        Ok(())
    }))
}
