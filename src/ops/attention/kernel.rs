//! The kernels of `kernels/attention.cu`.

use std::ops::Range;

use super::{Heads, check_span, window_arg};
use crate::device::{Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::planes;
use crate::tensor::Cost;

arguments! {
    /// Of `attention`.
    struct AttentionArgs {
        works: Pointer,
        heads: u32,
        kv_heads: u32,
        dim: u32,
        scale: f32,
        window: u32,
        q: Pointer,
        stride_q: u32,
        keys: Pointer,
        stride_k: u32,
        values: Pointer,
        stride_v: u32,
        out: Pointer,
        stride_out: u32,
        lse: Pointer,
    }
}

/// Query rows of consecutive positions, and the rows of keys and values that they see: all of
/// `past`, and of `own` the first `visible` for the first query row, one more for each next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Query rows.
    pub rows: Range<usize>,
    /// Keys that all of them see.
    pub past: Range<usize>,
    /// Keys up to the causal edge.
    pub own: Range<usize>,
    /// How many of `own` the first query row sees.
    pub visible: usize,
}

impl Span {
    /// A whole sequence that sees itself alone, queries and keys in the same rows.
    pub fn causal(rows: Range<usize>) -> Self {
        Self { own: rows.clone(), rows, past: 0..0, visible: 1 }
    }
}

/// `AttentionWork`.
pub(super) type Work = [u64; 6];

/// All keys of run 1, for every row.
pub(super) const ALL: u32 = u32::MAX;

pub(super) fn work(
    row: usize,
    (rows, pack): (usize, usize),
    runs: [&Range<usize>; 2],
    visible: u32,
    slot: usize,
) -> Work {
    let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let visible = u64::from(visible) | (slot as u64) << 32;
    [
        row as u64,
        pair(rows, pack),
        runs[0].start as u64,
        runs[1].start as u64,
        pair(runs[0].len(), runs[1].len()),
        visible,
    ]
}

/// Query rows of a block.
pub(super) const fn tile_rows<T: Storage>() -> usize {
    if size_of::<T>() == 4 { 32 } else { 64 }
}

/// Shared memory of a block, for heads of up to 64, or with `wide` of up to 128.
pub(super) const fn shared<T: Storage>(wide: bool) -> usize {
    let (keys, stages) = if size_of::<T>() == 4 { (32, 1) } else { (64, 2) };
    2 * planes::<T>() * (if wide { 128 } else { 64 } + 8) * (tile_rows::<T>() + 2 * stages * keys)
}

/// The compiled width that holds heads of `dim`, and the shared memory of a block.
pub(super) fn width<T: Storage>(heads: Heads) -> Result<(bool, usize)> {
    let Heads { query, kv, dim } = heads;
    if kv == 0 || query % kv != 0 || dim == 0 || dim % 8 != 0 || dim > 128 {
        return Err(Error::failed("attention", format!("{heads:?}"))
            .next("heads of 8 to 128 values, a multiple of 8, query heads a multiple of kv heads"));
    }
    Ok((dim > 64, shared::<T>(dim > 64)))
}

pub(super) fn scale(dim: usize) -> f32 {
    (std::f64::consts::LOG2_E / (dim as f64).sqrt()) as f32
}

/// Queries, keys and values as rows of heads side by side.
#[derive(Debug)]
pub struct Inputs<'a, T: Storage> {
    /// (rows, query heads x dim).
    pub q: &'a DeviceRows<T>,
    /// (key rows, kv heads x dim).
    pub k: &'a DeviceRows<T>,
    /// (key rows, kv heads x dim).
    pub v: &'a DeviceRows<T>,
}

impl<T: Storage> Inputs<'_, T> {
    pub(super) fn check(&self, heads: Heads) -> Result<()> {
        let (q, kv) = (heads.query * heads.dim, heads.kv * heads.dim);
        if self.q.dim() != q || self.k.dim() != kv || self.v.dim() != kv || self.k.rows() != self.v.rows() {
            let what = format!(
                "{heads:?} with q {} x {}, k {} x {}, v {} x {}",
                self.q.rows(),
                self.q.dim(),
                self.k.rows(),
                self.k.dim(),
                self.v.rows(),
                self.v.dim()
            );
            return Err(Error::failed("attention", what));
        }
        Ok(())
    }
}

