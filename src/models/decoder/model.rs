//! A decoder ready to run: configuration, weights and where they are, perhaps with an adapter and
//! with soft tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::angles::Angles;
use super::families::Norms;
use super::placed::{Arithmetic, Params, Placed, PlacedAdapter, Purpose};
use super::{Config, SoftTokens, Weights};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory;
use crate::models::lora::{Adapter, Target};
use crate::ops::linear::{Weight, bf16, int8};
use crate::tensor::Dtype;

/// A decoder where it runs. Cloning shares the weights.
#[derive(Clone)]
pub struct Model {
    config: Arc<Config>,
    weights: Arc<Weights>,
    placed: Arc<Placed>,
    adapter: Option<Arc<(Adapter, PlacedAdapter)>>,
    pub(super) soft: Option<Arc<SoftTokens>>,
    /// Rope angles of the positions that were met so far.
    angles: Arc<Mutex<Option<Arc<Angles>>>>,
    recording: bool,
    counted: Arc<[AtomicUsize; 3]>,
}

/// What a model has done to sample answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Passes over prompts.
    pub reads: usize,
    /// Decode steps that were recorded.
    pub recorded: usize,
    /// Replays of a recorded step for a later one.
    pub replayed: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Counted {
    Read,
    Recorded,
    Replayed,
}

impl Model {
    /// On the CPU, which shares the matrices with `weights`. Checks that they have the shapes that
    /// the configuration says.
    ///
    /// # Errors
    /// A shape that is another, which is named.
    pub fn new(config: Config, weights: Weights) -> Result<Self> {
        check(&config, &weights)?;
        let placed = Placed::new(&Device::Cpu, &config, &weights, Purpose::Inference(Arithmetic::F32))?;
        Ok(Self {
            config: Arc::new(config),
            weights: Arc::new(weights),
            placed: Arc::new(placed),
            adapter: None,
            soft: None,
            angles: Arc::default(),
            recording: std::env::var_os("RALLREC_NO_RECORDING").is_none(),
            counted: Arc::default(),
        })
    }

    fn place(&self, device: &Device, arithmetic: Arithmetic) -> Result<Self> {
        let placed = Placed::new(device, &self.config, &self.weights, Purpose::Inference(arithmetic))?;
        let adapter = match self.adapter.as_deref() {
            None => None,
            Some((adapter, _)) => {
                Some(Arc::new((adapter.clone(), PlacedAdapter::new(&placed, &self.config, adapter)?)))
            }
        };
        Ok(Self { placed: Arc::new(placed), adapter, angles: Arc::default(), counted: Arc::default(), ..self.clone() })
    }

    /// The same model on `device`: a copy unless it is there already. Weights, activations, keys
    /// and values are bf16 on a device with kernels where the matrices of all layers are bf16 in
    /// memory, f32 otherwise.
    ///
    /// # Errors
    /// Out of memory; a shape that the kernels do not take.
    pub fn on(&self, device: &Device) -> Result<Self> {
        match (self.placed.device(), device) {
            (Device::Cpu, Device::Cpu) => Ok(self.clone()),
            _ => self.place(device, self.arithmetic()),
        }
    }

    /// The same model with its layers' products done so; embeddings, output head and adapters stay
    /// in f32. On a device with kernels it changes nothing.
    ///
    /// # Errors
    /// Out of memory.
    pub fn with_arithmetic(&self, arithmetic: Arithmetic) -> Result<Self> {
        if arithmetic == self.arithmetic() {
            return Ok(self.clone());
        }
        if matches!(self.placed.device(), Device::Cpu) {
            let matrices = self.weights.layers.iter().flat_map(|l| Target::ALL.map(|t| &l.linear(t).weight));
            let copied: u64 = match arithmetic {
                Arithmetic::F32 => 0,
                Arithmetic::Bf16 => matrices.map(bf16::copied).sum(),
                Arithmetic::Int8 => matrices.map(int8::Codes::copied).sum(),
            };
            memory::ask("model.arithmetic", copied, "set model.arithmetic to \"f32\", or use a smaller model")?;
        }
        self.place(self.placed.device(), arithmetic)
    }

    fn arithmetic(&self) -> Arithmetic {
        match self.placed.purpose() {
            Purpose::Inference(arithmetic) => arithmetic,
            Purpose::Training => Arithmetic::F32,
        }
    }

    /// The same model with an adapter (or, with `None`, without), applied on the fly: the weights
    /// stay as they are.
    ///
    /// # Errors
    /// An adapter of another architecture; out of memory.
    pub fn with_adapter(&self, adapter: Option<&Adapter>) -> Result<Self> {
        let adapter = match adapter {
            None => None,
            Some(a) => Some(Arc::new((a.clone(), PlacedAdapter::new(&self.placed, &self.config, a)?))),
        };
        Ok(Self { adapter, ..self.clone() })
    }

    /// The same model with soft tokens (or, with `None`, without): it reads their ids too.
    ///
    /// # Errors
    /// Vectors of another width, or ids within the vocabulary.
    pub fn with_soft(&self, soft: Option<SoftTokens>) -> Result<Self> {
        soft.as_ref().map_or(Ok(()), |s| s.check(self.config.vocab, self.config.hidden))?;
        Ok(Self { soft: soft.map(Arc::new), ..self.clone() })
    }

