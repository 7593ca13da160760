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
        adaptive: neutral.adaptive,
        adaptive_step: neutral.adaptive_step,
        valid_rows: neutral.valid_rows,
        test_rows: neutral.test_rows,
        hint: neutral.hint,
        ablation: neutral.ablation,
        without_retrieval: neutral.without_retrieval,
        certainty: neutral.certainty,
        ..settings.reason.clone().into_owned()
    };
    ReasonSettings { reason: Cow::Owned(reason), ..*settings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Recipe};
    use crate::pipeline::chosen::{Set, Variant};
    use crate::text::prompts::Prompt;

    #[test]
    fn a_question_holds_what_reaches_one_sample_and_nothing_else() {
        let prompt =
            Prompt { messages: vec![Message::user("Up?".to_string())], split: 0, shown: vec![], soft: Vec::new() };
        let row = PromptRow { set: Set::Test, row: 3, at: 3, variant: Variant::Main, label: true, prompt };
        let asked = |recipe: &Recipe, hint: &str, sample: u32| {
            let settings = ReasonSettings::of(recipe);
            Questions::new(&settings, Content::of_text("a model")).of(&row, hint, sample).unwrap()
        };
        let of = |set: &str| asked(&config::parse("", "base", &[set.to_owned()]).unwrap(), "hint", 0);
        let base = of("name=other");
        for set in [
            "samples=3",
            "adaptive=0.1",
            "adaptive_step=3",
            "valid_rows=5",
            "test_rows=6",
            "hint=false",
            "ablation=true",
            "without_retrieval=true",
            "certainty.strong=0.45",
        ] {
            assert_eq!(of(&format!("reason.{set}")), base, "{set}");
        }
        for set in [
            "reason.temperature=0.5",
            "reason.top_p=0.5",
            "reason.top_k=7",
            "reason.max_tokens=70",
            "reason.seed=7",
            "reason.stop_at_answer=true",
            "reason.matching=substring",
            "reason.prompt.system=Be kind.",
            "reason.prompt.think_tag=none",
            "reason.prompt.second_pass=assistant",
            "reason.prompt.answer_position=2",
            "predict.score=double_softmax",
            "predict.yes=yes",
        ] {
            assert_ne!(of(set), base, "{set}");
        }
        let recipe = Recipe::default();
        assert_eq!(asked(&recipe, "hint", 0), base);
        assert_ne!(asked(&recipe, "another", 0), base);
        assert_ne!(asked(&recipe, "hint", 1), base);
    }
}
