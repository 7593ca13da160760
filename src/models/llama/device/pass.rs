//! One pass of new rows through all layers.

use std::ops::Range;

use super::{DeviceLinear, DeviceModel};
use crate::device::{Buffer, DeviceRows, Storage};
use crate::error::Result;
use crate::models::llama::soft;
use crate::ops::attention::cuda::{Inputs, Span};
use crate::ops::attention::{cuda as attention, decode};
use crate::ops::copy::{Places, gather, scatter};
use crate::ops::lora::cuda::{self as linear, Batch, Beside, Segment};
use crate::ops::rope::cuda::Positions;
use crate::ops::{rmsnorm, swiglu};

/// Keys and values of every layer, a row a token.
pub(super) struct Cache<T: Storage> {
    layers: Vec<[DeviceRows<T>; 2]>,
}

/// What the rows of a pass see of the cache.
pub(super) enum Seen<T: Storage> {
    Spans(attention::Plan<T>),
    Step(Box<decode::Plan<T>>),
}

/// New tokens, where each stands in its sequence, and the cache row that takes it.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) places: Vec<u32>,
}

/// Rows of texts, and what each of them sees.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) rows: Rows,
    pub(super) spans: Vec<Span>,
}

impl Texts {
    /// Adds `tokens` behind the cache rows `past`, into the cache rows from `place` on. Returns their rows of the pass.
    pub(super) fn add(&mut self, tokens: &[u32], past: Range<usize>, place: usize) -> Range<usize> {
        let first = self.rows.tokens.len();
        let numbers = |from: usize| (from..from + tokens.len()).map(|n| n as u32);
        self.rows.positions.extend(numbers(past.len()));
        self.rows.places.extend(numbers(place));
        self.rows.tokens.extend_from_slice(tokens);
        let rows = first..first + tokens.len();
        self.spans.push(Span { rows: rows.clone(), past, own: place..place + tokens.len(), visible: 1 });
        rows
    }

    /// The same where the cache is as long as the pass: rows stand there as in the pass.
    pub(super) fn pack(&mut self, tokens: &[u32], past: Range<usize>) -> Range<usize> {
        let place = self.rows.tokens.len();
        self.add(tokens, past, place)
    }
}

/// Which rows the caller wants of the last layer.
pub(super) enum Wanted<'a> {
    All,
    These(&'a [u32]),
}

impl<T: Storage> DeviceModel<T> {
    pub(super) fn cache(&self, rows: usize) -> Result<Cache<T>> {
        let side = || DeviceRows::zeros(&self.device, rows, self.config.kv_width(), "keys and values");
        let layers = self.layers.iter().map(|_| Ok([side()?, side()?]));
        Ok(Cache { layers: layers.collect::<Result<_>>()? })
    }

    /// `y (+)= x W^T + b`, with the adapter where there is one.
    fn apply(
        &self,
        (plain, adapted): (&Batch, &Batch),
        of: &DeviceLinear<T>,
        x: &DeviceRows<T>,
        accumulate: bool,
        y: &mut DeviceRows<T>,
    ) -> Result<()> {
        let bias = of.bias.as_ref();
        let Some(low) = &of.low else {
            linear::forward(plain, x, &of.weight, &Beside { low: None, bias, accumulate }, y)?;
            return Ok(());
        };
        let mut s = DeviceRows::zeros(&self.device, x.rows(), low.rank(), "low-rank rows")?;
        linear::shrink(adapted, x, low, &mut s)?;
        linear::forward(adapted, x, &of.weight, &Beside { low: Some((&s, low)), bias, accumulate }, y)?;
        Ok(())
    }

    /// Final hidden states of the rows `wanted` of texts; keys and values of all rows go to the cache.
    pub(super) fn read(&self, texts: &Texts, cache: &mut Cache<T>, wanted: Wanted<'_>) -> Result<DeviceRows<T>> {
        let plan = attention::Plan::new(&self.device, &texts.spans)?;
        self.pass(&texts.rows, &Seen::Spans(plan), cache, wanted)
    }

