//! The training engine: buffers that live from step to step, and the calls that use them.

use super::batch::Packed;
use super::layout::Layout;
use super::params::Slots;
use super::placed::{Frozen, Rounded};
use super::sink::Sink;
use super::tape::{LayerTape, Work, bytes};
use crate::device::{Device, Rows};
use crate::models::decoder::angles::Angles;
pub use crate::models::decoder::layer::StepDropout;
use crate::models::decoder::{Arithmetic, Config, SoftTokens, Weights};
use crate::models::lora::Adapter;
use crate::{Error, Result};

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trained {
    /// The adapter's pairs from `first_layer` on; the model is frozen.
    Adapter {
        /// Layers below carry no gradient.
        first_layer: usize,
    },
    /// Every weight of the model (f32, owned).
    All,
}

/// The model of one pass.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Shape.
    pub config: &'a Config,
    /// Weights; they are not changed by a pass.
    pub weights: &'a Weights,
    /// The adapter, if any.
    pub adapter: Option<&'a Adapter>,
    /// Soft tokens of the batch, if it has any.
    pub soft: Option<&'a SoftTokens>,
}

/// One pass forward and backward.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The model; on a device it must be the one that was uploaded, though its adapter may change.
    pub model: Model<'a>,
    /// The rows, and the targets of the loss.
    pub batch: &'a Packed,
    /// What is trained.
    pub trained: Trained,
    /// Dropout of the adapter's inputs, if any.
    pub dropout: Option<StepDropout>,
    /// Factor of the gradient.
    pub scale: f32,
}

/// Forward and backward passes where a device is. Keeps its buffers: use one engine for all steps.
///
/// The same masks of dropout, the same layout of the gradient and the same rows everywhere: an
/// optimiser cannot tell two devices apart, but for the order in which sums are taken.
pub struct Engine {
    pub(super) device: Device,
    pub(super) frozen: Option<Frozen>,
    pub(super) rounded: Option<Rounded>,
    /// Rope angles, and the configuration that they are of.
    pub(super) angles: Option<(Config, Angles)>,
    pub(super) tapes: Vec<LayerTape>,
    pub(super) work: Work,
}

/// Fails on a batch that the model cannot read or learn from.
fn check(model: Model<'_>, batch: &Packed) -> Result<()> {
    let c = model.config;
    if batch.targets.is_empty() {
        return Err(Error::input("training batch", "has no target"));
    }
    if c.layers == 0 || model.weights.layers.len() != c.layers || c.kv_heads == 0 || !c.heads.is_multiple_of(c.kv_heads)
    {
        return Err(Error::input("model", "the weights do not fit the configuration"));
    }
    let soft = |t: u32| model.soft.is_some_and(|s| s.row(t).is_some());
    if let Some(t) = batch.tokens.iter().find(|&&t| t as usize >= c.vocab && !soft(t)) {
        return Err(Error::input("training batch", format!("token {t} is neither in the vocabulary nor soft")));
    }
    Ok(())
}

/// Fails on gradients of another length than what is trained; where each of all weights has its own
/// in the flat one.
fn check_lengths(pass: &Pass<'_>, gradient: &[f32], by_soft: Option<&[f32]>) -> Result<Option<Slots>> {
    let (model, trained) = (pass.model, pass.trained);
    if let Some(by) = by_soft
        && by.len() != model.soft.map_or(0, SoftTokens::values)
    {
        return Err(Error::failed("training", format!("gradient of {} values for the soft tokens", by.len())));
    }
    let slots = (trained == Trained::All).then(|| Slots::of(model.weights));
    let expected = match (&slots, model.adapter) {
        (Some(slots), _) => slots.total,
        (None, Some(adapter)) => adapter.pairs.iter().flatten().map(|p| p.a.len() + p.b.len()).sum(),
        (None, None) => return Err(Error::usage("training", "there is no adapter to train")),
    };
    if gradient.len() != expected {
        let what = format!("gradient of {} values for {expected} parameters", gradient.len());
        return Err(Error::failed("training", what));
    }
    Ok(slots)
}

/// Adds `scale` times the rows of soft tokens in `dx`, the gradient (tokens, hidden) of the
/// embedded tokens.
fn add_soft(by_soft: &mut [f32], soft: &SoftTokens, tokens: &[u32], (dx, scale): (&[f32], f32), width: usize) {
    for (d, &token) in dx.chunks_exact(width).zip(tokens) {
        let Some(row) = soft.row(token) else { continue };
        by_soft[row * width..][..width].iter_mut().zip(d).for_each(|(r, d)| *r += scale * d);
    }
}

impl Engine {
    /// For passes on the CPU in f32, over any model.
    ///
    /// # Errors
    /// None today; as [`Engine::on`].
    pub fn cpu() -> Result<Self> {
        Self::with(Device::Cpu, None, None)
    }

