//! One pass of new rows through all layers.

use std::any::Any;
use std::ops::Range;

use half::bf16;

use super::{DeviceLinear, DeviceModel, Stored};
use crate::device::{Buffer, DeviceRows, Storage};
use crate::error::Result;
use crate::models::llama::soft;
use crate::ops::attention::cuda::{Inputs, Span};
use crate::ops::attention::{cuda as attention, decode};
use crate::ops::copy::{Places, gather, scatter};
use crate::ops::linear::cuda::{Epilogue, Form, gemm};
use crate::ops::linear::decode as few;
use crate::ops::lora::cuda::{self as linear, Batch, Beside, Segment};
use crate::ops::rope::cuda::Positions;
use crate::ops::{rmsnorm, swiglu};

/// Keys and values of every layer, a row a token.
pub(super) struct Cache<T: Storage> {
    layers: Vec<[DeviceRows<T>; 2]>,
}

impl<T: Storage> Cache<T> {
    /// Tokens that it holds.
    pub(super) fn rows(&self) -> usize {
        self.layers.first().map_or(0, |[keys, _]| keys.rows())
    }
}

/// What the rows of a pass see of the cache.
pub(super) enum Seen<'a, T: Storage> {
    Spans(&'a attention::Plan<T>),
    Step(&'a decode::Plan<T>),
}

/// What a pass starts from, on the device.
pub(super) struct Start<T: Storage> {
    /// Embeddings of the tokens at first; each layer adds to them.
    hidden: DeviceRows<T>,
    positions: Positions,
    places: Places,
    /// All rows, without and with the adapter.
    plain: Batch,
    adapted: Batch,
}

/// How a pass multiplies: all rows, without and with the adapter; and whether it is a decode step.
struct By<'a> {
    plain: &'a Batch,
    adapted: &'a Batch,
    step: bool,
}

