//! Dense rows, and lists of plain values, whose place is known at run time.

use std::fmt;

use half::bf16;

use super::buffer::{Buffer, Element, Storage};
use super::rows::DeviceRows;
use super::{Device, KernelDevice};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Matrix};

/// `rows x dim` values on the CPU, where they are f32, or on a device with kernels.
#[derive(Debug)]
pub enum Rows {
    /// f32 in this process.
    Cpu(Matrix),
    /// f32 on a device with kernels.
    F32(DeviceRows<f32>),
    /// bf16 on a device with kernels.
    Bf16(DeviceRows<bf16>),
}

/// Where rows are, and how they are stored there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// f32 in this process.
    Cpu,
    /// On a device with kernels.
    Kernels(Dtype),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu => f.write_str("f32 on the CPU"),
            Place::Kernels(dtype) => write!(f, "{} on a device", dtype.name()),
        }
    }
}

/// The error of an operator whose operands are not in one place.
pub fn mixed(operator: &str, places: &[Place]) -> Error {
    let places: Vec<String> = places.iter().map(Place::to_string).collect();
    Error::failed(operator, format!("operands in different places: {}", places.join(", ")))
}

/// The error of a storage type that no kernel takes.
fn no_kernels(label: &str, dtype: Dtype) -> Error {
    Error::failed(label, format!("no kernel takes rows of {}", dtype.name())).next("use f32 or bf16")
}

/// `packed` as another storage type.
fn narrow<T: Storage>(packed: &[f32]) -> Vec<T> {
    packed.iter().map(|&v| T::from_f32(v)).collect()
}

impl Rows {
    /// All zero. `dtype` is how a device with kernels stores them; the CPU computes in f32.
    ///
    /// # Errors
    /// Out of memory; a dtype that kernels do not take.
    pub fn zeros(device: &Device, dtype: Dtype, rows: usize, dim: usize, label: &'static str) -> Result<Self> {
        match (device, dtype) {
            (Device::Cpu, _) => {
                rows.checked_mul(dim).ok_or_else(|| Error::failed(label, format!("{rows} x {dim} values")))?;
                Ok(Rows::Cpu(Matrix::zeros(rows, dim)))
            }
            (Device::Kernels(device), Dtype::F32) => Ok(Rows::F32(DeviceRows::zeros(device, rows, dim, label)?)),
            (Device::Kernels(device), Dtype::Bf16) => Ok(Rows::Bf16(DeviceRows::zeros(device, rows, dim, label)?)),
            (Device::Kernels(_), Dtype::F16) => Err(no_kernels(label, dtype)),
        }
    }

