//! The kernels of `kernels/cross_entropy.cu`.

use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::linear::kernel::{TILE, tile_shared};
use crate::ops::lora::kernel::{Batch, backward_panel};
use crate::tensor::Cost;

arguments! {
    /// Of `cross_entropy_gradient`.
    struct LogitsGradientArgs {
        h: Pointer,
        w: Pointer,
        rows: u64,
        panel: u64,
        depth: u32,
        stride_h: u32,
        stride_w: u32,
        column0: u64,
        targets: Pointer,
        weights: Pointer,
        lse: Pointer,
        out: Pointer,
        stride: u32,
    }
}

/// Tiles of the vocabulary that one block scores.
const SPAN: usize = 4;
/// Logit gradients held at a time (values).
const HELD: usize = 64 << 20;

/// What rows of hidden states say: the log-sum-exp over the vocabulary, and the logits of chosen
/// tokens.
#[derive(Debug)]
pub struct Scores {
    /// A value a row.
    pub lse: Buffer<f64>,
    /// Rows x chosen tokens.
    pub picked: Buffer<f32>,
}

/// Scores `h` (rows x width) against `head` (vocab x width) at the `picks` tokens of each row of
/// `ids`, or, where `ids` holds `picks` tokens only, at these for every row. The caller knows that
/// ids are below the vocabulary.
pub fn scores<T: Storage>(
    h: &DeviceRows<T>,
    head: &DeviceRows<T>,
    ids: &Buffer<u32>,
    picks: usize,
) -> Result<(Scores, Cost)> {
    let (rows, vocab) = (h.rows(), head.rows());
    let each = ids.len() == rows * picks;
    if h.dim() != head.dim() || vocab == 0 || !(each || ids.len() == picks) {
        let what = format!("{rows} x {} by {vocab} x {}, {} tokens", h.dim(), head.dim(), ids.len());
        return Err(Error::failed("scores", what));
    }
    let device = h.device();
    let spans = vocab.div_ceil(TILE * SPAN);
    let partials = device.alloc::<[f32; 2]>(spans * rows, "partial log-sums")?;
    let out = Scores { lse: device.alloc(rows, "log-sums")?, picked: device.alloc(rows * picks, "chosen logits")? };
    let (m, v, d) = (rows as f64, vocab as f64, h.dim() as f64);
    let cost = Cost { bytes: size_of::<T>() as f64 * (m + v) * d + 8.0 * m * spans as f64, flops: 2.0 * m * v * d };
    let kernel = T::pick("cross_entropy_partials_f32", "cross_entropy_partials_bf16");
    let launch = Launch::new(kernel, rows.div_ceil(TILE), 128, cost).by(spans).shared(tile_shared::<T>());
    let shape = [h.rows_arg(), Arg::U64(vocab as u64), h.dim_arg(), h.stride_arg(), head.stride_arg()];
    let id_stride = if each { picks as u32 } else { 0 };
    let tokens = [Arg::U32(SPAN as u32), ids.arg(), Arg::U32(picks as u32), Arg::U32(id_stride)];
    let args = [&[h.arg(), head.arg()], &shape[..], &tokens, &[partials.arg(), out.picked.arg()]].concat();
    // SAFETY: shapes checked above; a partial for each row and span.
    let mut cost = unsafe { device.launch(&launch, &args) }?;
    let reduce = Cost { bytes: 8.0 * m * spans as f64, flops: 4.0 * m * spans as f64 };
    let launch = Launch::new("cross_entropy_reduce", rows.div_ceil(128), 128, reduce);
    // SAFETY: as above.
    cost += unsafe { device.launch(&launch, &[partials.arg(), Arg::U32(spans as u32), h.rows_arg(), out.lse.arg()]) }?;
    Ok((out, cost))
}

/// The targets of a batch on a device.
#[derive(Debug)]
pub struct DeviceTargets {
    tokens: Buffer<u32>,
    weights: Buffer<f32>,
    on_host: Vec<f32>,
    end: usize,
}

impl DeviceTargets {
    /// A copy; a token and a weight for each row.
    pub fn upload(device: &KernelDevice, tokens: &[u32], weights: &[f32]) -> Result<Self> {
        if tokens.len() != weights.len() {
            return Err(Error::failed("cross entropy", format!("{} tokens, {} weights", tokens.len(), weights.len())));
        }
        Ok(Self {
            tokens: device.upload(tokens, "targets")?,
            weights: device.upload(weights, "target weights")?,
            on_host: weights.to_vec(),
            end: tokens.iter().max().map_or(0, |&t| t as usize + 1),
        })
    }
}

/// As the CPU's `loss`: the weighted sum in f64, and with `dh` (written) its gradient, a panel of
/// the vocabulary at a time: the logits' gradient of at most 64 million values exists, never the
/// whole.
pub fn loss<T: Storage>(
    h: &DeviceRows<T>,
    head: &DeviceRows<T>,
    targets: &DeviceTargets,
    dh: Option<&mut DeviceRows<f32>>,
) -> Result<(f64, Cost)> {
    let (rows, vocab) = (h.rows(), head.rows());
    if targets.on_host.len() != rows || targets.end > vocab {
        let what = format!("{} targets below {} for {rows} rows, {vocab} tokens", targets.on_host.len(), targets.end);
        return Err(Error::failed("cross entropy", what));
    }
    let (scores, mut cost) = scores(h, head, &targets.tokens, 1)?;
    let device = h.device();
    if let Some(dh) = dh {
        if (dh.rows(), dh.dim()) != (rows, h.dim()) {
            return Err(Error::failed("cross entropy", "the gradient has another shape than the hidden states"));
        }
        let batch = Batch::plain(device, rows)?;
        let step = (HELD / rows.max(1)).max(TILE).min(vocab);
        for from in (0..vocab).step_by(step) {
            let panel = from..(from + step).min(vocab);
            let by_logits = DeviceRows::<T>::unwritten(device, rows, panel.len(), "gradient of logits")?;
            let (m, v, d) = (rows as f64, panel.len() as f64, h.dim() as f64);
            let size = size_of::<T>() as f64;
            let each = Cost { bytes: size * ((m + v) * d + m * v), flops: 2.0 * m * v * d };
            let kernel = T::pick("cross_entropy_gradient_f32", "cross_entropy_gradient_bf16");
            let launch = Launch::new(kernel, rows.div_ceil(TILE), 128, each)
                .by(panel.len().div_ceil(TILE))
                .shared(tile_shared::<T>());
            let args = LogitsGradientArgs {
                h: h.pointer(),
                w: head.pointer(),
                rows: rows as u64,
                panel: panel.len() as u64,
                depth: h.dim_u32(),
                stride_h: h.stride_u32(),
                stride_w: head.stride_u32(),
                column0: from as u64,
                targets: targets.tokens.pointer(),
                weights: targets.weights.pointer(),
                lse: scores.lse.pointer(),
                out: by_logits.pointer(),
                stride: by_logits.stride_u32(),
            };
            // SAFETY: the panel lies inside the head; the output has its width.
            cost += unsafe { device.launch(&launch, &[args.arg()]) }?;
            cost += backward_panel(&batch, &by_logits, head, panel, from > 0, dh)?;
        }
    }
    let (lse, of_target) = (device.download(&scores.lse)?, device.download(&scores.picked)?);
    let terms = targets.on_host.iter().zip(&lse).zip(&of_target);
    let total = terms.map(|((&w, lse), &t)| f64::from(w) * (lse - f64::from(t))).sum();
    Ok((total, cost))
}
