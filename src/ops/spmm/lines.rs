//! Rows of f32 at 64-byte alignment, each padded with zeros to whole cache lines.

use bytemuck::{Pod, Zeroable};

use crate::tensor::Matrix;

/// Values of one cache line.
pub const LANE: usize = 16;

/// One cache line of a row.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Lane(pub [f32; LANE]);

impl Lane {
    /// Sixteen zeros.
    pub const ZERO: Lane = Lane([0.0; LANE]);
}

/// `rows x dim`, row-major; a row takes `lanes()` whole cache lines and its padding stays zero. A
/// gathered row then never straddles a line, and no kernel needs a tail loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    rows: usize,
    dim: usize,
    lanes: usize,
    data: Vec<Lane>,
}

impl Lines {
    /// All zero.
    pub fn zeros(rows: usize, dim: usize) -> Self {
        let lanes = dim.div_ceil(LANE);
        Self { rows, dim, lanes, data: vec![Lane::ZERO; rows * lanes] }
    }

    /// Copies rows `from ..` of packed values (`dim` a row).
    pub fn from_packed(dim: usize, values: &[f32]) -> Self {
        let rows = values.len().checked_div(dim).unwrap_or(0);
        let mut out = Self::zeros(rows, dim);
        for (r, row) in values.chunks_exact(dim.max(1)).enumerate() {
            out.row_mut(r)[..dim].copy_from_slice(row);
        }
        out
    }

    /// Packed copy of rows `range`, without padding.
    pub fn to_matrix(&self, range: std::ops::Range<usize>) -> Matrix {
        let mut out = Matrix::zeros(range.len(), self.dim);
        for (o, r) in range.enumerate() {
            out.row_mut(o).copy_from_slice(&self.row(r)[..self.dim]);
        }
        out
    }

    /// Packed values of all rows, without padding.
    pub fn to_packed(&self) -> Vec<f32> {
        self.to_matrix(0..self.rows).into_vec()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row that mean something.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Cache lines of a row.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Row `r` with its padding.
    pub fn row(&self, r: usize) -> &[f32] {
        bytemuck::cast_slice(&self.data[r * self.lanes..(r + 1) * self.lanes])
    }

    /// Row `r` with its padding, which must stay zero.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.data[r * self.lanes..(r + 1) * self.lanes])
    }

    /// All cache lines.
    pub fn lines(&self) -> &[Lane] {
        &self.data
    }

    /// All cache lines; padding must stay zero.
    pub fn lines_mut(&mut self) -> &mut [Lane] {
        &mut self.data
    }

    /// All values with padding.
    pub fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.data)
    }

    /// All values with padding, which must stay zero.
    pub fn values_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.data)
    }
}