    /// Final hidden states of the rows `wanted`; keys and values of all rows go to the cache.
    pub(super) fn pass(
        &self,
        rows: &Rows,
        seen: &Seen<T>,
        cache: &mut Cache<T>,
        wanted: Wanted<'_>,
    ) -> Result<DeviceRows<T>> {
        let (c, device) = (&self.config, &self.device);
        let n = rows.tokens.len();
        let mut embedded = vec![0.0f32; n * c.hidden];
        for (&token, row) in rows.tokens.iter().zip(embedded.chunks_exact_mut(c.hidden)) {
            soft::read(&self.embed, self.soft.as_deref(), token, row);
        }
        let embedded: Vec<T> = embedded.into_iter().map(T::from_f32).collect();
        let mut hidden = DeviceRows::upload(device, c.hidden, &embedded, "hidden states")?;
        let positions = Positions::upload(device, &rows.positions)?;
        let places = Places::upload(device, &rows.places)?;
        let batches = (Batch::plain(device, n)?, Batch::new(device, &[Segment { rows: n, adapter: Some(0) }])?);
        let batches = (&batches.0, &batches.1);
        let zeros = |width| DeviceRows::<T>::zeros(device, n, width, "activations");
        let eps = c.norm_eps as f32;
        let mut normed = zeros(c.hidden)?;
        let (mut q, mut k, mut v) = (zeros(c.q_width())?, zeros(c.kv_width())?, zeros(c.kv_width())?);
        let mut attended = zeros(c.q_width())?;
        let (mut both, mut gated) = (zeros(2 * c.intermediate)?, zeros(c.intermediate)?);
        for (layer, [keys, values]) in self.layers.iter().zip(&mut cache.layers) {
            rmsnorm::cuda::forward(&mut hidden, None, &layer.attn_norm, eps, &mut normed, None)?;
            for (linear, y) in [(&layer.q, &mut q), (&layer.k, &mut k), (&layer.v, &mut v)] {
                self.apply(batches, linear, &normed, false, y)?;
            }
            for (norm, x) in [(&layer.q_norm, &mut q), (&layer.k_norm, &mut k)] {
                if let Some(norm) = norm {
                    let mut y = zeros(x.dim())?;
                    rmsnorm::cuda::forward(x, None, norm, eps, &mut y, None)?;
                    *x = y;
                }
            }
            self.angles.turn(&mut q, (0, c.heads), &positions, false)?;
            self.angles.turn(&mut k, (0, c.kv_heads), &positions, false)?;
            scatter(&k, &places, keys)?;
            scatter(&v, &places, values)?;
            let inputs = Inputs { q: &q, k: keys, v: values };
            match seen {
                Seen::Spans(plan) => plan.forward(self.heads(), &inputs, &mut attended, None)?,
                Seen::Step(plan) => plan.forward(&inputs, &mut attended)?,
            };
            self.apply(batches, &layer.o, &attended, true, &mut hidden)?;
            rmsnorm::cuda::forward(&mut hidden, None, &layer.mlp_norm, eps, &mut normed, None)?;
            self.apply(batches, &layer.gate_up, &normed, false, &mut both)?;
            swiglu::cuda::forward(&both, &mut gated)?;
            self.apply(batches, &layer.down, &gated, true, &mut hidden)?;
        }
        let mut last = match wanted {
            Wanted::All => hidden,
            Wanted::These(wanted) => {
                let mut last = DeviceRows::zeros(device, wanted.len(), c.hidden, "hidden states")?;
                gather(&hidden, &Places::upload(device, wanted)?, &mut last)?;
                last
            }
        };
        let mut out = DeviceRows::zeros(device, last.rows(), c.hidden, "hidden states")?;
        rmsnorm::cuda::forward(&mut last, None, &self.norm, eps, &mut out, None)?;
        Ok(out)
    }

    /// Logits (rows, vocab) of final hidden states, with `bias` (vocab) where that is given.
    pub(super) fn logits(&self, hidden: &DeviceRows<T>, bias: Option<&Buffer<f32>>) -> Result<DeviceRows<f32>> {
        let mut logits = DeviceRows::zeros(&self.device, hidden.rows(), self.config.vocab, "logits")?;
        let batch = Batch::plain(&self.device, hidden.rows())?;
        linear::forward(&batch, hidden, &self.head, &Beside { bias, ..Beside::default() }, &mut logits)?;
        Ok(logits)
    }
}
