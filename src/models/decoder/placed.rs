//! A decoder's parameters where its products run. The CPU reads weights as they are in memory,
//! rounded to bf16, or as 8-bit codes; a device with kernels gets copies.

use half::bf16;

use super::{Config, Layer, Linear, Weights};
use crate::device::{Device, DeviceRows, KernelDevice, List, Storage};
use crate::error::{Error, Result};
use crate::models::lora::{Adapter, Target};
use crate::ops::cross_entropy::Head;
use crate::ops::linear::decode::Quantised;
use crate::ops::linear::layers::{self, Pair};
use crate::ops::linear::{self, Weight, int8};
use crate::ops::lora::kernel::Adapters;
use crate::ops::rmsnorm;
use crate::tensor::Dtype;

/// How the products with a model's frozen weights are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// Weights as stored, sums in f32.
    #[default]
    F32,
    /// Weights, and what they are multiplied with, rounded to bf16; sums in f32. Twice the speed on
    /// processors with AVX512-BF16, several times on those with AMX, none gained on others; values
    /// differ by about 0.3 %. Tuning
    /// multiplies so too, forward and backward; its adapter stays in f32. On the CPU alone: kernels
    /// keep to the weights.
    Bf16,
    /// 8-bit codes with a scale for every 32 values, of weights and of what they are multiplied
    /// with; sums in whole numbers, as llama.cpp does with quantised files. Weights that come in
    /// blocks of 4 or 8 bits are multiplied as they are. Four times the speed on processors with
    /// VNNI; values differ by about 1 %. Tuning is in f32. On the CPU alone: kernels keep to the
    /// weights.
    Int8,
}

impl Arithmetic {
    /// Of the products where an adapter is trained: codes have no backward.
    #[must_use]
    pub fn of_training(self) -> Self {
        if self == Self::Bf16 { Self::Bf16 } else { Self::F32 }
    }
}

/// What a copy of the parameters is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Passes that no backward follows.
    Inference(Arithmetic),
    /// Passes with a backward, which wants every weight as rows of f32.
    Training,
}

/// A weight where its products run.
pub(super) enum Stored {
    Cpu(Weight),
    /// In bf16, for products with rows rounded to bf16.
    Rounded(Weight),
    Codes(int8::Codes),
    F32(DeviceRows<f32>),
    Bf16(DeviceRows<bf16>),
    /// In the blocks of its file; values beside it are f32.
    Blocks(Box<Quantised>),
}

/// A linear layer where it runs.
pub(super) struct PlacedLinear {
    pub(super) weight: Stored,
    bias: Option<List<f32>>,
}

enum NormWeight {
    Cpu(Vec<f32>),
    Kernels(DeviceRows<f32>),
}

struct PlacedLayer {
    attn_norm: NormWeight,
    q_norm: Option<NormWeight>,
    k_norm: Option<NormWeight>,
    mlp_norm: NormWeight,
    attn_post_norm: Option<NormWeight>,
    mlp_post_norm: Option<NormWeight>,
    /// In the order of [`Target::ALL`].
    linear: Vec<PlacedLinear>,
}

/// Which norm of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    Attention,
    Query,
    Key,
    Mlp,
    /// Of what attention adds to the residual.
    AttentionPost,
    /// Of what the MLP adds to it.
    MlpPost,
}

/// All parameters but the embedding table, whose rows are gathered on the CPU.
pub(crate) struct Placed {
    device: Device,
    dtype: Dtype,
    purpose: Purpose,
    layers: Vec<PlacedLayer>,
    norm: NormWeight,
    head: Stored,
}

/// Values of a weight, one row behind the other, as `T` stores them.
fn matrix<T: Storage>(device: &KernelDevice, w: &Weight, label: &'static str) -> Result<DeviceRows<T>> {
    let mut values: Vec<T> = Vec::with_capacity(w.rows() * w.cols());
    let mut row = vec![0.0f32; w.cols()];
    for r in 0..w.rows() {
        w.read_rows(r, &mut row);
        values.extend(row.iter().map(|&v| T::from_f32(v)));
    }
    DeviceRows::upload(device, w.cols(), &values, label)
}

/// bf16 where the matrices of all layers are bf16 in memory, f32 otherwise, so that nothing that
/// f16 or quantised weights hold is rounded away.
fn dtype_of(weights: &Weights) -> Dtype {
    let narrow = |layer: &Layer| Target::ALL.iter().all(|t| layer.linear(*t).weight.dtype() == Some(Dtype::Bf16));
    if !weights.layers.is_empty() && weights.layers.iter().all(narrow) { Dtype::Bf16 } else { Dtype::F32 }
}

