//! The kernels of `kernels/bpr.cu`.

use super::Stream;
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::spmm::At;
use crate::rng::{self, Use};
use crate::tensor::Cost;

const THREADS: u32 = 128;
const WARPS: usize = THREADS as usize / 32;
/// Keys that a block of `sort_tile` holds.
pub(super) const TILE: usize = 2048;

arguments! {
    /// Of `bpr_negatives`.
    struct NegativesArgs {
        key0: u32,
        key1: u32,
        epoch: u32,
        first: u32,
        count: u32,
        users: Pointer,
        starts: Pointer,
        indices: Pointer,
        first_item: u32,
        items: u32,
        negatives: Pointer,
    }
}

arguments! {
    /// Of `bpr_hardest`.
    struct HardestArgs {
        key0: u32,
        key1: u32,
        epoch: u32,
        first: u32,
        count: u32,
        users: Pointer,
        starts: Pointer,
        indices: Pointer,
        first_item: u32,
        items: u32,
        candidates: u32,
        e: Pointer,
        stride: u32,
        negatives: Pointer,
    }
}

arguments! {
    /// Of `bpr_terms`.
    struct TermsArgs {
        e: Pointer,
        e0: Pointer,
        stride: u32,
        users: Pointer,
        positives: Pointer,
        negatives: Pointer,
        count: u32,
        lambda: f32,
        slopes: Pointer,
        losses: Pointer,
    }
}

arguments! {
    /// Of `bpr_gradient`.
    struct RankGradientArgs {
        keys: Pointer,
        entries: u32,
        e: Pointer,
        stride: u32,
        users: Pointer,
        positives: Pointer,
        negatives: Pointer,
        slopes: Pointer,
        penalty: f32,
        by_e: Pointer,
        weights: Pointer,
    }
}

/// Each user's items as node numbers, ascending.
#[derive(Debug)]
pub struct DeviceItems {
    starts: Buffer<u64>,
    nodes: Buffer<u32>,
    first_item: u32,
    items: u32,
}

impl DeviceItems {
    /// `starts[u] .. starts[u + 1]` of `nodes` are those of user `u`. Items are the nodes from
    /// `first_item` on. Every user that negatives are drawn for must lack at least one item.
    pub fn new(device: &KernelDevice, starts: &[u64], nodes: &[u32], first_item: u32, items: u32) -> Result<Self> {
        let ordered = starts.windows(2).all(|w| w[0] <= w[1]);
        if starts.is_empty() || !ordered || starts[starts.len() - 1] > nodes.len() as u64 || items == 0 {
            return Err(Error::failed("negatives", "the users' lists do not lie within their items"));
        }
        Ok(Self {
            starts: device.upload(starts, "users' lists")?,
            nodes: device.upload(nodes, "users' items")?,
            first_item,
            items,
        })
    }
}

/// A batch on a device, with what the loss needs of memory.
#[derive(Debug)]
pub struct DeviceBatch {
    /// Users.
    pub users: Buffer<u32>,
    /// An item the user has.
    pub positives: Buffer<u32>,
    /// One the user has not.
    pub negatives: Buffer<u32>,
    slopes: Buffer<f32>,
    losses: Buffer<f64>,
    keys: Buffer<u64>,
    total: Buffer<f64>,
}

impl DeviceBatch {
    /// Negatives are filled in by [`negatives`] or by hand.
    pub fn new(device: &KernelDevice, users: &[u32], positives: &[u32]) -> Result<Self> {
        let n = users.len();
        // An entry is three times the triple's number, in 32 bits.
        if positives.len() != n || n > u32::MAX as usize / 4 {
            return Err(Error::failed("bpr", format!("{n} users and {} positives", positives.len())));
        }
        Ok(Self {
            users: device.upload(users, "batch users")?,
            positives: device.upload(positives, "batch positives")?,
            negatives: device.zeros(n, "batch negatives")?,
            slopes: device.alloc(n, "batch slopes")?,
            losses: device.alloc(n, "batch losses")?,
            keys: device.alloc((3 * n).next_power_of_two(), "batch keys")?,
            total: device.alloc(1, "batch loss")?,
        })
    }

