//! Rows that an operator borrows, wherever they are: values of the CPU, or rows on a device.

use half::bf16;

use super::{Device, DeviceRows, Place, Rows};
use crate::error::Result;
use crate::tensor::{Dtype, Matrix};

/// Rows that are read.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// On the CPU, row-major, packed.
    Cpu {
        /// All values.
        values: &'a [f32],
        /// Values of a row.
        dim: usize,
    },
    /// On a device, in f32.
    F32(&'a DeviceRows<f32>),
    /// On a device, in bf16.
    Bf16(&'a DeviceRows<bf16>),
}

/// Rows that are written.
#[derive(Debug)]
pub enum ViewMut<'a> {
    /// On the CPU, row-major, packed.
    Cpu {
        /// All values.
        values: &'a mut [f32],
        /// Values of a row.
        dim: usize,
    },
    /// On a device, in f32.
    F32(&'a mut DeviceRows<f32>),
    /// On a device, in bf16.
    Bf16(&'a mut DeviceRows<bf16>),
}

impl Rows {
    /// A matrix in f32 on `device`; the CPU keeps it as it is.
    ///
    /// # Errors
    /// A device without room.
    pub fn from_matrix(device: &Device, matrix: Matrix, label: &'static str) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Rows::Cpu(matrix),
            Device::Kernels(device) => Rows::F32(DeviceRows::upload(device, matrix.cols(), matrix.as_slice(), label)?),
        })
    }
}

impl Place {
    /// A device, whose rows are f32.
    pub fn of(device: &Device) -> Self {
        match device {
            Device::Cpu => Place::Cpu,
            Device::Kernels(_) => Place::Kernels(Dtype::F32),
        }
    }
}

impl View<'_> {
    /// Where the rows are, and how they are stored there.
    pub fn place(&self) -> Place {
        match self {
            View::Cpu { .. } => Place::Cpu,
            View::F32(_) => Place::Kernels(Dtype::F32),
            View::Bf16(_) => Place::Kernels(Dtype::Bf16),
        }
    }

    /// (rows, values of a row); of CPU values that are no whole rows the whole ones count.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            View::Cpu { values, dim } => (values.len().checked_div(*dim).unwrap_or(0), *dim),
            View::F32(rows) => (rows.rows(), rows.dim()),
            View::Bf16(rows) => (rows.rows(), rows.dim()),
        }
    }
}

impl ViewMut<'_> {
    /// Where the rows are, and how they are stored there.
    pub fn place(&self) -> Place {
        match self {
            ViewMut::Cpu { .. } => Place::Cpu,
            ViewMut::F32(_) => Place::Kernels(Dtype::F32),
            ViewMut::Bf16(_) => Place::Kernels(Dtype::Bf16),
        }
    }
}

impl<'a> From<&'a Rows> for View<'a> {
    fn from(rows: &'a Rows) -> Self {
        match rows {
            Rows::Cpu(matrix) => matrix.into(),
            Rows::F32(rows) => View::F32(rows),
            Rows::Bf16(rows) => View::Bf16(rows),
        }
    }
}

impl<'a> From<&'a mut Rows> for ViewMut<'a> {
    fn from(rows: &'a mut Rows) -> Self {
        match rows {
            Rows::Cpu(matrix) => {
                let dim = matrix.cols();
                ViewMut::Cpu { values: matrix.as_mut_slice(), dim }
            }
            Rows::F32(rows) => ViewMut::F32(rows),
            Rows::Bf16(rows) => ViewMut::Bf16(rows),
        }
    }
}

impl<'a> From<&'a Matrix> for View<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        View::Cpu { values: matrix.as_slice(), dim: matrix.cols() }
    }
}

impl<'a> From<(&'a [f32], usize)> for View<'a> {
    fn from((values, dim): (&'a [f32], usize)) -> Self {
        View::Cpu { values, dim }
    }
}

impl<'a> From<&'a DeviceRows<f32>> for View<'a> {
    fn from(rows: &'a DeviceRows<f32>) -> Self {
        View::F32(rows)
    }
}

impl<'a> From<&'a DeviceRows<bf16>> for View<'a> {
    fn from(rows: &'a DeviceRows<bf16>) -> Self {
        View::Bf16(rows)
    }
}

impl<'a> From<&'a mut DeviceRows<f32>> for ViewMut<'a> {
    fn from(rows: &'a mut DeviceRows<f32>) -> Self {
        ViewMut::F32(rows)
    }
}

impl<'a> From<(&'a mut [f32], usize)> for ViewMut<'a> {
    fn from((values, dim): (&'a mut [f32], usize)) -> Self {
        ViewMut::Cpu { values, dim }
    }
}