/// What is said of soft caps away from the CPU.
pub(super) fn no_caps(config: &Config) -> Error {
    let what = format!("{} has soft caps of scores or logits, which no kernel has", config.family.title);
    Error::usage("model", what).next("run it on the CPU: device = \"cpu\", or --device cpu")
}

/// Fails on a model that kernels do not take, before anything is copied.
fn check_kernels(config: &Config) -> Result<()> {
    if config.score_cap.is_some() || config.logit_cap.is_some() {
        return Err(no_caps(config));
    }
    if config.head_dim > 128 || !config.head_dim.is_multiple_of(8) {
        let what = format!("heads of {} values; kernels take 8 to 128, a multiple of 8", config.head_dim);
        return Err(Error::usage("model", what).next("run it on the CPU: device = \"cpu\", or --device cpu"));
    }
    Ok(())
}

impl Placed {
    /// On the CPU the matrices are shared with `weights`; elsewhere they are copied.
    ///
    /// # Errors
    /// Out of memory; weights of another configuration.
    pub fn new(device: &Device, config: &Config, weights: &Weights, purpose: Purpose) -> Result<Self> {
        if weights.layers.len() != config.layers {
            return Err(Error::input("model", "the weights do not fit the configuration"));
        }
        if let Device::Kernels(_) = device {
            check_kernels(config)?;
        }
        let dtype = match (device, purpose) {
            (Device::Kernels(_), Purpose::Inference(_)) => dtype_of(weights),
            _ => Dtype::F32,
        };
        let arithmetic = if let Purpose::Inference(arithmetic) = purpose { arithmetic } else { Arithmetic::F32 };
        let stored = |w: &Weight, in_layer: bool| -> Result<Stored> {
            let label = if in_layer { "weights" } else { "output head" };
            Ok(match device {
                Device::Cpu if in_layer => match arithmetic {
                    Arithmetic::F32 => Stored::Cpu(w.clone()),
                    Arithmetic::Bf16 => Stored::Rounded(linear::bf16::of(w)?),
                    Arithmetic::Int8 => Stored::Codes(int8::Codes::new(w)),
                },
                Device::Cpu => Stored::Cpu(w.clone()),
                Device::Kernels(device) if dtype == Dtype::Bf16 => Stored::Bf16(matrix(device, w, label)?),
                Device::Kernels(device) => {
                    let blocks = if purpose == Purpose::Training { None } else { Quantised::stack(device, &[w])? };
                    match blocks {
                        Some(blocks) => Stored::Blocks(Box::new(blocks)),
                        None => Stored::F32(matrix(device, w, label)?),
                    }
                }
            })
        };
        let norm = |w: &[f32]| -> Result<NormWeight> {
            Ok(match device {
                Device::Cpu => NormWeight::Cpu(w.to_vec()),
                Device::Kernels(device) => NormWeight::Kernels(DeviceRows::upload(device, w.len(), w, "norm")?),
            })
        };
        let linear = |l: &Linear| -> Result<PlacedLinear> {
            let bias = l.bias.as_deref().map(|b| List::upload(device, b, "bias")).transpose()?;
            Ok(PlacedLinear { weight: stored(&l.weight, true)?, bias })
        };
        let mut layers = Vec::with_capacity(config.layers);
        for layer in &weights.layers {
            layers.push(PlacedLayer {
                attn_norm: norm(&layer.attn_norm)?,
                q_norm: layer.q_norm.as_deref().map(norm).transpose()?,
                k_norm: layer.k_norm.as_deref().map(norm).transpose()?,
                mlp_norm: norm(&layer.mlp_norm)?,
                attn_post_norm: layer.attn_post_norm.as_deref().map(norm).transpose()?,
                mlp_post_norm: layer.mlp_post_norm.as_deref().map(norm).transpose()?,
                linear: Target::ALL.iter().map(|target| linear(layer.linear(*target))).collect::<Result<_>>()?,
            });
        }
        let (norm, head) = (norm(&weights.norm)?, stored(weights.head(), false)?);
        Ok(Self { device: device.clone(), dtype, purpose, layers, norm, head })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How activations, keys and values are stored beside these weights.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether decode steps read quantised blocks in all layers.
    pub fn decodes_blocks(&self) -> bool {
        let mut all = self.layers.iter().flat_map(|l| &l.linear);
        !self.layers.is_empty() && all.all(|l| matches!(l.weight, Stored::Blocks(_)))
    }

    /// Bytes that a pass reads of the layers' matrices.
    pub fn layer_bytes(&self) -> usize {
        let bytes = |l: &PlacedLinear| match &l.weight {
            Stored::Cpu(w) | Stored::Rounded(w) => w.bytes(),
            Stored::Codes(codes) => codes.bytes(),
            Stored::F32(rows) => 4 * rows.rows() * rows.dim(),
            Stored::Bf16(rows) => 2 * rows.rows() * rows.dim(),
            Stored::Blocks(blocks) => blocks.bytes(),
        };
        self.layers.iter().flat_map(|l| &l.linear).map(bytes).sum()
    }
}

impl PlacedLinear {
    fn operand(&self) -> layers::Weight<'_> {
        let here = match &self.bias {
            Some(List::Cpu(bias)) => Some(bias.as_slice()),
            _ => None,
        };
        let there = match &self.bias {
            Some(List::Kernels(bias)) => Some(bias),
            _ => None,
        };
        match &self.weight {
            Stored::Cpu(w) => layers::Weight::Cpu(w, here),
            Stored::Rounded(w) => layers::Weight::Rounded(w, here),
            Stored::Codes(codes) => layers::Weight::Codes(codes, here),
            Stored::F32(rows) => layers::Weight::Kernels(rows, there),
            Stored::Bf16(rows) => layers::Weight::Bf16(rows, there),
            Stored::Blocks(blocks) => layers::Weight::Blocks(blocks, there),
        }
    }
}

