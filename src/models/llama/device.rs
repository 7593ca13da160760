//! The decoder by launches: the same passes as [`super::forward`] with weights, keys and values on a device. Rows of token
//! embeddings, soft tokens among them, are gathered on the CPU.

use std::sync::Arc;

use super::model::Lora;
use super::{Config, Linear, Model, SoftTokens, check, soft};
use crate::device::{Buffer, DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::generate::scoring::{Bundle, passes};
use crate::generate::{Finish, Listener, Prompt, Sample, Settings};
use crate::models::lora::Target;
use crate::monitor::Monitor;
use crate::ops::attention::cuda::{Inputs, Span};
use crate::ops::attention::{Heads, cuda as attention, decode};
use crate::ops::copy::{Places, gather, scatter};
use crate::ops::linear::Weight;
use crate::ops::lora::cuda::{self as linear, Adapters, Batch, Beside, Segment};
use crate::ops::rope::cuda::{DeviceAngles, Positions};
use crate::ops::sampling::cuda::{Draw, sample};
use crate::ops::yes_no::Choice;
use crate::ops::{rmsnorm, swiglu, yes_no};

/// A layer's product, perhaps with an adapter.
struct DeviceLinear<T: Storage> {
    weight: DeviceRows<T>,
    bias: Option<Buffer<f32>>,
    low: Option<Adapters<T>>,
}

struct DeviceLayer<T: Storage> {
    attn_norm: DeviceRows<f32>,
    q: DeviceLinear<T>,
    k: DeviceLinear<T>,
    v: DeviceLinear<T>,
    o: DeviceLinear<T>,
    q_norm: Option<DeviceRows<f32>>,
    k_norm: Option<DeviceRows<f32>>,
    mlp_norm: DeviceRows<f32>,
    /// Gate, then up: their outputs stand side by side.
    gate_up: DeviceLinear<T>,
    down: DeviceLinear<T>,
}

/// A decoder on a device; weights, activations, keys and values are stored as `T`.
pub struct DeviceModel<T: Storage> {
    config: Config,
    device: KernelDevice,
    embed: Weight,
    soft: Option<Arc<SoftTokens>>,
    layers: Vec<DeviceLayer<T>>,
    norm: DeviceRows<f32>,
    head: DeviceRows<T>,
    angles: DeviceAngles,
}

/// Keys and values of every layer, a row a token.
struct Cache<T: Storage> {
    layers: Vec<[DeviceRows<T>; 2]>,
}

/// What the rows of a pass see of the cache.
enum Seen<T: Storage> {
    Spans(attention::Plan<T>),
    Step(Box<decode::Plan<T>>),
}

/// What comes of a generation.
enum Heard {
    /// Of which sample.
    Token(u32, u32),
    End(Sample),
}

/// New tokens, where each stands in its sequence, and the cache row that takes it.
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    places: Vec<u32>,
}

fn upload<T: Storage>(device: &KernelDevice, stack: &[&Weight], label: &'static str) -> Result<DeviceRows<T>> {
    let (rows, cols): (usize, usize) = (stack.iter().map(|w| w.rows()).sum(), stack[0].cols());
    let mut values: Vec<T> = Vec::with_capacity(rows * cols);
    let mut row = vec![0.0f32; cols];
    for w in stack {
        for r in 0..w.rows() {
            w.read_rows(r, &mut row);
            values.extend(row.iter().map(|&v| T::from_f32(v)));
        }
    }
    DeviceRows::upload(device, cols, &values, label)
}

