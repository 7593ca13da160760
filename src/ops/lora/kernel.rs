//! The kernels of `kernels/lora.cu`: a linear layer, with the adapter of each token in the same
//! pass.

use std::ops::Range;

use super::wgmma;
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::{TILE, tile_shared};
use crate::tensor::Cost;

arguments! {
    /// Of `lora_shrink` and `lora_shrink_turned`.
    struct ShrinkArgs {
        tiles: Pointer,
        x: Pointer,
        stride_x: u32,
        low: Pointer,
        stride_low: u32,
        rows: u64,
        depth: u32,
        rank: u32,
        span: u32,
        partials: Pointer,
    }
}

arguments! {
    /// Of `lora_forward` and `lora_backward`.
    struct LoraArgs {
        tiles: Pointer,
        x: Pointer,
        stride_x: u32,
        w: Pointer,
        stride_w: u32,
        s: Pointer,
        stride_s: u32,
        low: Pointer,
        stride_low: u32,
        columns: u64,
        depth: u32,
        rank: u32,
        bias: Pointer,
        add: i32,
        out: Pointer,
        stride: u32,
    }
}

arguments! {
    /// Of `lora_gradient`.
    struct AdapterGradientArgs {
        pieces: Pointer,
        a: Pointer,
        stride_a: u32,
        m: u32,
        b: Pointer,
        stride_b: u32,
        n: u32,
        partials: Pointer,
        out: Pointer,
        stride: u32,
    }
}

/// Rows of the tiles of `wide.cuh`.
pub(super) const WIDE: usize = 128;
/// Shared memory of the wide tile's ring.
pub(super) const RING: usize = 4 * 2 * WIDE * 32 * 2;
/// Depth that one block of a shrink takes, in whole steps, when there are not enough tiles to fill
/// a GPU.
const SPAN: usize = 512;
/// Rows of a segment that one block of a gradient takes: its outputs are few, and one block for all
/// rows would leave most of a GPU idle.
const PIECE: usize = 512;

/// Consecutive rows with one adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Number of rows.
    pub rows: usize,
    /// Which of the adapters; `None` for the layer alone.
    pub adapter: Option<u32>,
}

/// `LoraTile`: first row, end of the segment, adapter with the segment's rows above, the segment's
/// first row.
type Tile = [u64; 4];

/// The rows of a batch, cut into tiles of one adapter each.
#[derive(Debug)]
pub struct Batch {
    rows: usize,
    adapters: usize,
    uniform: bool,
    tiles: Buffer<Tile>,
    wide: Buffer<Tile>,
    pieces: Buffer<Tile>,
    /// Which pieces are an adapter's, where one has several.
    joins: Option<Buffer<Tile>>,
}

impl Batch {
    /// Segments in the order of their rows; an adapter may have one only (its gradient is added
    /// once).
    pub fn new(device: &KernelDevice, segments: &[Segment]) -> Result<Self> {
        let mut seen: Vec<u32> = segments.iter().filter(|s| s.rows > 0).filter_map(|s| s.adapter).collect();
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::failed("lora batch", format!("adapter {} has two segments", twice[0]))
                .next("sort the rows by adapter"));
        }
        let (mut first, mut lists) = (0u64, [Vec::new(), Vec::new()]);
        let (mut pieces, mut joins) = (Vec::new(), Vec::new());
        for s in segments.iter().filter(|s| s.rows > 0) {
            let rows = u32::try_from(s.rows).map_err(|_| Error::failed("lora batch", format!("{} rows", s.rows)))?;
            let adapter = u64::from(s.adapter.unwrap_or(u32::MAX));
            let (who, end) = (adapter | u64::from(rows) << 32, first + s.rows as u64);
            for (list, step) in lists.iter_mut().zip([TILE, WIDE]) {
                list.extend((0..s.rows).step_by(step).map(|r| [first + r as u64, end, who, first]));
            }
            if s.adapter.is_some() {
                let before = pieces.len() as u64;
                for from in (first..end).step_by(PIECE) {
                    let rows = (end - from).min(PIECE as u64);
                    pieces.push([from, end, adapter | rows << 32, from]);
                }
                joins.push([before, pieces.len() as u64, who, first]);
            }
            first = end;
        }
        let up = |list: &[Tile]| device.upload(list, "tiles of a batch");
        let adapters = seen.last().map_or(0, |&a| a as usize + 1);
        Ok(Self {
            rows: first as usize,
            adapters,
            uniform: segments.iter().filter(|s| s.rows > 0).count() <= 1,
            tiles: up(&lists[0])?,
            wide: up(&lists[1])?,
            joins: if pieces.len() > joins.len() { Some(up(&joins)?) } else { None },
            pieces: up(&pieces)?,
        })
    }

    /// Whether all rows have the same adapter, or all none.
    pub(super) fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// Whether no row has an adapter.
    pub(super) fn is_plain(&self) -> bool {
        self.adapters == 0
    }

    /// Rows without any adapter.
    pub fn plain(device: &KernelDevice, rows: usize) -> Result<Self> {
        Self::new(device, &[Segment { rows, adapter: None }])
    }
}