    /// For passes on `device`, which gets a copy of `weights` in f32 if it is not the CPU: there
    /// adapters alone are trained. On the CPU `arithmetic` may be bf16: the layers' matrices are
    /// then rounded once, and adapters alone are trained there too.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration, or that are not finite in bf16.
    pub fn on(device: &Device, config: &Config, weights: &Weights, arithmetic: Arithmetic) -> Result<Self> {
        let rounded = match device {
            Device::Cpu => Rounded::of(arithmetic, config, weights)?,
            Device::Kernels(_) => None,
        };
        Self::with(device.clone(), Frozen::upload(device, config, weights)?, rounded)
    }

    fn with(device: Device, frozen: Option<Frozen>, rounded: Option<Rounded>) -> Result<Self> {
        let work = Work::new(&device)?;
        Ok(Self { device, frozen, rounded, angles: None, tapes: Vec::new(), work })
    }

    /// Checks the pass, and lays out its batch.
    fn prepare(&mut self, model: Model<'_>, batch: &Packed, scale: f32) -> Result<Layout> {
        check(model, batch)?;
        if let Some(frozen) = &mut self.frozen {
            frozen.adapt(model)?;
        }
        if let Some(rounded) = &self.rounded {
            rounded.check(model)?;
        }
        let c = model.config;
        if self.angles.as_ref().is_none_or(|(of, _)| of != c) {
            self.angles = Some((c.clone(), Angles::new(&self.device, c)));
        }
        if let Some((_, angles)) = &mut self.angles {
            angles.grow(batch.positions.iter().max().map_or(0, |&p| p as usize + 1))?;
        }
        Layout::upload(&self.device, batch, c.score_cap, scale)
    }

    /// Sum of weighted losses over the batch's targets; no gradient, no dropout, little memory.
    ///
    /// # Errors
    /// An empty batch, or a model whose parts do not fit; what the device can meet.
    pub fn loss(&mut self, model: Model<'_>, batch: &Packed) -> Result<f64> {
        let layout = self.prepare(model, batch, 1.0)?;
        let trained = Trained::Adapter { first_layer: 0 };
        let pass = Pass { model, batch, trained, dropout: None, scale: 1.0 };
        self.forward(&pass, &layout, model.config.layers)?;
        self.head(&pass, &layout)
    }

    /// Adds the gradient of `scale * loss` to `gradient` (flat, in the order of
    /// [`super::Parameters`]) and returns the loss sum (without `scale`). With `by_soft` (tokens,
    /// hidden) also adds the gradient by the vectors of `model.soft`: the pass then goes down to
    /// the embeddings, also where an adapter's lower layers are not trained.
    ///
    /// # Errors
    /// An empty batch, a model whose parts do not fit, or a gradient of the wrong length; on a
    /// device, something to train besides an adapter, or out of memory.
    pub fn gradient(&mut self, pass: &Pass<'_>, gradient: &mut [f32], by_soft: Option<&mut [f32]>) -> Result<f64> {
        let (model, batch) = (pass.model, pass.batch);
        let adapted = matches!((pass.trained, model.adapter), (Trained::Adapter { .. }, Some(_)));
        if self.frozen.is_some() && !adapted {
            check(model, batch)?;
            return Err(Error::usage("training", "on a device, adapters alone are trained").next("use the CPU"));
        }
        if self.rounded.is_some() && !adapted {
            return Err(Error::usage("training", "in bf16, adapters alone are trained").next("train in f32"));
        }
        let layout = self.prepare(model, batch, pass.scale)?;
        let slots = check_lengths(pass, gradient, by_soft.as_deref())?;
        let first = match pass.trained {
            Trained::All => 0,
            Trained::Adapter { first_layer } => first_layer.min(model.config.layers - 1),
        };
        let to_tokens = by_soft.is_some() || slots.is_some();
        let bottom = if by_soft.is_some() { 0 } else { first };
        self.forward(pass, &layout, bottom)?;
        let mut sink = match (slots, model.adapter) {
            (Some(slots), _) => Sink::All { gradient, slots },
            (None, Some(_)) if self.frozen.is_some() => Sink::Kernels { pairs: Vec::new(), first, gradient },
            (None, Some(adapter)) => Sink::Adapter { gradient, adapter, first },
            (None, None) => return Err(Error::usage("training", "there is no adapter to train")),
        };
        let total = self.head_backward(pass, &layout, &mut sink)?;
        self.backward(pass, &layout, (bottom, to_tokens), &mut sink)?;
        sink.finish(model.adapter)?;
        if to_tokens {
            let (width, scale) = (model.config.hidden, model.config.embedding_scale());
            let of_device;
            let dx = match &self.work.dx {
                Rows::Cpu(m) => m.as_slice(),
                other => {
                    of_device = other.download()?;
                    &of_device
                }
            };
            if let Some((by_soft, soft)) = by_soft.zip(model.soft) {
                add_soft(by_soft, soft, &batch.tokens, (dx, scale), width);
            }
            sink.add_embedded(&batch.tokens, (dx, scale), width);
        }
        Ok(total / f64::from(pass.scale))
    }

    /// Bytes held in buffers.
    pub fn bytes(&self) -> usize {
        bytes(&self.tapes, &self.work)
    }
}
