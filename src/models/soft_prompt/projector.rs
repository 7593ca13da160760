//! The trained map from embeddings to soft tokens.

use super::{Inputs, SoftSettings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::decoder::SoftTokens;
use crate::models::decoder::train::Parameters;
use crate::ops::linear::Weight;
use crate::ops::mlp::{self, Mlp, Placed, Saved, Tensors};
use crate::tensor::Matrix;

/// Inputs that the gain is measured on, and token embeddings that it is measured against: evenly
/// spread ones.
const PROBES: usize = 4096;

/// A two-layer perceptron and its gain.
///
/// Two layers and not one: LightGCN's coordinates mean something by their inner products, while a
/// language model reads directions; a linear map can only turn the space. `Activation::Identity`
/// gives the linear map.
#[derive(Debug, Clone, PartialEq)]
pub struct Projector {
    pub(super) mlp: Mlp,
    pub(super) tensors: Tensors,
    pub(super) gain: f32,
}

/// Mean norm of a model's token embeddings.
pub fn mean_norm(embed: &Weight) -> f64 {
    let rows: Vec<usize> = probes(embed.rows()).collect();
    let mut row = vec![0.0f32; embed.cols()];
    let norm = |&i: &usize| {
        embed.read_rows(i, &mut row);
        length(&row)
    };
    rows.iter().map(norm).sum::<f64>() / rows.len().max(1) as f64
}

fn probes(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(PROBES).max(1))
}

fn length(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

impl Projector {
    /// A fresh projector from `inputs` to vectors of `width` values, whose mean norm over the
    /// inputs is `norm`. Draws depend on seed and shape only.
    ///
    /// # Errors
    /// No inputs, or a norm that is no positive number.
    pub fn init(settings: &SoftSettings, inputs: &Matrix, width: usize, norm: f64, seed: u64) -> Result<Self> {
        let mlp = Mlp { input: inputs.cols(), hidden: settings.hidden, output: width, activation: settings.activation };
        let mut fresh = Self { tensors: mlp.init(seed), mlp, gain: 1.0 };
        let rows: Vec<f32> = probes(inputs.rows()).flat_map(|i| inputs.row(i)).copied().collect();
        let vectors = fresh.project(&rows)?;
        let own = vectors.chunks_exact(width).map(length).sum::<f64>() / (vectors.len() / width).max(1) as f64;
        fresh.gain = (norm / own) as f32;
        if !(fresh.gain.is_finite() && fresh.gain > 0.0) {
            let what = format!("vectors of mean norm {own} cannot be brought to that of the token embeddings, {norm}");
            return Err(Error::failed("soft tokens", what).next("check the model file and soft.source"));
        }
        Ok(fresh)
    }

    /// Width of its inputs.
    pub fn input(&self) -> usize {
        self.mlp.input
    }

    /// Width of its vectors.
    pub fn output(&self) -> usize {
        self.mlp.output
    }

    /// The vectors (M, width) of inputs `x` (M, d).
    ///
    /// # Errors
    /// Inputs of another width.
    pub fn project(&self, x: &[f32]) -> Result<Vec<f32>> {
        self.forward(x).map(|(vectors, _)| vectors)
    }

    /// The soft tokens of `inputs`.
    ///
    /// # Errors
    /// As [`Projector::project`].
    pub fn tokens(&self, inputs: &Inputs) -> Result<SoftTokens> {
        self.tokens_saved(inputs).map(|(tokens, _)| tokens)
    }

    /// The soft tokens of `inputs`, and what [`Projector::backward`] needs.
    pub(crate) fn tokens_saved(&self, inputs: &Inputs) -> Result<(SoftTokens, Saved)> {
        let (vectors, saved) = self.forward(inputs.matrix().as_slice())?;
        let vectors = Matrix::from_vec(inputs.ids().len(), self.mlp.output, vectors)?;
        Ok((SoftTokens::new(inputs.ids().to_vec(), vectors)?, saved))
    }

    /// Shape, parameters, gain.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Mlp, &Tensors, f32) {
        (&self.mlp, &self.tensors, self.gain)
    }

    pub(super) fn forward(&self, x: &[f32]) -> Result<(Vec<f32>, Saved)> {
        let placed = Placed::new(&Device::Cpu, &self.mlp, &self.tensors)?;
        let (vectors, saved, _) = mlp::forward(&Device::Cpu, &placed, (x, self.mlp.input).into())?;
        let mut vectors = vectors.into_matrix()?.into_vec();
        vectors.iter_mut().for_each(|v| *v *= self.gain);
        Ok((vectors, saved))
    }

    /// Adds the gradient by the parameters (in the order of [`Parameters`]) to `gradient`, from
    /// `by_vectors` (M, width).
    ///
    /// # Errors
    /// Slices of other lengths.
    pub(crate) fn backward(&self, x: &[f32], saved: &Saved, by_vectors: &[f32], gradient: &mut [f32]) -> Result<()> {
        let by_out: Vec<f32> = by_vectors.iter().map(|v| v * self.gain).collect();
        let placed = Placed::new(&Device::Cpu, &self.mlp, &self.tensors)?;
        let (x, by_out) = ((x, self.mlp.input).into(), (&by_out[..], self.mlp.output).into());
        let (found, _) = mlp::backward(&Device::Cpu, &placed, x, saved, by_out)?;
        let found = found.each();
        if found.iter().map(|t| t.len()).sum::<usize>() != gradient.len() {
            return Err(Error::failed("projector", format!("a gradient of {} values", gradient.len())));
        }
        gradient.iter_mut().zip(found.into_iter().flatten()).for_each(|(g, d)| *g += d);
        Ok(())
    }
}

impl Parameters for Projector {
    fn visit_mut(&mut self, visit: &mut dyn FnMut(&str, &mut [f32])) -> Result<()> {
        for (name, values) in ["w1", "b1", "w2", "b2"].iter().zip(self.tensors.each_mut()) {
            visit(&format!("projector.{name}"), values);
        }
        Ok(())
    }
}
