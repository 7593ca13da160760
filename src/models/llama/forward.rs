//! The forward pass over a ragged batch: sequences of any lengths packed one behind the other, without padding.
//!
//! Each row's result has the same bits whatever else is in the batch, and whether its past was computed now, cached,
//! or shared with others.

use super::kv_cache::Sequence;
use super::model::Model;
use super::projections::To;
use super::{Layer, check, soft};
use crate::error::{Error, Result};
use crate::models::lora::Target;
use crate::ops::attention::{Heads, Item, attend};
use crate::ops::linear::matmul_nt;
use crate::ops::rmsnorm::{rmsnorm, rmsnorm_in_place};
use crate::ops::rope::Angles;
use crate::ops::swiglu::swiglu_in_place;
use crate::ops::yes_no::{Choice, choose};
use crate::tensor::Matrix;

/// New tokens of one sequence.
pub struct Part<'a> {
    /// At least one.
    pub tokens: &'a [u32],
    /// What was seen before; the new tokens' keys and values are added to it.
    pub sequence: &'a mut Sequence,
}

/// How a text's hidden states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over the tokens of this pass.
    #[default]
    Mean,
    /// The last token's.
    Last,
}

/// An intermediate result, for comparing with another implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Token embeddings (rows, hidden).
    Embedding,
    /// After the first norm (rows, hidden).
    AttentionNorm,
    /// Before rope (rows, heads * head_dim).
    Queries,
    /// Before rope (rows, kv_heads * head_dim).
    Keys,
    /// (rows, kv_heads * head_dim).
    Values,
    /// Before the output projection (rows, heads * head_dim).
    Attention,
    /// After the second norm (rows, hidden).
    MlpNorm,
    /// The residual stream behind a layer (rows, hidden).
    LayerOutput,
}

/// Hears (layer, stage, values).
pub type Tracer<'a> = &'a mut dyn FnMut(usize, Stage, &[f32]);

/// Which rows the caller wants of the last layer.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    All,
    Last,
}

