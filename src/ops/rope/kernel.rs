//! The kernels of `kernels/rope.cu`.

use super::Rope;
use crate::device::{Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of `rope`.
    struct RopeArgs {
        x: Pointer,
        table: Pointer,
        positions: Pointer,
        rows: u64,
        heads: u32,
        half: u32,
        stride: u32,
        column: u32,
        sign: f32,
    }
}

/// Cosines and sines of positions `0 .. len` on a device, made in f64.
#[derive(Debug)]
pub struct DeviceAngles {
    /// For each position d/2 cosines, then d/2 sines.
    table: Buffer<f32>,
    half: usize,
    len: usize,
}

impl DeviceAngles {
    /// For positions below `len`.
    pub fn new(device: &KernelDevice, rope: &Rope, len: usize) -> Result<Self> {
        let (half, times) = (rope.frequencies().len(), rope.amplitude());
        let mut table = Vec::with_capacity(len * 2 * half);
        for position in 0..len {
            let angle = |f: &f64| position as f64 * f;
            table.extend(rope.frequencies().iter().map(|f| (times * angle(f).cos()) as f32));
            table.extend(rope.frequencies().iter().map(|f| (times * angle(f).sin()) as f32));
        }
        Ok(Self { table: device.upload(&table, "rope angles")?, half, len })
    }

    /// Turns `heads` heads of each row, from column `column` on, by `positions` (which must be
    /// below `len`: the caller knows, the device does not look); backwards with `inverse`, which is
    /// also the gradient.
    pub fn turn<T: Storage>(
        &self,
        x: &mut DeviceRows<T>,
        (column, heads): (usize, usize),
        positions: &Positions,
        inverse: bool,
    ) -> Result<Cost> {
        let (half, width) = (self.half, 2 * self.half * heads);
        if column + width > x.dim() || positions.values.len() != x.rows() || positions.end > self.len {
            let what = format!(
                "{heads} heads of {} from column {column} of {} x {}, {} positions below {} of {}",
                2 * half,
                x.rows(),
                x.dim(),
                positions.values.len(),
                positions.end,
                self.len
            );
            return Err(Error::failed("rope", what));
        }
        let vectors = half % T::VECTOR == 0 && column % T::VECTOR == 0;
        let (kernel, pieces) = match vectors {
            true => (T::pick("rope_f32", "rope_bf16"), half / T::VECTOR),
            false => (T::pick("rope_f32_single", "rope_bf16_single"), half),
        };
        let values = (x.rows() * width) as f64;
        let cost =
            Cost { bytes: 2.0 * size_of::<T>() as f64 * values + 8.0 * (x.rows() * half) as f64, flops: 3.0 * values };
        let launch = Launch::new(kernel, (x.rows() * heads * pieces).div_ceil(256), 256, cost);
        let args = RopeArgs {
            x: x.pointer(),
            table: self.table.pointer(),
            positions: positions.values.pointer(),
            rows: x.rows() as u64,
            heads: heads as u32,
            half: half as u32,
            stride: x.stride_u32(),
            column: column as u32,
            sign: if inverse { -1.0 } else { 1.0 },
        };
        // SAFETY: the columns are inside rows, the positions inside the table.
        unsafe { x.device().launch(&launch, &[args.arg()]) }
    }
}

/// The position of each row, on a device.
#[derive(Debug)]
pub struct Positions {
    values: Buffer<u32>,
    end: usize,
}

impl Positions {
    /// A copy.
    pub fn upload(device: &KernelDevice, positions: &[u32]) -> Result<Self> {
        let end = positions.iter().max().map_or(0, |&p| p as usize + 1);
        Ok(Self { values: device.upload(positions, "positions")?, end })
    }

    /// Others in the same place, as many as before, below `below`: whoever turns by them once more
    /// does not look again.
    pub fn write(&mut self, positions: &[u32], below: usize) -> Result<()> {
        let end = positions.iter().max().map_or(0, |&p| p as usize + 1);
        if positions.len() != self.values.len() || end > below {
            let what = format!("{} below {end} for {} below {below}", positions.len(), self.values.len());
            return Err(Error::failed("positions", what));
        }
        self.end = end;
        self.values.device().clone().write(&mut self.values, positions)
    }
}
