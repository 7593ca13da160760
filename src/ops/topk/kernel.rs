//! The kernels of `kernels/topk.cu`.

use super::{Hit, MAX_K};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::{TILE, tile_shared};
use crate::tensor::Cost;

const THREADS: u32 = 128;
/// Carried beside the k, so that rounding of the fast score cannot lose one.
const SPARE: usize = 32;
/// Blocks that keep a large GPU busy.
const BLOCKS: usize = 264;

arguments! {
    /// Of `topk_scan` and `topk_strip`.
    struct ScanArgs {
        queries: Pointer,
        query_count: u64,
        query_stride: u32,
        items: Pointer,
        item_count: u64,
        item_stride: u32,
        dim: u32,
        seen_starts: Pointer,
        seen_items: Pointer,
        room: u32,
        keep: u32,
        step: u32,
        thresholds: Pointer,
        lists: Pointer,
        candidates: Pointer,
    }
}

arguments! {
    /// Of `topk_finish`.
    struct TopkFinishArgs {
        queries: Pointer,
        query_count: u64,
        query_stride: u32,
        items: Pointer,
        item_count: u64,
        item_stride: u32,
        dim: u32,
        candidates: Pointer,
        splits: u32,
        room: u32,
        size: u32,
        keep: u32,
        k: u32,
        index: Pointer,
        score: Pointer,
        counts: Pointer,
    }
}

arguments! {
    /// Of `topk_history`.
    struct HistoryArgs {
        items: Pointer,
        item_count: u64,
        stride: u32,
        dim: u32,
        targets: Pointer,
        starts: Pointer,
        rows: Pointer,
        k: u32,
        index: Pointer,
        score: Pointer,
        counts: Pointer,
    }
}

/// Item rows that each query must not get, ascending within a query.
#[derive(Debug)]
pub struct DeviceSeen {
    starts: Buffer<u64>,
    items: Buffer<u32>,
}

impl DeviceSeen {
    /// One ascending list a query.
    pub fn new<'a>(device: &KernelDevice, lists: impl Iterator<Item = &'a [u32]>) -> Result<Self> {
        let (mut starts, mut items) = (vec![0u64], Vec::new());
        for list in lists {
            items.extend_from_slice(list);
            starts.push(items.len() as u64);
        }
        Ok(Self { starts: device.upload(&starts, "seen lists")?, items: device.upload(&items, "seen items")? })
    }
}

fn read(device: &KernelDevice, k: usize, out: &(Buffer<u32>, Buffer<f32>, Buffer<u32>)) -> Result<Vec<Vec<Hit>>> {
    let (index, score, counts) = (device.download(&out.0)?, device.download(&out.1)?, device.download(&out.2)?);
    let hits = |q: usize| {
        let found = q * k..q * k + (counts[q] as usize).min(k);
        index[found.clone()].iter().zip(&score[found]).map(|(&index, &score)| Hit { index, score }).collect()
    };
    Ok((0..counts.len()).map(hits).collect())
}

/// A scan that there is a kernel for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    kernel: &'static str,
    /// Queries of a block.
    pub(super) queries: usize,
    /// Items of a tile.
    pub(super) items: usize,
    /// Bytes of tiles in shared memory.
    pub(super) tiles: usize,
}

/// Bytes of state a query.
pub(super) const STATE: usize = 16;
/// Shared memory that every GPU since sm_80 has.
const SHARED: usize = 99 << 10;

/// Two tiles of items behind the queries, 8 values of padding a row.
const fn strip(kernel: &'static str, queries: usize, items: usize, width: usize) -> (usize, Scan) {
    (width, Scan { kernel, queries, items, tiles: (queries + 2 * items) * (width + 8) * 2 })
}

/// Scans of rows up to a width that stay in shared memory whole.
pub(super) const MANY: &[(usize, Scan)] = &[
    strip("topk_strip_bf16_64", 128, 64, 64),
    strip("topk_strip_bf16_128", 128, 64, 128),
    strip("topk_strip_bf16_256", 64, 32, 256),
];
/// The same for no more than a tile of queries.
pub(super) const FEW: &[(usize, Scan)] = &[
    strip("topk_strip_few_bf16_64", 64, 64, 64),
    strip("topk_strip_few_bf16_128", 64, 64, 128),
    strip("topk_strip_bf16_256", 64, 32, 256),
];