/// A batch cut into tiles of query rows, those that see most first.
#[derive(Debug)]
pub struct Plan<T: Storage> {
    works: Buffer<Work>,
    /// Query rows and key rows that must be there at least.
    reach: (usize, usize),
    /// Pairs of query row and visible key.
    pairs: usize,
    distinct: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Storage> Plan<T> {
    /// Cuts `spans`, whose query rows must not overlap. Their own keys may be shared or apart from
    /// the queries' rows.
    pub fn new(device: &KernelDevice, spans: &[Span]) -> Result<Self> {
        let step = tile_rows::<T>();
        let (mut works, mut reach, mut pairs, mut distinct) = (Vec::new(), (0, 0), 0, 0);
        for s in spans.iter().filter(|s| !s.rows.is_empty()) {
            check_span(s)?;
            reach = (reach.0.max(s.rows.end), reach.1.max(s.past.end).max(s.own.end));
            distinct += s.past.len() + s.own.len();
            for first in s.rows.clone().step_by(step) {
                let (rows, at) = ((s.rows.end - first).min(step), s.visible + first - s.rows.start);
                pairs += rows * (s.past.len() + at) + rows * (rows - 1) / 2;
                let cost = s.past.len() + at + rows;
                works.push((cost, work(first, (rows, 1), [&s.past, &s.own], at as u32, 0)));
            }
        }
        works.sort_by_key(|w| std::cmp::Reverse(w.0));
        let works: Vec<Work> = works.into_iter().map(|w| w.1).collect();
        let works = device.upload(&works, "attention tiles")?;
        Ok(Self { works, reach, pairs, distinct, of: std::marker::PhantomData })
    }

    /// `out = softmax(q k^T / sqrt(dim)) v`, where each row sees no more than the `window` last of
    /// its keys; with `lse` (rows x heads) the log of each denominator.
    pub fn forward(
        &self,
        heads: Heads,
        window: Option<usize>,
        inputs: &Inputs<'_, T>,
        out: &mut DeviceRows<T>,
        lse: Option<&mut Buffer<f32>>,
    ) -> Result<Cost> {
        let limit = window_arg(window)?;
        let (wide, shared) = width::<T>(heads)?;
        inputs.check(heads)?;
        let (q, k) = (inputs.q, inputs.k);
        let beyond = self.reach.0 > q.rows() || self.reach.1 > k.rows();
        if beyond || (out.rows(), out.dim()) != (q.rows(), q.dim()) {
            let what = format!("tiles reach {:?} of {} rows and {} keys", self.reach, q.rows(), k.rows());
            return Err(Error::failed("attention", what));
        }
        if lse.as_ref().is_some_and(|l| l.len() != q.rows() * heads.query) {
            return Err(Error::failed("attention", "log-sum-exp of another length than rows x heads"));
        }
        let kernel = match wide {
            true => T::pick("attention_f32_128", "attention_bf16_128"),
            false => T::pick("attention_f32_64", "attention_bf16_64"),
        };
        let size = size_of::<T>() as f64;
        let cost = Cost {
            bytes: size * 2.0 * (q.rows() * q.dim()) as f64 + size * 2.0 * (self.distinct * k.dim()) as f64,
            flops: 4.0 * (self.pairs.min(q.rows().saturating_mul(limit as usize)) * q.dim()) as f64,
        };
        let threads = tile_rows::<T>() as u32 * 2;
        let launch = Launch::new(kernel, self.works.len(), threads, cost).by(heads.query).shared(shared);
        let args = AttentionArgs {
            works: self.works.pointer(),
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            dim: heads.dim as u32,
            scale: scale(heads.dim),
            window: limit,
            q: inputs.q.pointer(),
            stride_q: inputs.q.stride_u32(),
            keys: inputs.k.pointer(),
            stride_k: inputs.k.stride_u32(),
            values: inputs.v.pointer(),
            stride_v: inputs.v.stride_u32(),
            out: out.pointer(),
            stride_out: out.stride_u32(),
            lse: lse.map_or(Pointer::NULL, |l| l.pointer()),
        };
        // SAFETY: every tile's rows and keys are inside q, k and v; out has q's shape.
        unsafe { out.device().launch(&launch, &[args.arg()]) }
    }
}
