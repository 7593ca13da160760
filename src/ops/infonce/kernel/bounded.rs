//! `kernels/infonce_bounded.cu`: cosines whose scores are known to lie within 1 / tau, of rows that
//! fit into shared memory whole.

use super::{Pairs, Similarity, Sums, THREADS};
use crate::device::{Arg, Buffer, DeviceRows, Launch, Pointer, Storage, arguments};
use crate::error::Result;
use crate::ops::linear::kernel::planes;
use crate::tensor::Cost;

arguments! {
    /// Of `infonce_sums`.
    struct SumsArgs {
        x: Pointer,
        y: Pointer,
        rows: u64,
        dim: u32,
        stride: u32,
        inv_x: Pointer,
        inv_y: Pointer,
        scale: f32,
        row_parts: Pointer,
        column_parts: Pointer,
        diagonal: Pointer,
    }
}

arguments! {
    /// Of `infonce_reduce`.
    struct ReduceArgs {
        row_parts: Pointer,
        ranges: u32,
        column_parts: Pointer,
        groups: u32,
        n: u64,
        scale: f32,
        part_x: Pointer,
        part_y: Pointer,
        lse_x: Pointer,
        lse_y: Pointer,
    }
}

/// A width that there are kernels for.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Width {
    /// Values of a row in shared memory.
    dim: usize,
    /// Rows that a block owns.
    pub(in crate::ops) own: usize,
    /// Rows of a tile, and tiles in shared memory.
    streamed: usize,
    stages: usize,
    sums: &'static str,
    gradient: &'static str,
}

macro_rules! width {
    ($dim:literal, $own:literal, $streamed:literal, $stages:literal, $name:literal) => {
        Width {
            dim: $dim,
            own: $own,
            streamed: $streamed,
            stages: $stages,
            sums: concat!("infonce_sums_", $name),
            gradient: concat!("infonce_gradient_", $name),
        }
    };
}

/// `Strip` of the source.
pub(in crate::ops) const F32: &[Width] = &[width!(64, 64, 32, 1, "f32_64")];
pub(in crate::ops) const BF16: &[Width] =
    &[width!(64, 128, 64, 2, "bf16_64"), width!(128, 128, 32, 2, "bf16_128"), width!(256, 64, 32, 2, "bf16_256")];

/// Groups of strips of rows whose column sums are kept apart, at most.
const GROUPS: usize = 64;
/// Blocks of the forward pass, about, and the least number of ranges of columns.
const BLOCKS: usize = 512;
const RANGES: usize = 8;

impl Width {
    /// Bytes of a block's strips in shared memory.
    pub(in crate::ops) const fn shared<T: Storage>(self) -> usize {
        planes::<T>() * (self.own + self.stages * self.streamed) * (self.dim + 8) * 2
    }

    /// The same beside the column sums of two tiles, by warp.
    pub(in crate::ops) const fn sums_shared<T: Storage>(self) -> usize {
        self.shared::<T>() + 2 * 4 * self.streamed * 4
    }
}

/// The kernels for these pairs. `None` where scores have no bound, or one beyond what exponentials
/// of f32 reach: the smallest is 2^(-2 log2(e) / tau), and its inverse is needed too.
pub(super) fn width<T: Storage>(pairs: &Pairs<'_, T>) -> Option<Width> {
    let reaches = pairs.params.similarity == Similarity::Cosine && 2.0 / pairs.params.tau <= 80.0;
    let widths = if T::NAME == "f32" { F32 } else { BF16 };
    widths.iter().copied().find(|w| reaches && pairs.x.dim() <= w.dim)
}

pub(super) fn sums<T: Storage>(pairs: &Pairs<'_, T>, width: Width) -> Result<(Sums, Cost)> {
    let groups = pairs.n().div_ceil(width.own).min(GROUPS);
    let ranges = pairs.n().div_ceil(width.streamed).min(RANGES.max(BLOCKS / groups));
    sums_by(pairs, width, groups, ranges)
}

/// [`sums`] by a grid of `groups` x `ranges` blocks.
fn sums_by<T: Storage>(pairs: &Pairs<'_, T>, width: Width, groups: usize, ranges: usize) -> Result<(Sums, Cost)> {
    let (n, device) = (pairs.n(), pairs.x.device());
    let (by_row, by_column) = (device.alloc::<f32>(ranges * n, "parts")?, device.alloc::<f32>(groups * n, "parts")?);
    let vector = |label| pairs.vector(label);
    let sums =
        Sums { lse_x: vector("log-sums")?, lse_y: vector("log-sums")?, diagonal: vector("diagonal")?, parts: None };
    let parts = (pairs.padded("parts")?, pairs.padded("parts")?);
    let kept = 4.0 * ((ranges + groups) * n) as f64;
    let cost = Cost { bytes: 2.0 * n as f64 * pairs.row_bytes() + kept, flops: pairs.products(2.0) };
    let launch = Launch::new(width.sums, groups, THREADS, cost).by(ranges).shared(width.sums_shared::<T>());
    let (x, y) = (pairs.x, pairs.y);
    let args = SumsArgs {
        x: x.pointer(),
        y: y.pointer(),
        rows: n as u64,
        dim: x.dim_u32(),
        stride: x.stride_u32(),
        inv_x: pairs.inv_x.pointer(),
        inv_y: pairs.inv_y.pointer(),
        scale: pairs.scale(),
        row_parts: by_row.pointer(),
        column_parts: by_column.pointer(),
        diagonal: sums.diagonal.pointer(),
    };
    // SAFETY: rows of the shape that is passed; norms go on with zeros to a multiple of a strip and
    // of a tile; parts for each range and group of the grid.
    let mut taken = unsafe { device.launch(&launch, &[args.arg()])? };
    let cost = Cost { bytes: kept + 16.0 * n as f64, flops: (ranges + groups) as f64 * n as f64 };
    let launch = Launch::new("infonce_reduce", n.div_ceil(THREADS as usize), THREADS, cost);
    let args = ReduceArgs {
        row_parts: by_row.pointer(),
        ranges: ranges as u32,
        column_parts: by_column.pointer(),
        groups: groups as u32,
        n: n as u64,
        scale: pairs.scale(),
        part_x: parts.0.pointer(),
        part_y: parts.1.pointer(),
        lse_x: sums.lse_x.pointer(),
        lse_y: sums.lse_y.pointer(),
    };
    // SAFETY: as many parts as are told, a value a row in each vector.
    taken += unsafe { device.launch(&launch, &[args.arg()])? };
    Ok((Sums { parts: Some(parts), ..sums }, taken))
}

