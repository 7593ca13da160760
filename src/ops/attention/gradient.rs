//! The kernels of `kernels/attention_backward.cu`: gradients of [`super::kernel`]'s attention.

use std::collections::BTreeMap;

use super::kernel::{Inputs, Span, scale, tile_rows, width};
use super::{Heads, check_span, window_arg};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::planes;
use crate::tensor::Cost;

arguments! {
    /// Of `attention_by_query`, where `d0` is dQ, and of `attention_by_key`, where `d0` is dK and
    /// `d1` dV.
    struct AttentionBackwardArgs {
        tiles: Pointer,
        runs: Pointer,
        heads: u32,
        kv_heads: u32,
        dim: u32,
        scale: f32,
        window: u32,
        q: Pointer,
        stride_q: u32,
        k: Pointer,
        stride_k: u32,
        v: Pointer,
        stride_v: u32,
        by_out: Pointer,
        stride_o: u32,
        lse: Pointer,
        delta: Pointer,
        d0: Pointer,
        stride_d0: u32,
        d1: Pointer,
        stride_d1: u32,
    }
}

/// `AttentionTileOf`: first row, rows with the number of runs above, first run.
type Tile = [u64; 3];
/// `AttentionRun`: first row, length with the edge above.
type Run = [u64; 2];

#[derive(Debug)]
struct Side {
    tiles: Buffer<Tile>,
    runs: Buffer<Run>,
}

impl Side {
    fn upload(device: &KernelDevice, lists: Vec<(usize, usize, Vec<Run>)>) -> Result<Self> {
        let (mut tiles, mut runs) = (Vec::with_capacity(lists.len()), Vec::<Run>::new());
        for (row, rows, of_tile) in lists {
            tiles.push([row as u64, rows as u64 | (of_tile.len() as u64) << 32, runs.len() as u64]);
            runs.extend(of_tile);
        }
        Ok(Self { tiles: device.upload(&tiles, "gradient tiles")?, runs: device.upload(&runs, "runs of tiles")? })
    }
}

fn run(row: usize, len: usize, edge: u32) -> Run {
    [row as u64, len as u64 | u64::from(edge) << 32]
}

/// A batch cut into tiles of query rows and tiles of key rows.
#[derive(Debug)]
pub struct Backward<T: Storage> {
    by_query: Side,
    by_key: Side,
    reach: (usize, usize),
    pairs: usize,
    of: std::marker::PhantomData<T>,
}

/// What the forward left, and the gradient of its result.
#[derive(Debug)]
pub struct Given<'a, T: Storage> {
    /// The forward's result.
    pub out: &'a DeviceRows<T>,
    /// Its log-sum-exp, (rows, heads).
    pub lse: &'a Buffer<f32>,
    /// Gradient of `out`.
    pub by_out: &'a DeviceRows<T>,
}

/// Gradients, of the shapes of q, k and v. Rows that no span names are left as they were.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the queries.
    pub q: &'a mut DeviceRows<f32>,
    /// Of the keys.
    pub k: &'a mut DeviceRows<f32>,
    /// Of the values.
    pub v: &'a mut DeviceRows<f32>,
}