    /// Number of triples.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// Draws the batch's negatives, those of [`super::negatives`].
pub fn negatives(of: &DeviceItems, batch: &mut DeviceBatch, stream: Stream) -> Result<Cost> {
    let n = batch.len();
    let Stream { seed, epoch, first } = stream;
    let [key0, key1] = rng::key(seed, Use::Negative);
    let cost = super::negatives_cost(n);
    let launch = Launch::new("bpr_negatives", n.div_ceil(THREADS as usize), THREADS, cost);
    let args = NegativesArgs {
        key0,
        key1,
        epoch,
        first,
        count: n as u32,
        users: batch.users.pointer(),
        starts: of.starts.pointer(),
        indices: of.nodes.pointer(),
        first_item: of.first_item,
        items: of.items,
        negatives: batch.negatives.pointer(),
    };
    // SAFETY: the caller has checked that users have lists and lack an item; lists lie within the
    // nodes (`DeviceItems::new`).
    unsafe { batch.users.device().launch(&launch, &[args.arg()]) }
}

/// Sets the bits of the nodes that the batch reads, and no others: a bit a node of `active`.
///
/// # Errors
/// A device that fails.
pub fn mark(batch: &DeviceBatch, active: &mut Buffer<u32>) -> Result<Cost> {
    let n = batch.len();
    let device = active.device().clone();
    device.clear(active)?;
    let launch = Launch::new(
        "bpr_active",
        n.div_ceil(THREADS as usize),
        THREADS,
        Cost { bytes: 24.0 * n as f64 + 4.0 * active.len() as f64, flops: 0.0 },
    );
    let [users, positives, negatives] = [&batch.users, &batch.positives, &batch.negatives].map(Buffer::arg);
    // SAFETY: nodes of the batch are below 32 times the words by the batch's contract.
    unsafe { device.launch(&launch, &[users, positives, negatives, Arg::U32(n as u32), active.arg()]) }
}

/// Draws the batch's negatives as `choice` says.
pub(super) fn chosen(
    of: &DeviceItems,
    batch: &mut DeviceBatch,
    stream: Stream,
    choice: super::Choice<'_>,
) -> Result<Cost> {
    let super::Choice::Hardest { candidates, e } = choice else { return negatives(of, batch, stream) };
    match &e.at {
        At::F32(e) => hardest(of, batch, stream, candidates, e),
        At::Bf16(e) => hardest(of, batch, stream, candidates, e),
        At::Cpu(_) => Err(Error::failed("bpr", "the rows lie on another device")),
    }
}

/// Draws `candidates` for each triple and takes the one with the highest score by the rows `e`.
pub fn hardest<T: Storage>(
    of: &DeviceItems,
    batch: &mut DeviceBatch,
    stream: Stream,
    candidates: u32,
    e: &DeviceRows<T>,
) -> Result<Cost> {
    let n = batch.len();
    if u64::from(of.first_item) + u64::from(of.items) > e.rows() as u64 || candidates == 0 {
        return Err(Error::failed("bpr", format!("{candidates} candidates among {} rows", e.rows())));
    }
    let Stream { seed, epoch, first } = stream;
    let [key0, key1] = rng::key(seed, Use::Negative);
    let cost = super::hardest_cost(n, candidates, e.dim());
    let launch = Launch::new(T::pick("bpr_hardest_f32", "bpr_hardest_bf16"), n.div_ceil(WARPS), THREADS, cost);
    let args = HardestArgs {
        key0,
        key1,
        epoch,
        first,
        count: n as u32,
        users: batch.users.pointer(),
        starts: of.starts.pointer(),
        indices: of.nodes.pointer(),
        first_item: of.first_item,
        items: of.items,
        candidates,
        e: e.pointer(),
        stride: e.stride_u32(),
        negatives: batch.negatives.pointer(),
    };
    // SAFETY: as for `negatives`; users and items are below the rows of e.
    unsafe { batch.users.device().launch(&launch, &[args.arg()]) }
}

/// Sorts `keys` (a power of two of them) ascending.
pub fn sort(keys: &mut Buffer<u64>) -> Result<Cost> {
    let n = keys.len();
    if n < 2 {
        return Ok(Cost::default());
    }
    if !n.is_power_of_two() || n > 1 << 31 {
        return Err(Error::failed("sort", format!("{n} keys; a power of two up to 2^31 can be sorted")));
    }
    let device = keys.device().clone();
    let size = Arg::U32(n as u32);
    let pass = Cost { bytes: 16.0 * n as f64, flops: 0.0 };
    let tiles =
        |k: usize| (Launch::new("sort_tile", n.div_ceil(TILE), 512, pass), [keys.arg(), size, Arg::U32(k as u32)]);
    let mut total = Cost::default();
    let (launch, args) = tiles(0);
    // SAFETY: `n` keys; tiles and pairs stay below `n`.
    total += unsafe { device.launch(&launch, &args)? };
    let mut k = 2 * TILE;
    while k <= n {
        let mut j = k / 2;
        while j >= TILE {
            let step = Launch::new("sort_step", (n / 2).div_ceil(THREADS as usize), THREADS, pass);
            // SAFETY: as above.
            total += unsafe { device.launch(&step, &[keys.arg(), size, Arg::U32(k as u32), Arg::U32(j as u32)])? };
            j /= 2;
        }
        let (launch, args) = tiles(k);
        // SAFETY: as above.
        total += unsafe { device.launch(&launch, &args)? };
        k *= 2;
    }
    Ok(total)
}

/// Loss of the batch, and its gradient as [`super::backward`]: `by_e` holds the first term's by `e`
/// (zero in rows that the batch does not touch), `weights` the factor of `e0` in the second's.
pub fn backward<T: Storage>(
    batch: &mut DeviceBatch,
    e: &DeviceRows<T>,
    e0: &DeviceRows<f32>,
    lambda: f32,
    by_e: &mut DeviceRows<f32>,
    weights: &mut Buffer<f32>,
) -> Result<(f64, Cost)> {
    let n = batch.len();
    let shape = (e.rows(), e.dim());
    if (e0.rows(), e0.dim()) != shape || (by_e.rows(), by_e.dim()) != shape || weights.len() != shape.0 {
        return Err(Error::failed("bpr", format!("e0, gradient or weights do not fit {shape:?}")));
    }
    let device = e.device().clone();
    device.clear(by_e.values_mut())?;
    device.clear(weights)?;
    if n == 0 {
        return Ok((0.0, Cost::default()));
    }
    let [users, positives, negatives] = [&batch.users, &batch.positives, &batch.negatives].map(Buffer::pointer);
    let (values, size) = (n as f64 * e.dim() as f64, size_of::<T>() as f64);
    let cost = Cost { bytes: values * (3.0 * size + 12.0), flops: 10.0 * values };
    let terms = Launch::new(T::pick("bpr_terms_f32", "bpr_terms_bf16"), n.div_ceil(WARPS), THREADS, cost);
    let args = TermsArgs {
        e: e.pointer(),
        e0: e0.pointer(),
        stride: e.stride_u32(),
        users,
        positives,
        negatives,
        count: n as u32,
        lambda,
        slopes: batch.slopes.pointer(),
        losses: batch.losses.pointer(),
    };
    // SAFETY: nodes of the batch are below the rows of e by the batch's contract; slopes and losses
    // are one a triple, keys at least three.
    let mut total = unsafe { device.launch(&terms, &[args.arg()])? };
    let keys = batch.keys.len();
    let fill = Launch::new(
        "bpr_keys",
        keys.div_ceil(THREADS as usize),
        THREADS,
        Cost { bytes: 20.0 * keys as f64, flops: 0.0 },
    );
    // SAFETY: as above.
    total += unsafe {
        let [users, positives, negatives] = [&batch.users, &batch.positives, &batch.negatives].map(Buffer::arg);
        device.launch(
            &fill,
            &[users, positives, negatives, Arg::U32(n as u32), Arg::U32(keys as u32), batch.keys.arg()],
        )?
    };
    total += sort(&mut batch.keys)?;
    let cost = Cost { bytes: values * (4.0 * size + 12.0), flops: 4.0 * values };
    let gradient =
        Launch::new(T::pick("bpr_gradient_f32", "bpr_gradient_bf16"), (3 * n).div_ceil(WARPS), THREADS, cost);
    let args = RankGradientArgs {
        keys: batch.keys.pointer(),
        entries: 3 * n as u32,
        e: e.pointer(),
        stride: e.stride_u32(),
        users,
        positives,
        negatives,
        slopes: batch.slopes.pointer(),
        penalty: lambda / n as f32,
        by_e: by_e.pointer(),
        weights: weights.pointer(),
    };
    // SAFETY: as above; the first 3 n keys are rows below the rows of by_e.
    total += unsafe { device.launch(&gradient, &[args.arg()])? };
    total += crate::ops::merge::kernel::sum_rows(&batch.losses, 1, 1.0 / n as f64, &mut batch.total)?;
    Ok((device.download(&batch.total)?[0], total))
}
