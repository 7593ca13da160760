//! Rows of a graph's nodes at the place where operators work on them.

use std::borrow::Cow;

use super::{LANE, Lines, Precision};
use crate::device::{Device, DeviceRows, Place, View, ViewMut};
use crate::error::{Error, Result};

/// `rows x dim` values. Every row is padded with zeros to whole cache lines, on a device with
/// kernels as values of its own: they start at zero, their gradient is zero, and so they stay.
#[derive(Debug)]
pub struct Nodes {
    dim: usize,
    pub(in crate::ops) at: At,
}

/// Where the rows are, and how they are stored.
#[derive(Debug)]
pub(in crate::ops) enum At {
    Cpu(Lines),
    F32(DeviceRows<f32>),
    Bf16(DeviceRows<half::bf16>),
}

fn width(dim: usize) -> usize {
    dim.div_ceil(LANE) * LANE
}

impl Nodes {
    /// All zero, in f32.
    ///
    /// # Errors
    /// A device without room.
    pub fn zeros(device: &Device, rows: usize, dim: usize, label: &'static str) -> Result<Self> {
        let at = match device {
            Device::Cpu => At::Cpu(Lines::zeros(rows, dim)),
            Device::Kernels(kernels) => At::F32(DeviceRows::zeros(kernels, rows, width(dim), label)?),
        };
        Ok(Self { dim, at })
    }

    /// These rows in f32; the CPU keeps them as they are.
    ///
    /// # Errors
    /// A device without room.
    pub fn from_lines(device: &Device, rows: Lines, label: &'static str) -> Result<Self> {
        Self::stored(device, rows, Precision::F32, label)
    }

    /// These rows as `precision` stores them.
    ///
    /// # Errors
    /// Bf16 on the CPU, which keeps parameters in f32; a device without room.
    pub fn stored(device: &Device, rows: Lines, precision: Precision, label: &'static str) -> Result<Self> {
        let dim = rows.dim();
        let at = match (device, precision) {
            (Device::Cpu, Precision::F32) => At::Cpu(rows),
            (Device::Cpu, Precision::Bf16) => return Err(Error::failed(label, "the CPU keeps nodes in f32")),
            (Device::Kernels(kernels), Precision::F32) => {
                At::F32(DeviceRows::upload(kernels, width(dim), rows.values(), label)?)
            }
            (Device::Kernels(kernels), Precision::Bf16) => {
                let values: Vec<_> = rows.values().iter().map(|&v| half::bf16::from_f32(v)).collect();
                At::Bf16(DeviceRows::upload(kernels, width(dim), &values, label)?)
            }
        };
        Ok(Self { dim, at })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match &self.at {
            At::Cpu(rows) => rows.rows(),
            At::F32(rows) => rows.rows(),
            At::Bf16(rows) => rows.rows(),
        }
    }

    /// Values of a row that mean something.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The rows on the CPU, where they are or as a copy.
    ///
    /// # Errors
    /// A device that fails.
    pub fn lines(&self) -> Result<Cow<'_, Lines>> {
        let copy = |values: &[f32]| {
            let mut out = Lines::zeros(self.rows(), self.dim);
            out.values_mut().copy_from_slice(values);
            Cow::Owned(out)
        };
        Ok(match &self.at {
            At::Cpu(rows) => Cow::Borrowed(rows),
            At::F32(rows) => copy(&rows.download()?),
            At::Bf16(rows) => copy(&rows.download()?.iter().map(|v| v.to_f32()).collect::<Vec<_>>()),
        })
    }

    /// Where they are, and how they are stored there.
    pub fn place(&self) -> Place {
        self.view().place()
    }

    /// The values with their padding, to read.
    pub fn view(&self) -> View<'_> {
        match &self.at {
            At::Cpu(rows) => View::Cpu { values: rows.values(), dim: width(self.dim) },
            At::F32(rows) => View::F32(rows),
            At::Bf16(rows) => View::Bf16(rows),
        }
    }

    /// The values with their padding, which must stay zero.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let dim = width(self.dim);
        match &mut self.at {
            At::Cpu(rows) => ViewMut::Cpu { values: rows.values_mut(), dim },
            At::F32(rows) => ViewMut::F32(rows),
            At::Bf16(rows) => ViewMut::Bf16(rows),
        }
    }
}
