//! Works of the draw of tokens that are measured.

use crate::device::KernelDevice;
use crate::error::Result;
use crate::ops::registry::{Case, Prepared, Scale, host_sets, normals, rotated};
use crate::ops::sampling::kernel::{Draw, sample};
use crate::ops::sampling::{self, Cut, Sampler};

/// With and without cuts.
pub(super) const CASES: &[Case] = &[
    Case::cpu("sampling", "a row of 49,152, top-p 0.95", || on_cpu(49_152)),
    Case::kernels("sampling", "top-p 0.95", |d, s| {
        draw(d, s, 64, SMALL, Cut { temperature: 0.8, top_k: 0, top_p: 0.95 })
    }),
    Case::kernels("sampling", "top-k 50, top-p 0.95", |d, s| {
        draw(d, s, 64, LARGE, Cut { temperature: 0.8, top_k: 50, top_p: 0.95 })
    }),
    Case::kernels("sampling", "no cut", |d, s| draw(d, s, 64, SMALL, Cut { temperature: 1.0, top_k: 0, top_p: 1.0 })),
    Case::kernels("sampling", "top-p 0.95", |d, s| {
        draw(d, s, 1, SMALL, Cut { temperature: 0.8, top_k: 0, top_p: 0.95 })
    }),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[Case::cpu("sampling", "a row of 8,192, top-p 0.95", || on_cpu(8192))];

/// Of SmolLM2, and of an 8B model of the Llama kind.
const SMALL: usize = 49_152;
const LARGE: usize = 128_256;

/// Every logit once.
fn draw(device: &KernelDevice, scale: Scale, n: usize, vocab: usize, cut: Cut) -> Result<Prepared> {
    let (n, vocab) = (scale.of(n, n.min(3)), scale.of(vocab, 300));
    let logits = rotated::<f32>(device, scale, (n, vocab), 1)?;
    let draws: Vec<Draw> = (0..n as u32).map(|row| Draw { row, sample: 0, step: 0 }).collect();
    let (sets, device) = (logits.len(), device.clone());
    let run = move |i: usize| sample(&device, &logits[i], 7, &draws, cut).map(drop);
    Ok(Prepared::new("f32", &[("rows", n), ("vocabulary", vocab)], run).sets(sets).floor(4.0 * (n * vocab) as f64, 0.0))
}

fn on_cpu(vocab: usize) -> Result<Prepared> {
    let n = host_sets(4.0 * vocab as f64);
    let logits: Vec<_> = (0..n as u32).map(|s| normals(vocab, s)).collect();
    let (mut sampler, cut) = (Sampler::default(), Cut { temperature: 0.6, top_k: 0, top_p: 0.95 });
    sampler.pick(&logits[0], cut, 0.5)?;
    Ok(Prepared::of(sampling::cost(vocab), n, move |i| {
        drop(std::hint::black_box(sampler.pick(&logits[i], cut, 0.5)));
        Ok(())
    }))
}