/// The pairs of several targets of one input as one adapter of their stacked outputs: A below A, B in blocks.
fn stacked<T: Storage>(
    device: &KernelDevice,
    lora: Option<&Lora>,
    layer: usize,
    targets: &[(Target, usize)],
    inp: usize,
) -> Result<Option<Adapters<T>>> {
    let Some(lora) = lora else { return Ok(None) };
    let pairs: Vec<_> = targets.iter().map(|(target, out)| (lora.pair(layer, *target), *out)).collect();
    let rank: usize = pairs.iter().filter_map(|(p, _)| p.map(|p| p.a.rows())).sum();
    if rank == 0 {
        return Ok(None);
    }
    let out: usize = pairs.iter().map(|p| p.1).sum();
    let (mut a, mut b) = (Vec::with_capacity(rank * inp), vec![T::from_f32(0.0); out * rank]);
    let (mut first_out, mut first_rank) = (0, 0);
    let mut row = vec![0.0f32; inp];
    for (pair, width) in pairs {
        if let Some(pair) = pair {
            let r = pair.a.rows();
            for j in 0..r {
                pair.a.read_rows(j, &mut row);
                a.extend(row.iter().map(|&v| T::from_f32(v)));
                for o in 0..width {
                    b[(first_out + o) * rank + first_rank + j] = T::from_f32(pair.b_t[j * width + o]);
                }
            }
            first_rank += r;
        }
        first_out += width;
    }
    Ok(Some(Adapters {
        a: DeviceRows::upload(device, inp, &a, "adapter A")?,
        b: DeviceRows::upload(device, rank, &b, "adapter B")?,
        count: 1,
        scale: lora.scale(),
    }))
}

impl<T: Storage> DeviceModel<T> {
    /// Copies `model`, with its adapter and soft tokens.
    ///
    /// # Errors
    /// Out of memory; a shape that the kernels do not take.
    pub fn upload(device: &KernelDevice, model: &Model) -> Result<Self> {
        let (c, w, lora) = (model.config().clone(), model.weights(), model.lora.as_deref());
        let vector = |v: &[f32]| DeviceRows::upload(device, v.len(), v, "norm");
        let head_norm = |v: &Option<Vec<f32>>| v.as_deref().map(vector).transpose();
        let mut layers = Vec::with_capacity(c.layers);
        for (i, layer) in w.layers.iter().enumerate() {
            let linear = |parts: &[(&Linear, Target)]| -> Result<DeviceLinear<T>> {
                let weights: Vec<&Weight> = parts.iter().map(|p| &p.0.weight).collect();
                let targets: Vec<_> = parts.iter().map(|p| (p.1, p.0.weight.rows())).collect();
                // The models with biases have them on q, k and v alone, which are not stacked.
                let bias = parts[0].0.bias.as_deref().filter(|_| parts.len() == 1);
                Ok(DeviceLinear {
                    weight: upload(device, &weights, "weights")?,
                    bias: bias.map(|b| device.upload(b, "bias")).transpose()?,
                    low: stacked(device, lora, i, &targets, weights[0].cols())?,
                })
            };
            layers.push(DeviceLayer {
                attn_norm: vector(&layer.attn_norm)?,
                q: linear(&[(&layer.q, Target::QProj)])?,
                k: linear(&[(&layer.k, Target::KProj)])?,
                v: linear(&[(&layer.v, Target::VProj)])?,
                o: linear(&[(&layer.o, Target::OProj)])?,
                q_norm: head_norm(&layer.q_norm)?,
                k_norm: head_norm(&layer.k_norm)?,
                mlp_norm: vector(&layer.mlp_norm)?,
                gate_up: linear(&[(&layer.gate, Target::GateProj), (&layer.up, Target::UpProj)])?,
                down: linear(&[(&layer.down, Target::DownProj)])?,
            });
        }
        Ok(Self {
            norm: vector(&w.norm)?,
            head: upload(device, &[w.head()], "output head")?,
            angles: DeviceAngles::new(device, &model.rope, c.context)?,
            embed: w.embed.clone(),
            soft: model.soft.clone(),
            device: device.clone(),
            config: c,
            layers,
        })
    }

    fn heads(&self) -> Heads {
        Heads { query: self.config.heads, kv: self.config.kv_heads, dim: self.config.head_dim }
    }