/// Scratch of a pass, used again by every layer.
struct Buffers {
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Model {
    /// Logits (parts, vocab) behind each part's last token.
    pub fn last_logits(&self, parts: &mut [Part<'_>]) -> Result<Matrix> {
        let hidden = self.pass(parts, Wanted::Last, None)?;
        Ok(self.logits(&hidden))
    }

    /// Logits (rows, vocab) of all positions: large; for comparisons.
    pub fn all_logits(&self, parts: &mut [Part<'_>]) -> Result<Matrix> {
        let hidden = self.pass(parts, Wanted::All, None)?;
        Ok(self.logits(&hidden))
    }

    /// Reads the parts for their keys and values only.
    pub fn read(&self, parts: &mut [Part<'_>]) -> Result<()> {
        self.pass(parts, Wanted::Last, None).map(|_| ())
    }

    /// Hidden states (rows, hidden) after the final norm, all positions.
    pub fn hidden(&self, parts: &mut [Part<'_>]) -> Result<Matrix> {
        self.pass(parts, Wanted::All, None)
    }

    /// As [`Model::hidden`], telling `tracer` what comes between.
    pub fn trace(&self, parts: &mut [Part<'_>], tracer: Tracer<'_>) -> Result<Matrix> {
        self.pass(parts, Wanted::All, Some(tracer))
    }

    /// One vector (hidden) a part: the states after the final norm, pooled over the part's tokens.
    pub fn pooled(&self, parts: &mut [Part<'_>], pooling: Pooling) -> Result<Matrix> {
        if pooling == Pooling::Last {
            return self.pass(parts, Wanted::Last, None);
        }
        let lengths: Vec<usize> = parts.iter().map(|p| p.tokens.len()).collect();
        let hidden = self.pass(parts, Wanted::All, None)?;
        let mut pooled = Matrix::zeros(lengths.len(), hidden.cols());
        let (mut from, mut sum) = (0, vec![0.0f64; hidden.cols()]);
        for (i, &n) in lengths.iter().enumerate() {
            sum.fill(0.0);
            for row in from..from + n {
                sum.iter_mut().zip(hidden.row(row)).for_each(|(s, &h)| *s += f64::from(h));
            }
            pooled.row_mut(i).iter_mut().zip(&sum).for_each(|(p, s)| *p = (s / n as f64) as f32);
            from += n;
        }
        Ok(pooled)
    }

    /// What each part's last position says about two answers, without the vocabulary's logits.
    pub fn choices(&self, parts: &mut [Part<'_>], ids: [u32; 2]) -> Result<Vec<Choice>> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config().vocab) {
            let what = format!("answer token {id} is not in the vocabulary of {}", self.config().vocab);
            return Err(Error::input("model", what).next("take the ids from this model's tokenizer"));
        }
        let hidden = self.pass(parts, Wanted::Last, None)?;
        Ok(choose(hidden.as_slice(), self.weights().head(), ids))
    }

    /// Logits (rows, vocab) of final hidden states.
    pub fn logits(&self, hidden: &Matrix) -> Matrix {
        let mut logits = Matrix::zeros(hidden.rows(), self.config().vocab);
        matmul_nt(hidden.as_slice(), self.weights().head(), logits.as_mut_slice(), false);
        logits
    }

    fn check(&self, parts: &[Part<'_>]) -> Result<()> {
        parts.iter().enumerate().try_for_each(|(i, part)| {
            check::tokens(self.config(), self.soft(), part.tokens, part.sequence.len(), || format!("sequence {i}"))
        })
    }

    fn pass(&self, parts: &mut [Part<'_>], wanted: Wanted, mut tracer: Option<Tracer<'_>>) -> Result<Matrix> {
        self.check(parts)?;
        let (c, w) = (self.config(), self.weights());
        let rows: usize = parts.iter().map(|p| p.tokens.len()).sum();
        let mut hidden = vec![0.0f32; rows * c.hidden];
        let mut positions = Vec::with_capacity(rows);
        for part in parts.iter() {
            let start = part.sequence.len();
            for (i, &token) in part.tokens.iter().enumerate() {
                let at = positions.len() * c.hidden;
                soft::read(&w.embed, self.soft(), token, &mut hidden[at..at + c.hidden]);
                positions.push((start + i) as u32);
            }
        }
        if let Some(t) = &mut tracer {
            t(0, Stage::Embedding, &hidden);
        }
        let angles = self.rope.angles(positions.into_iter());
        let mut b = Buffers {
            normed: vec![0.0; rows * c.hidden],
            q: vec![0.0; rows * c.q_width()],
            k: vec![0.0; rows * c.kv_width()],
            v: vec![0.0; rows * c.kv_width()],
            attended: vec![0.0; rows * c.q_width()],
            gate: vec![0.0; rows * c.intermediate],
            up: vec![0.0; rows * c.intermediate],
        };
        for (i, layer) in w.layers.iter().enumerate() {
            self.attention(i, layer, parts, &angles, &hidden, &mut b, &mut tracer);
            if i + 1 == w.layers.len() && wanted == Wanted::Last {
                // What follows concerns each row alone, and nobody will ask for the others.
                keep_last(parts, &mut hidden, c.hidden);
                keep_last(parts, &mut b.attended, c.q_width());
                b.normed.truncate(hidden.len());
                b.gate.truncate(parts.len() * c.intermediate);
                b.up.truncate(parts.len() * c.intermediate);
            }
            self.mlp(i, layer, &mut hidden, &mut b, &mut tracer);
            if let Some(t) = &mut tracer {
                t(i, Stage::LayerOutput, &hidden);
            }
        }
        if w.layers.is_empty() && wanted == Wanted::Last {
            keep_last(parts, &mut hidden, c.hidden);
        }
        for part in parts.iter_mut() {
            part.sequence.commit(part.tokens.len());
        }
        rmsnorm_in_place(&mut hidden, &w.norm, c.norm_eps);
        Matrix::from_vec(hidden.len() / c.hidden, c.hidden, hidden)
    }

    #[allow(clippy::too_many_arguments)]
    fn attention(
        &self,
        i: usize,
        layer: &Layer,
        parts: &mut [Part<'_>],
        angles: &Angles,
        hidden: &[f32],
        b: &mut Buffers,
        tracer: &mut Option<Tracer<'_>>,
    ) {
        let c = self.config();
        rmsnorm(hidden, &layer.attn_norm, c.norm_eps, &mut b.normed);
        let [q, k, v] = [(Target::QProj, &mut b.q), (Target::KProj, &mut b.k), (Target::VProj, &mut b.v)]
            .map(|(target, y)| To::new(target, y));
        self.project(i, &b.normed, c.hidden, &mut [q, k, v]);
        if let Some(t) = tracer {
            t(i, Stage::AttentionNorm, &b.normed);
            t(i, Stage::Queries, &b.q);
            t(i, Stage::Keys, &b.k);
            t(i, Stage::Values, &b.v);
        }
        if let Some(norm) = &layer.q_norm {
            rmsnorm_in_place(&mut b.q, norm, c.norm_eps);
        }
        if let Some(norm) = &layer.k_norm {
            rmsnorm_in_place(&mut b.k, norm, c.norm_eps);
        }
        angles.apply(&mut b.q, c.heads);
        angles.apply(&mut b.k, c.kv_heads);
        let mut from = 0;
        for part in parts.iter_mut() {
            let to = from + part.tokens.len() * c.kv_width();
            part.sequence.append(c, i, &b.k[from..to], &b.v[from..to]);
            from = to;
        }
        let items: Vec<Item<'_>> = parts
            .iter()
            .map(|part| {
                let rows = part.tokens.len();
                Item { rows, runs: (0..c.kv_heads).map(|h| part.sequence.runs(c, i, h, rows)).collect() }
            })
            .collect();
        let heads = Heads { query: c.heads, kv: c.kv_heads, dim: c.head_dim };
        attend(&b.q, heads, &items, &mut b.attended, None);
        if let Some(t) = tracer {
            t(i, Stage::Attention, &b.attended);
        }
    }

    /// The output projection and the MLP, both added to `hidden`.
    fn mlp(&self, i: usize, layer: &Layer, hidden: &mut [f32], b: &mut Buffers, tracer: &mut Option<Tracer<'_>>) {
        let c = self.config();
        self.project(i, &b.attended, c.q_width(), &mut [To { accumulate: true, ..To::new(Target::OProj, hidden) }]);
        rmsnorm(hidden, &layer.mlp_norm, c.norm_eps, &mut b.normed);
        if let Some(t) = tracer {
            t(i, Stage::MlpNorm, &b.normed);
        }
        let [gate, up] =
            [(Target::GateProj, &mut b.gate), (Target::UpProj, &mut b.up)].map(|(target, y)| To::new(target, y));
        self.project(i, &b.normed, c.hidden, &mut [gate, up]);
        swiglu_in_place(&mut b.gate, &b.up);
        self.project(i, &b.gate, c.intermediate, &mut [To { accumulate: true, ..To::new(Target::DownProj, hidden) }]);
    }
}

/// Keeps each part's last row of `values` (rows, width).
fn keep_last(parts: &[Part<'_>], values: &mut Vec<f32>, width: usize) {
    let mut end = 0;
    for (i, part) in parts.iter().enumerate() {
        end += part.tokens.len();
        values.copy_within((end - 1) * width..end * width, i * width);
    }
    values.truncate(parts.len() * width);
}