/// The adapters of one layer, of one rank (lower ones padded with zeros).
#[derive(Debug)]
pub struct Adapters<T: Storage> {
    /// (adapters r) x in.
    pub a: DeviceRows<T>,
    /// (adapters out) x r.
    pub b: DeviceRows<T>,
    /// Number of adapters.
    pub count: usize,
    /// `alpha / r`.
    pub scale: f32,
}

impl<T: Storage> Adapters<T> {
    /// Rank.
    pub fn rank(&self) -> usize {
        self.b.dim()
    }

    fn check(&self, batch: &Batch, inp: usize, out: usize) -> Result<()> {
        let (r, n) = (self.rank(), self.count);
        if (self.a.rows(), self.a.dim(), self.b.rows()) != (n * r, inp, n * out) || batch.adapters > n {
            let what = format!(
                "{n} adapters of rank {r} for {inp} to {out}, {} in the batch: A is {} x {}, B has {} rows",
                batch.adapters,
                self.a.rows(),
                self.a.dim(),
                self.b.rows()
            );
            return Err(Error::failed("lora", what));
        }
        Ok(())
    }
}

fn fits<T: Storage>(what: &str, x: &DeviceRows<T>, rows: usize, dim: usize) -> Result<()> {
    if (x.rows(), x.dim()) != (rows, dim) {
        let message = format!("{what} is {} x {} and not {rows} x {dim}", x.rows(), x.dim());
        return Err(Error::failed("lora", message));
    }
    Ok(())
}

/// A weight's or an adapter's direction: as stored, or its transpose.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Forward,
    Backward,
}

/// `S = scale X A^T` (rows x r) for the forward; zero in rows without an adapter.
pub fn shrink<T: Storage>(batch: &Batch, x: &DeviceRows<T>, low: &Adapters<T>, s: &mut DeviceRows<T>) -> Result<Cost> {
    low.check(batch, x.dim(), low.b.rows().checked_div(low.count).unwrap_or(0))?;
    narrow(Way::Forward, batch, x, &low.a, low, s)
}

/// `dS = scale dY B` (rows x r) for the backward.
pub fn shrink_backward<T: Storage>(
    batch: &Batch,
    dy: &DeviceRows<T>,
    low: &Adapters<T>,
    ds: &mut DeviceRows<T>,
) -> Result<Cost> {
    low.check(batch, low.a.dim(), dy.dim())?;
    narrow(Way::Backward, batch, dy, &low.b, low, ds)
}

