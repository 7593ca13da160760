//! Works of layers with adapters that are measured: forward, gradients, several adapters at once.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::lora::kernel::{
    Adapters, Batch, Beside, Gradients, Segment, backward, forward, gradients, shrink, shrink_backward,
};
use crate::ops::lora::{self, Dropout, Low, mask, wgmma};
use crate::ops::registry::{Case, Goal, Prepared, Scale, normals, rotated, rows, sets};
use half::bf16;

/// Layers with adapters.
pub(super) const CASES: &[Case] = &[
    Case::cpu("lora", "512 rows, rank 8, 576 to 576", || low_rank(512, 576, 576, 8)),
    Case::kernels("lora", "forward", |d, s| layer::<bf16, bf16>(d, s, LARGE)),
    Case::kernels("lora", "forward", |d, s| layer::<bf16, bf16>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "forward", |d, s| layer::<bf16, bf16>(d, s, rank(LARGE, 64))),
    Case::kernels("lora", "forward", |d, s| layer::<bf16, bf16>(d, s, MLP)),
    Case::kernels("lora", "forward", |d, s| layer::<bf16, bf16>(d, s, rank(MLP, 16))),
    Case::kernels("lora", "forward, f32 output", |d, s| layer::<bf16, f32>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "forward", |d, s| layer::<f32, f32>(d, s, rank(SMALL, 8))),
    Case::kernels("lora", "forward", |d, s| layer::<f32, f32>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "forward of eight adapters", |d, s| several(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "input gradient", |d, s| turned::<bf16, bf16>(d, s, LARGE)),
    Case::kernels("lora", "input gradient", |d, s| turned::<bf16, bf16>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "input gradient", |d, s| turned::<bf16, bf16>(d, s, rank(LARGE, 64))),
    Case::kernels("lora", "input gradient, f32 output", |d, s| turned::<bf16, f32>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "input gradient", |d, s| turned::<f32, f32>(d, s, rank(SMALL, 8))),
    Case::kernels("lora", "adapter gradient", |d, s| adapters::<bf16>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "adapter gradient", |d, s| adapters::<f32>(d, s, rank(SMALL, 8))),
    Case::kernels("lora", "forward and backward", |d, s| both::<bf16>(d, s, rank(LARGE, 16))),
    Case::kernels("lora", "forward and backward", |d, s| both::<bf16>(d, s, rank(LARGE, 64))),
    Case::kernels("lora", "forward and backward", |d, s| both::<f32>(d, s, rank(SMALL, 8))),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[Case::cpu("lora", "64 rows, rank 8, 576 to 576", || low_rank(64, 576, 576, 8))];

/// By wgmma.
pub(super) const SM90A: &[Case] = &[
    Case::hopper("lora_sm90a", "forward by wgmma", |d, s| by_wgmma(d, s, LARGE)),
    Case::hopper("lora_sm90a", "forward by wgmma", |d, s| by_wgmma(d, s, rank(LARGE, 16))),
    Case::hopper("lora_sm90a", "forward by wgmma", |d, s| by_wgmma(d, s, rank(MLP, 64))),
];

/// Masks of an adapter's input.
pub(super) const DROPOUT: &[Case] = &[
    Case::kernels("dropout", "mask", |d, s| drop_out(d, s, false)),
    Case::kernels("dropout", "mask, added", |d, s| drop_out(d, s, true)),
];

/// Rows, input and output width, rank.
type Size = [usize; 4];

const LARGE: Size = [4096, 4096, 4096, 0];

const MLP: Size = [4096, 4096, 14_336, 0];

const SMALL: Size = [512, 576, 1536, 0];

const fn rank([m, inp, out, _]: Size, rank: usize) -> Size {
    [m, inp, out, rank]
}

/// `LoRA adds at most 6 %`, as a speed in units of the layer alone.
const ADDS: Goal = Goal::Beside(1.0 / 1.06);

/// `scale A`'s and B's of `count` adapters.
fn low<T: Storage>(device: &KernelDevice, [_, inp, out, rank]: Size, count: usize) -> Result<Adapters<T>> {
    let (a, b) = (rows(device, count * rank, inp, 70)?, rows(device, count * out, rank.max(1), 71)?);
    Ok(Adapters { a, b, count, scale: 0.5 })
}

fn size(scale: Scale, [m, inp, out, rank]: Size) -> Size {
    // Beyond a tile, and within the goal of rows that the adapter's share is judged from.
    [scale.of(m, 70), scale.of(inp, 72), scale.of(out, 40), rank]
}

fn names([m, inp, out, rank]: Size) -> [(&'static str, usize); 4] {
    [("rows", m), ("in", inp), ("out", out), ("rank", rank)]
}

/// Bytes and FLOP of `[X | S] [W | B]^T`, S made before.
fn floor<T: Storage, U: Storage>([m, inp, out, rank]: Size) -> (f64, f64) {
    let [m, k, n, r] = [m, inp, out, rank].map(|n| n as f64);
    let s = size_of::<T>() as f64;
    (s * (m * k + n * k + r * (k + n)) + size_of::<U>() as f64 * m * n, 2.0 * m * (n * k + r * (n + k)))
}

fn layer<T: Storage, U: Storage>(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [m, inp, out, rank] = size;
    let w = std::rc::Rc::new(rotated::<T>(device, scale, (out, inp), 1)?);
    let (n, x) = (w.len(), std::rc::Rc::new(rows::<T>(device, m, inp, 72)?));
    let mut y = DeviceRows::<U>::zeros(device, m, out, "y")?;
    let (bytes, flops) = floor::<T, U>(size);
    let plain = Batch::plain(device, m)?;
    let alone = {
        let (w, x) = (w.clone(), x.clone());
        let mut y = DeviceRows::<U>::zeros(device, m, out, "y")?;
        move |i: usize| forward(&plain, &x, &w[i], &Beside::default(), &mut y).map(drop)
    };
    if rank == 0 {
        return Ok(Prepared::new(T::NAME, &names(size), alone).sets(n).floor(bytes, flops));
    }
    let batch = Batch::new(device, &[Segment { rows: m, adapter: Some(0) }])?;
    let (low, mut s) = (low::<T>(device, size, 1)?, DeviceRows::<T>::zeros(device, m, rank, "s")?);
    let run = move |i: usize| {
        shrink(&batch, &x, &low, &mut s)?;
        forward(&batch, &x, &w[i], &Beside { low: Some((&s, &low)), ..Beside::default() }, &mut y).map(drop)
    };
    let prepared = Prepared::new(T::NAME, &names(size), run).sets(n).floor(bytes, flops);
    let prepared = prepared.beside("the layer alone", alone);
    Ok(if full[0] >= 4096 && rank <= 64 { prepared.goal(ADDS) } else { prepared })
}

/// Eight users' rows, an adapter each.
fn several(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    const COUNT: usize = 8;
    let size = size(scale, full);
    let [m, inp, out, rank] = size;
    let each = m / COUNT;
    let mut segments: Vec<Segment> =
        (0..COUNT as u32).map(|a| Segment { rows: each, adapter: Some(COUNT as u32 - 1 - a) }).collect();
    segments.push(Segment { rows: m - COUNT * each, adapter: None });
    let batch = Batch::new(device, &segments)?;
    let (low, mut s) = (low::<bf16>(device, size, COUNT)?, DeviceRows::<bf16>::zeros(device, m, rank, "s")?);
    let w = rotated::<bf16>(device, scale, (out, inp), 1)?;
    let (n, x) = (w.len(), rows::<bf16>(device, m, inp, 72)?);
    let mut y = DeviceRows::<bf16>::zeros(device, m, out, "y")?;
    let run = move |i: usize| {
        shrink(&batch, &x, &low, &mut s)?;
        forward(&batch, &x, &w[i], &Beside { low: Some((&s, &low)), ..Beside::default() }, &mut y).map(drop)
    };
    let (bytes, flops) = floor::<bf16, bf16>(size);
    Ok(Prepared::new("bf16", &names(size), run).sets(n).floor(bytes, flops))
}

fn by_wgmma(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [m, inp, out, rank] = size;
    let w = rotated::<bf16>(device, scale, (out, inp), 1)?;
    let (n, x) = (w.len(), rows::<bf16>(device, m, inp, 72)?);
    let mut y = DeviceRows::<bf16>::zeros(device, m, out, "y")?;
    let (s, b) = (rows::<bf16>(device, m, rank.max(1), 73)?, rows::<bf16>(device, out, rank.max(1), 74)?);
    let run = move |i: usize| {
        let low = (rank > 0).then_some((&s, &b));
        wgmma::forward(&x, &w[i], low, None, false, &mut y).map(drop)
    };
    // S is there already.
    Ok(Prepared::new("bf16", &names(size), run).sets(n))
}

/// `dX = [dY | dS] [W ; A]` with its `dS`.
fn turned<T: Storage, U: Storage>(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [m, inp, out, rank] = size;
    let w = std::rc::Rc::new(rotated::<T>(device, scale, (out, inp), 1)?);
    let (n, dy) = (w.len(), std::rc::Rc::new(rows::<T>(device, m, out, 72)?));
    let mut dx = DeviceRows::<U>::zeros(device, m, inp, "dx")?;
    let (bytes, flops) = floor::<T, U>([m, out, inp, rank]);
    let plain = Batch::plain(device, m)?;
    let alone = {
        let (w, dy) = (w.clone(), dy.clone());
        let mut dx = DeviceRows::<U>::zeros(device, m, inp, "dx")?;
        move |i: usize| backward(&plain, &dy, &w[i], &Beside::default(), &mut dx).map(drop)
    };
    if rank == 0 {
        return Ok(Prepared::new(T::NAME, &names(size), alone).sets(n).floor(bytes, flops));
    }
    let batch = Batch::new(device, &[Segment { rows: m, adapter: Some(0) }])?;
    let (low, mut ds) = (low::<T>(device, size, 1)?, DeviceRows::<T>::zeros(device, m, rank, "ds")?);
    let run = move |i: usize| {
        shrink_backward(&batch, &dy, &low, &mut ds)?;
        backward(&batch, &dy, &w[i], &Beside { low: Some((&ds, &low)), ..Beside::default() }, &mut dx).map(drop)
    };
    let prepared = Prepared::new(T::NAME, &names(size), run).sets(n).floor(bytes, flops);
    let prepared = prepared.beside("the layer alone", alone);
    Ok(if full[0] >= 4096 && rank <= 64 { prepared.goal(ADDS) } else { prepared })
}

/// What a layer's adapter learns from: X, S, dY, dS.
struct Learnt<T: Storage> {
    batch: Batch,
    low: Adapters<T>,
    x: DeviceRows<T>,
    dy: DeviceRows<T>,
    s: DeviceRows<T>,
    ds: DeviceRows<T>,
    g: Gradients,
}

impl<T: Storage> Learnt<T> {
    fn new(device: &KernelDevice, size: Size) -> Result<Self> {
        let [m, inp, out, rank] = size;
        let low = low::<T>(device, size, 1)?;
        let g = Gradients {
            a: DeviceRows::zeros(device, rank, inp, "dA")?,
            b: DeviceRows::zeros(device, out, rank, "dB")?,
        };
        Ok(Self {
            batch: Batch::new(device, &[Segment { rows: m, adapter: Some(0) }])?,
            low,
            x: rows(device, m, inp, 72)?,
            dy: rows(device, m, out, 73)?,
            s: rows(device, m, rank, 74)?,
            ds: rows(device, m, rank, 75)?,
            g,
        })
    }
}

/// `dB = dY^T S`, `dA = dS^T X`.
fn adapters<T: Storage>(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    // More rows than a block of the gradient takes, at a tiny size too.
    let [m, inp, out, rank] = size(scale, full);
    let m = m.max(513);
    let size = [m, inp, out, rank];
    // Bound by the bytes of X and dY.
    let n = sets(scale, size_of::<T>() * m * (inp + out));
    let mut sets = (0..n).map(|_| Learnt::<T>::new(device, size)).collect::<Result<Vec<_>>>()?;
    let run = move |i: usize| {
        let Learnt { batch, low, x, dy, s, ds, g } = &mut sets[i];
        gradients(batch, low, (x, s), (dy, ds), g).map(drop)
    };
    let [m, k, o, r] = [m, inp, out, rank].map(|n| n as f64);
    let bytes = size_of::<T>() as f64 * m * (k + o + 2.0 * r) + 8.0 * r * (k + o);
    Ok(Prepared::new(T::NAME, &names(size), run).sets(n).floor(bytes, 2.0 * m * r * (k + o)))
}

/// A layer of tuning: forward, the gradient of its input, those of its adapter; the weight is
/// frozen.
fn both<T: Storage>(device: &KernelDevice, scale: Scale, full: Size) -> Result<Prepared> {
    let size = size(scale, full);
    let [m, inp, out, rank] = size;
    let w = rotated::<T>(device, scale, (out, inp), 1)?;
    let n = w.len();
    let mut with = Learnt::<T>::new(device, size)?;
    let (mut y, mut dx) = (DeviceRows::<T>::zeros(device, m, out, "y")?, DeviceRows::zeros(device, m, inp, "dx")?);
    let run = move |i: usize| {
        let Learnt { batch, low, x, dy, s, ds, g } = &mut with;
        shrink(batch, x, low, s)?;
        forward(batch, x, &w[i], &Beside { low: Some((s, low)), ..Beside::default() }, &mut y)?;
        shrink_backward(batch, dy, low, ds)?;
        backward::<T, T>(batch, dy, &w[i], &Beside { low: Some((ds, low)), ..Beside::default() }, &mut dx)?;
        gradients(batch, low, (x, s), (dy, ds), g).map(drop)
    };
    let (forward, backward) = (floor::<T, T>(size), floor::<T, T>([m, out, inp, rank]));
    let [m, k, o, r] = [m, inp, out, rank].map(|n| n as f64);
    let flops = forward.1 + backward.1 + 2.0 * m * r * (k + o);
    Ok(Prepared::new(T::NAME, &names(size), run).sets(n).floor(forward.0 + backward.0, flops))
}

fn low_rank(rows: usize, inp: usize, out: usize, rank: usize) -> Result<Prepared> {
    let (a, b) = (normals(rank * inp, 1), normals(out * rank, 2));
    let x: Vec<_> = (0..8).map(|s| normals(rows * inp, s)).collect();
    let (mut y, mut z) = (vec![0.0; rows * out], vec![0.0; rows * rank]);
    let cost = Low { a: &a, b: &b, rank, scale: 2.0, dropout: None }.cost(rows * inp, 1.0);
    Ok(Prepared::of(cost, x.len(), move |i| {
        let low = Low { a: &a, b: &b, rank, scale: 2.0, dropout: None };
        lora::forward(low, &x[i], &mut y, &mut z);
        Ok(())
    }))
}

const ROWS: usize = 8192;

fn drop_out(device: &KernelDevice, scale: Scale, add: bool) -> Result<Prepared> {
    let (n, width) = (scale.of(ROWS, 5), scale.of(4096, 64));
    let names = device.upload(&(0..n as u64).collect::<Vec<_>>(), "row names")?;
    let x = rotated::<f32>(device, scale, (n, width), 1)?;
    let (count, mut y) = (x.len(), DeviceRows::zeros(device, n, width, "y")?);
    let of = Dropout::new(0.1, 7, 0, 3);
    let run = move |i: usize| mask::apply(of, &names, &x[i], add, &mut y).map(drop);
    Ok(Prepared::new("f32", &[("rows", n), ("width", width)], run).sets(count))
}