impl NormWeight {
    fn operand(&self) -> rmsnorm::Weight<'_> {
        match self {
            NormWeight::Cpu(w) => rmsnorm::Weight::Cpu(w),
            NormWeight::Kernels(w) => rmsnorm::Weight::Kernels(w),
        }
    }
}

/// An adapter where its products run.
pub(crate) struct PlacedAdapter {
    scale: f32,
    /// `pairs[layer][target]`.
    pairs: Vec<[Option<PlacedPair>; 7]>,
}

enum PlacedPair {
    /// A (r, in), and B transposed (r, out).
    Cpu(Weight, Vec<f32>),
    F32(Adapters<f32>),
    Bf16(Adapters<bf16>),
}

fn pair_of<T: Storage>(
    device: &KernelDevice,
    adapter: &Adapter,
    inp: usize,
    a: &[f32],
    b: &[f32],
) -> Result<Adapters<T>> {
    let narrow = |values: &[f32]| values.iter().map(|&v| T::from_f32(v)).collect::<Vec<T>>();
    Ok(Adapters {
        a: DeviceRows::upload(device, inp, &narrow(a), "adapter A")?,
        b: DeviceRows::upload(device, adapter.rank, &narrow(b), "adapter B")?,
        count: 1,
        scale: adapter.scale(),
    })
}

impl PlacedAdapter {
    /// A copy beside `placed`.
    ///
    /// # Errors
    /// An adapter of another architecture; out of memory.
    pub fn new(placed: &Placed, config: &Config, adapter: &Adapter) -> Result<Self> {
        adapter.check(config)?;
        let mut pairs = Vec::with_capacity(config.layers);
        for given in &adapter.pairs {
            let mut row: [Option<PlacedPair>; 7] = Default::default();
            for (&target, pair) in adapter.targets.iter().zip(given) {
                // The shapes were checked; a rank of 0 was refused.
                let rank = adapter.rank;
                let (inp, out) = (pair.a.len() / rank, pair.b.len() / rank);
                row[target as usize] = Some(match (&placed.device, placed.dtype) {
                    (Device::Cpu, _) => {
                        let b_t = (0..rank * out).map(|i| pair.b[i % out * rank + i / out]).collect();
                        PlacedPair::Cpu(Weight::from_f32(rank, inp, pair.a.clone())?, b_t)
                    }
                    (Device::Kernels(d), Dtype::Bf16) => PlacedPair::Bf16(pair_of(d, adapter, inp, &pair.a, &pair.b)?),
                    (Device::Kernels(d), _) => PlacedPair::F32(pair_of(d, adapter, inp, &pair.a, &pair.b)?),
                });
            }
            pairs.push(row);
        }
        Ok(Self { scale: adapter.scale(), pairs })
    }

    fn pair(&self, layer: usize, target: Target) -> Option<Pair<'_>> {
        Some(match self.pairs.get(layer)?[target as usize].as_ref()? {
            PlacedPair::Cpu(a, b) => Pair::Transposed { a, b, scale: self.scale },
            PlacedPair::F32(pair) => Pair::Kernels(pair),
            PlacedPair::Bf16(pair) => Pair::Bf16(pair),
        })
    }
}

