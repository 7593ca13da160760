//! A matrix on a device, row-major, every row beginning at a 16-byte boundary.

use super::arguments::Pointer;
use super::buffer::{Buffer, Storage};
use super::kernel::{Arg, KernelDevice};
use crate::error::{Error, Result};

/// `rows x dim` values, rows `stride` apart; what pads a row is zero.
#[derive(Debug)]
pub struct DeviceRows<T: Storage> {
    values: Buffer<T>,
    rows: usize,
    dim: usize,
    stride: usize,
}

/// Values of a row with its padding: whole vectors of every storage type.
fn stride_of(dim: usize) -> usize {
    dim.div_ceil(8) * 8
}

impl<T: Storage> DeviceRows<T> {
    /// All zero.
    pub fn zeros(device: &KernelDevice, rows: usize, dim: usize, label: &'static str) -> Result<Self> {
        let stride = stride_of(dim);
        if u32::try_from(stride).is_err() {
            return Err(Error::failed(label, format!("rows of {dim} values are too long for a kernel")));
        }
        let count = rows.checked_mul(stride).ok_or_else(|| Error::failed(label, format!("{rows} x {dim} values")))?;
        Ok(Self { values: device.zeros(count, label)?, rows, dim, stride })
    }

    /// Whose values a kernel is about to write, all of them: nothing is set to zero first, unless
    /// rows have padding, which no kernel writes.
    pub(crate) fn unwritten(device: &KernelDevice, rows: usize, dim: usize, label: &'static str) -> Result<Self> {
        if dim != stride_of(dim) || u32::try_from(dim).is_err() {
            return Self::zeros(device, rows, dim, label);
        }
        let count = rows.checked_mul(dim).ok_or_else(|| Error::failed(label, format!("{rows} x {dim} values")))?;
        Ok(Self { values: device.alloc(count, label)?, rows, dim, stride: dim })
    }

    /// A copy of packed values (`dim` a row).
    pub fn upload(device: &KernelDevice, dim: usize, packed: &[T], label: &'static str) -> Result<Self> {
        let rows = packed.len().checked_div(dim).unwrap_or(0);
        let mut out = Self::zeros(device, rows, dim, label)?;
        out.write(packed)?;
        Ok(out)
    }

    /// Other values in the same place: as many, packed.
    pub fn write(&mut self, packed: &[T]) -> Result<()> {
        if packed.len() != self.rows * self.dim {
            let what = format!("{} values for {} x {}", packed.len(), self.rows, self.dim);
            return Err(Error::failed(self.values.label(), what));
        }
        let device = self.values.device().clone();
        if self.dim == self.stride {
            device.write(&mut self.values, packed)?;
        } else if self.rows > 0 {
            let mut padded = vec![T::zeroed(); self.rows * self.stride];
            for (to, from) in padded.chunks_exact_mut(self.stride).zip(packed.chunks_exact(self.dim)) {
                to[..self.dim].copy_from_slice(from);
            }
            device.write(&mut self.values, &padded)?;
        }
        Ok(())
    }

    /// Packed values.
    pub fn download(&self) -> Result<Vec<T>> {
        let all = self.values.device().download(&self.values)?;
        if self.dim == self.stride || self.dim == 0 {
            return Ok(if self.dim == 0 { Vec::new() } else { all });
        }
        Ok(all.chunks_exact(self.stride).flat_map(|row| &row[..self.dim]).copied().collect())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row that mean something.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Values from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Where it is.
    pub fn device(&self) -> &KernelDevice {
        self.values.device()
    }

    /// The values with their padding.
    pub fn values(&self) -> &Buffer<T> {
        &self.values
    }

    /// The values with their padding, which must stay zero.
    pub fn values_mut(&mut self) -> &mut Buffer<T> {
        &mut self.values
    }

    /// The address, for a struct of arguments.
    pub fn pointer(&self) -> Pointer {
        self.values.pointer()
    }

    /// The stride as kernels take it (it fits: `zeros`).
    pub fn stride_u32(&self) -> u32 {
        self.stride as u32
    }

    /// The width as kernels take it.
    pub fn dim_u32(&self) -> u32 {
        self.dim as u32
    }

    /// The address as an argument.
    pub fn arg(&self) -> Arg {
        self.values.arg()
    }

    /// The stride as an argument (it fits: `zeros`).
    pub fn stride_arg(&self) -> Arg {
        Arg::U32(self.stride as u32)
    }

    /// The width as an argument.
    pub fn dim_arg(&self) -> Arg {
        Arg::U32(self.dim as u32)
    }

    /// The number of rows as an argument.
    pub fn rows_arg(&self) -> Arg {
        Arg::U64(self.rows as u64)
    }
}