    fn cache(&self, rows: usize) -> Result<Cache<T>> {
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

    /// Final hidden states of the rows `wanted`; keys and values of all rows go to the cache.
    fn pass(&self, rows: &Rows, seen: &Seen<T>, cache: &mut Cache<T>, wanted: &[u32]) -> Result<DeviceRows<T>> {
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
        let mut last = DeviceRows::zeros(device, wanted.len(), c.hidden, "hidden states")?;
        gather(&hidden, &Places::upload(device, wanted)?, &mut last)?;
        let mut out = DeviceRows::zeros(device, wanted.len(), c.hidden, "hidden states")?;
        rmsnorm::cuda::forward(&mut last, None, &self.norm, eps, &mut out, None)?;
        Ok(out)
    }

    fn check(&self, prompt: &[u32], more: usize) -> Result<()> {
        check::tokens(&self.config, self.soft.as_deref(), prompt, more, || "prompt".into())
    }

    /// As [`crate::generate::scoring::score`]: what the model says about the two answers behind every prompt of every bundle.
    /// A bundle's common beginning is read once. A pass takes bundles until `pass_tokens` are reached, a larger one whole.
    ///
    /// # Errors
    /// As there; out of memory.
    pub fn score(&self, bundles: &[Bundle], ids: [u32; 2], pass_tokens: usize) -> Result<Vec<Vec<Choice>>> {
        bundles.iter().flatten().try_for_each(|prompt| self.check(prompt, 0))?;
        let mut out = Vec::with_capacity(bundles.len());
        for pass in passes(bundles, 1, pass_tokens) {
            let (mut rows, mut spans, mut last) =
                (Rows { tokens: vec![], positions: vec![], places: vec![] }, vec![], vec![]);
            for &(bundle, prefix) in &pass {
                let begin = rows.tokens.len();
                let mut add = |tokens: &[u32], past: std::ops::Range<usize>| -> u32 {
                    let first = rows.tokens.len();
                    rows.tokens.extend_from_slice(tokens);
                    rows.positions.extend((past.len()..past.len() + tokens.len()).map(|p| p as u32));
                    let own = first..first + tokens.len();
                    let last = own.end as u32 - 1;
                    spans.push(Span { rows: own.clone(), past, own, visible: 1 });
                    last
                };
                if prefix > 0 {
                    add(&bundle[0][..prefix], 0..0);
                }
                for prompt in bundle {
                    last.push(add(&prompt[prefix..], begin..begin + prefix));
                }
            }
            rows.places = (0..rows.tokens.len() as u32).collect();
            let plan = attention::Plan::new(&self.device, &spans)?;
            let hidden = self.pass(&rows, &Seen::Spans(plan), &mut self.cache(rows.tokens.len())?, &last)?;
            let mut choices = yes_no::cuda::choose(&hidden, &self.head, ids)?.0.into_iter();
            out.extend(pass.iter().map(|(b, _)| choices.by_ref().take(b.len()).collect::<Vec<_>>()));
        }
        Ok(out)
    }

    /// As [`crate::generate::generate`], prompt by prompt; the samples of a prompt that fit `settings.max_rows` go side by
    /// side. The same tokens, but for a number within rounding of the border between two.
    ///
    /// # Errors
    /// As there; out of memory.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        stop: &[u32],
        settings: &Settings,
        monitor: &dyn Monitor,
        listener: &mut dyn Listener,
    ) -> Result<()> {
        settings.check("sampling")?;
        for prompt in prompts {
            self.check(&prompt.tokens, 1).map_err(|e| e.within(format!("prompt of row {}", prompt.row)))?;
        }
        let total: u64 = prompts.iter().map(|p| p.samples.len() as u64).sum();
        let mut done = 0;
        for prompt in prompts {
            for samples in prompt.samples.chunks(settings.max_rows) {
                self.answers(prompt, samples, stop, settings, monitor, &mut |event| match event {
                    Heard::Token(sample, token) => listener.token(prompt.row, sample, token),
                    Heard::End(sample) => {
                        listener.finished(sample)?;
                        done += 1;
                        monitor.progress(done, total, "samples");
                        Ok(())
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Some samples of one prompt, which is read once.
    fn answers(
        &self,
        prompt: &Prompt,
        samples: &[u32],
        stop: &[u32],
        settings: &Settings,
        monitor: &dyn Monitor,
        hear: &mut dyn FnMut(Heard) -> Result<()>,
    ) -> Result<()> {
        let (n, context) = (prompt.tokens.len(), self.config.context);
        let most = settings.max_new_tokens.min(context - n);
        let mut cache = self.cache(n + samples.len() * most)?;
        let all: Vec<u32> = (0..n as u32).collect();
        let rows = Rows { tokens: prompt.tokens.clone(), positions: all.clone(), places: all };
        let plan = attention::Plan::new(&self.device, &[Span::causal(0..n)])?;
        let hidden = self.pass(&rows, &Seen::Spans(plan), &mut cache, &[n as u32 - 1])?;
        // The first token of every sample is drawn from the same logits.
        let first = self.logits(&hidden)?.download()?.repeat(samples.len());
        let mut logits = DeviceRows::upload(&self.device, self.config.vocab, &first, "logits")?;
        let mut going: Vec<(usize, Vec<u32>)> = (0..samples.len()).map(|place| (place, Vec::new())).collect();
        for step in 0..most {
            monitor.check()?;
            if step < settings.min_new_tokens {
                logits = self.forbid(stop, &logits)?;
            }
            let draw = |place: usize| Draw { row: prompt.row, sample: samples[place], step: step as u64 };
            let draws: Vec<Draw> = going.iter().map(|g| draw(g.0)).collect();
            let drawn = sample(&self.device, &logits, settings.seed, &draws, settings.cut())?.0;
            let mut live = Vec::with_capacity(going.len());
            for ((place, mut tokens), token) in going.into_iter().zip(drawn) {
                let finish = match tokens.len() + 1 {
                    _ if stop.contains(&token) => Some(Finish::Stop),
                    len if len >= settings.max_new_tokens => Some(Finish::Length),
                    len if n + len >= context => Some(Finish::Context),
                    _ => None,
                };
                if finish != Some(Finish::Stop) {
                    tokens.push(token);
                    hear(Heard::Token(samples[place], token))?;
                }
                match finish {
                    Some(finish) => {
                        hear(Heard::End(Sample { row: prompt.row, sample: samples[place], tokens, finish }))?
                    }
                    None => live.push((place, tokens)),
                }
            }
            going = live;
            if going.is_empty() {
                break;
            }
            // Each sample has cache rows of its own behind the prompt's.
            let first = |place: usize| n + place * most;
            let rows = Rows {
                tokens: going.iter().filter_map(|g| g.1.last().copied()).collect(),
                positions: vec![(n + step) as u32; going.len()],
                places: going.iter().map(|g| (first(g.0) + step) as u32).collect(),
            };
            let own = going.iter().map(|g| first(g.0)..first(g.0) + step + 1).collect();
            let plan = decode::Plan::new(&self.device, self.heads(), &[decode::Prompt { prefix: 0..n, own }])?;
            let all: Vec<u32> = (0..going.len() as u32).collect();
            let hidden = self.pass(&rows, &Seen::Step(Box::new(plan)), &mut cache, &all)?;
            logits = self.logits(&hidden)?;
        }
        Ok(())
    }

    /// The logits with those of `tokens` at -inf.
    fn forbid(&self, tokens: &[u32], logits: &DeviceRows<f32>) -> Result<DeviceRows<f32>> {
        let mut values = logits.download()?;
        for row in values.chunks_exact_mut(logits.dim()) {
            for &token in tokens {
                if let Some(logit) = row.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        DeviceRows::upload(&self.device, logits.dim(), &values, "logits")
    }

    fn logits(&self, hidden: &DeviceRows<T>) -> Result<DeviceRows<f32>> {
        let mut logits = DeviceRows::zeros(&self.device, hidden.rows(), self.config.vocab, "logits")?;
        let batch = Batch::plain(&self.device, hidden.rows())?;
        linear::forward(&batch, hidden, &self.head, &Beside::default(), &mut logits)?;
        Ok(logits)
    }
}