impl Scan {
    /// Rows that stay in shared memory whole where there is a kernel for their width and enough of
    /// it, tiles of pieces otherwise.
    fn of<T: Storage>(q: usize, dim: usize, room: usize) -> Self {
        let strips = match (T::NAME, q > TILE) {
            ("bf16", true) => MANY,
            ("bf16", false) => FEW,
            _ => &[],
        };
        let kernel = T::pick("topk_scan_f32", "topk_scan_bf16");
        let pieces = Self { kernel, queries: TILE, items: TILE, tiles: tile_shared::<T>() };
        let fits = |(width, scan): &&(usize, Self)| dim <= *width && scan.shared(room) <= SHARED;
        strips.iter().find(fits).map_or(pieces, |(_, scan)| *scan)
    }

    /// With the state of each query and a list's room for each of four warps.
    fn shared(self, room: usize) -> usize {
        self.tiles + self.queries * STATE + 4 * 2 * room * 8
    }
}

/// Keys that `topk_join` and `topk_finish` sort at once.
const SORTED: usize = 4096;

/// Candidates of so few splits that `topk_finish` takes them at once.
fn join(
    device: &KernelDevice,
    mut candidates: Buffer<u64>,
    (q, mut splits, room): (usize, usize, usize),
    total: &mut Cost,
) -> Result<(Buffer<u64>, usize)> {
    let share = SORTED / room;
    while splits > share {
        let joined = splits.div_ceil(share);
        let out = device.alloc::<u64>(joined * q * room, "candidates")?;
        let cost = Cost { bytes: 8.0 * ((splits + joined) * q * room) as f64, flops: 0.0 };
        let launch = Launch::new("topk_join", q, THREADS, cost).by(joined).shared(8 * SORTED);
        let sizes = [splits, share, room, SORTED].map(|v| Arg::U32(v as u32));
        let args = [Arg::U64(q as u64), candidates.arg(), sizes[0], sizes[1], sizes[2], sizes[3], out.arg()];
        // SAFETY: room candidates a query and split, before and after.
        *total += unsafe { device.launch(&launch, &args)? };
        (candidates, splits) = (out, joined);
    }
    Ok((candidates, splits))
}

/// As [`super::topk`].
pub fn topk<T: Storage>(
    queries: &DeviceRows<T>,
    items: &DeviceRows<T>,
    k: usize,
    seen: Option<&DeviceSeen>,
) -> Result<(Vec<Vec<Hit>>, Cost)> {
    topk_by(queries, items, k, seen, BLOCKS)
}

