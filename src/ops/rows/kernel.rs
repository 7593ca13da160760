//! The kernels of `kernels/rows.cu`.

use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Storage};
use crate::error::{Error, Result};
use crate::tensor::Cost;

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

    /// Other numbers in the same place, as many as before, below `below`: whoever copies by them
    /// once more does not look again.
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

/// A copy.
pub fn duplicate<T: Storage>(from: &DeviceRows<T>, label: &'static str) -> Result<DeviceRows<T>> {
    let to = DeviceRows::unwritten(from.device(), from.rows(), from.dim(), label)?;
    launch(from, None, &to, None, from.rows())?;
    Ok(to)
}

/// Consecutive rows that belong together: run `i` is `starts[i] .. starts[i + 1]`.
#[derive(Debug)]
pub struct Runs {
    starts: Buffer<u32>,
    runs: usize,
    end: usize,
}

impl Runs {
    /// A copy; `starts` ascend, and the last one is the end of the last run.
    pub fn upload(device: &KernelDevice, starts: &[u32]) -> Result<Self> {
        let Some(&end) = starts.last().filter(|_| starts.is_sorted()) else {
            return Err(Error::failed("runs of rows", "their starts do not ascend"));
        };
        Ok(Self { starts: device.upload(starts, "runs of rows")?, runs: starts.len() - 1, end: end as usize })
    }
}

/// Adds each row of `from`, or with `runs` the sum of each run in its order, to its place in `to`;
/// places must differ.
pub fn add(
    from: &DeviceRows<f32>,
    runs: Option<&Runs>,
    places: Option<&Places>,
    to: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let rows = runs.map_or(from.rows(), |r| r.runs);
    let fits = runs.is_none_or(|r| r.end <= from.rows())
        && places.map_or(to.rows() == rows, |p| p.len() == rows && p.end <= to.rows())
        && from.dim() == to.dim();
    if !fits {
        let shapes = format!("{} x {} to {} x {}", from.rows(), from.dim(), to.rows(), to.dim());
        return Err(Error::failed("adding rows", format!("{shapes}, {rows} rows or runs")));
    }
    let vectors = to.stride() / f32::VECTOR;
    let values = ((from.rows() + 2 * rows) * to.dim()) as f64;
    let cost = Cost { bytes: 4.0 * values, flops: (from.rows() * to.dim()) as f64 };
    let null = Arg::Pointer(0);
    // SAFETY: runs and places were checked above; both matrices have one stride, as one width.
    unsafe {
        to.device().launch(
            &Launch::new("add_rows_f32", (rows * vectors).div_ceil(256), 256, cost),
            &[
                from.arg(),
                runs.map_or(null, |r| r.starts.arg()),
                to.arg(),
                places.map_or(null, |p| p.rows.arg()),
                Arg::U64(rows as u64),
                Arg::U32(vectors as u32),
            ],
        )
    }
}

fn wrong<T: Storage>(what: &str, from: &DeviceRows<T>, places: &Places, to: &DeviceRows<T>) -> Error {
    let shapes = format!("{} x {} to {} x {}", from.rows(), from.dim(), to.rows(), to.dim());
    Error::failed(what, format!("{shapes}, {} places below {}", places.len(), places.end))
}

pub(super) fn launch<T: Storage>(
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