    /// Whether decode steps on kernels are recorded and replayed: they are unless
    /// `RALLREC_NO_RECORDING` is set. Tokens do not change.
    #[must_use]
    pub fn with_recording(mut self, on: bool) -> Self {
        self.recording = on;
        self
    }

    pub(crate) fn records(&self) -> bool {
        self.recording
    }

    /// The soft tokens that it reads.
    pub fn soft(&self) -> Option<&SoftTokens> {
        self.soft.as_deref()
    }

    /// Shape and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        self.placed.device()
    }

    /// How activations, keys and values are stored.
    pub fn dtype(&self) -> Dtype {
        self.placed.dtype()
    }

    /// Whether decode steps read quantised blocks in all layers.
    pub fn decodes_blocks(&self) -> bool {
        self.placed.decodes_blocks()
    }

    /// Bytes that a pass reads of the layers' matrices.
    pub fn layer_bytes(&self) -> usize {
        self.placed.layer_bytes()
    }

    pub(crate) fn params(&self) -> Params<'_> {
        Params::Placed { placed: &self.placed, adapter: self.adapter.as_deref().map(|(_, placed)| placed) }
    }

    /// Rope angles of at least the positions `0 .. len`.
    pub(crate) fn angles(&self, len: usize) -> Result<Arc<Angles>> {
        let mut held = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(angles) = held.as_ref().filter(|angles| angles.len() >= len) {
            return Ok(Arc::clone(angles));
        }
        let mut angles = Angles::new(self.placed.device(), &self.config);
        angles.grow(len.next_power_of_two().min(self.config.context.max(len)))?;
        Ok(Arc::clone(held.insert(Arc::new(angles))))
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let [reads, recorded, replayed] = self.counted.each_ref().map(|count| count.load(Ordering::Relaxed));
        Counts { reads, recorded, replayed }
    }

    pub(crate) fn count(&self, what: Counted) {
        self.counted[what as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// (in, out) of a target.
fn shape(config: &Config, target: Target) -> (usize, usize) {
    let (hidden, inner) = (config.hidden, config.intermediate);
    match target {
        Target::QProj => (hidden, config.q_width()),
        Target::KProj | Target::VProj => (hidden, config.kv_width()),
        Target::OProj => (config.q_width(), hidden),
        Target::GateProj | Target::UpProj => (hidden, inner),
        Target::DownProj => (inner, hidden),
    }
}

fn check(config: &Config, weights: &Weights) -> Result<()> {
    let wrong =
        |place: &str, what: String| Err(Error::input(format!("model: {place}"), what).next("load the model again"));
    let c = config;
    if c.vocab == 0 || c.hidden == 0 || c.kv_heads == 0 || c.head_dim == 0 || !c.heads.is_multiple_of(c.kv_heads.max(1))
    {
        return wrong("config", format!("{} heads, {} kv heads, head width {}", c.heads, c.kv_heads, c.head_dim));
    }
    if !c.head_dim.is_multiple_of(2) {
        return wrong("config", format!("odd head width {}", c.head_dim));
    }
    let matrix = |place: &str, w: &Weight, out: usize, inp: usize| {
        if (w.rows(), w.cols()) == (out, inp) {
            return Ok(());
        }
        wrong(place, format!("{} x {} instead of {out} x {inp}", w.rows(), w.cols()))
    };
    let vector = |place: &str, v: &[f32], n: usize| {
        if v.len() == n { Ok(()) } else { wrong(place, format!("{} values instead of {n}", v.len())) }
    };
    matrix("embedding", &weights.embed, c.vocab, c.hidden)?;
    matrix("head", weights.head(), c.vocab, c.hidden)?;
    vector("norm", &weights.norm, c.hidden)?;
    if weights.layers.len() != c.layers {
        return wrong("layers", format!("{} instead of {}", weights.layers.len(), c.layers));
    }
    for (i, layer) in weights.layers.iter().enumerate() {
        vector(&format!("layer {i} attn_norm"), &layer.attn_norm, c.hidden)?;
        vector(&format!("layer {i} mlp_norm"), &layer.mlp_norm, c.hidden)?;
        let after = c.family.norms == Norms::BeforeAndAfter;
        for (name, norm, wanted, width) in [
            ("q_norm", &layer.q_norm, c.family.qk_norm, c.head_dim),
            ("k_norm", &layer.k_norm, c.family.qk_norm, c.head_dim),
            ("attn_post_norm", &layer.attn_post_norm, after, c.hidden),
            ("mlp_post_norm", &layer.mlp_post_norm, after, c.hidden),
        ] {
            let place = format!("layer {i} {name}");
            match norm {
                Some(norm) if wanted => vector(&place, norm, width)?,
                None if !wanted => {}
                Some(_) => return wrong(&place, format!("{} has none", c.family.title)),
                None => return wrong(&place, "is missing".into()),
            }
        }
        for target in Target::ALL {
            let linear = layer.linear(target);
            let (inp, out) = shape(c, target);
            matrix(&format!("layer {i} {target:?}"), &linear.weight, out, inp)?;
            if let Some(bias) = &linear.bias {
                vector(&format!("layer {i} {target:?} bias"), bias, out)?;
            }
        }
    }
    Ok(())
}
