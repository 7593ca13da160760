//! Works of RMSNorm that are measured.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::registry::{Case, Prepared, Scale, host_sets, normals, rotated, rows};
use crate::ops::rmsnorm::{cost, cpu, kernel as rmsnorm};
use half::bf16;

/// Forward, backward, the gradient of the weight.
pub(super) const CASES: &[Case] = &[
    Case::cpu("rmsnorm", "512 x 576", || on_cpu(512, 576)),
    Case::cpu("rmsnorm", "1 x 576", || on_cpu(1, 576)),
    Case::kernels("rmsnorm", "forward", |d, s| norm::<bf16>(d, s, WIDE, false)),
    Case::kernels("rmsnorm", "forward", |d, s| norm::<f32>(d, s, WIDE, false)),
    Case::kernels("rmsnorm", "forward", |d, s| norm::<bf16>(d, s, SMALL, false)),
    Case::kernels("rmsnorm", "forward", |d, s| norm::<f32>(d, s, SMALL, false)),
    Case::kernels("rmsnorm", "forward of heads", |d, s| norm::<bf16>(d, s, HEADS, false)),
    Case::kernels("rmsnorm", "forward with a residual", |d, s| norm::<bf16>(d, s, WIDE, true)),
    Case::kernels("rmsnorm", "backward", |d, s| norm_back::<bf16>(d, s, WIDE)),
    Case::kernels("rmsnorm", "backward", |d, s| norm_back::<f32>(d, s, WIDE)),
    Case::kernels("rmsnorm", "backward", |d, s| norm_back::<bf16>(d, s, SMALL)),
    Case::kernels("rmsnorm", "backward", |d, s| norm_back::<f32>(d, s, SMALL)),
    Case::kernels("rmsnorm", "weight gradient", |d, s| norm_weight::<bf16>(d, s, WIDE)),
    Case::kernels("rmsnorm", "weight gradient", |d, s| norm_weight::<f32>(d, s, SMALL)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[Case::cpu("rmsnorm", "64 x 576", || on_cpu(64, 576))];

/// Heads side by side that are normed each for itself, and their width.
type Norm = [usize; 2];

const WIDE: Norm = [1, 4096];

const SMALL: Norm = [1, 576];

const HEADS: Norm = [32, 128];

const ROWS: usize = 8192;

fn norm_size(scale: Scale, [heads, width]: Norm) -> (usize, usize, usize) {
    // A width beyond 1024 takes another kernel.
    let width = if width > 1024 { scale.of(width, 1032) } else { scale.of(width, 64) };
    (scale.of(ROWS, 5), scale.of(heads, heads.min(2)) * width, width)
}

fn norm<T: Storage>(device: &KernelDevice, scale: Scale, of: Norm, residual: bool) -> Result<Prepared> {
    let (n, width, head) = norm_size(scale, of);
    let mut x = rotated::<T>(device, scale, (n, width), 1)?;
    let w = rows::<f32>(device, 1, head, 2)?;
    let zeros = || DeviceRows::<T>::zeros(device, n, width, "rows");
    // A residual of zeros: values stay what they are over many runs.
    let (add, mut y, count) = (zeros()?, zeros()?, x.len());
    let run = move |i: usize| {
        let add = residual.then_some(&add);
        rmsnorm::forward(&mut x[i], add, &w, 1e-5, &mut y, None).map(drop)
    };
    Ok(Prepared::new(T::NAME, &[("rows", n), ("heads", width / head), ("width", head)], run).sets(count))
}

/// Rows with what the forward left of them.
struct Normed<T: Storage> {
    x: Vec<DeviceRows<T>>,
    w: DeviceRows<f32>,
    rstd: crate::device::Buffer<f32>,
    dy: DeviceRows<T>,
    y: DeviceRows<T>,
}

impl<T: Storage> Normed<T> {
    fn new(device: &KernelDevice, scale: Scale, (n, width, head): (usize, usize, usize)) -> Result<Self> {
        let mut x = rotated::<T>(device, scale, (n, width), 1)?;
        let (w, dy) = (rows::<f32>(device, 1, head, 2)?, rows::<T>(device, n, width, 3)?);
        let (mut y, mut rstd) = (DeviceRows::zeros(device, n, width, "y")?, device.zeros(n * width / head, "scales")?);
        rmsnorm::forward(&mut x[0], None, &w, 1e-5, &mut y, Some(&mut rstd))?;
        Ok(Self { x, w, rstd, dy, y })
    }
}

fn norm_back<T: Storage>(device: &KernelDevice, scale: Scale, of: Norm) -> Result<Prepared> {
    let size = norm_size(scale, of);
    let Normed { x, w, rstd, dy, mut y } = Normed::<T>::new(device, scale, size)?;
    let count = x.len();
    let run = move |i: usize| rmsnorm::backward(&x[i], &w, &rstd, &dy, false, &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", size.0), ("heads", size.1 / size.2), ("width", size.2)], run).sets(count))
}

fn norm_weight<T: Storage>(device: &KernelDevice, scale: Scale, of: Norm) -> Result<Prepared> {
    let size = norm_size(scale, of);
    let Normed { x, mut w, rstd, dy, .. } = Normed::<T>::new(device, scale, size)?;
    let count = x.len();
    let run = move |i: usize| rmsnorm::weight_gradient(&x[i], &rstd, &dy, &mut w).map(drop);
    let bytes = 2.0 * (size_of::<T>() * size.0 * size.1) as f64;
    Ok(Prepared::new(T::NAME, &[("rows", size.0), ("heads", size.1 / size.2), ("width", size.2)], run)
        .sets(count)
        .floor(bytes, 1.5 * bytes / size_of::<T>() as f64))
}

fn on_cpu(rows: usize, width: usize) -> Result<Prepared> {
    let n = host_sets(8.0 * (rows * width) as f64);
    let x: Vec<_> = (0..n as u32).map(|s| normals(rows * width, s)).collect();
    let (w, mut y) = (vec![1.0; width], vec![0.0; rows * width]);
    let cost = cost(rows, width);
    Ok(Prepared::of(cost, n, move |i| {
        cpu::rmsnorm(&x[i], &w, 1e-5, &mut y);
        Ok(())
    }))
}
