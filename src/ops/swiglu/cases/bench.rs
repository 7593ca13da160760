//! Works of SwiGLU that are measured.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::registry::{Case, Prepared, Scale, host_sets, normals, rotated};
use crate::ops::swiglu::{cost, cpu, kernel as swiglu};
use half::bf16;

/// Forward and backward.
pub(super) const CASES: &[Case] = &[
    Case::cpu("swiglu", "512 x 1536", || glu(512 * 1536)),
    Case::kernels("swiglu", "forward", |d, s| gate::<bf16>(d, s, 14_336)),
    Case::kernels("swiglu", "forward", |d, s| gate::<f32>(d, s, 1536)),
    Case::kernels("swiglu", "backward", |d, s| gate_back::<bf16>(d, s, 14_336)),
    Case::kernels("swiglu", "backward", |d, s| gate_back::<f32>(d, s, 1536)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[Case::cpu("swiglu", "16 x 1536", || glu(16 * 1536))];

const ROWS: usize = 8192;

fn gate<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let x = rotated::<T>(device, scale, (n, 2 * width), 1)?;
    let (count, mut y) = (x.len(), DeviceRows::zeros(device, n, width, "y")?);
    let run = move |i: usize| swiglu::forward(&x[i], &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

/// In place, so that values change from run to run: gradients of gradients, which fade. It is bound
/// by memory, to which that is the same.
fn gate_back<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let mut x = rotated::<T>(device, scale, (n, 2 * width), 1)?;
    let small: Vec<T> = vec![T::from_f32(0.25); n * width];
    let (count, dy) = (x.len(), DeviceRows::upload(device, width, &small, "dy")?);
    let run = move |i: usize| swiglu::backward(&mut x[i], &dy).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

fn glu(n: usize) -> Result<Prepared> {
    let count = host_sets(12.0 * n as f64);
    let x: Vec<_> = (0..count as u32).map(|s| normals(n, s)).collect();
    let mut y = vec![0.0; n];
    let mut run = move |i: usize| cpu::swiglu(&x[i], &x[(i + 1) % x.len()], &mut y);
    Ok(Prepared::of(cost(n), count, move |i| {
        run(i);
        Ok(())
    }))
}
