//! A weight matrix in whatever storage it came in: 16 or 32 bits, owned or memory-mapped, or
//! quantised, in blocks of our own or in those of its file.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;

use super::quantised::Quantised;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::tensor::simd::vectorized;

/// Rows that stay in the blocks of a mapped file, for a table whose rows are looked up and which is
/// never multiplied: only the pages of the rows that are read take memory.
pub trait InFile: Send + Sync {
    /// Writes a row as f32.
    fn read_row(&self, row: usize, out: &mut [f32]);
    /// Bytes of all rows.
    fn bytes(&self) -> usize;
}

/// Where the values are.
#[derive(Clone)]
pub enum Storage {
    /// Owned f32.
    F32(Arc<Vec<f32>>),
    /// Owned bf16.
    Bf16(Arc<Vec<bf16>>),
    /// Owned f16.
    F16(Arc<Vec<f16>>),
    /// Codes of 4 or 8 bits and their scales.
    Quantised(Arc<Quantised>),
    /// Rows of blocks in a mapped file.
    InFile(Arc<dyn InFile>),
    /// A slice of a mapped file: little-endian values of `dtype` at byte `offset` (aligned to the
    /// dtype).
    Mapped {
        /// The file.
        file: Arc<Mmap>,
        /// First byte.
        offset: usize,
        /// Type of the values there.
        dtype: Dtype,
    },
}

/// A borrowed view of the values.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// f32.
    F32(&'a [f32]),
    /// bf16.
    Bf16(&'a [bf16]),
    /// f16.
    F16(&'a [f16]),
    /// Codes of 4 or 8 bits.
    Quantised(&'a Quantised),
    /// Rows that are read one by one.
    InFile(&'a dyn InFile),
}

/// A matrix of shape (rows = out, cols = in), row-major.
#[derive(Clone)]
pub struct Weight {
    rows: usize,
    cols: usize,
    storage: Storage,
}

impl Weight {
    /// Checks that the storage holds exactly `rows * cols` values, aligned.
    pub fn new(rows: usize, cols: usize, storage: Storage) -> Result<Self> {
        let count = rows.checked_mul(cols).ok_or_else(|| Error::failed("weight", "shape overflows"))?;
        let fits = match &storage {
            Storage::F32(v) => v.len() == count,
            Storage::Bf16(v) => v.len() == count,
            Storage::F16(v) => v.len() == count,
            Storage::Quantised(q) => (q.rows(), q.cols()) == (rows, cols),
            // Whoever made it has looked at the file.
            Storage::InFile(_) => true,
            Storage::Mapped { file, offset, dtype } => {
                let end = count.checked_mul(dtype.size()).and_then(|n| n.checked_add(*offset));
                end.is_some_and(|end| end <= file.len())
                    && (file.as_ptr() as usize + offset).is_multiple_of(dtype.size())
            }
        };
        if !fits {
            return Err(Error::failed("weight", format!("storage does not hold {rows} x {cols} aligned values")));
        }
        Ok(Self { rows, cols, storage })
    }

    /// From f32 values.
    pub fn from_f32(rows: usize, cols: usize, values: Vec<f32>) -> Result<Self> {
        Self::new(rows, cols, Storage::F32(Arc::new(values)))
    }

    /// Output width.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Type of the values; `None` for those in blocks.
    pub fn dtype(&self) -> Option<Dtype> {
        match &self.storage {
            Storage::F32(_) => Some(Dtype::F32),
            Storage::Bf16(_) => Some(Dtype::Bf16),
            Storage::F16(_) => Some(Dtype::F16),
            Storage::Quantised(_) | Storage::InFile(_) => None,
            Storage::Mapped { dtype, .. } => Some(*dtype),
        }
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Quantised(q) => q.bytes(),
            Storage::InFile(file) => file.bytes(),
            _ => self.rows * self.cols * self.dtype().map_or(0, Dtype::size),
        }
    }

    /// All values, row-major.
    pub fn values(&self) -> Values<'_> {
        match &self.storage {
            Storage::F32(v) => Values::F32(v),
            Storage::Bf16(v) => Values::Bf16(v),
            Storage::F16(v) => Values::F16(v),
            Storage::Quantised(q) => Values::Quantised(q),
            Storage::InFile(file) => Values::InFile(file.as_ref()),
            Storage::Mapped { file, offset, dtype } => {
                let bytes = &file[*offset..*offset + self.rows * self.cols * dtype.size()];
                match dtype {
                    Dtype::F32 => Values::F32(bytemuck::cast_slice(bytes)),
                    Dtype::Bf16 => Values::Bf16(bytemuck::cast_slice(bytes)),
                    Dtype::F16 => Values::F16(bytemuck::cast_slice(bytes)),
                }
            }
        }
    }

    /// The blocks of a quantised weight, shared.
    pub fn blocks(&self) -> Option<&Arc<Quantised>> {
        match &self.storage {
            Storage::Quantised(q) => Some(q),
            _ => None,
        }
    }

    /// Mutable f32 values; `None` unless the storage is owned f32 and not shared. For full
    /// training.
    pub fn f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.storage {
            Storage::F32(v) => Arc::get_mut(v).map(Vec::as_mut_slice),
            _ => None,
        }
    }

    /// Writes rows `from .. from + out.len() / cols` as f32.
    pub fn read_rows(&self, from: usize, out: &mut [f32]) {
        let span = from * self.cols..from * self.cols + out.len();
        match self.values() {
            Values::F32(v) => out.copy_from_slice(&v[span]),
            Values::Bf16(v) => widen_bf16(&v[span], out),
            Values::F16(v) => v[span].convert_to_f32_slice(out),
            Values::Quantised(q) => {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = q.get(from + i / self.cols, i % self.cols);
                }
            }
            Values::InFile(file) => {
                let rows = out.chunks_exact_mut(self.cols.max(1));
                rows.enumerate().for_each(|(i, row)| file.read_row(from + i, row));
            }
        }
    }
}

vectorized! {
    fn widen_bf16(from: &[bf16], to: &mut [f32]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = f32::from_bits(u32::from(f.to_bits()) << 16);
        }
    }
}