/// The parameters of a pass.
#[derive(Clone, Copy)]
pub(crate) enum Params<'a> {
    /// Of training on the CPU: as they are in memory, since they change from step to step.
    Borrowed {
        /// The model's.
        weights: &'a Weights,
        /// With what its training wants.
        adapter: Option<&'a Adapter>,
        /// The frozen matrices of the layers in another type, if they are multiplied so.
        rounded: Option<&'a Placed>,
    },
    /// Where the products run.
    Placed {
        /// The model's.
        placed: &'a Placed,
        /// Beside it.
        adapter: Option<&'a PlacedAdapter>,
    },
}

impl<'a> Params<'a> {
    /// A norm of a layer; `None` where the family has none.
    pub fn norm(&self, layer: usize, which: Norm) -> Option<rmsnorm::Weight<'a>> {
        match *self {
            Params::Borrowed { weights, .. } => {
                let l = weights.layers.get(layer)?;
                let norm = match which {
                    Norm::Attention => Some(&l.attn_norm),
                    Norm::Query => l.q_norm.as_ref(),
                    Norm::Key => l.k_norm.as_ref(),
                    Norm::Mlp => Some(&l.mlp_norm),
                    Norm::AttentionPost => l.attn_post_norm.as_ref(),
                    Norm::MlpPost => l.mlp_post_norm.as_ref(),
                };
                norm.map(|w| rmsnorm::Weight::Cpu(w))
            }
            Params::Placed { placed, .. } => {
                let l = placed.layers.get(layer)?;
                let norm = match which {
                    Norm::Attention => Some(&l.attn_norm),
                    Norm::Query => l.q_norm.as_ref(),
                    Norm::Key => l.k_norm.as_ref(),
                    Norm::Mlp => Some(&l.mlp_norm),
                    Norm::AttentionPost => l.attn_post_norm.as_ref(),
                    Norm::MlpPost => l.mlp_post_norm.as_ref(),
                };
                norm.map(NormWeight::operand)
            }
        }
    }

    /// The norm behind the last layer.
    pub fn last_norm(&self) -> rmsnorm::Weight<'a> {
        match *self {
            Params::Borrowed { weights, .. } => rmsnorm::Weight::Cpu(&weights.norm),
            Params::Placed { placed, .. } => placed.norm.operand(),
        }
    }

    /// The output head, for what looks at chosen tokens of a model of this configuration.
    ///
    /// # Errors
    /// None today: heads are never rounded, nor codes.
    pub fn head(&self, config: &Config) -> Result<Head<'a>> {
        let cap = config.logit_cap.map(|cap| cap as f32);
        Ok(match *self {
            Params::Borrowed { weights, .. } => Head::Cpu(weights.head(), cap),
            Params::Placed { placed, .. } => match &placed.head {
                Stored::Cpu(w) => Head::Cpu(w, cap),
                Stored::F32(rows) => Head::F32(rows),
                Stored::Bf16(rows) => Head::Bf16(rows),
                Stored::Blocks(blocks) => Head::Blocks(blocks),
                Stored::Rounded(_) | Stored::Codes(_) => return Err(Error::failed("output head", "of a layer's type")),
            },
        })
    }

    /// The output head, for the logits of the whole vocabulary.
    pub fn logits(&self) -> Option<layers::Weight<'a>> {
        match *self {
            Params::Borrowed { weights, .. } => Some(layers::Weight::Cpu(weights.head(), None)),
            Params::Placed { placed, .. } => match &placed.head {
                Stored::Cpu(w) => Some(layers::Weight::Cpu(w, None)),
                Stored::F32(rows) => Some(layers::Weight::Kernels(rows, None)),
                Stored::Bf16(rows) => Some(layers::Weight::Bf16(rows, None)),
                Stored::Blocks(blocks) => Some(layers::Weight::Blocks(blocks, None)),
                Stored::Rounded(_) | Stored::Codes(_) => None,
            },
        }
    }

    /// A linear layer with its adapter, without dropout.
    pub fn linear(&self, layer: usize, target: Target) -> layers::Layer<'a> {
        match *self {
            Params::Borrowed { weights, adapter, rounded } => {
                let linear = weights.layers[layer].linear(target);
                let pair = adapter.and_then(|adapter| {
                    let pair = adapter.pair(layer, target)?;
                    Some(Pair::Cpu { a: &pair.a, b: &pair.b, rank: adapter.rank, scale: adapter.scale() })
                });
                let weight = match rounded {
                    Some(placed) => placed.layers[layer].linear[target as usize].operand(),
                    None => layers::Weight::Cpu(&linear.weight, linear.bias.as_deref()),
                };
                layers::Layer { weight, pair, dropout: None }
            }
            Params::Placed { placed, adapter } => layers::Layer {
                weight: placed.layers[layer].linear[target as usize].operand(),
                pair: adapter.and_then(|a| a.pair(layer, target)),
                dropout: None,
            },
        }
    }
}