impl<T: Storage> Backward<T> {
    /// Cuts `spans`. Each range of key rows, `past` or `own`, is either the same as another span's
    /// or apart from it.
    pub fn new(device: &KernelDevice, spans: &[Span]) -> Result<Self> {
        let step = tile_rows::<T>();
        let spans: Vec<&Span> = spans.iter().filter(|s| !s.rows.is_empty()).collect();
        let (mut by_query, mut reach, mut pairs) = (Vec::new(), (0, 0), 0);
        let mut users: BTreeMap<(usize, usize), Vec<(&Span, bool)>> = BTreeMap::new();
        for &s in &spans {
            check_span(s)?;
            reach = (reach.0.max(s.rows.end), reach.1.max(s.past.end).max(s.own.end));
            pairs += s.rows.len() * (s.past.len() + s.visible) + s.rows.len() * (s.rows.len() - 1) / 2;
            for (range, own) in [(&s.past, false), (&s.own, true)] {
                if !range.is_empty() {
                    users.entry((range.start, range.end)).or_default().push((s, own));
                }
            }
            for first in s.rows.clone().step_by(step) {
                let (rows, at) = ((s.rows.end - first).min(step), s.visible + first - s.rows.start);
                let own = (at + rows - 1).min(s.own.len());
                let runs = [(&s.past, s.past.len(), (s.past.len() + at) as u32), (&s.own, own, at as u32)];
                let runs = runs.iter().filter(|r| r.1 > 0).map(|(keys, len, edge)| run(keys.start, *len, *edge));
                by_query.push((first, rows, runs.collect()));
            }
        }
        let ranges: Vec<_> = users.keys().copied().collect();
        if let Some(two) = ranges.windows(2).find(|r| r[0].1 > r[1].0) {
            let what = format!("key rows {:?} and {:?} overlap", two[0], two[1]);
            return Err(Error::failed("attention gradient", what).next("give each row's gradient to one range"));
        }
        let mut by_key = Vec::new();
        for (&(start, end), users) in &users {
            for first in (start..end).step_by(step) {
                let runs = users.iter().filter_map(|(s, own)| seen_from(s, *own, first - start));
                by_key.push((first, (end - first).min(step), runs.collect()));
            }
        }
        let longest = |list: &mut Vec<(usize, usize, Vec<Run>)>| {
            list.sort_by_key(|(_, _, runs)| std::cmp::Reverse(runs.iter().map(|r| r[1] & 0xffff_ffff).sum::<u64>()));
        };
        longest(&mut by_query);
        longest(&mut by_key);
        Ok(Self {
            by_query: Side::upload(device, by_query)?,
            by_key: Side::upload(device, by_key)?,
            reach,
            pairs,
            of: std::marker::PhantomData,
        })
    }

