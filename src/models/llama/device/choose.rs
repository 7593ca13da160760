//! The next token of each row.

use super::DeviceModel;
use crate::device::{Buffer, DeviceRows, Storage};
use crate::error::Result;
use crate::generate::Settings;
use crate::generate::flow::InFlight;
use crate::ops::copy::{Places, gather, scatter};
use crate::ops::sampling::cuda::{Draw, sample};

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
pub(super) struct Chooser<'a, T: Storage> {
    model: &'a DeviceModel<T>,
    settings: &'a Settings,
    /// -inf for stop tokens, 0 for others; there if they are forbidden at first.
    forbidden: Option<Buffer<f32>>,
}

impl<'a, T: Storage> Chooser<'a, T> {
    pub(super) fn new(model: &'a DeviceModel<T>, stop: &[u32], settings: &'a Settings) -> Result<Self> {
        let mut forbidden = None;
        if settings.min_new_tokens > 0 {
            let mut bias = vec![0.0f32; model.config.vocab];
            for &token in stop {
                if let Some(bias) = bias.get_mut(token as usize) {
                    *bias = f32::NEG_INFINITY;
                }
            }
            forbidden = Some(model.device.upload(&bias, "forbidden tokens")?);
        }
        Ok(Self { model, settings, forbidden })
    }

    /// Logits for first tokens.
    pub(super) fn first(&self, hidden: &DeviceRows<T>) -> Result<DeviceRows<f32>> {
        self.model.logits(hidden, self.forbidden.as_ref())
    }

    /// Makes the logits of rows that may not end yet again, with those of stop tokens at -inf.
    pub(super) fn forbid(&self, rows: &[Row], hidden: &DeviceRows<T>, logits: &mut DeviceRows<f32>) -> Result<()> {
        let Some(forbidden) = &self.forbidden else { return Ok(()) };
        let early = (0..).zip(rows).filter(|(_, row)| row.tokens.len() < self.settings.min_new_tokens);
        let early: Vec<u32> = early.map(|(at, _)| at).collect();
        if early.is_empty() {
            return Ok(());
        }
        let places = Places::upload(&self.model.device, &early)?;
        let mut some = DeviceRows::zeros(&self.model.device, early.len(), hidden.dim(), "hidden states")?;
        gather(hidden, &places, &mut some)?;
        scatter(&self.model.logits(&some, Some(forbidden))?, &places, logits)?;
        Ok(())
    }

    /// Draws each row's next token.
    pub(super) fn draw(&self, rows: &mut [Row], logits: &DeviceRows<f32>) -> Result<()> {
        let draw = |row: &Row| Draw { row: row.row, sample: row.sample, step: row.tokens.len() as u64 };
        let draws: Vec<Draw> = rows.iter().map(draw).collect();
        let drawn = sample(&self.model.device, logits, self.settings.seed, &draws, self.settings.cut())?.0;
        rows.iter_mut().zip(drawn).for_each(|(row, token)| row.tokens.push(token));
        Ok(())
    }
}