fn narrow<T: Storage>(
    way: Way,
    batch: &Batch,
    x: &DeviceRows<T>,
    matrix: &DeviceRows<T>,
    low: &Adapters<T>,
    s: &mut DeviceRows<T>,
) -> Result<Cost> {
    let (rows, rank, depth) = (batch.rows, low.rank(), x.dim());
    fits("x", x, rows, depth)?;
    fits("s", s, rows, rank)?;
    let splits = depth.div_ceil(SPAN).max(1);
    let device = x.device();
    let partials = device.alloc::<f32>(splits * rows * rank, "partial low-rank products")?;
    let kernel = match way {
        Way::Forward => T::pick("lora_shrink_f32", "lora_shrink_bf16"),
        Way::Backward => T::pick("lora_shrink_turned_f32", "lora_shrink_turned_bf16"),
    };
    let (m, r, k, size) = (rows as f64, rank as f64, depth as f64, size_of::<T>() as f64);
    let cost = Cost { bytes: size * (m * k + r * k), flops: 2.0 * m * r * k };
    let mut launch =
        Launch::new(kernel, batch.tiles.len(), 128, cost).by(rank.div_ceil(TILE)).shared(tile_shared::<T>());
    launch.grid[2] = splits as u32;
    let (rows_arg, rank_arg) = (Arg::U64(rows as u64), Arg::U32(rank as u32));
    // SAFETY: tiles lie inside the batch's rows, adapters inside A and B (checked by the callers).
    unsafe {
        let args = ShrinkArgs {
            tiles: batch.tiles.pointer(),
            x: x.pointer(),
            stride_x: x.stride_u32(),
            low: matrix.pointer(),
            stride_low: matrix.stride_u32(),
            rows: rows as u64,
            depth: x.dim_u32(),
            rank: rank as u32,
            span: SPAN as u32,
            partials: partials.pointer(),
        };
        let mut cost = device.launch(&launch, &[args.arg()])?;
        let moved = Cost { bytes: (4.0 * splits as f64 + size) * m * r, flops: splits as f64 * m * r };
        let kernel = T::pick("lora_shrink_sum_f32", "lora_shrink_sum_bf16");
        cost += device.launch(
            &Launch::new(kernel, batch.tiles.len(), 256, moved),
            &[
                batch.tiles.arg(),
                partials.arg(),
                Arg::U32(splits as u32),
                rows_arg,
                rank_arg,
                Arg::F32(low.scale),
                s.arg(),
                s.stride_arg(),
            ],
        )?;
        Ok(cost)
    }
}

/// What stands beside the product.
#[derive(Debug)]
pub struct Beside<'a, T: Storage> {
    /// `S` or `dS`, and the adapters it came from.
    pub low: Option<(&'a DeviceRows<T>, &'a Adapters<T>)>,
    /// Added to every row.
    pub bias: Option<&'a Buffer<f32>>,
    /// Add to what the output holds.
    pub accumulate: bool,
}

impl<T: Storage> Default for Beside<'_, T> {
    fn default() -> Self {
        Self { low: None, bias: None, accumulate: false }
    }
}

/// `Y = X W^T + S B^T (+ bias) (+ Y)`; Y in T, or in f32.
pub fn forward<T: Storage, U: Storage>(
    batch: &Batch,
    x: &DeviceRows<T>,
    w: &DeviceRows<T>,
    beside: &Beside<'_, T>,
    y: &mut DeviceRows<U>,
) -> Result<Cost> {
    fits("x", x, batch.rows, w.dim())?;
    fits("y", y, batch.rows, w.rows())?;
    if let Some(done) = wgmma::instead_of_forward(batch, x, w, beside, y) {
        return done;
    }
    product(Way::Forward, batch, x, (w, 0), beside, y)
}

/// `dX = dY W + dS A (+ dX)`.
pub fn backward<T: Storage, U: Storage>(
    batch: &Batch,
    dy: &DeviceRows<T>,
    w: &DeviceRows<T>,
    beside: &Beside<'_, T>,
    dx: &mut DeviceRows<U>,
) -> Result<Cost> {
    fits("dy", dy, batch.rows, w.rows())?;
    fits("dx", dx, batch.rows, w.dim())?;
    if let Some(done) = wgmma::instead_of_backward(batch, dy, (w, 0..w.rows()), beside, dx) {
        return done;
    }
    product(Way::Backward, batch, dy, (w, 0), beside, dx)
}