    /// Writes the gradients of the rows that the spans name, where each row sees no more than the
    /// `window` last of its keys.
    pub fn run(
        &self,
        heads: Heads,
        window: Option<usize>,
        inputs: &Inputs<'_, T>,
        given: &Given<'_, T>,
        g: &mut Gradients<'_>,
    ) -> Result<Cost> {
        let limit = window_arg(window)?;
        let (wide, _) = width::<T>(heads)?;
        let shared = shared::<T>(wide);
        inputs.check(heads)?;
        let (q, k) = (inputs.q, inputs.k);
        let shapes = [
            (given.out.rows(), given.out.dim(), q.rows(), q.dim()),
            (given.by_out.rows(), given.by_out.dim(), q.rows(), q.dim()),
            (g.q.rows(), g.q.dim(), q.rows(), q.dim()),
            (g.k.rows(), g.k.dim(), k.rows(), k.dim()),
            (g.v.rows(), g.v.dim(), k.rows(), k.dim()),
        ];
        let fits = shapes.iter().all(|s| (s.0, s.1) == (s.2, s.3)) && given.lse.len() == q.rows() * heads.query;
        if !fits || self.reach.0 > q.rows() || self.reach.1 > k.rows() {
            let what = format!("{shapes:?}, {} log-sums, spans reach {:?}", given.lse.len(), self.reach);
            return Err(Error::failed("attention gradient", what));
        }
        let device = q.device();
        let delta = device.alloc::<f32>(q.rows() * heads.query, "attention delta")?;
        let (size, rows) = (size_of::<T>() as f64, (q.rows() * q.dim()) as f64);
        let each = Cost { bytes: 2.0 * size * rows + 4.0 * delta.len() as f64, flops: 2.0 * rows };
        let kernel = T::pick("attention_delta_f32", "attention_delta_bf16");
        // SAFETY: shapes were checked above.
        let mut cost = unsafe {
            device.launch(
                &Launch::new(kernel, delta.len().div_ceil(4), 128, each),
                &[
                    given.out.arg(),
                    given.out.stride_arg(),
                    given.by_out.arg(),
                    given.by_out.stride_arg(),
                    q.rows_arg(),
                    Arg::U32(heads.query as u32),
                    Arg::U32(heads.dim as u32),
                    delta.arg(),
                ],
            )
        }?;
        let (queries, keys) = match wide {
            true => (
                T::pick("attention_by_query_f32_128", "attention_by_query_bf16_128"),
                T::pick("attention_by_key_f32_128", "attention_by_key_bf16_128"),
            ),
            false => (
                T::pick("attention_by_query_f32_64", "attention_by_query_bf16_64"),
                T::pick("attention_by_key_f32_64", "attention_by_key_bf16_64"),
            ),
        };
        let threads = tile_rows::<T>() as u32 * 2;
        let pairs = self.pairs.min(q.rows().saturating_mul(limit as usize));
        let (pairs, key_values) = ((pairs * q.dim()) as f64, (k.rows() * k.dim()) as f64);
        let read = 2.0 * size * (rows + key_values);
        let each = Cost { bytes: read + 4.0 * rows, flops: 6.0 * pairs };
        let launch = Launch::new(queries, self.by_query.tiles.len(), threads, each).by(heads.query).shared(shared);
        let by_query = AttentionBackwardArgs {
            tiles: self.by_query.tiles.pointer(),
            runs: self.by_query.runs.pointer(),
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            dim: heads.dim as u32,
            scale: scale(heads.dim),
            window: limit.min(1 << 31),
            q: q.pointer(),
            stride_q: q.stride_u32(),
            k: k.pointer(),
            stride_k: k.stride_u32(),
            v: inputs.v.pointer(),
            stride_v: inputs.v.stride_u32(),
            by_out: given.by_out.pointer(),
            stride_o: given.by_out.stride_u32(),
            lse: given.lse.pointer(),
            delta: delta.pointer(),
            d0: g.q.pointer(),
            stride_d0: g.q.stride_u32(),
            d1: Pointer::NULL,
            stride_d1: 0,
        };
        // SAFETY: every tile and run lies inside the rows of q and k (`reach`), whose shapes the
        // gradients have.
        cost += unsafe { device.launch(&launch, &[by_query.arg()]) }?;
        let each = Cost { bytes: read + 8.0 * key_values, flops: 8.0 * pairs };
        let launch = Launch::new(keys, self.by_key.tiles.len(), threads, each).by(heads.kv).shared(shared);
        let by_key = AttentionBackwardArgs {
            tiles: self.by_key.tiles.pointer(),
            runs: self.by_key.runs.pointer(),
            d0: g.k.pointer(),
            stride_d0: g.k.stride_u32(),
            d1: g.v.pointer(),
            stride_d1: g.v.stride_u32(),
            ..by_query
        };
        // SAFETY: as above.
        cost += unsafe { device.launch(&launch, &[by_key.arg()]) }?;
        Ok(cost)
    }
}

/// The queries of `s` that see a key of the tile that begins `offset` keys into its range.
fn seen_from(s: &Span, own: bool, offset: usize) -> Option<Run> {
    if !own {
        return Some(run(s.rows.start, s.rows.len(), (s.past.len() + s.visible - offset) as u32));
    }
    // Query i sees key offset + r if r < visible - offset + i: the first that sees r = 0 has edge 1
    // at least.
    let skip = (offset + 1).saturating_sub(s.visible);
    let edge = s.visible + skip - offset;
    (skip < s.rows.len()).then(|| run(s.rows.start + skip, s.rows.len() - skip, edge as u32))
}

/// Shared memory of a block, for heads of up to 64, or with `wide` of up to 128.
pub(super) const fn shared<T: Storage>(wide: bool) -> usize {
    let (streamed, stages) = if size_of::<T>() == 4 { (16, 1) } else { (32, 2) };
    let rows = 2 * planes::<T>() * (if wide { 128 } else { 64 } + 8) * (2 * tile_rows::<T>() + 2 * stages * streamed);
    // Two numbers of each streamed query.
    rows + 2 * size_of::<f32>() * stages * streamed
}