    /// As [`Rows::zeros`], for an operator that is about to write every value: on a device with
    /// kernels nothing is set to zero first.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn unwritten(
        device: &Device,
        dtype: Dtype,
        rows: usize,
        dim: usize,
        label: &'static str,
    ) -> Result<Self> {
        match (device, dtype) {
            (Device::Kernels(device), Dtype::F32) => Ok(Rows::F32(DeviceRows::unwritten(device, rows, dim, label)?)),
            (Device::Kernels(device), Dtype::Bf16) => Ok(Rows::Bf16(DeviceRows::unwritten(device, rows, dim, label)?)),
            _ => Self::zeros(device, dtype, rows, dim, label),
        }
    }

    /// A copy of packed values (`dim` a row), rounded to `dtype` on a device with kernels.
    ///
    /// # Errors
    /// As [`Rows::zeros`]; values that are no whole rows.
    pub fn upload(device: &Device, dtype: Dtype, dim: usize, packed: &[f32], label: &'static str) -> Result<Self> {
        let rows = packed.len().checked_div(dim).unwrap_or(0);
        let mut out = Self::zeros(device, dtype, rows, dim, label)?;
        out.write(packed)?;
        Ok(out)
    }

    /// Zeros of another shape in the same place.
    ///
    /// # Errors
    /// Out of memory.
    pub fn zeros_beside(&self, rows: usize, dim: usize, label: &'static str) -> Result<Self> {
        Self::zeros(&self.device(), self.dtype(), rows, dim, label)
    }

    /// Takes this shape and keeps the memory where it can; what the values are then is not said.
    ///
    /// # Errors
    /// Out of memory.
    pub fn fit(&mut self, rows: usize, dim: usize, label: &'static str) -> Result<()> {
        match self {
            Rows::Cpu(m) => m.fit(rows, dim),
            Rows::F32(d) => fit(d, rows, dim, label)?,
            Rows::Bf16(d) => fit(d, rows, dim, label)?,
        }
        Ok(())
    }

    /// Other values in the same shape, packed.
    ///
    /// # Errors
    /// Another number of values.
    pub fn write(&mut self, packed: &[f32]) -> Result<()> {
        match self {
            Rows::Cpu(m) if m.as_slice().len() == packed.len() => m.as_mut_slice().copy_from_slice(packed),
            Rows::Cpu(m) => {
                let what = format!("{} values for {} x {}", packed.len(), m.rows(), m.cols());
                return Err(Error::failed("rows", what));
            }
            Rows::F32(d) => d.write(packed)?,
            Rows::Bf16(d) => d.write(&narrow(packed))?,
        }
        Ok(())
    }

    /// The values, packed, as f32.
    ///
    /// # Errors
    /// The device's.
    pub fn download(&self) -> Result<Vec<f32>> {
        match self {
            Rows::Cpu(m) => Ok(m.as_slice().to_vec()),
            Rows::F32(d) => d.download(),
            Rows::Bf16(d) => Ok(d.download()?.into_iter().map(bf16::to_f32).collect()),
        }
    }

    /// As [`Rows::download`], without a copy of what is on the CPU.
    ///
    /// # Errors
    /// The device's.
    pub fn into_matrix(self) -> Result<Matrix> {
        match self {
            Rows::Cpu(m) => Ok(m),
            other => Matrix::from_vec(other.rows(), other.dim(), other.download()?),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Rows::Cpu(m) => m.rows(),
            Rows::F32(d) => d.rows(),
            Rows::Bf16(d) => d.rows(),
        }
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        match self {
            Rows::Cpu(m) => m.cols(),
            Rows::F32(d) => d.dim(),
            Rows::Bf16(d) => d.dim(),
        }
    }

    /// How the values are stored.
    pub fn dtype(&self) -> Dtype {
        match self {
            Rows::Cpu(_) | Rows::F32(_) => Dtype::F32,
            Rows::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        match self {
            Rows::Cpu(_) => Device::Cpu,
            Rows::F32(d) => Device::Kernels(d.device().clone()),
            Rows::Bf16(d) => Device::Kernels(d.device().clone()),
        }
    }

    /// Where they are, and how they are stored there.
    pub fn place(&self) -> Place {
        match self {
            Rows::Cpu(_) => Place::Cpu,
            other => Place::Kernels(other.dtype()),
        }
    }

    /// Refuses another shape; `operator` and `what` name it.
    ///
    /// # Errors
    /// Another shape.
    pub fn must_be(&self, operator: &str, what: &str, rows: usize, dim: usize) -> Result<()> {
        if (self.rows(), self.dim()) == (rows, dim) {
            return Ok(());
        }
        Err(Error::failed(operator, format!("{what} of {} x {}, not {rows} x {dim}", self.rows(), self.dim())))
    }
}

/// Another matrix in its place, unless it has the shape already.
fn fit<T: Storage>(of: &mut DeviceRows<T>, rows: usize, dim: usize, label: &'static str) -> Result<()> {
    if (of.rows(), of.dim()) != (rows, dim) {
        *of = DeviceRows::unwritten(of.device(), rows, dim, label)?;
    }
    Ok(())
}

/// Plain values beside [`Rows`]: positions, places of rows, names, biases.
#[derive(Debug)]
pub enum List<T: Element> {
    /// In this process.
    Cpu(Vec<T>),
    /// On a device with kernels.
    Kernels(Buffer<T>),
}

impl<T: Element> List<T> {
    /// A copy of `values`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(device: &Device, values: &[T], label: &'static str) -> Result<Self> {
        match device {
            Device::Cpu => Ok(List::Cpu(values.to_vec())),
            Device::Kernels(device) => Ok(List::Kernels(device.upload(values, label)?)),
        }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// Out of memory.
    pub fn zeros(device: &Device, len: usize, label: &'static str) -> Result<Self> {
        match device {
            Device::Cpu => Ok(List::Cpu(vec![T::zeroed(); len])),
            Device::Kernels(device) => Ok(List::Kernels(device.zeros(len, label)?)),
        }
    }

