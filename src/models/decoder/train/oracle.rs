//! The training loss by the decoder's oracle: the reference that gradients are checked against.

use std::collections::BTreeMap;

use super::batch::Packed;
use super::params::{Slots, pair_slots};
use crate::models::decoder::oracle::{Parameters, states, times};
use crate::models::decoder::placed::Norm;
use crate::models::decoder::{Config, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::lora::Dropout;
use crate::tensor::soft_cap::oracle as soft_cap;

/// A model with all parameters as flat f64 vectors.
pub struct Oracle<'a> {
    pub config: &'a Config,
    pub slots: Slots,
    pub full: Vec<f64>,
    pub adapter: Option<&'a Adapter>,
    pub pairs: Vec<f64>,
    pub dropout: Option<super::StepDropout>,
    /// Soft tokens by id.
    pub soft: BTreeMap<u32, Vec<f64>>,
}

impl<'a> Oracle<'a> {
    pub fn new(config: &'a Config, weights: &Weights, adapter: Option<&'a Adapter>) -> Self {
        use super::Parameters;
        let (mut full, mut pairs) = (Vec::new(), Vec::new());
        let mut weights = super::tests::owned(weights);
        weights.visit_mut(&mut |_, v| full.extend(v.iter().map(|&x| f64::from(x)))).unwrap();
        if let Some(a) = adapter {
            a.clone().visit_mut(&mut |_, v| pairs.extend(v.iter().map(|&x| f64::from(x)))).unwrap();
        }
        Self { config, slots: Slots::of(&weights), full, adapter, pairs, dropout: None, soft: BTreeMap::new() }
    }

    fn linear(&self, l: usize, target: Target, name: u64, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = &self.slots.layers[l].linear[target as usize];
        let mut y = times(x, &self.full[weight.clone()]);
        if let Some(bias) = bias {
            y.iter_mut().zip(&self.full[bias.clone()]).for_each(|(y, b)| *y += b);
        }
        if let Some((adapter, t)) = self.adapter.and_then(|a| Some((a, a.targets.iter().position(|&t| t == target)?))) {
            let (a, b) = pair_slots(adapter, l, t);
            let mut x = x.to_vec();
            if let Some(n) = self.dropout {
                let mut factors = vec![0.0; x.len()];
                Dropout::new(n.p, n.seed, n.step, (l * 7 + target as usize) as u32).factors(name, &mut factors);
                x.iter_mut().zip(factors).for_each(|(x, f)| *x *= f64::from(f));
            }
            let z = times(&x, &self.pairs[a]);
            let scale = adapter.alpha / adapter.rank as f64;
            y.iter_mut().zip(times(&z, &self.pairs[b])).for_each(|(y, d)| *y += scale * d);
        }
        y
    }

    /// The weighted loss sum.
    pub fn loss(&self, batch: &Packed) -> f64 {
        let mut seen = vec![Vec::new(); batch.rows()];
        for segment in &batch.segments {
            for row in segment.rows.clone() {
                seen[row] = segment.prefix.clone().chain(segment.rows.start..=row).collect();
            }
        }
        let parameters = OfBatch { oracle: self, names: &batch.names };
        let states = states(self.config, &parameters, &batch.tokens, &batch.positions, &seen);
        let mut total = 0.0;
        for target in &batch.targets {
            let mut logits = times(&states[target.row], &self.full[self.slots.head.clone()]);
            logits.iter_mut().for_each(|l| *l = soft_cap(*l, self.config.logit_cap));
            let lse = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            total += f64::from(target.weight) * (lse - logits[target.token as usize]);
        }
        total
    }
}

/// The parameters with the dropout of a batch's rows.
struct OfBatch<'a> {
    oracle: &'a Oracle<'a>,
    names: &'a [u64],
}

impl Parameters for OfBatch<'_> {
    fn embedding(&self, token: u32) -> Vec<f64> {
        let (h, from) = (self.oracle.config.hidden, self.oracle.slots.embed.start);
        let row = || self.oracle.full[from + token as usize * h..][..h].to_vec();
        self.oracle.soft.get(&token).cloned().unwrap_or_else(row)
    }

    fn linear(&self, layer: usize, target: Target, row: usize, x: &[f64]) -> Vec<f64> {
        self.oracle.linear(layer, target, self.names[row], x)
    }

    fn norm(&self, layer: usize, norm: Norm) -> Option<Vec<f64>> {
        let slots = &self.oracle.slots.layers[layer];
        let range = match norm {
            Norm::Attention => Some(&slots.attn_norm),
            Norm::Query => slots.q_norm.as_ref(),
            Norm::Key => slots.k_norm.as_ref(),
            Norm::Mlp => Some(&slots.mlp_norm),
            Norm::AttentionPost => slots.attn_post_norm.as_ref(),
            Norm::MlpPost => slots.mlp_post_norm.as_ref(),
        };
        range.map(|range| self.oracle.full[range.clone()].to_vec())
    }

    fn last_norm(&self) -> Vec<f64> {
        self.oracle.full[self.oracle.slots.norm.clone()].to_vec()
    }
}
