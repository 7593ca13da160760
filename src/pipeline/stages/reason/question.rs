//! What is asked of the model for one sample, as a hash.

use std::borrow::Cow;

use serde::Serialize;

use super::super::prompts::PromptRow;
use super::{Reason, ReasonSettings};
use crate::config;
use crate::content::Content;
use crate::error::Result;
use crate::pipeline::stage::Stage;
use crate::store::chat::Message;

/// All that a sample follows from.
#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    settings: &'a ReasonSettings<'a>,
    model: &'a Content,
    messages: &'a [Message],
    hint: &'a str,
    /// Row and sample are the random counter.
    row: usize,
    sample: u32,
}

/// What is the same in the questions of all samples.
pub(super) struct Questions<'a> {
    settings: ReasonSettings<'a>,
    model: Content,
}

impl<'a> Questions<'a> {
    pub(super) fn new(settings: &'a ReasonSettings<'_>, model: Content) -> Self {
        Self { settings: of_one(settings), model }
    }

    pub(super) fn of(&self, row: &PromptRow, hint: &str, sample: u32) -> Result<Content> {
        Content::of(&Question {
            version: Reason::VERSION,
            settings: &self.settings,
            model: &self.model,
            messages: &row.prompt.messages,
            hint,
            row: row.row,
            sample,
        })
    }
}

/// Settings without what decides nothing about one sample: how many there are, and what the hint's
/// sentence says already.
fn of_one<'a>(settings: &'a ReasonSettings<'_>) -> ReasonSettings<'a> {
    let neutral = config::Reason::default();
    let reason = config::Reason {
        samples: neutral.samples,
        valid_rows: neutral.valid_rows,
        test_rows: neutral.test_rows,
        hint: neutral.hint,
        ablation: neutral.ablation,
        certainty: neutral.certainty,
        ..settings.reason.clone().into_owned()
    };
    ReasonSettings { reason: Cow::Owned(reason), ..*settings }
}
