//! The kernels of `kernels/attention_decode.cu`: one new row for each of many samples that share
//! their prompts.

use std::marker::PhantomData;
use std::ops::Range;

use super::kernel::{ALL, Inputs, Work, scale, tile_rows, width, work};
use super::{Heads, window_arg};
use crate::device::{Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of `decode_attention`.
    struct DecodeArgs {
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
        partials: Pointer,
        ends: Pointer,
    }
}

arguments! {
    /// Of `decode_attention_merge`.
    struct DecodeMergeArgs {
        parts: Pointer,
        begins: Pointer,
        partials: Pointer,
        rows: u64,
        heads: u32,
        kv_heads: u32,
        dim: u32,
        out: Pointer,
        stride: u32,
    }
}

/// Rows of a partial result.
pub(super) const PART_ROWS: usize = 64;

/// Keys of one block: enough to fill a GPU with a prompt of a few thousand keys and eight kv heads.
const SPAN: usize = 256;

/// Samples that share the keys of a prompt; query rows follow one another in the order of prompts
/// and samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Key rows of the prompt.
    pub prefix: Range<usize>,
    /// Key rows of each sample's own tokens, the newest included.
    pub own: Vec<Range<usize>>,
}

/// One decode step, cut into blocks.
#[derive(Debug)]
pub struct Plan<T: Storage> {
    heads: Heads,
    works: Buffer<Work>,
    slots: usize,
    /// (slot, sample within it), as `DecodePart`, by query row.
    parts: Buffer<[u32; 2]>,
    begins: Buffer<u32>,
    /// How many keys each query row sees.
    ends: Buffer<u32>,
    rows: usize,
    keys_end: usize,
    distinct: usize,
    pairs: usize,
    of: PhantomData<T>,
}

/// Prompts as lists of blocks and parts.
struct Cut {
    works: Vec<Work>,
    parts: Vec<[u32; 2]>,
    begins: Vec<u32>,
    ends: Vec<u32>,
    keys_end: usize,
    distinct: usize,
    pairs: usize,
}

/// A block without rows: it reads nothing and leaves no part.
fn nothing() -> Work {
    work(0, (0, 1), [&(0..0), &(0..0)], ALL, 0)
}

/// Where spans begin depends on each range alone, so a sample's result does not depend on the
/// others. `together` samples share a block.
fn cut(group: usize, together: usize, prompts: &[Prompt]) -> Cut {
    let (mut works, mut lists): (Vec<Work>, Vec<Vec<[u32; 2]>>) = (Vec::new(), Vec::new());
    let (mut keys_end, mut distinct, mut pairs, mut ends) = (0, 0, 0, Vec::new());
    // `before` keys of the samples come before `keys`.
    let mut cut = |row: usize, samples: usize, before: usize, keys: &Range<usize>, lists: &mut Vec<Vec<[u32; 2]>>| {
        for from in keys.clone().step_by(SPAN) {
            let span = from..(from + SPAN).min(keys.end);
            let slot = works.len();
            let at = before + from - keys.start;
            works.push(work(row, (samples * group, group), [&span, &(at..at)], ALL, slot));
            for (sample, list) in lists[row..row + samples].iter_mut().enumerate() {
                list.push([slot as u32, sample as u32]);
            }
        }
    };
    for prompt in prompts {
        let first = lists.len();
        lists.resize(first + prompt.own.len(), Vec::new());
        for from in (0..prompt.own.len()).step_by(together) {
            cut(first + from, (prompt.own.len() - from).min(together), 0, &prompt.prefix, &mut lists);
        }
        distinct += prompt.prefix.len();
        for (sample, own) in prompt.own.iter().enumerate() {
            cut(first + sample, 1, prompt.prefix.len(), own, &mut lists);
            ends.push((prompt.prefix.len() + own.len()) as u32);
            keys_end = keys_end.max(own.end).max(prompt.prefix.end);
            distinct += own.len();
            pairs += own.len() + prompt.prefix.len();
        }
    }
    let mut begins = vec![0u32];
    for list in &lists {
        begins.push(begins.last().copied().unwrap_or(0) + list.len() as u32);
    }
    Cut { works, parts: lists.concat(), begins, ends, keys_end, distinct, pairs }
}

impl<T: Storage> Plan<T> {
    /// Cuts `prompts`. A sample's result does not depend on the others.
    pub fn new(device: &KernelDevice, heads: Heads, prompts: &[Prompt]) -> Result<Self> {
        Self::with_room(device, heads, prompts, 0)
    }

