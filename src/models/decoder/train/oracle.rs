//! The training loss in f64 with plain loops: the reference that gradients are checked against.

use std::collections::BTreeMap;

use super::batch::Packed;
use super::params::{Slots, pair_slots};
use crate::models::decoder::{Config, Weights};
use crate::models::lora::{Adapter, Target};
use crate::ops::attention::oracle as window;
use crate::ops::lora::Dropout;
use crate::ops::rope::oracle::frequency;

/// A model with all parameters as flat f64 vectors.
pub struct Oracle<'a> {
    pub config: &'a Config,
    pub slots: Slots,
    pub full: Vec<f64>,
    pub adapter: Option<&'a Adapter>,
    pub pairs: Vec<f64>,
    pub noise: Option<super::Noise>,
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
        Self { config, slots: Slots::of(&weights), full, adapter, pairs, noise: None, soft: BTreeMap::new() }
    }

    fn norm(x: &[f64], w: &[f64], eps: f64) -> Vec<f64> {
        let r = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt();
        x.iter().zip(w).map(|(x, w)| x * r * w).collect()
    }

    fn linear(&self, l: usize, target: Target, name: u64, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = &self.slots.layers[l].linear[target as usize];
        let product = |w: &[f64], x: &[f64]| -> Vec<f64> {
            w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
        };
        let mut y = product(&self.full[weight.clone()], x);
        if let Some(bias) = bias {
            y.iter_mut().zip(&self.full[bias.clone()]).for_each(|(y, b)| *y += b);
        }
        if let Some((adapter, t)) = self.adapter.and_then(|a| Some((a, a.targets.iter().position(|&t| t == target)?))) {
            let (a, b) = pair_slots(adapter, l, t);
            let mut x = x.to_vec();
            if let Some(n) = self.noise {
                let mut factors = vec![0.0; x.len()];
                Dropout::new(n.p, n.seed, n.step, (l * 7 + target as usize) as u32).factors(name, &mut factors);
                x.iter_mut().zip(factors).for_each(|(x, f)| *x *= f64::from(f));
            }
            let z = product(&self.pairs[a], &x);
            let scale = adapter.alpha / adapter.rank as f64;
            y.iter_mut().zip(product(&self.pairs[b], &z)).for_each(|(y, d)| *y += scale * d);
        }
        y
    }

    /// The weighted loss sum.
    pub fn loss(&self, batch: &Packed) -> f64 {
        let (c, s) = (self.config, &self.slots);
        let frequency = |i| frequency(i, c.head_dim, c.rope_theta, c.rope_scaling.as_ref());
        let freq: Vec<f64> = (0..c.head_dim / 2).map(frequency).collect();
        let h = c.hidden;
        let embed = &self.full[s.embed.clone()];
        let read = |t: &u32| {
            let row = || embed[*t as usize * h..(*t as usize + 1) * h].to_vec();
            self.soft.get(t).cloned().unwrap_or_else(row)
        };
        let mut x: Vec<Vec<f64>> = batch.tokens.iter().map(read).collect();
        for (l, slots) in s.layers.iter().enumerate() {
            let heads = |y: Vec<f64>, norm: &Option<std::ops::Range<usize>>, p: u32| -> Vec<f64> {
                let mut out = Vec::new();
                for head in y.chunks_exact(c.head_dim) {
                    let n = norm.clone().map_or(head.to_vec(), |w| Self::norm(head, &self.full[w], c.norm_eps));
                    let half = c.head_dim / 2;
                    let turn = |i: usize| (f64::from(p) * freq[i % half]).sin_cos();
                    out.extend((0..c.head_dim).map(|i| {
                        let (sin, cos) = turn(i);
                        if i < half { n[i] * cos - n[i + half] * sin } else { n[i] * cos + n[i - half] * sin }
                    }));
                }
                out
            };
            let (mut q, mut k, mut v) = (vec![], vec![], vec![]);
            for (r, row) in x.iter().enumerate() {
                let n = Self::norm(row, &self.full[slots.attn_norm.clone()], c.norm_eps);
                let (name, p) = (batch.names[r], batch.positions[r]);
                q.push(heads(self.linear(l, Target::QProj, name, &n), &slots.q_norm, p));
                k.push(heads(self.linear(l, Target::KProj, name, &n), &slots.k_norm, p));
                v.push(self.linear(l, Target::VProj, name, &n));
            }
            for segment in &batch.segments {
                for r in segment.rows.clone() {
                    let all: Vec<usize> = segment.prefix.clone().chain(segment.rows.start..=r).collect();
                    let seen = &all[window::seen(all.len(), c.window_of(l))];
                    let mut out = Vec::new();
                    for head in 0..c.heads {
                        let (d, kv) = (c.head_dim, head / (c.heads / c.kv_heads) * c.head_dim);
                        let scores: Vec<f64> = seen
                            .iter()
                            .map(|&j| {
                                (0..d).map(|i| q[r][head * d + i] * k[j][kv + i]).sum::<f64>() / (d as f64).sqrt()
                            })
                            .collect();
                        let total: f64 = scores.iter().map(|s| s.exp()).sum();
                        out.extend((0..d).map(|i| {
                            seen.iter().zip(&scores).map(|(&j, s)| s.exp() / total * v[j][kv + i]).sum::<f64>()
                        }));
                    }
                    let o = self.linear(l, Target::OProj, batch.names[r], &out);
                    x[r].iter_mut().zip(o).for_each(|(x, o)| *x += o);
                }
            }
            for (r, row) in x.iter_mut().enumerate() {
                let n = Self::norm(row, &self.full[slots.mlp_norm.clone()], c.norm_eps);
                let gate = self.linear(l, Target::GateProj, batch.names[r], &n);
                let up = self.linear(l, Target::UpProj, batch.names[r], &n);
                let act: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let down = self.linear(l, Target::DownProj, batch.names[r], &act);
                row.iter_mut().zip(down).for_each(|(x, d)| *x += d);
            }
        }
        let mut total = 0.0;
        for learnt in &batch.learnt {
            let n = Self::norm(&x[learnt.row], &self.full[s.norm.clone()], c.norm_eps);
            let head = &self.full[s.head.clone()];
            let logits: Vec<f64> = head.chunks_exact(h).map(|w| w.iter().zip(&n).map(|(a, b)| a * b).sum()).collect();
            let lse = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            total += f64::from(learnt.weight) * (lse - logits[learnt.target as usize]);
        }
        total
    }
}