/// `dX (+)= dY W[rows]`: a panel of a weight's rows.
pub(crate) fn backward_panel<T: Storage>(
    batch: &Batch,
    dy: &DeviceRows<T>,
    w: &DeviceRows<T>,
    rows: Range<usize>,
    accumulate: bool,
    dx: &mut DeviceRows<f32>,
) -> Result<Cost> {
    fits("dy", dy, batch.rows, rows.len())?;
    fits("dx", dx, batch.rows, w.dim())?;
    if rows.end > w.rows() {
        return Err(Error::failed("lora", format!("rows {rows:?} of a weight of {}", w.rows())));
    }
    let beside = Beside { accumulate, ..Beside::default() };
    if let Some(done) = wgmma::instead_of_backward(batch, dy, (w, rows.clone()), &beside, dx) {
        return done;
    }
    product(Way::Backward, batch, dy, (w, rows.start), &beside, dx)
}

fn product<T: Storage, U: Storage>(
    way: Way,
    batch: &Batch,
    x: &DeviceRows<T>,
    (w, row): (&DeviceRows<T>, usize),
    beside: &Beside<'_, T>,
    y: &mut DeviceRows<U>,
) -> Result<Cost> {
    let (depth, columns) = (x.dim(), y.dim());
    let (rank, s, matrix) = match beside.low {
        Some((s, low)) => {
            low.check(batch, w.dim(), w.rows())?;
            fits("s", s, batch.rows, low.rank())?;
            (low.rank(), Some(s), Some(if way == Way::Forward { &low.b } else { &low.a }))
        }
        None if batch.adapters > 0 => return Err(Error::failed("lora", "the batch names adapters, none are given")),
        None => (0, None, None),
    };
    if beside.bias.is_some_and(|b| b.len() != columns) {
        return Err(Error::failed("lora", format!("a bias of another length than {columns} columns")));
    }
    let kernel = match (way, T::NAME, U::NAME) {
        (Way::Forward, "f32", "f32") => "lora_forward_f32",
        (Way::Backward, "f32", "f32") => "lora_backward_f32",
        (Way::Forward, "bf16", "bf16") => "lora_forward_bf16",
        (Way::Backward, "bf16", "bf16") => "lora_backward_bf16",
        (Way::Forward, "bf16", "f32") => "lora_forward_bf16_f32",
        (Way::Backward, "bf16", "f32") => "lora_backward_bf16_f32",
        (_, from, to) => return Err(Error::failed("lora", format!("no kernel from {from} to {to}"))),
    };
    let wide = T::NAME == "bf16";
    let (tiles, side, threads, shared) =
        if wide { (&batch.wide, WIDE, 256, RING) } else { (&batch.tiles, TILE, 128, tile_shared::<T>()) };
    let (m, n, k, r) = (batch.rows as f64, columns as f64, depth as f64, rank as f64);
    let outputs = size_of::<U>() as f64 * m * n * if beside.accumulate { 2.0 } else { 1.0 };
    let cost = Cost { bytes: size_of::<T>() as f64 * (m + n) * (k + r) + outputs, flops: 2.0 * m * n * (k + r) };
    let launch = Launch::new(kernel, tiles.len(), threads, cost).by(columns.div_ceil(side)).shared(shared);
    let args = LoraArgs {
        tiles: tiles.pointer(),
        x: x.pointer(),
        stride_x: x.stride_u32(),
        w: w.values().pointer_at(row * w.stride()),
        stride_w: w.stride_u32(),
        s: s.map_or(Pointer::NULL, DeviceRows::pointer),
        stride_s: s.map_or(0, DeviceRows::stride_u32),
        low: matrix.map_or(Pointer::NULL, DeviceRows::pointer),
        stride_low: matrix.map_or(0, DeviceRows::stride_u32),
        columns: columns as u64,
        depth: depth as u32,
        rank: rank as u32,
        bias: beside.bias.map_or(Pointer::NULL, Buffer::pointer),
        add: i32::from(beside.accumulate),
        out: y.pointer(),
        stride: y.stride_u32(),
    };
    // SAFETY: tiles lie inside the batch's rows, adapters inside the matrix; all shapes were
    // checked.
    unsafe { y.device().launch(&launch, &[args.arg()]) }
}

