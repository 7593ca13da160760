//! Rows copied or added to other rows, wherever both are.
//!
//! Shapes: rows of one width in both. Cost: a reading and a writing of each row, and an addition a
//! value where rows are added.

pub mod cases;
pub mod kernel;

use self::kernel::{Places as OnDevice, Runs as RunsOnDevice};
use crate::device::{Device, Rows, mixed};
use crate::error::{Error, Result};
use crate::tensor::{Cost, Matrix};

/// Numbers of rows, where the rows are.
#[derive(Debug)]
pub enum RowNumbers {
    /// In this process.
    Cpu(Vec<u32>),
    /// On a device with kernels.
    Kernels(OnDevice),
}

impl RowNumbers {
    /// A copy.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(device: &Device, rows: &[u32]) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Cpu(rows.to_vec()),
            Device::Kernels(device) => Self::Kernels(OnDevice::upload(device, rows)?),
        })
    }

    /// Other numbers in the same place, as many as before, below `below`: launches that are
    /// replayed do not look again.
    ///
    /// # Errors
    /// Another number of numbers, or one that is not below `below`.
    pub fn write(&mut self, rows: &[u32], below: usize) -> Result<()> {
        match self {
            Self::Cpu(list) => {
                list.clear();
                list.extend_from_slice(rows);
                Ok(())
            }
            Self::Kernels(list) => list.write(rows, below),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Cpu(rows) => rows.len(),
            Self::Kernels(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Consecutive rows that belong together: run `i` is `starts[i] .. starts[i + 1]`.
#[derive(Debug)]
pub enum RowRuns {
    /// In this process.
    Cpu(Vec<u32>),
    /// On a device with kernels.
    Kernels(RunsOnDevice),
}

impl RowRuns {
    /// A copy; `starts` ascend, and the last one is the end of the last run.
    ///
    /// # Errors
    /// Starts that do not ascend; out of memory.
    pub fn upload(device: &Device, starts: &[u32]) -> Result<Self> {
        match device {
            Device::Cpu if starts.is_empty() || !starts.is_sorted() => {
                Err(Error::failed("runs of rows", "their starts do not ascend"))
            }
            Device::Cpu => Ok(Self::Cpu(starts.to_vec())),
            Device::Kernels(device) => Ok(Self::Kernels(RunsOnDevice::upload(device, starts)?)),
        }
    }
}

/// Cost of rows that are read and written.
fn cost(rows: usize, dim: usize) -> Cost {
    Cost { bytes: 8.0 * (rows * dim) as f64, flops: 0.0 }
}

/// Fails unless `few` has a row for each number, and every number is a row of `many`.
fn check(operator: &str, few: &Matrix, numbers: &[u32], many: &Matrix) -> Result<()> {
    let end = numbers.iter().max().map_or(0, |&r| r as usize + 1);
    if few.rows() != numbers.len() || few.cols() != many.cols() || end > many.rows() {
        let shapes = format!("{} x {} and {} x {}", few.rows(), few.cols(), many.rows(), many.cols());
        return Err(Error::failed(operator, format!("{shapes}, {} places below {end}", numbers.len())));
    }
    Ok(())
}

/// Writes the rows `numbers` of `from` to `to`, one behind the other.
///
/// # Errors
/// Shapes that do not fit, operands in different places.
pub fn gather_rows(from: &Rows, numbers: &RowNumbers, to: &mut Rows) -> Result<Cost> {
    let places = [from.place(), to.place()];
    match (from, numbers, to) {
        (Rows::Cpu(from), RowNumbers::Cpu(numbers), Rows::Cpu(to)) => {
            check("gather", to, numbers, from)?;
            for (i, &row) in numbers.iter().enumerate() {
                to.row_mut(i).copy_from_slice(from.row(row as usize));
            }
            Ok(cost(numbers.len(), from.cols()))
        }
        (Rows::F32(from), RowNumbers::Kernels(numbers), Rows::F32(to)) => kernel::gather(from, numbers, to),
        (Rows::Bf16(from), RowNumbers::Kernels(numbers), Rows::Bf16(to)) => kernel::gather(from, numbers, to),
        _ => Err(mixed("gather", &places)),
    }
}

/// Writes each row of `from` to its number in `to`; numbers must differ.
///
/// # Errors
/// Shapes that do not fit, operands in different places.
pub fn scatter_rows(from: &Rows, numbers: &RowNumbers, to: &mut Rows) -> Result<Cost> {
    let places = [from.place(), to.place()];
    match (from, numbers, to) {
        (Rows::Cpu(from), RowNumbers::Cpu(numbers), Rows::Cpu(to)) => {
            check("scatter", from, numbers, to)?;
            for (i, &row) in numbers.iter().enumerate() {
                to.row_mut(row as usize).copy_from_slice(from.row(i));
            }
            Ok(cost(numbers.len(), from.cols()))
        }
        (Rows::F32(from), RowNumbers::Kernels(numbers), Rows::F32(to)) => kernel::scatter(from, numbers, to),
        (Rows::Bf16(from), RowNumbers::Kernels(numbers), Rows::Bf16(to)) => kernel::scatter(from, numbers, to),
        _ => Err(mixed("scatter", &places)),
    }
}

/// Adds each row of `from` to its number in `to`; numbers must differ.
///
/// # Errors
/// Shapes that do not fit, operands in different places, bf16.
pub fn add_rows(from: &Rows, numbers: &RowNumbers, to: &mut Rows) -> Result<Cost> {
    let places = [from.place(), to.place()];
    match (from, numbers, to) {
        (Rows::Cpu(from), RowNumbers::Cpu(numbers), Rows::Cpu(to)) => {
            check("sums of rows", from, numbers, to)?;
            for (i, &row) in numbers.iter().enumerate() {
                to.row_mut(row as usize).iter_mut().zip(from.row(i)).for_each(|(t, f)| *t += f);
            }
            Ok(cost(2 * numbers.len(), from.cols()))
        }
        (Rows::F32(from), RowNumbers::Kernels(numbers), Rows::F32(to)) => kernel::add(from, None, Some(numbers), to),
        _ => Err(mixed("sums of rows", &places)),
    }
}

/// Writes the sum of each run of rows of `from` to its row of `to`: the backward of a gather that
/// names some rows twice.
///
/// # Errors
/// Shapes that do not fit, operands in different places, bf16.
pub fn sum_runs(from: &Rows, runs: &RowRuns, to: &mut Rows) -> Result<Cost> {
    let places = [from.place(), to.place()];
    match (from, runs, to) {
        (Rows::Cpu(from), RowRuns::Cpu(starts), Rows::Cpu(to)) => {
            let end = starts.last().map_or(0, |&end| end as usize);
            if starts.len() != to.rows() + 1 || end > from.rows() || from.cols() != to.cols() {
                let shapes = format!("{} x {} to {} x {}", from.rows(), from.cols(), to.rows(), to.cols());
                return Err(Error::failed("sums of rows", format!("{shapes}, {} runs to {end}", starts.len())));
            }
            for (i, run) in starts.windows(2).enumerate() {
                let sum = to.row_mut(i);
                sum.fill(0.0);
                for row in run[0]..run[1] {
                    sum.iter_mut().zip(from.row(row as usize)).for_each(|(s, x)| *s += x);
                }
            }
            Ok(cost(from.rows() + to.rows(), from.cols()))
        }
        (Rows::F32(from), RowRuns::Kernels(runs), Rows::F32(to)) => {
            clear(to)?;
            kernel::add(from, Some(runs), None, to)
        }
        _ => Err(mixed("sums of rows", &places)),
    }
}

/// Zero everywhere.
fn clear<T: crate::device::Storage>(rows: &mut crate::device::DeviceRows<T>) -> Result<()> {
    let device = rows.device().clone();
    device.clear(rows.values_mut())
}

/// Makes every value zero.
///
/// # Errors
/// The device's.
pub fn clear_rows(rows: &mut Rows) -> Result<()> {
    match rows {
        Rows::Cpu(m) => m.as_mut_slice().fill(0.0),
        Rows::F32(d) => clear(d)?,
        Rows::Bf16(d) => clear(d)?,
    }
    Ok(())
}

/// A copy of `from`, whose shape `to` takes.
///
/// # Errors
/// Operands in different places; out of memory.
pub fn copy_rows(from: &Rows, to: &mut Rows, label: &'static str) -> Result<Cost> {
    let places = [from.place(), to.place()];
    to.fit(from.rows(), from.dim(), label)?;
    match (from, to) {
        (Rows::Cpu(from), Rows::Cpu(to)) => {
            to.as_mut_slice().copy_from_slice(from.as_slice());
            Ok(cost(from.rows(), from.cols()))
        }
        (Rows::F32(from), Rows::F32(to)) => kernel::launch(from, None, to, None, from.rows()),
        (Rows::Bf16(from), Rows::Bf16(to)) => kernel::launch(from, None, to, None, from.rows()),
        _ => Err(mixed("copy", &places)),
    }
}
