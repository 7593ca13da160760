//! Random cases of rows copied and added.

use super::sum_tolerance;
use crate::device::{Device, Rows};
use crate::error::Result;
use crate::ops::registry::{Check, Shape, drawn, errors, wide};
use crate::ops::rows::{RowNumbers, RowRuns, add_rows, gather_rows, scatter_rows, sum_runs};
use crate::rng::{Rng, Use};

/// Places, and sums.
pub(super) const CASES: &[Check] = &[
    Check::new("copy_rows", ["rows", "spare", "width"], placed),
    Check::new("add_rows_f32", ["rows", "spare", "width"], added).one_storage(),
];

/// Some rows' numbers in any order, among `spare` others.
fn numbers(count: usize, spare: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..(count + spare) as u32).collect();
    Rng::new(seed, Use::Synthetic, 4, 4).shuffle(&mut order);
    order.truncate(count);
    order
}

/// To their numbers and back: copies are exact.
fn placed(device: &Device, [count, spare, width]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    let from = drawn(device, (count, width), narrow, seed, 0)?;
    let mut to = drawn(device, (count + spare, width), narrow, seed, 1)?;
    let (x, mut want, order) = (wide(&from.download()?), wide(&to.download()?), numbers(count, spare, seed));
    for (row, &number) in x.chunks_exact(width).zip(&order) {
        want[number as usize * width..][..width].copy_from_slice(row);
    }
    let order = RowNumbers::upload(device, &order)?;
    scatter_rows(&from, &order, &mut to)?;
    let mut back = from.zeros_beside(count, width, "back")?;
    gather_rows(&to, &order, &mut back)?;
    let mut all = errors(&to.download()?, &want, |_| f64::MIN_POSITIVE);
    all.extend(errors(&back.download()?, &x, |_| f64::MIN_POSITIVE));
    Ok(all)
}

/// Sums of runs, and rows added to others.
fn added(device: &Device, [count, spare, width]: Shape, _: bool, seed: u64) -> Result<Vec<f64>> {
    let (from, mut to) =
        (drawn(device, (count, width), false, seed, 0)?, drawn(device, (count + spare, width), false, seed, 1)?);
    let (x, before, order) = (wide(&from.download()?), wide(&to.download()?), numbers(count, spare, seed));
    // Runs of three rows, the last one shorter, and an empty one.
    let mut starts: Vec<u32> = (0..count as u32).step_by(3).collect();
    starts.extend([count as u32; 2]);
    let mut sums = Rows::zeros(device, from.dtype(), starts.len() - 1, width, "sums")?;
    sum_runs(&from, &RowRuns::upload(device, &starts)?, &mut sums)?;
    add_rows(&from, &RowNumbers::upload(device, &order)?, &mut to)?;
    let (mut want, mut sizes) = (vec![0.0; (starts.len() - 1) * width], vec![0.0; (starts.len() - 1) * width]);
    for (run, rows) in starts.windows(2).enumerate() {
        for at in rows[0] as usize * width..rows[1] as usize * width {
            want[run * width + at % width] += x[at];
            sizes[run * width + at % width] += x[at].abs();
        }
    }
    let mut all = errors(&sums.download()?, &want, |i| sum_tolerance(sizes[i]));
    let mut sizes: Vec<f64> = before.iter().map(|v| v.abs()).collect();
    let mut want = before;
    for (row, &number) in x.chunks_exact(width).zip(&order) {
        for (column, value) in row.iter().enumerate() {
            want[number as usize * width + column] += value;
            sizes[number as usize * width + column] += value.abs();
        }
    }
    all.extend(errors(&to.download()?, &want, |i| sum_tolerance(sizes[i])));
    Ok(all)
}
