//! A model's weights, adapter and soft tokens to a device.

use super::{DeviceLayer, DeviceLinear, DeviceModel, Stored};
use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::models::llama::model::Lora;
use crate::models::llama::{Linear, Model};
use crate::models::lora::Target;
use crate::ops::linear::Weight;
use crate::ops::linear::decode::Quantised;
use crate::ops::lora::cuda::Adapters;
use crate::ops::rope::cuda::DeviceAngles;

/// Weights of one input, one below the other.
pub(in crate::models::llama) fn matrix<T: Storage>(
    device: &KernelDevice,
    stack: &[&Weight],
    label: &'static str,
) -> Result<DeviceRows<T>> {
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

/// A norm's weight as one row.
pub(in crate::models::llama) fn norm(device: &KernelDevice, weight: &[f32]) -> Result<DeviceRows<f32>> {
    DeviceRows::upload(device, weight.len(), weight, "norm")
}

/// Weights of one input, one below the other, in their blocks if they are quantised and values are f32, which products with blocks give.
fn stored<T: Storage>(device: &KernelDevice, stack: &[&Weight], label: &'static str) -> Result<Stored<T>> {
    let blocks = if T::NAME == "f32" { Quantised::stack(device, stack)? } else { None };
    match blocks {
        Some(blocks) => Ok(Stored::Blocks(Box::new(blocks))),
        None => matrix(device, stack, label).map(Stored::Rows),
    }
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
        let head_norm = |v: &Option<Vec<f32>>| v.as_deref().map(|v| norm(device, v)).transpose();
        let mut layers = Vec::with_capacity(c.layers);
        for (i, layer) in w.layers.iter().enumerate() {
            let linear = |parts: &[(&Linear, Target)]| -> Result<DeviceLinear<T>> {
                let weights: Vec<&Weight> = parts.iter().map(|p| &p.0.weight).collect();
                let targets: Vec<_> = parts.iter().map(|p| (p.1, p.0.weight.rows())).collect();
                // The models with biases have them on q, k and v alone, which are not stacked.
                let bias = parts[0].0.bias.as_deref().filter(|_| parts.len() == 1);
                Ok(DeviceLinear {
                    weight: stored(device, &weights, "weights")?,
                    bias: bias.map(|b| device.upload(b, "bias")).transpose()?,
                    low: stacked(device, lora, i, &targets, weights[0].cols())?,
                })
            };
            layers.push(DeviceLayer {
                attn_norm: norm(device, &layer.attn_norm)?,
                q: linear(&[(&layer.q, Target::QProj)])?,
                k: linear(&[(&layer.k, Target::KProj)])?,
                v: linear(&[(&layer.v, Target::VProj)])?,
                o: linear(&[(&layer.o, Target::OProj)])?,
                q_norm: head_norm(&layer.q_norm)?,
                k_norm: head_norm(&layer.k_norm)?,
                mlp_norm: norm(device, &layer.mlp_norm)?,
                gate_up: linear(&[(&layer.gate, Target::GateProj), (&layer.up, Target::UpProj)])?,
                down: linear(&[(&layer.down, Target::DownProj)])?,
            });
        }
        Ok(Self {
            norm: norm(device, &w.norm)?,
            head: stored(device, &[w.head()], "output head")?,
            angles: DeviceAngles::new(device, &model.rope, c.context)?,
            embed: w.embed.clone(),
            soft: model.soft.clone(),
            device: device.clone(),
            config: c,
            layers,
            recording: std::env::var_os("RALLREC_NO_RECORDING").is_none(),
            counted: Default::default(),
        })
    }
}
