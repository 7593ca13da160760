//! What stands between the products of a decoder: norms, positions, gates, masks, rows copied and added.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::lora::{Dropout, mask};
use crate::ops::registry::{Case, Prepared, Scale, copies, rotated, rows, sets};
use crate::ops::rope::Rope;
use crate::ops::rope::kernel::{DeviceAngles, Positions};
use crate::ops::rows::kernel::{Places, Runs, add, gather, scatter};
use crate::ops::{rmsnorm::kernel as rmsnorm, swiglu::kernel as swiglu};
use half::bf16;

/// Heads side by side that are normed each for itself, and their width.
type Norm = [usize; 2];
const WIDE: Norm = [1, 4096];
const SMALL: Norm = [1, 576];
const HEADS: Norm = [32, 128];

pub(super) const CASES: &[Case] = &[
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
    Case::kernels("rope", "queries", |d, s| turn::<bf16>(d, s, 32, 128)),
    Case::kernels("rope", "queries", |d, s| turn::<f32>(d, s, 32, 128)),
    Case::kernels("rope", "queries", |d, s| turn::<f32>(d, s, 9, 64)),
    Case::kernels("rope", "heads of no whole vectors", |d, s| turn::<bf16>(d, s, 16, 20)),
    Case::kernels("rope", "heads of no whole vectors", |d, s| turn::<f32>(d, s, 16, 20)),
    Case::kernels("swiglu", "forward", |d, s| gate::<bf16>(d, s, 14_336)),
    Case::kernels("swiglu", "forward", |d, s| gate::<f32>(d, s, 1536)),
    Case::kernels("swiglu", "backward", |d, s| gate_back::<bf16>(d, s, 14_336)),
    Case::kernels("swiglu", "backward", |d, s| gate_back::<f32>(d, s, 1536)),
    Case::kernels("dropout", "mask", |d, s| drop_out(d, s, false)),
    Case::kernels("dropout", "mask, added", |d, s| drop_out(d, s, true)),
    Case::kernels("rows", "gather", |d, s| move_rows::<bf16>(d, s, true)),
    Case::kernels("rows", "scatter", |d, s| move_rows::<bf16>(d, s, false)),
    Case::kernels("rows", "gather", |d, s| move_rows::<f32>(d, s, true)),
    Case::kernels("rows", "to places", |d, s| add_rows(d, s, 1)),
    Case::kernels("rows", "sums of runs to places", |d, s| add_rows(d, s, 4)),
];

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

fn turn<T: Storage>(device: &KernelDevice, scale: Scale, heads: usize, width: usize) -> Result<Prepared> {
    let (n, heads) = (scale.of(ROWS, 5), scale.of(heads, 2));
    let angles = DeviceAngles::new(device, &Rope::new(width, 1e4, None), n)?;
    let positions = Positions::upload(device, &(0..n as u32).collect::<Vec<_>>())?;
    let mut x = rotated::<T>(device, scale, (n, heads * width), 1)?;
    let count = x.len();
    let run = move |i: usize| angles.turn(&mut x[i], (0, heads), &positions, false).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("heads", heads), ("width", width)], run).sets(count))
}

fn gate<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let x = rotated::<T>(device, scale, (n, 2 * width), 1)?;
    let (count, mut y) = (x.len(), DeviceRows::zeros(device, n, width, "y")?);
    let run = move |i: usize| swiglu::forward(&x[i], &mut y).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

/// In place, so that values change from run to run: gradients of gradients, which fade. It is bound by memory, to which that is the same.
fn gate_back<T: Storage>(device: &KernelDevice, scale: Scale, width: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(width, 64));
    let mut x = rotated::<T>(device, scale, (n, 2 * width), 1)?;
    let small: Vec<T> = vec![T::from_f32(0.25); n * width];
    let (count, dy) = (x.len(), DeviceRows::upload(device, width, &small, "dy")?);
    let run = move |i: usize| swiglu::backward(&mut x[i], &dy).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

fn drop_out(device: &KernelDevice, scale: Scale, add: bool) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(4096, 64));
    let names = device.upload(&(0..n as u64).collect::<Vec<_>>(), "row names")?;
    let x = rotated::<f32>(device, scale, (n, width), 1)?;
    let (count, mut y) = (x.len(), DeviceRows::zeros(device, n, width, "y")?);
    let of = Dropout::new(0.1, 7, 0, 3);
    let run = move |i: usize| mask::apply(of, &names, &x[i], add, &mut y).map(drop);
    Ok(Prepared::new("f32", &[("rows", n), ("width", width)], run).sets(count))
}

/// Every second row out of a matrix, or into one.
fn move_rows<T: Storage>(device: &KernelDevice, scale: Scale, out: bool) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(1024, 64));
    let places = Places::upload(device, &(0..n as u32).map(|i| 2 * i).collect::<Vec<_>>())?;
    let count = sets(scale, size_of::<T>() * 2 * n * width);
    let mut large = copies(rows::<T>(device, 2 * n, width, 1)?, count)?;
    let mut small = rows::<T>(device, n, width, 2)?;
    let run = move |i: usize| {
        match out {
            true => gather(&large[i], &places, &mut small),
            false => scatter(&small, &places, &mut large[i]),
        }
        .map(drop)
    };
    Ok(Prepared::new(T::NAME, &[("rows", n), ("width", width)], run).sets(count))
}

/// Sums of runs of `each` rows, added to rows of another matrix.
fn add_rows(device: &KernelDevice, scale: Scale, each: usize) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(1024, 64));
    let places = Places::upload(device, &(0..n as u32).map(|i| 2 * i).collect::<Vec<_>>())?;
    let runs = Runs::upload(device, &(0..=n as u32).map(|i| i * each as u32).collect::<Vec<_>>())?;
    let from = rotated::<f32>(device, scale, (each * n, width), 1)?;
    let (count, mut to) = (from.len(), DeviceRows::zeros(device, 2 * n, width, "to")?);
    let run = move |i: usize| add(&from[i], (each > 1).then_some(&runs), Some(&places), &mut to).map(drop);
    Ok(Prepared::new("f32", &[("rows", each * n), ("runs", n), ("width", width)], run).sets(count))
}