/// Rows in bf16, if they are.
fn narrow<T: Storage>(rows: &DeviceRows<T>) -> Option<&DeviceRows<bf16>> {
    (rows as &dyn Any).downcast_ref()
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

    /// `y (+)= x W^T + b`, with the adapter where there is one. A decode step is bound by the bytes of W: there whatever the number of rows
    /// by the kernels that read them once, so that a row's numbers do not depend on those beside it.
    fn apply(
        &self,
        by: &By<'_>,
        of: &DeviceLinear<T>,
        x: &DeviceRows<T>,
        accumulate: bool,
        y: &mut DeviceRows<T>,
    ) -> Result<()> {
        let bias = of.bias.as_ref();
        let low = match &of.low {
            Some(low) => {
                let mut s = DeviceRows::zeros(&self.device, x.rows(), low.rank(), "low-rank rows")?;
                linear::shrink(by.adapted, x, low, &mut s)?;
                Some((s, low))
            }
            None => None,
        };
        if by.step
            && let Stored::Blocks(blocks) = &of.weight
            && let Some(y) = (y as &mut dyn Any).downcast_mut::<DeviceRows<f32>>()
        {
            blocks.product(x, bias, accumulate, y)?;
            if let Some((s, low)) = &low {
                gemm(Form::Nt, s, &low.b, &Epilogue { beta: 1.0, ..Epilogue::default() }, y)?;
            }
            return Ok(());
        }
        if by.step
            && let Stored::Rows(w) = &of.weight
            && let (Some(x), Some(w)) = (narrow(x), narrow(w))
            && let Some(y) = (y as &mut dyn Any).downcast_mut::<DeviceRows<bf16>>()
        {
            let low = low.as_ref().and_then(|(s, low)| narrow(s).zip(narrow(&low.b)));
            few::step(x, w, low, bias, accumulate, y)?;
            return Ok(());
        }
        let (batch, low) = match &low {
            Some((s, low)) => (by.adapted, Some((s, *low))),
            None => (by.plain, None),
        };
        of.weight.with(|w| linear::forward(batch, x, w, &Beside { low, bias, accumulate }, y))?;
        Ok(())
    }

    fn embedded(&self, tokens: &[u32]) -> Vec<T> {
        let mut embedded = vec![0.0f32; tokens.len() * self.config.hidden];
        for (&token, row) in tokens.iter().zip(embedded.chunks_exact_mut(self.config.hidden)) {
            soft::read(&self.embed, self.soft.as_deref(), token, row);
        }
        embedded.into_iter().map(T::from_f32).collect()
    }

    pub(super) fn start(&self, rows: &Rows) -> Result<Start<T>> {
        let (device, n) = (&self.device, rows.tokens.len());
        Ok(Start {
            hidden: DeviceRows::upload(device, self.config.hidden, &self.embedded(&rows.tokens), "hidden states")?,
            positions: Positions::upload(device, &rows.positions)?,
            places: Places::upload(device, &rows.places)?,
            plain: Batch::plain(device, n)?,
            adapted: Batch::new(device, &[Segment { rows: n, adapter: Some(0) }])?,
        })
    }

    /// Writes as many other rows where `start` has its own.
    pub(super) fn restart(&self, start: &mut Start<T>, rows: &Rows, cache: &Cache<T>) -> Result<()> {
        start.hidden.write(&self.embedded(&rows.tokens))?;
        start.positions.write(&rows.positions, self.config.context)?;
        start.places.write(&rows.places, cache.rows())
    }

    /// Final hidden states of the rows `wanted` of texts; keys and values of all rows go to the cache.
    pub(super) fn read(&self, texts: &Texts, cache: &mut Cache<T>, wanted: Wanted<'_>) -> Result<DeviceRows<T>> {
        let plan = attention::Plan::new(&self.device, &texts.spans)?;
        let mut start = self.start(&texts.rows)?;
        self.layers(&mut start, &Seen::Spans(&plan), cache)?;
        match wanted {
            Wanted::All => self.normed(&mut start.hidden),
            Wanted::These(wanted) => {
                let mut last = DeviceRows::zeros(&self.device, wanted.len(), self.config.hidden, "hidden states")?;
                gather(&start.hidden, &Places::upload(&self.device, wanted)?, &mut last)?;
                self.normed(&mut last)
            }
        }
    }

    /// Final hidden states of all rows, and the logits behind them. Nothing but launches: it can be recorded.
    pub(super) fn step(
        &self,
        start: &mut Start<T>,
        plan: &decode::Plan<T>,
        cache: &mut Cache<T>,
    ) -> Result<(DeviceRows<T>, DeviceRows<f32>)> {
        self.layers(start, &Seen::Step(plan), cache)?;
        let hidden = self.normed(&mut start.hidden)?;
        let logits = self.product(&start.plain, &hidden, None)?;
        Ok((hidden, logits))
    }

    /// All layers over the rows of `start`, whose keys and values go to the cache.
    fn layers(&self, start: &mut Start<T>, seen: &Seen<'_, T>, cache: &mut Cache<T>) -> Result<()> {
        let (c, device) = (&self.config, &self.device);
        let Start { hidden, positions, places, plain, adapted } = start;
        let n = hidden.rows();
        let by = &By { plain, adapted, step: matches!(seen, Seen::Step(_)) };
        let zeros = |width| DeviceRows::<T>::zeros(device, n, width, "activations");
        let eps = c.norm_eps as f32;
        let mut normed = zeros(c.hidden)?;
        let (mut q, mut k, mut v) = (zeros(c.q_width())?, zeros(c.kv_width())?, zeros(c.kv_width())?);
        let mut attended = zeros(c.q_width())?;
        let (mut both, mut gated) = (zeros(2 * c.intermediate)?, zeros(c.intermediate)?);
        for (layer, [keys, values]) in self.layers.iter().zip(&mut cache.layers) {
            rmsnorm::cuda::forward(hidden, None, &layer.attn_norm, eps, &mut normed, None)?;
            for (linear, y) in [(&layer.q, &mut q), (&layer.k, &mut k), (&layer.v, &mut v)] {
                self.apply(by, linear, &normed, false, y)?;
            }
            for (norm, x) in [(&layer.q_norm, &mut q), (&layer.k_norm, &mut k)] {
                if let Some(norm) = norm {
                    let mut y = zeros(x.dim())?;
                    rmsnorm::cuda::forward(x, None, norm, eps, &mut y, None)?;
                    *x = y;
                }
            }
            self.angles.turn(&mut q, (0, c.heads), positions, false)?;
            self.angles.turn(&mut k, (0, c.kv_heads), positions, false)?;
            scatter(&k, places, keys)?;
            scatter(&v, places, values)?;
            let inputs = Inputs { q: &q, k: keys, v: values };
            match seen {
                Seen::Spans(plan) => plan.forward(self.heads(), &inputs, &mut attended, None)?,
                Seen::Step(plan) => plan.forward(&inputs, &mut attended)?,
            };
            self.apply(by, &layer.o, &attended, true, hidden)?;
            rmsnorm::cuda::forward(hidden, None, &layer.mlp_norm, eps, &mut normed, None)?;
            self.apply(by, &layer.gate_up, &normed, false, &mut both)?;
            swiglu::cuda::forward(&both, &mut gated)?;
            self.apply(by, &layer.down, &gated, true, hidden)?;
        }
        Ok(())
    }

    /// The final norm.
    fn normed(&self, hidden: &mut DeviceRows<T>) -> Result<DeviceRows<T>> {
        let mut out = DeviceRows::zeros(&self.device, hidden.rows(), hidden.dim(), "hidden states")?;
        rmsnorm::cuda::forward(hidden, None, &self.norm, self.config.norm_eps as f32, &mut out, None)?;
        Ok(out)
    }

    /// Logits (rows, vocab) of final hidden states, with `bias` (vocab) where that is given.
    pub(super) fn logits(&self, hidden: &DeviceRows<T>, bias: Option<&Buffer<f32>>) -> Result<DeviceRows<f32>> {
        self.product(&Batch::plain(&self.device, hidden.rows())?, hidden, bias)
    }

    fn product(&self, batch: &Batch, hidden: &DeviceRows<T>, bias: Option<&Buffer<f32>>) -> Result<DeviceRows<f32>> {
        let mut logits = DeviceRows::zeros(&self.device, hidden.rows(), self.config.vocab, "logits")?;
        if let Some(blocks) = self.head.blocks() {
            blocks.product(hidden, bias, false, &mut logits)?;
            return Ok(logits);
        }
        self.head
            .with(|head| linear::forward(batch, hidden, head, &Beside { bias, ..Beside::default() }, &mut logits))?;
        Ok(logits)
    }
}
