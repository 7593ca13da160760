//! One pass of new rows through all layers: texts of any lengths packed one behind the other,
//! without padding.
//!
//! On the CPU each row's result has the same bits whatever else is in the pass, and whether its
//! past was read now, before, or is shared with others.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::angles::Angles;
use super::cache::{Cache, aligned};
use super::layer::{Asked, Buffers, Keys, LABEL, LayerTape, Out, Shared, Stage, Tracer, layer, tell};
use super::placed::no_caps;
use super::{Model, SoftTokens, check, soft};
use crate::device::{Device, Rows};
use crate::error::{Error, Result};
use crate::ops::attention::cached::{Plan, Span};
use crate::ops::linear::Weight;
use crate::ops::linear::layers::{Side, project};
use crate::ops::rmsnorm::rmsnorm;
use crate::ops::rope::Positions;
use crate::ops::rows::{RowNumbers, copy_rows, gather_rows};
use crate::tensor::soft_cap::soft_cap;
use crate::tensor::{Dtype, Matrix};

/// New tokens of texts: where each stands in its sequence, the cache row that takes it, and what it
/// sees.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    pub(crate) tokens: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) places: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// The first cache row behind what was packed.
    end: usize,
}

impl Texts {
    /// Adds `tokens` behind the cache rows `past`, into the cache rows from `place` on, of which
    /// the first `seen` hold tokens before these. Returns their rows of the pass.
    pub fn add(&mut self, tokens: &[u32], past: &[Range<usize>], place: usize, seen: usize) -> Range<usize> {
        let first = self.tokens.len();
        let before = past.iter().map(Range::len).sum::<usize>() + seen;
        let numbers = |from: usize| (from..from + tokens.len()).map(|n| n as u32);
        self.positions.extend(numbers(before));
        self.places.extend(numbers(place + seen));
        self.tokens.extend_from_slice(tokens);
        let rows = first..first + tokens.len();
        let own = place..place + seen + tokens.len();
        self.end = self.end.max(aligned(own.end));
        self.spans.push(Span { rows: rows.clone(), past: past.to_vec(), own, visible: seen + 1 });
        rows
    }

    /// Adds `tokens` behind the cache rows `past`, into the next free ones. Returns their rows of
    /// the pass, and of the cache.
    pub fn pack(&mut self, tokens: &[u32], past: &[Range<usize>]) -> (Range<usize>, Range<usize>) {
        let place = self.end;
        (self.add(tokens, past, place, 0), place..place + tokens.len())
    }