/// [`topk`] by about `blocks` blocks, each of which then scans several tiles of items; the result
/// does not depend on it.
pub fn topk_by<T: Storage>(
    queries: &DeviceRows<T>,
    items: &DeviceRows<T>,
    k: usize,
    seen: Option<&DeviceSeen>,
    blocks: usize,
) -> Result<(Vec<Vec<Hit>>, Cost)> {
    let (q, n, d) = (queries.rows(), items.rows(), items.dim());
    if queries.dim() != d || k > MAX_K || n > u32::MAX as usize - 1 {
        let what = format!("queries of width {}, {n} items of width {d}, k {k} of at most {MAX_K}", queries.dim());
        return Err(Error::failed("topk", what));
    }
    if seen.is_some_and(|s| s.starts.len() != q + 1) {
        return Err(Error::failed("topk", format!("a seen list is needed for each of the {q} queries")));
    }
    if q == 0 || n == 0 || k == 0 {
        return Ok((vec![Vec::new(); q], Cost::default()));
    }
    let device = queries.device();
    let keep = k + SPARE;
    let room = keep.next_power_of_two();
    let scan = Scan::of::<T>(q, d, room);
    let (row_tiles, item_tiles) = (q.div_ceil(scan.queries), n.div_ceil(scan.items));
    let splits = (blocks / row_tiles).max(1).min(item_tiles);
    // A step without a common factor visits every tile once.
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (item_tiles * 5 / 8 + 1..).find(|&s| gcd(s, item_tiles) == 1).unwrap_or(1);
    let thresholds = device.zeros::<u32>(q, "thresholds")?;
    let lists = device.alloc::<u64>(row_tiles * splits * scan.queries * 2 * room, "candidate lists")?;
    let candidates = device.alloc::<u64>(splits * q * room, "candidates")?;
    let cost =
        Cost { bytes: size_of::<T>() as f64 * d as f64 * (q + n) as f64, flops: 2.0 * q as f64 * n as f64 * d as f64 };
    let launch = Launch::new(scan.kernel, row_tiles, THREADS, cost).by(splits).shared(scan.shared(room));
    let args = ScanArgs {
        queries: queries.pointer(),
        query_count: q as u64,
        query_stride: queries.stride_u32(),
        items: items.pointer(),
        item_count: n as u64,
        item_stride: items.stride_u32(),
        dim: items.dim_u32(),
        seen_starts: seen.map_or(Pointer::NULL, |s| s.starts.pointer()),
        seen_items: seen.map_or(Pointer::NULL, |s| s.items.pointer()),
        room: room as u32,
        keep: keep as u32,
        step: step as u32,
        thresholds: thresholds.pointer(),
        lists: lists.pointer(),
        candidates: candidates.pointer(),
    };
    // SAFETY: rows as their types say; a list of 2 room for each row of each block, room candidates
    // a query and split.
    let mut total = unsafe { device.launch(&launch, &[args.arg()])? };
    let (candidates, splits) = join(device, candidates, (q, splits, room), &mut total)?;
    let out = (device.alloc(q * k, "hits")?, device.alloc(q * k, "scores")?, device.alloc(q, "hit counts")?);
    let size = (splits * room).next_power_of_two();
    let cost = Cost { bytes: (q * splits * room * 8) as f64, flops: 2.0 * (q * keep * d) as f64 };
    let finish = Launch::new(T::pick("topk_finish_f32", "topk_finish_bf16"), q, THREADS, cost).shared(8 * size);
    let args = TopkFinishArgs {
        queries: args.queries,
        query_count: args.query_count,
        query_stride: args.query_stride,
        items: args.items,
        item_count: args.item_count,
        item_stride: args.item_stride,
        dim: args.dim,
        candidates: candidates.pointer(),
        splits: splits as u32,
        room: args.room,
        size: size as u32,
        keep: args.keep,
        k: k as u32,
        index: out.0.pointer(),
        score: out.1.pointer(),
        counts: out.2.pointer(),
    };
    // SAFETY: as above; k results a query.
    total += unsafe { device.launch(&finish, &[args.arg()])? };
    Ok((read(device, k, &out)?, total))
}

/// For query `q`, the row `targets[q]` of `items`: the `k` best of the rows `lists[q]` (distinct),
/// ties to the lower row.
pub fn history<T: Storage>(
    items: &DeviceRows<T>,
    targets: &[u32],
    lists: &[&[u32]],
    k: usize,
) -> Result<(Vec<Vec<Hit>>, Cost)> {
    let q = targets.len();
    let rows = items.rows() as u64;
    let inside = targets.iter().chain(lists.iter().copied().flatten()).all(|&r| u64::from(r) < rows);
    if lists.len() != q || k > MAX_K || !inside {
        let what = format!("{q} targets, {} lists, k {k}; rows must be below {rows}", lists.len());
        return Err(Error::failed("history top-k", what));
    }
    if q == 0 || k == 0 {
        return Ok((vec![Vec::new(); q], Cost::default()));
    }
    let device = items.device();
    let all = DeviceSeen::new(device, lists.iter().copied())?;
    let targets = device.upload(targets, "targets")?;
    let out = (device.alloc(q * k, "hits")?, device.alloc(q * k, "scores")?, device.alloc(q, "hit counts")?);
    let (listed, d) = (all.items.len() as f64, items.dim() as f64);
    let cost = Cost { bytes: (listed + q as f64) * d * size_of::<T>() as f64, flops: 2.0 * listed * d };
    let launch = Launch::new(T::pick("topk_history_f32", "topk_history_bf16"), q, THREADS, cost);
    let args = HistoryArgs {
        items: items.pointer(),
        item_count: rows,
        stride: items.stride_u32(),
        dim: items.dim_u32(),
        targets: targets.pointer(),
        starts: all.starts.pointer(),
        rows: all.items.pointer(),
        k: k as u32,
        index: out.0.pointer(),
        score: out.1.pointer(),
        counts: out.2.pointer(),
    };
    // SAFETY: rows checked above; k results a query.
    let cost = unsafe { device.launch(&launch, &[args.arg()])? };
    Ok((read(device, k, &out)?, cost))
}