    /// Other values in the same place, as many as before.
    ///
    /// # Errors
    /// Another number of values.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        if values.len() != self.len() {
            return Err(Error::failed("list", format!("{} values for {}", values.len(), self.len())));
        }
        match self {
            List::Cpu(list) => list.copy_from_slice(values),
            List::Kernels(buffer) => buffer.device().clone().write(buffer, values)?,
        }
        Ok(())
    }

    /// The values.
    ///
    /// # Errors
    /// The device's.
    pub fn download(&self) -> Result<Vec<T>> {
        match self {
            List::Cpu(list) => Ok(list.clone()),
            List::Kernels(buffer) => buffer.device().download(buffer),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            List::Cpu(list) => list.len(),
            List::Kernels(buffer) => buffer.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values on the CPU; an error elsewhere. `operator` names who asks.
    ///
    /// # Errors
    /// The values are on a device.
    pub fn cpu(&self, operator: &str) -> Result<&[T]> {
        match self {
            List::Cpu(list) => Ok(list),
            List::Kernels(_) => Err(Error::failed(operator, "a list on a device, rows on the CPU")),
        }
    }

    /// As [`List::cpu`], to be written.
    ///
    /// # Errors
    /// As there.
    pub fn cpu_mut(&mut self, operator: &str) -> Result<&mut Vec<T>> {
        match self {
            List::Cpu(list) => Ok(list),
            List::Kernels(_) => Err(Error::failed(operator, "a list on a device, rows on the CPU")),
        }
    }

    /// The buffer on a device with kernels; an error on the CPU. `operator` names who asks.
    ///
    /// # Errors
    /// The values are on the CPU.
    pub fn kernels(&self, operator: &str) -> Result<&Buffer<T>> {
        match self {
            List::Kernels(buffer) => Ok(buffer),
            List::Cpu(_) => Err(Error::failed(operator, "a list on the CPU, rows on a device")),
        }
    }

    /// As [`List::kernels`], to be written.
    ///
    /// # Errors
    /// As there.
    pub fn kernels_mut(&mut self, operator: &str) -> Result<&mut Buffer<T>> {
        match self {
            List::Kernels(buffer) => Ok(buffer),
            List::Cpu(_) => Err(Error::failed(operator, "a list on the CPU, rows on a device")),
        }
    }
}

impl From<KernelDevice> for Device {
    fn from(device: KernelDevice) -> Self {
        Device::Kernels(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> [(Device, Dtype); 3] {
        let host = || Device::Kernels(KernelDevice::host(0));
        [(Device::Cpu, Dtype::F32), (host(), Dtype::F32), (host(), Dtype::Bf16)]
    }

    #[test]
    fn rows_come_back_from_every_place() {
        // Whole numbers below 256 are exact in bf16; 5 values a row leave padding on a device.
        let values: Vec<f32> = (0..15).map(|v| v as f32).collect();
        for (device, dtype) in places() {
            let mut rows = Rows::upload(&device, dtype, 5, &values, "test").unwrap();
            assert_eq!((rows.rows(), rows.dim(), rows.download().unwrap()), (3, 5, values.clone()));
            assert!(rows.write(&values[1..]).is_err());
            rows.write(&[2.0; 15]).unwrap();
            rows.fit(2, 8, "test").unwrap();
            rows.write(&[1.0; 16]).unwrap();
            assert_eq!(rows.into_matrix().unwrap(), Matrix::from_vec(2, 8, vec![1.0; 16]).unwrap());
        }
        let error = Rows::zeros(&places()[1].0, Dtype::F16, 1, 1, "test").unwrap_err();
        assert!(error.what().contains("f16"), "{error}");
    }

    #[test]
    fn lists_come_back_and_are_refused_elsewhere() {
        for (device, _) in places() {
            let mut list = List::upload(&device, &[3u32, 1], "test").unwrap();
            list.write(&[7, 8]).unwrap();
            assert!(list.write(&[1]).is_err());
            assert_eq!(list.download().unwrap(), [7, 8]);
            assert_ne!(list.cpu("test").is_ok(), list.kernels("test").is_ok());
        }
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let rows = Rows::zeros(&Device::Cpu, Dtype::F32, 2, 3, "test").unwrap();
        assert!(rows.must_be("swiglu", "gate", 2, 3).is_ok());
        let error = rows.must_be("swiglu", "gate", 3, 3).unwrap_err();
        assert_eq!(error.to_string(), "swiglu: gate of 2 x 3, not 3 x 3");
    }
}