    /// The same with `more` blocks that have nothing to do, so that [`Plan::write`] finds room.
    pub fn with_room(device: &KernelDevice, heads: Heads, prompts: &[Prompt], more: usize) -> Result<Self> {
        width::<T>(heads)?;
        let (group, room) = (heads.group(), tile_rows::<T>());
        if group > room {
            return Err(Error::failed("decode attention", format!("{group} query heads share a kv head; {room} fit")));
        }
        let together = room / group;
        let Cut { mut works, mut parts, begins, ends, keys_end, distinct, pairs } = cut(group, together, prompts);
        works.resize(works.len() + more, nothing());
        parts.resize(parts.len() + more * together, [0; 2]);
        Ok(Self {
            heads,
            slots: works.len(),
            works: device.upload(&works, "decode attention blocks")?,
            parts: device.upload(&parts, "parts of rows")?,
            begins: device.upload(&begins, "first part of rows")?,
            ends: device.upload(&ends, "keys of rows")?,
            rows: begins.len() - 1,
            keys_end,
            distinct,
            pairs,
            of: PhantomData,
        })
    }

    /// Another step of as many samples in the same place: for launches that are replayed, which do
    /// not look at anything again, so that keys must lie below `keys`. `false`, and nothing has
    /// changed, if there is no room.
    ///
    /// # Errors
    /// Keys beyond `keys`.
    pub fn write(&mut self, prompts: &[Prompt], keys: usize) -> Result<bool> {
        let group = self.heads.group();
        let together = tile_rows::<T>() / group;
        let Cut { mut works, parts, begins, ends, keys_end, distinct, pairs } = cut(group, together, prompts);
        if keys_end > keys {
            return Err(Error::failed("decode attention", format!("keys to {keys_end} of {keys}")));
        }
        if begins.len() != self.begins.len() || works.len() > self.works.len() || parts.len() > self.parts.len() {
            return Ok(false);
        }
        works.resize(self.works.len(), nothing());
        let device = self.works.device().clone();
        device.write(&mut self.works, &works)?;
        device.write(&mut self.parts, &parts)?;
        device.write(&mut self.begins, &begins)?;
        device.write(&mut self.ends, &ends)?;
        (self.keys_end, self.distinct, self.pairs) = (keys_end, distinct, pairs);
        Ok(true)
    }

    /// `out` (samples, heads x dim) for `q` of the same shape; a sample sees no more than the
    /// `window` last of its keys, and one without any key gets zeros.
    pub fn forward(&self, window: Option<usize>, inputs: &Inputs<'_, T>, out: &mut DeviceRows<T>) -> Result<Cost> {
        let limit = window_arg(window)?;
        let heads = self.heads;
        let (wide, shared) = width::<T>(heads)?;
        inputs.check(heads)?;
        let (q, k) = (inputs.q, inputs.k);
        if q.rows() != self.rows || self.keys_end > k.rows() || (out.rows(), out.dim()) != (q.rows(), q.dim()) {
            let what =
                format!("{} samples and keys to {}: {} rows, {} keys", self.rows, self.keys_end, q.rows(), k.rows());
            return Err(Error::failed("decode attention", what));
        }
        let device = out.device();
        let pitch = heads.dim + 2;
        let partials = device.alloc::<f32>(self.slots * heads.kv * PART_ROWS * pitch, "partial attention")?;
        let size = size_of::<T>() as f64;
        let rows = (self.rows * heads.query) as f64;
        let cost = Cost {
            bytes: size * (2.0 * (self.distinct * k.dim()) as f64 + rows * heads.dim as f64),
            flops: 4.0 * (self.pairs.min(q.rows().saturating_mul(limit as usize)) * q.dim()) as f64,
        };
        let kernel = match wide {
            true => T::pick("decode_attention_f32_128", "decode_attention_bf16_128"),
            false => T::pick("decode_attention_f32_64", "decode_attention_bf16_64"),
        };
        let threads = tile_rows::<T>() as u32 * 2;
        let launch = Launch::new(kernel, self.works.len(), threads, cost).by(heads.kv).shared(shared);
        let args = DecodeArgs {
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
            partials: partials.pointer(),
            ends: self.ends.pointer(),
        };
        // SAFETY: every block's rows and keys are inside q, k and v; a partial of 64 rows for each
        // block.
        let mut cost = unsafe { device.launch(&launch, &[args.arg()]) }?;
        let values = (self.parts.len() * heads.query * pitch) as f64;
        let merge = Launch::new(
            T::pick("decode_attention_merge_f32", "decode_attention_merge_bf16"),
            (self.rows * heads.query).div_ceil(4),
            128,
            Cost { bytes: 4.0 * values + size * rows * heads.dim as f64, flops: 2.0 * values },
        );
        let args = DecodeMergeArgs {
            parts: self.parts.pointer(),
            begins: self.begins.pointer(),
            partials: partials.pointer(),
            rows: self.rows as u64,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            dim: heads.dim as u32,
            out: out.pointer(),
            stride: out.stride_u32(),
        };
        // SAFETY: each row's parts are slots of the launch before.
        cost += unsafe { device.launch(&merge, &[args.arg()]) }?;
        Ok(cost)
    }
}
