//! Rope from a table of angles, and the inverse turn, which is the backward, as the map is
//! orthogonal. Angles are made in f64, once for all layers and passes: a position of 100,000 in f32
//! would be off by 4e-3 radians.

use rayon::prelude::*;

use super::Rope;
use super::kernel::{self, DeviceAngles};
use crate::device::{Device, Rows, mixed};
use crate::error::{Error, Result};
use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::vectorized;

/// Cosines and sines of positions `0 .. len`, where the rows are.
#[derive(Debug)]
pub struct Table {
    rope: Rope,
    device: Device,
    len: usize,
    values: Option<Values>,
}

#[derive(Debug)]
enum Values {
    /// Each (len x head_dim / 2).
    Cpu {
        cos: Vec<f32>,
        sin: Vec<f32>,
    },
    Kernels(DeviceAngles),
}

/// Values below which threads cost more than they save.
const SERIAL: usize = 32 * 1024;

/// The position of each row, where the rows are.
#[derive(Debug)]
pub enum Positions {
    /// In this process.
    Cpu(Vec<u32>),
    /// On a device with kernels.
    Kernels(kernel::Positions),
}

impl Positions {
    /// A copy.
    ///
    /// # Errors
    /// Out of memory.
    pub fn upload(device: &Device, positions: &[u32]) -> Result<Self> {
        Ok(match device {
            Device::Cpu => Self::Cpu(positions.to_vec()),
            Device::Kernels(device) => Self::Kernels(kernel::Positions::upload(device, positions)?),
        })
    }

    /// Others in the same place, as many as before, below `below`: launches that are replayed do
    /// not look again.
    ///
    /// # Errors
    /// Another number of positions, or one that is not below `below`.
    pub fn write(&mut self, positions: &[u32], below: usize) -> Result<()> {
        match self {
            Self::Cpu(list) => {
                list.clear();
                list.extend_from_slice(positions);
                Ok(())
            }
            Self::Kernels(list) => list.write(positions, below),
        }
    }
}

impl Table {
    /// An empty table.
    pub fn new(device: &Device, rope: Rope) -> Self {
        Self { rope, device: device.clone(), len: 0, values: None }
    }

    /// How many positions are there.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure that positions `0 .. len` are there.
    ///
    /// # Errors
    /// Out of memory.
    pub fn grow(&mut self, len: usize) -> Result<()> {
        if self.len >= len && self.values.is_some() {
            return Ok(());
        }
        self.values = Some(match &self.device {
            Device::Cpu => {
                let times = self.rope.amplitude();
                let angle = |p: usize| self.rope.frequencies().iter().map(move |f| p as f64 * f);
                Values::Cpu {
                    cos: (0..len).flat_map(|p| angle(p).map(|a| (times * a.cos()) as f32)).collect(),
                    sin: (0..len).flat_map(|p| angle(p).map(|a| (times * a.sin()) as f32)).collect(),
                }
            }
            Device::Kernels(device) => Values::Kernels(DeviceAngles::new(device, &self.rope, len.next_power_of_two())?),
        });
        self.len = len;
        Ok(())
    }

    /// Turns the heads of each row of `x` (rows, heads x head_dim) by its position, which must be
    /// in the table.
    ///
    /// # Errors
    /// Shapes that do not fit, positions beyond the table, operands in different places.
    pub fn rope(&self, x: &mut Rows, positions: &Positions) -> Result<Cost> {
        self.turn(x, positions, false)
    }

    /// The way back: the opposite turn of the gradient `dx`, times the amplitude.
    ///
    /// # Errors
    /// As [`Table::rope`].
    pub fn rope_backward(&self, dx: &mut Rows, positions: &Positions) -> Result<Cost> {
        self.turn(dx, positions, true)
    }

    fn turn(&self, x: &mut Rows, positions: &Positions, inverse: bool) -> Result<Cost> {
        let (place, half) = (x.place(), self.rope.frequencies().len());
        let heads = x.dim().checked_div(2 * half).unwrap_or(0);
        match (x, &self.values, positions) {
            (Rows::Cpu(x), Some(Values::Cpu { cos, sin }), Positions::Cpu(positions)) => {
                let end = positions.iter().max().map_or(0, |&p| p as usize + 1);
                if heads * 2 * half != x.cols() || positions.len() != x.rows() || end > self.len {
                    let what = format!("{} x {} with heads of {}", x.rows(), x.cols(), 2 * half);
                    let positions = format!("{} positions below {end} of {}", positions.len(), self.len);
                    return Err(Error::failed("rope", format!("{what}, {positions}")));
                }
                let _timed = timed("rope", || super::cost(x.rows(), heads, 2 * half));
                let (width, sign) = (x.cols().max(1), if inverse { -1.0 } else { 1.0 });
                let turn = |(row, &p): (&mut [f32], &u32)| {
                    let at = p as usize * half;
                    rotate_row(row, &cos[at..at + half], &sin[at..at + half], sign);
                };
                if x.as_slice().len() <= SERIAL {
                    x.as_mut_slice().chunks_exact_mut(width).zip(positions).for_each(turn);
                } else {
                    let lines = x.as_mut_slice().par_chunks_exact_mut(width).with_min_len(16);
                    lines.zip(positions).for_each(turn);
                }
                Ok(super::cost(positions.len(), heads, 2 * half))
            }
            (Rows::F32(x), Some(Values::Kernels(angles)), Positions::Kernels(positions)) => {
                angles.turn(x, (0, heads), positions, inverse)
            }
            (Rows::Bf16(x), Some(Values::Kernels(angles)), Positions::Kernels(positions)) => {
                angles.turn(x, (0, heads), positions, inverse)
            }
            _ => Err(mixed("rope", &[place])),
        }
    }
}

vectorized! {
    fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for head in row.chunks_exact_mut(2 * cos.len()) {
            let (a, b) = head.split_at_mut(cos.len());
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let (x, y, s) = (*a, *b, s * sign);
                *a = x * c - y * s;
                *b = y * c + x * s;
            }
        }
    }
}
