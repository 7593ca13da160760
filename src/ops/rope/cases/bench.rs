//! Works of rotary positions that are measured.

use crate::device::{Device, KernelDevice, Rows, Storage};
use crate::error::Result;
use crate::ops::registry::{Case, Prepared, Scale, host_sets, normals, rotated};
use crate::ops::rope::kernel::{DeviceAngles, Positions};
use crate::ops::rope::{self, Rope};
use crate::tensor::Matrix;
use half::bf16;

/// Queries.
pub(super) const CASES: &[Case] = &[
    Case::cpu("rope", "512 rows, 9 heads, 64 wide", || on_cpu(512, 9, 64)),
    Case::kernels("rope", "queries", |d, s| turn::<bf16>(d, s, 32, 128)),
    Case::kernels("rope", "queries", |d, s| turn::<f32>(d, s, 32, 128)),
    Case::kernels("rope", "queries", |d, s| turn::<f32>(d, s, 9, 64)),
    Case::kernels("rope", "heads of no whole vectors", |d, s| turn::<bf16>(d, s, 16, 20)),
    Case::kernels("rope", "heads of no whole vectors", |d, s| turn::<f32>(d, s, 16, 20)),
];

/// Small works whose instructions are counted.
pub(super) const COUNTED: &[Case] = &[Case::cpu("rope", "64 rows, 9 heads, 64 wide", || on_cpu(64, 9, 64))];

const ROWS: usize = 8192;

fn turn<T: Storage>(device: &KernelDevice, scale: Scale, heads: usize, width: usize) -> Result<Prepared> {
    let (n, heads) = (scale.of(ROWS, 5), scale.of(heads, 2));
    let angles = DeviceAngles::new(device, &Rope::new(width, 1e4, None), n)?;
    let positions = Positions::upload(device, &(0..n as u32).collect::<Vec<_>>())?;
    let mut x = rotated::<T>(device, scale, (n, heads * width), 1)?;
    let count = x.len();
    let run = move |i: usize| angles.turn(&mut x[i], (0, heads), &positions, false).map(drop);
    Ok(Prepared::new(T::NAME, &[("rows", n), ("heads", heads), ("width", width)], run).sets(count))
}

fn on_cpu(rows: usize, heads: usize, dim: usize) -> Result<Prepared> {
    let mut table = rope::Table::new(&Device::Cpu, Rope::new(dim, 1e5, None));
    table.grow(rows)?;
    let positions = rope::Positions::Cpu((0..rows as u32).collect());
    let n = host_sets(4.0 * (rows * heads * dim) as f64);
    let set = |s| Ok(Rows::Cpu(Matrix::from_vec(rows, heads * dim, normals(rows * heads * dim, s))?));
    let mut x: Vec<Rows> = (0..n as u32).map(set).collect::<Result<_>>()?;
    Ok(Prepared::of(rope::cost(rows, heads, dim), n, move |i| table.rope(&mut x[i], &positions).map(drop)))
}