    /// Cache rows that packed texts take.
    pub fn cache_rows(&self) -> usize {
        self.end
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// Which rows the caller wants of the last layer.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// These, ascending, each once.
    These(&'a [u32]),
}

/// The spans of the rows `wanted`, which ascend, as queries of a pass of their own.
fn wanted_spans(wanted: &[u32], spans: &[Span]) -> Result<Vec<Span>> {
    let (mut out, mut next) = (Vec::new(), 0);
    for span in spans {
        while let Some(&row) = wanted.get(next).filter(|r| span.rows.contains(&(**r as usize))) {
            let row = row as usize;
            let follows = |(i, r): &(usize, &u32)| span.rows.contains(&(**r as usize)) && **r as usize == row + i;
            let len = wanted[next..].iter().enumerate().take_while(follows).count();
            out.push(span.part(row..row + len, next));
            next += len;
        }
    }
    if next < wanted.len() {
        return Err(Error::failed("decoder", format!("row {} is asked for out of order", wanted[next])));
    }
    Ok(out)
}

/// Logits that one thread caps at a time.
const CAPPED: usize = 16 * 1024;
/// Tokens whose embeddings one thread reads faster than several.
const SERIAL: usize = 64;

/// Embeddings of tokens times `scale`; rows of the table, soft tokens among them, are read on the
/// CPU. `to` takes their shape.
pub(crate) fn embed(
    (table, scale): (&Weight, f32),
    soft_tokens: Option<&SoftTokens>,
    tokens: &[u32],
    to: &mut Rows,
) -> Result<()> {
    let width = table.cols();
    to.fit(tokens.len(), width, LABEL)?;
    let read = |values: &mut [f32]| {
        let one = |(row, &token): (&mut [f32], &u32)| {
            soft::read(table, soft_tokens, token, row);
            if scale != 1.0 {
                row.iter_mut().for_each(|v| *v *= scale);
            }
        };
        if tokens.len() <= SERIAL {
            values.chunks_exact_mut(width).zip(tokens).for_each(one);
        } else {
            values.par_chunks_exact_mut(width).with_min_len(SERIAL).zip(tokens).for_each(one);
        }
    };
    if let Rows::Cpu(m) = to {
        read(m.as_mut_slice());
        return Ok(());
    }
    let mut values = vec![0.0; tokens.len() * width];
    read(&mut values);
    to.write(&values)
}

/// What a decode step starts from, where it runs; written anew for the next one.
pub(crate) struct Start {
    /// Embeddings of the tokens.
    embedded: Rows,
    positions: Positions,
    places: RowNumbers,
    side: Side,
    angles: Arc<Angles>,
}

impl Model {
    /// Keys and values of `rows` tokens in every layer.
    ///
    /// # Errors
    /// Out of memory.
    pub fn cache(&self, rows: usize) -> Result<Cache> {
        Cache::new(self.device(), self.dtype(), self.config(), rows, true)
    }

    /// For one pass at a time: keys and values of one layer, which the next writes anew.
    ///
    /// # Errors
    /// Out of memory.
    pub fn scratch(&self, rows: usize) -> Result<Cache> {
        Cache::new(self.device(), self.dtype(), self.config(), rows, false)
    }

    /// Fails on tokens that the model cannot read behind `past` others. `place` names them.
    pub(crate) fn check(&self, tokens: &[u32], past: usize, place: impl Fn() -> String) -> Result<()> {
        check::tokens(self.config(), self.soft(), tokens, past, place)
    }

    /// Hidden states behind the final norm of the rows `wanted` of texts, whose tokens were
    /// checked; keys and values of all rows go to the cache. The last layer computes the wanted
    /// rows only.
    ///
    /// # Errors
    /// Places beyond the cache; out of memory.
    pub fn read(&self, texts: &Texts, cache: &mut Cache, wanted: Wanted<'_>) -> Result<Rows> {
        self.read_traced(texts, cache, wanted, None)
    }

    pub(crate) fn read_traced(
        &self,
        texts: &Texts,
        cache: &mut Cache,
        wanted: Wanted<'_>,
        mut trace: Option<Tracer<'_>>,
    ) -> Result<Rows> {
        let (device, dtype, c) = (self.device(), self.dtype(), self.config());
        let heads = c.attention_heads();
        let all = Plan::new(device, dtype, heads, texts.spans.clone())?.with_cap(c.score_cap)?;
        let places = RowNumbers::upload(device, &texts.places)?;
        let positions = Positions::upload(device, &texts.positions)?;
        let side = Side::of(device, texts.rows())?;
        let of_wanted = match wanted {
            Wanted::All => None,
            Wanted::These(rows) => {
                let spans = wanted_spans(rows, &texts.spans)?;
                let plan = Plan::new(device, dtype, heads, spans)?.with_cap(c.score_cap)?;
                let at: Vec<u32> = rows.iter().map(|&r| texts.positions[r as usize]).collect();
                let rows_of = RowNumbers::upload(device, rows)?;
                Some((plan, Side::of(device, rows.len())?, rows_of, Positions::upload(device, &at)?))
            }
        };
        let angles = self.angles(texts.positions.iter().max().map_or(1, |&p| p as usize + 1))?;
        let (asked, plan) = match &of_wanted {
            None => (None, &all),
            Some((plan, side, rows, positions)) => (Some(Asked { side, rows, positions: Some(positions) }), plan),
        };
        let shared = Shared {
            config: c,
            params: self.params(),
            angles: &angles,
            all: &side,
            positions: &positions,
            asked,
            keys: Keys::Cached { all: &all, asked: plan, places: &places },
            dropout: None,
        };
        let (mut tape, mut buffers) = cache.take_work(device, dtype)?;
        embed(self.table(), self.soft(), &texts.tokens, &mut tape.input.x)?;
        tell(&mut trace, 0, Stage::Embedding, &tape.input.x);
        let hidden = self.run(&shared, &mut tape, &mut buffers, cache, &mut trace);
        cache.put_work((tape, buffers));
        hidden
    }

    /// The embedding table, and what its rows are multiplied by.
    fn table(&self) -> (&Weight, f32) {
        (&self.weights().embed, self.config().embedding_scale())
    }

    /// All layers and the final norm.
    fn run(
        &self,
        shared: &Shared<'_>,
        tape: &mut LayerTape,
        buffers: &mut Buffers,
        cache: &mut Cache,
        trace: &mut Option<Tracer<'_>>,
    ) -> Result<Rows> {
        let mut pending = false;
        for l in 0..self.config().layers {
            let cache = cache.layer(l);
            pending = layer(shared, l, Out { tape, buffers, pending, cache, next: None, trace })?;
        }
        if let (0, Some(asked)) = (self.config().layers, shared.asked) {
            tape.mid.x.fit(asked.side.rows(), self.config().hidden, LABEL)?;
            gather_rows(&tape.input.x, asked.rows, &mut tape.mid.x)?;
            std::mem::swap(&mut tape.input.x, &mut tape.mid.x);
        }
        let mut hidden = tape.input.x.zeros_beside(0, 0, "hidden states")?;
        let add = pending.then_some(&buffers.delta);
        rmsnorm(&mut tape.input.x, add, shared.params.last_norm(), shared.eps(), &mut hidden)?;
        if let (true, Some(last)) = (pending, self.config().layers.checked_sub(1)) {
            tell(trace, last, Stage::LayerOutput, &tape.input.x);
        }
        Ok(hidden)
    }

    /// Logits (rows, vocabulary) of final hidden states, in f32.
    ///
    /// # Errors
    /// Rows of another width; out of memory.
    pub fn logits(&self, hidden: &Rows) -> Result<Rows> {
        self.logits_by(&Side::of(self.device(), hidden.rows())?, hidden)
    }

    fn logits_by(&self, side: &Side, hidden: &Rows) -> Result<Rows> {
        let mut logits = Rows::unwritten(self.device(), Dtype::F32, hidden.rows(), self.config().vocab, "logits")?;
        let head = self.params().logits().ok_or_else(|| Error::failed("output head", "of a layer's type"))?;
        project(side, hidden, head, &mut logits)?;
        if let Some(cap) = self.config().logit_cap {
            let Rows::Cpu(values) = &mut logits else { return Err(no_caps(self.config())) };
            values.as_mut_slice().par_chunks_mut(CAPPED).for_each(|part| soft_cap(part, cap as f32));
        }
        Ok(logits)
    }

    /// Where a decode step of these rows begins.
    pub(crate) fn start(&self, rows: &Texts) -> Result<Start> {
        let device = self.device();
        let mut embedded = Rows::zeros(device, self.dtype(), 0, 0, "hidden states")?;
        embed(self.table(), self.soft(), &rows.tokens, &mut embedded)?;
        // On kernels a recorded step turns by any position: its launches are not made again.
        let len = match device {
            Device::Cpu => rows.positions.iter().max().map_or(1, |&p| p as usize + 1),
            Device::Kernels(_) => self.config().context,
        };
        Ok(Start {
            embedded,
            positions: Positions::upload(device, &rows.positions)?,
            places: RowNumbers::upload(device, &rows.places)?,
            side: Side::step(device, rows.rows())?,
            angles: self.angles(len)?,
        })
    }

    /// Writes as many other rows where `start` has its own.
    pub(crate) fn restart(&self, start: &mut Start, rows: &Texts, cache: &Cache) -> Result<()> {
        embed(self.table(), self.soft(), &rows.tokens, &mut start.embedded)?;
        start.positions.write(&rows.positions, self.config().context)?;
        start.places.write(&rows.places, cache.rows())
    }

    /// The logits behind all rows. On kernels nothing but launches: it can be recorded, with
    /// buffers that nobody else uses.
    pub(crate) fn step(
        &self,
        start: &Start,
        plan: &Plan,
        cache: &mut Cache,
        (tape, buffers): &mut (LayerTape, Buffers),
    ) -> Result<Rows> {
        let shared = Shared {
            config: self.config(),
            params: self.params(),
            angles: &start.angles,
            all: &start.side,
            positions: &start.positions,
            asked: None,
            keys: Keys::Cached { all: plan, asked: plan, places: &start.places },
            dropout: None,
        };
        copy_rows(&start.embedded, &mut tape.input.x, LABEL)?;
        let hidden = self.run(&shared, tape, buffers, cache, &mut None)?;
        self.logits_by(&start.side, &hidden)
    }

    /// Buffers of a decode step.
    pub(crate) fn step_buffers(&self) -> Result<(LayerTape, Buffers)> {
        Ok((LayerTape::new(self.device(), self.dtype())?, Buffers::new(self.device(), self.dtype())?))
    }

    /// Texts of their own, in a pass that keeps nothing, and the last row of each.
    fn packed(&self, texts: &[&[u32]]) -> Result<(Texts, Vec<u32>)> {
        let (mut packed, mut last) = (Texts::default(), Vec::with_capacity(texts.len()));
        for (i, text) in texts.iter().enumerate() {
            self.check(text, 0, || format!("sequence {i}"))?;
            last.push(packed.pack(text, &[]).0.end as u32 - 1);
        }
        Ok((packed, last))
    }

    /// Logits (texts, vocabulary) behind each text, read in one pass.
    ///
    /// # Errors
    /// A text without a token, with one outside the vocabulary, or beyond the model's context; out
    /// of memory.
    pub fn last_logits(&self, texts: &[&[u32]]) -> Result<Matrix> {
        let (packed, last) = self.packed(texts)?;
        let hidden = self.read(&packed, &mut self.scratch(packed.cache_rows())?, Wanted::These(&last))?;
        self.logits(&hidden)?.into_matrix()
    }

    /// Logits (tokens, vocabulary) behind every token of a text: large; for comparisons.
    ///
    /// # Errors
    /// As [`Model::last_logits`].
    pub fn all_logits(&self, text: &[u32]) -> Result<Matrix> {
        let (packed, _) = self.packed(&[text])?;
        let hidden = self.read(&packed, &mut self.scratch(packed.cache_rows())?, Wanted::All)?;
        self.logits(&hidden)?.into_matrix()
    }

    /// Hidden states (tokens, hidden) of a text behind the final norm, on the CPU telling `tracer`
    /// what comes between.
    ///
    /// # Errors
    /// As [`Model::last_logits`].
    pub fn trace(&self, text: &[u32], tracer: Tracer<'_>) -> Result<Matrix> {
        let (packed, _) = self.packed(&[text])?;
        let mut cache = self.scratch(packed.cache_rows())?;
        self.read_traced(&packed, &mut cache, Wanted::All, Some(tracer))?.into_matrix()
    }
}