/// The gradients of A and B, of the shapes of [`Adapters`], in f32.
#[derive(Debug)]
pub struct Gradients {
    /// (adapters r) x in.
    pub a: DeviceRows<f32>,
    /// (adapters out) x r.
    pub b: DeviceRows<f32>,
}

/// `dB += dY^T S`, `dA += dS^T X` for each adapter of the batch (both products carry the scale in S
/// and dS).
pub fn gradients<T: Storage>(
    batch: &Batch,
    low: &Adapters<T>,
    (x, s): (&DeviceRows<T>, &DeviceRows<T>),
    (dy, ds): (&DeviceRows<T>, &DeviceRows<T>),
    g: &mut Gradients,
) -> Result<Cost> {
    low.check(batch, x.dim(), dy.dim())?;
    for (what, rows, dim) in [("x", x, x.dim()), ("s", s, low.rank()), ("dy", dy, dy.dim()), ("ds", ds, low.rank())] {
        fits(what, rows, batch.rows, dim)?;
    }
    fits("dA", &g.a, low.a.rows(), low.a.dim())?;
    fits("dB", &g.b, low.b.rows(), low.b.dim())?;
    let mut cost = one(batch, dy, s, &mut g.b)?;
    cost += one(batch, ds, x, &mut g.a)?;
    Ok(cost)
}

/// `out[adapter] += A^T B` over the adapter's rows.
fn one<T: Storage>(batch: &Batch, a: &DeviceRows<T>, b: &DeviceRows<T>, out: &mut DeviceRows<f32>) -> Result<Cost> {
    let (rows, m, n) = (batch.rows as f64, a.dim(), b.dim());
    let cost = Cost {
        bytes: size_of::<T>() as f64 * rows * (m + n) as f64 + 8.0 * (out.rows() * n) as f64,
        flops: 2.0 * rows * m as f64 * n as f64,
    };
    let kernel = T::pick("lora_gradient_f32", "lora_gradient_bf16");
    let pieces = batch.pieces.len();
    let mut launch = Launch::new(kernel, m.div_ceil(TILE), 128, cost).by(n.div_ceil(TILE)).shared(tile_shared::<T>());
    launch.grid[2] = u32::try_from(pieces).unwrap_or(u32::MAX);
    let device = out.device().clone();
    let partials = match &batch.joins {
        None => None,
        // Written whole before it is read.
        Some(_) => Some(device.alloc::<f32>(pieces * m * n, "parts of an adapter's gradient")?),
    };
    let args = AdapterGradientArgs {
        pieces: batch.pieces.pointer(),
        a: a.pointer(),
        stride_a: a.stride_u32(),
        m: a.dim_u32(),
        b: b.pointer(),
        stride_b: b.stride_u32(),
        n: b.dim_u32(),
        partials: partials.as_ref().map_or(Pointer::NULL, Buffer::pointer),
        out: out.pointer(),
        stride: out.stride_u32(),
    };
    // SAFETY: pieces lie inside the batch's rows; out holds a matrix for each adapter, `partials`
    // one for each piece.
    let mut total = unsafe { device.launch(&launch, &[args.arg()])? };
    if let (Some(joins), Some(partials)) = (&batch.joins, &partials) {
        let (parts, values) = ((pieces * m * n) as f64, (joins.len() * m * n) as f64);
        let cost = Cost { bytes: 4.0 * parts + 8.0 * values, flops: parts };
        let sum = Launch::new("lora_gradient_sum", (m * n).div_ceil(256), 256, cost).by(joins.len());
        let shape = [a.dim_arg(), b.dim_arg()];
        // SAFETY: joins name pieces, each of which has m x n parts.
        total += unsafe {
            device
                .launch(&sum, &[&[joins.arg(), partials.arg()], &shape[..], &[out.arg(), out.stride_arg()]].concat())?
        };
    }
    Ok(total)
}
