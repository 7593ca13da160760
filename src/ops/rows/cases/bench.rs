//! Works of rows copied and added that are measured.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::registry::{Case, Prepared, Scale, copies, rotated, rows, sets};
use crate::ops::rows::kernel::{Places, Runs, add, gather, scatter};
use half::bf16;

/// Gather, scatter, add.
pub(super) const CASES: &[Case] = &[
    Case::kernels("rows", "gather", |d, s| move_rows::<bf16>(d, s, true)),
    Case::kernels("rows", "scatter", |d, s| move_rows::<bf16>(d, s, false)),
    Case::kernels("rows", "gather", |d, s| move_rows::<f32>(d, s, true)),
    Case::kernels("rows", "to places", |d, s| add_rows(d, s, 1)),
    Case::kernels("rows", "sums of runs to places", |d, s| add_rows(d, s, 4)),
];

const ROWS: usize = 8192;

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
