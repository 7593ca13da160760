//! From named tensors to [`Weights`], the same way for every file format.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::models::decoder::families::Norms;
use crate::models::decoder::parts::{LayerPart as L, Part};
use crate::models::decoder::{Config, Family, Layer, Linear, Weights};
use crate::ops::linear::Weight;

/// A file format that can give the tensors of a model.
pub(super) trait Source {
    /// The name of a part in this format.
    fn name(&self, part: Part) -> String;
    /// Every tensor name in the files.
    fn names(&self) -> Vec<String>;
    /// A matrix of exactly the shape that the configuration says.
    fn matrix(&self, part: Part, shape: (usize, usize)) -> Result<Weight>;
    /// A vector of exactly this length, all finite.
    fn vector(&self, part: Part, len: usize) -> Result<Vec<f32>>;
    /// Whether the weights of norms are stored less one.
    fn norms_from_one(&self) -> bool;
    /// Tensors that may be there and are not needed (or are handled elsewhere).
    fn ignorable(&self, name: &str) -> bool;
    /// For messages.
    fn place(&self) -> String;
}

/// Reads every tensor that `config` asks for and refuses tensors that it does not know: they would
/// change the result if they were left out silently.
pub(super) fn assemble(config: &Config, source: &impl Source) -> Result<Weights> {
    let known: HashSet<String> = Part::all(config).into_iter().map(|p| source.name(p)).collect();
    let head = source.name(Part::Head);
    for name in source.names() {
        if !(known.contains(&name) || source.ignorable(&name) || config.tied && name == head) {
            return Err(Error::input(
                source.place(),
                format!("tensor {name} does not belong to a {} model of {} layers", config.family.title, config.layers),
            )
            .next(format!(
                "use a model of the {} family without adapters merged in as extra tensors",
                Family::list(|f| f.title)
            )));
        }
    }
    let matrix = |part: Part| source.matrix(part, part.shape(config));
    let vector = |part: Part| -> Result<Vec<f32>> {
        let mut values = source.vector(part, part.shape(config).1)?;
        if part.is_norm() && source.norms_from_one() {
            values.iter_mut().for_each(|v| *v += 1.0);
        }
        Ok(values)
    };
    let linear = |i: usize, weight: L, bias: Option<L>| -> Result<Linear> {
        Ok(Linear {
            weight: matrix(Part::Layer(i, weight))?,
            bias: bias.map(|b| vector(Part::Layer(i, b))).transpose()?,
        })
    };
    let biased = |b: L| config.family.qkv_bias.then_some(b);
    let normed = |i: usize, n: L| -> Result<Option<Vec<f32>>> {
        config.family.qk_norm.then(|| vector(Part::Layer(i, n))).transpose()
    };
    let post_norm = |i: usize, n: L| -> Result<Option<Vec<f32>>> {
        (config.family.norms == Norms::BeforeAndAfter).then(|| vector(Part::Layer(i, n))).transpose()
    };
    let embed = matrix(Part::Embed)?;
    let mut layers = Vec::with_capacity(config.layers);
    for i in 0..config.layers {
        layers.push(Layer {
            attn_norm: vector(Part::Layer(i, L::AttnNorm))?,
            q: linear(i, L::Q, biased(L::QBias))?,
            k: linear(i, L::K, biased(L::KBias))?,
            v: linear(i, L::V, biased(L::VBias))?,
            o: linear(i, L::O, None)?,
            q_norm: normed(i, L::QNorm)?,
            k_norm: normed(i, L::KNorm)?,
            mlp_norm: vector(Part::Layer(i, L::MlpNorm))?,
            attn_post_norm: post_norm(i, L::AttnPostNorm)?,
            mlp_post_norm: post_norm(i, L::MlpPostNorm)?,
            gate: linear(i, L::Gate, None)?,
            up: linear(i, L::Up, None)?,
            down: linear(i, L::Down, None)?,
        });
    }
    let norm = vector(Part::Norm)?;
    let head = if config.tied { None } else { Some(matrix(Part::Head)?) };
    Ok(Weights { embed, layers, norm, head })
}