pub(super) fn gradients<T: Storage>(
    pairs: &Pairs<'_, T>,
    width: Width,
    sums: &Sums,
    (part_x, part_y): &(Buffer<f32>, Buffer<f32>),
    x: &DeviceRows<f32>,
    y: &DeviceRows<f32>,
) -> Result<(Buffer<f32>, Cost)> {
    let by_tau = pairs.vector("by tau")?;
    let bytes = 2.0 * pairs.n() as f64 * (pairs.row_bytes() + 4.0 * pairs.x.dim() as f64);
    let launch =
        Launch::new(width.gradient, pairs.n().div_ceil(width.own), THREADS, Cost { bytes, flops: pairs.products(8.0) })
            .by(2)
            .shared(width.shared::<T>());
    let [rows, dim, stride] = [Arg::U64(pairs.n() as u64), Arg::U32(pairs.x.dim_u32()), Arg::U32(pairs.x.stride_u32())];
    let head = [pairs.x.arg(), pairs.y.arg(), rows, dim, stride, pairs.inv_x.arg(), pairs.inv_y.arg()];
    let vectors = [part_x.arg(), part_y.arg(), Arg::F32(pairs.scale()), Arg::F32(pairs.weight())];
    let tail = [x.arg(), y.arg(), Arg::U32(x.stride_u32()), sums.diagonal.arg(), by_tau.arg()];
    // SAFETY: rows of the shape that is passed; vectors go on with zeros to a multiple of a strip
    // and of a tile; both gradients have the shape of the rows and so one stride.
    let taken = unsafe { pairs.x.device().launch(&launch, &[&head[..], &vectors, &tail].concat())? };
    Ok((by_tau, taken))
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::super::Params;
    use super::*;
    use crate::device::KernelDevice;
    use crate::rng::{Rng, Use};

    /// Log-sums in base 2 and scores of pairs, by the definition.
    fn defined<T: Storage>(x: &[T], y: &[T], dim: usize, tau: f64) -> [Vec<f64>; 3] {
        let unit = |rows: &[T]| -> Vec<Vec<f64>> {
            rows.chunks(dim)
                .map(|row| {
                    let norm = row.iter().map(|v| f64::from(v.to_f32()).powi(2)).sum::<f64>().sqrt();
                    row.iter().map(|v| f64::from(v.to_f32()) / norm).collect()
                })
                .collect()
        };
        let (x, y) = (unit(x), unit(y));
        let score =
            |i: &[f64], j: &[f64]| i.iter().zip(j).map(|(a, b)| a * b).sum::<f64>() / tau * std::f64::consts::LOG2_E;
        let lse = |of: &[Vec<f64>], to: &[Vec<f64>]| {
            of.iter().map(|i| to.iter().map(|j| score(i, j).exp2()).sum::<f64>().log2()).collect()
        };
        [lse(&x, &y), lse(&y, &x), x.iter().zip(&y).map(|(i, j)| score(i, j)).collect()]
    }

    /// Grids that a test's few rows would not get: blocks with several strips, ranges that end in
    /// the middle, ranges without columns.
    fn any_grid<T: Storage>(n: usize, dim: usize) {
        let mut rng = Rng::new(3, Use::Synthetic, n as u32, dim as u32);
        let mut draw = || (0..n * dim).map(|_| T::from_f32(rng.normal())).collect::<Vec<_>>();
        let (x, y) = (draw(), draw());
        let params = Params { similarity: Similarity::Cosine, tau: 0.1, weight: 1.0 };
        let want = defined(&x, &y, dim, 0.1);
        let device = KernelDevice::host(7);
        let rows = |values: &[T]| DeviceRows::upload(&device, dim, values, "rows").unwrap();
        let (dx, dy) = (rows(&x), rows(&y));
        let pairs = Pairs::new(&dx, &dy, &params).unwrap();
        let width = width(&pairs).unwrap();
        let strips = n.div_ceil(width.own);
        for (groups, ranges) in [(1, 1), (1, 3), (strips.min(2), 2), (strips, n.div_ceil(width.streamed))] {
            let (got, _) = sums_by(&pairs, width, groups, ranges).unwrap();
            for (name, got, want) in
                [("rows", &got.lse_x, &want[0]), ("columns", &got.lse_y, &want[1]), ("pairs", &got.diagonal, &want[2])]
            {
                let got = device.download(got).unwrap();
                for (i, want) in want.iter().enumerate() {
                    // Scores are good to 2^-22 of the bound, 14 here; their sums to a few units.
                    let off = (f64::from(got[i]) - want).abs();
                    assert!(off <= 3e-5, "{name} {i} of {n} x {dim} by {groups} x {ranges}: {} and not {want}", got[i]);
                }
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_grid() {
        any_grid::<f32>(200, 9);
        any_grid::<bf16>(300, 40);
        any_grid::<bf16>(140, 130);
    }
}
