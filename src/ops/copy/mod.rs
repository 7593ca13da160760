//! Rows of a device matrix copied to other rows of another (`kernels/rows.cu`).

use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Storage};
use crate::error::{Error, Result};
use crate::ops::Cost;

/// Numbers of rows on a device.
#[derive(Debug)]
pub struct Places {
    rows: Buffer<u32>,
    end: usize,
}

impl Places {
    /// A copy.
    pub fn upload(device: &KernelDevice, rows: &[u32]) -> Result<Self> {
        let end = rows.iter().max().map_or(0, |&r| r as usize + 1);
        Ok(Self { rows: device.upload(rows, "row numbers")?, end })
    }

    /// Other numbers in the same place, as many as before, below `below`: whoever copies by them once more does not look again.
    pub fn write(&mut self, rows: &[u32], below: usize) -> Result<()> {
        let end = rows.iter().max().map_or(0, |&r| r as usize + 1);
        if rows.len() != self.rows.len() || end > below {
            let what = format!("{} below {end} for {} below {below}", rows.len(), self.rows.len());
            return Err(Error::failed("row numbers", what));
        }
        self.end = end;
        self.rows.device().clone().write(&mut self.rows, rows)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Writes each row of `from` to its place in `to`; places must differ.
pub fn scatter<T: Storage>(from: &DeviceRows<T>, places: &Places, to: &mut DeviceRows<T>) -> Result<Cost> {
    if places.len() != from.rows() || places.end > to.rows() || from.dim() != to.dim() {
        return Err(wrong("scatter", from, places, to));
    }
    launch(from, None, to, Some(places), from.rows())
}

/// Writes the rows `places` of `from` to `to`, one behind the other.
pub fn gather<T: Storage>(from: &DeviceRows<T>, places: &Places, to: &mut DeviceRows<T>) -> Result<Cost> {
    if places.len() != to.rows() || places.end > from.rows() || from.dim() != to.dim() {
        return Err(wrong("gather", from, places, to));
    }
    launch(from, Some(places), to, None, to.rows())
}

fn wrong<T: Storage>(what: &str, from: &DeviceRows<T>, places: &Places, to: &DeviceRows<T>) -> Error {
    let shapes = format!("{} x {} to {} x {}", from.rows(), from.dim(), to.rows(), to.dim());
    Error::failed(what, format!("{shapes}, {} places below {}", places.len(), places.end))
}

fn launch<T: Storage>(
    from: &DeviceRows<T>,
    from_rows: Option<&Places>,
    to: &DeviceRows<T>,
    to_rows: Option<&Places>,
    rows: usize,
) -> Result<Cost> {
    let vectors = to.stride() / T::VECTOR;
    let cost = Cost { bytes: 32.0 * (rows * vectors) as f64, flops: 0.0 };
    let list = |places: Option<&Places>| places.map_or(Arg::Pointer(0), |p| p.rows.arg());
    // SAFETY: places were checked by the callers; both matrices have one stride, as one width.
    unsafe {
        to.device().launch(
            &Launch::new("copy_rows", (rows * vectors).div_ceil(256), 256, cost),
            &[from.arg(), list(from_rows), to.arg(), list(to_rows), Arg::U64(rows as u64), Arg::U32(vectors as u32)],
        )
    }
}
