//! The products of a layer with its weights, in f32 or in whole numbers, each with the adapter's pair where it carries one.

use super::{Layer, Linear, Model};
use crate::models::lora::Target;
use crate::ops::linear::{Product, Weight, add_low_rank, int8, matmul_nt_many};

/// How the products with a model's weights are done where nothing is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// Weights as stored, sums in f32.
    #[default]
    F32,
    /// 8-bit codes with a scale for every 32 values, of weights and of what they are multiplied with; sums in whole numbers, as
    /// llama.cpp does with Q8_0 files. Four times the speed on processors with VNNI; values differ by about 1 %.
    Int8,
}

/// The weights of a layer as codes, by [`Target`].
pub(super) type LayerCodes = [int8::Codes; 7];

/// One product of a layer.
pub(super) struct To<'a> {
    pub target: Target,
    /// (rows, out).
    pub y: &'a mut [f32],
    /// Add to what is in y.
    pub accumulate: bool,
}

impl<'a> To<'a> {
    /// Into `y`.
    pub(super) fn new(target: Target, y: &'a mut [f32]) -> Self {
        Self { target, y, accumulate: false }
    }
}

/// The codes of every layer.
pub(super) fn codes(layers: &[Layer]) -> Vec<LayerCodes> {
    layers.iter().map(|layer| Target::ALL.map(|target| int8::Codes::new(&layer.linear(target).weight))).collect()
}

/// The products with weights of either kind.
fn products<'a, W>(layer: &'a Layer, to: &'a mut [To<'_>], weight: impl Fn(Target) -> &'a W) -> Vec<Product<'a, W>> {
    let product = |To { target, y, accumulate }: &'a mut To<'_>| {
        let bias = layer.linear(*target).bias.as_deref();
        Product { weight: weight(*target), y, bias, accumulate: *accumulate }
    };
    to.iter_mut().map(product).collect()
}

impl Layer {
    /// The linear layer of this name.
    pub fn linear(&self, target: Target) -> &Linear {
        match target {
            Target::QProj => &self.q,
            Target::KProj => &self.k,
            Target::VProj => &self.v,
            Target::OProj => &self.o,
            Target::GateProj => &self.gate,
            Target::UpProj => &self.up,
            Target::DownProj => &self.down,
        }
    }
}

impl Model {
    /// All `y = x W^T + b` of layer `i` that have one x (rows, `inp`), with the adapter's `(alpha / r) x A^T B^T`.
    pub(super) fn project(&self, i: usize, x: &[f32], inp: usize, to: &mut [To<'_>]) {
        let layer = &self.weights().layers[i];
        match self.codes.as_ref().map(|codes| &codes[i]) {
            None => matmul_nt_many(x, inp, &mut products(layer, to, |target| &layer.linear(target).weight)),
            Some(codes) => int8::matmul_nt_many(x, inp, &mut products(layer, to, |target| &codes[target as usize])),
        }
        self.adapt(i, x, inp, to);
    }

    /// `y += (alpha / r) x A^T B^T` where the targets carry a pair.
    fn adapt(&self, i: usize, x: &[f32], inp: usize, to: &mut [To<'_>]) {
        let Some(lora) = &self.lora else { return };
        let rows = x.len() / inp.max(1);
        let carried: Vec<_> = to.iter_mut().filter_map(|to| Some((lora.pair(i, to.target)?, to))).collect();
        let mut low: Vec<Vec<f32>> = carried.iter().map(|(pair, _)| vec![0.0; rows * pair.a.rows()]).collect();
        let mut products: Vec<_> = carried
            .iter()
            .zip(&mut low)
            .map(|((pair, _), s)| Product { weight: &pair.a, y: s, bias: None, accumulate: false })
            .collect();
        matmul_nt_many(x, inp, &mut products);
        for ((pair, to), mut s) in carried.into_iter().zip(low) {
            s.iter_mut().for_each(|s| *s *= lora.scale());
            add_low_rank(&s, pair.a.rows(), &pair.b_t, to.y);
        }
    }

    /// Bytes that a pass reads of the layers' weights.
    pub fn layer_bytes(&self) -> usize {
        match &self.codes {
            Some(codes) => codes.iter().flatten().map(int8::Codes::bytes).sum(),
            None => {
                let layers = self.weights().layers.iter();
                layers.flat_map(|l| Target::ALL.map(|t| &l.linear(t).weight)).map(Weight::bytes).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::llama::{Family, Part, Sequence, families};
    use crate::store::fixture;
    use crate::tensor::Dtype;

    fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
        model.all_logits(&mut [Part { tokens, sequence: &mut Sequence::new() }]).unwrap().into_vec()
    }

    /// Whole numbers change logits a little, and are used at all: by every family, with biases and without.
    #[test]
    fn whole_numbers_change_little() {
        for family in families::ALL {
            let loaded = fixture::model(family, 3, Dtype::F32).unwrap();
            let model = Model::new(loaded.config, loaded.weights).unwrap();
            let eight = model.with_arithmetic(Arithmetic::Int8);
            let tokens: Vec<u32> = (5..40).collect();
            let (want, got) = (logits(&model, &tokens), logits(&eight, &tokens));
            let square = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let off = square(&mut want.iter().zip(&got).map(|(a, b)| a - b)) / square(&mut want.iter().copied());
            assert!(off > 1e-5 && off < 0.03, "{family:?}: {off}");
            assert_eq!(logits(&eight.with_arithmetic(Arithmetic::F32), &tokens), want);
            assert!(eight.layer_bytes() * 2 < model.layer_bytes());
        }
    }

    /// A row has the same bits alone and behind a cached past.
    #[test]
    fn rows_in_whole_numbers_do_not_see_each_other() {
        let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
        let model = Model::new(loaded.config, loaded.weights).unwrap().with_arithmetic(Arithmetic::Int8);
        let tokens: Vec<u32> = (5..25).collect();
        let whole = logits(&model, &tokens);
        let mut sequence = Sequence::new();
        let step: Vec<f32> = (tokens.chunks(1))
            .flat_map(|tokens| model.all_logits(&mut [Part { tokens, sequence: &mut sequence }]).unwrap().into_vec())
            .collect();
        assert_eq!(whole, step);
    }
}
