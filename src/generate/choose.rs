//! The next token of each row.

use super::GenerateSettings;
use super::flow::InFlight;
use crate::device::Rows;
use crate::error::Result;
use crate::models::decoder::Model;
use crate::ops::rows::{RowNumbers, add_rows, gather_rows};
use crate::ops::sampling::{Draw, sample};
use crate::tensor::Dtype;

/// An answer in the making.
pub(super) struct Row {
    /// Index of its prompt, and the prompt's row.
    pub(super) prompt: usize,
    pub(super) row: u32,
    pub(super) sample: u32,
    /// Which of the cache's places for answers.
    pub(super) slot: usize,
    /// The answer so far; the last token is not in the cache yet.
    pub(super) tokens: Vec<u32>,
}

impl InFlight for Row {
    fn name(&self) -> (u32, u32) {
        (self.row, self.sample)
    }

    fn tokens(&mut self) -> &mut Vec<u32> {
        &mut self.tokens
    }
}

/// Draws tokens; stop tokens are forbidden at first.
pub(super) struct Chooser<'a> {
    model: &'a Model,
    settings: &'a GenerateSettings,
    /// One row: -inf for stop tokens, 0 for others; there if they are forbidden at first.
    forbidden: Option<Rows>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(model: &'a Model, stop: &[u32], settings: &'a GenerateSettings) -> Result<Self> {
        let mut forbidden = None;
        if settings.min_new_tokens > 0 {
            let mut bias = vec![0.0f32; model.config().vocab];
            for &token in stop {
                if let Some(bias) = bias.get_mut(token as usize) {
                    *bias = f32::NEG_INFINITY;
                }
            }
            let vocab = model.config().vocab;
            forbidden = Some(Rows::upload(model.device(), Dtype::F32, vocab, &bias, "forbidden tokens")?);
        }
        Ok(Self { model, settings, forbidden })
    }

    /// Forbids stop tokens in the logits of rows that may not end yet.
    fn forbid(&self, rows: &[Row], logits: &mut Rows) -> Result<()> {
        let Some(forbidden) = &self.forbidden else { return Ok(()) };
        let early = (0..).zip(rows).filter(|(_, row)| row.tokens.len() < self.settings.min_new_tokens);
        let early: Vec<u32> = early.map(|(at, _)| at).collect();
        if early.is_empty() {
            return Ok(());
        }
        let device = self.model.device();
        let mut bias = Rows::zeros(device, Dtype::F32, early.len(), logits.dim(), "forbidden tokens")?;
        gather_rows(forbidden, &RowNumbers::upload(device, &vec![0; early.len()])?, &mut bias)?;
        add_rows(&bias, &RowNumbers::upload(device, &early)?, logits)?;
        Ok(())
    }

    /// Draws each row's next token from its logits, which may change.
    pub(super) fn draw(&self, rows: &mut [Row], logits: &mut Rows) -> Result<()> {
        self.forbid(rows, logits)?;
        let draw = |row: &Row| Draw { row: row.row, sample: row.sample, step: row.tokens.len() as u64 };
        let draws: Vec<Draw> = rows.iter().map(draw).collect();
        let drawn = sample(logits, self.settings.seed, &draws, self.settings.cut())?;
        rows.iter_mut().zip(drawn).for_each(|(row, token)| row.tokens.push(token));
        Ok(())
    }
}
