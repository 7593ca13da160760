//! What is asked of the model for one row, as a hash.

use serde::Serialize;

use super::super::prompts::{PromptRow, PromptRows};
use super::{Predict, PredictInputs, PredictSettings};
use crate::content::Content;
use crate::error::Result;
use crate::pipeline::soft;
use crate::pipeline::stage::{Made, Stage};
use crate::store::chat::Message;
use crate::tensor::Matrix;

/// All that a row's probability follows from.
#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    settings: PredictSettings<'a>,
    model: &'a Content,
    tuned: Option<Content>,
    messages: &'a [Message],
    split: usize,
    /// Place and embedding of each soft token.
    soft: Vec<(usize, &'a [f32])>,
}

/// What is the same in the questions of all rows.
pub(super) struct Questions<'a> {
    settings: &'a PredictSettings<'a>,
    model: Content,
    tuned: Option<Content>,
    /// Numbers of the soft tokens, ascending, and their embeddings.
    soft: Option<(Vec<u32>, &'a Matrix)>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(
        settings: &'a PredictSettings<'a>,
        inputs: &PredictInputs<'_>,
        prompts: &'a PromptRows,
    ) -> Result<Self> {
        let soft = prompts.soft.as_ref().filter(|_| inputs.tuned.is_some());
        Ok(Self {
            settings,
            model: inputs.model.identity()?,
            tuned: inputs.tuned.map(Made::content),
            soft: soft.map(|matrix| (soft::numbers(&prompts.rows), matrix)),
        })
    }

    pub(super) fn of(&self, row: &PromptRow) -> Result<Content> {
        let embedding = |token: u32| -> &'a [f32] {
            let (numbers, matrix) = match &self.soft {
                Some((numbers, matrix)) => (numbers, *matrix),
                None => return &[],
            };
            match numbers.binary_search(&token) {
                Ok(at) => matrix.row(at),
                Err(_) => &[],
            }
        };
        let marks = row.prompt.soft.iter().filter(|_| self.soft.is_some());
        Content::of(&Question {
            version: Predict::VERSION,
            // How many rows are scored decides nothing about one of them.
            settings: PredictSettings { zero_shot_rows: None, ..self.settings.clone() },
            model: &self.model,
            tuned: self.tuned.clone(),
            messages: &row.prompt.messages,
            split: row.prompt.split,
            soft: marks.map(|mark| (mark.at, embedding(mark.token))).collect(),
        })
    }
}
