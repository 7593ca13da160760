//! Everything that is said to a language model: the recommendation prompt, the request for a description, the
//! reasoning prompt and its second pass. Wording follows the papers' description of it.

mod build;
mod describe;
mod fit;
mod list;
mod reasoning;
#[cfg(test)]
mod tests;
mod wording;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use build::{Mark, Prompt, Prompter, SoftPlaces};
pub use describe::{clean_description, description};
pub use fit::{CutReport, Drop, Fitted, cut_right, drop_order, fit};
pub use list::python_string;
pub use reasoning::{Conversation, ReasoningSettings, SecondPass, ThinkTag, reasoning, second_pass};

/// The sentence that tuning and scoring share.
pub const FRIENDLY: &str = "You are a friendly and helpful assistant.";

/// The gold answers.
pub const GOLD: [&str; 2] = ["No.", "Yes."];

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Full sentences, as in the papers. The default.
    #[default]
    Paper,
    /// Few words, for small models and small budgets.
    Short,
}

/// How the history is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// As Python prints a list of strings: `['Heat (1995) (4 stars)', ...]`. The default.
    #[default]
    Python,
    /// One line an item: `Heat (1995): 4`.
    Lines,
    /// One line in all: `Heat (1995): 4; ...`.
    Inline,
    /// Two lines, liked and disliked titles, without ratings; the fewest tokens.
    Grouped,
}

/// What the order of the shown items means; it decides one word of the wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first ("in order"). The default.
    #[default]
    InOrder,
    /// By similarity to the target ("most relevant").
    MostRelevant,
    /// Reranked or mixed ("relevant").
    Relevant,
}

/// Where the sentences on ratings of the target (see [`crate::text::ratings`]) are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Right before the question, so that prompts of one user keep a common beginning. The default.
    #[default]
    BeforeQuestion,
    /// Right after the question.
    AfterQuestion,
    /// At the very beginning; prompts of one user then share nothing.
    First,
}

/// How a recommendation prompt is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// History items shown at most (K of the papers), 0 to 1000. Default 30.
    pub history: u32,
    /// `paper` (full sentences) or `short`. Default `paper`.
    pub style: Style,
    /// `python`, `lines`, `inline` or `grouped`. Default `python`.
    pub list: List,
    /// What the order of the items means: `in_order`, `most_relevant`, `relevant`. Default `in_order`.
    pub order: Order,
    /// Number the items from 0, as the authors do in one template of the book data. Default false.
    pub numbered: bool,
    /// Say what makes an item "liked". Default true.
    pub threshold_note: bool,
    /// Say who the user is, where the data knows. Default true.
    pub profile: bool,
    /// Where the sentences on ratings of the target go: `before_question`, `after_question`, `first`. Default `before_question`.
    pub knowledge: Placement,
    /// The system message, in tuning and scoring alike; `predict.system` sets another one for scoring (defect D8).
    /// Default: one sentence on a friendly and helpful assistant.
    pub system: String,
    /// Send a system turn at all, even an empty one. Default true.
    pub system_turn: bool,
    /// The date that chat templates which print one get, `YYYY-MM-DD`. Empty: the one written in the template, so
    /// that a prompt never changes by day. Default empty.
    pub date: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            history: 30,
            style: Style::Paper,
            list: List::Python,
            order: Order::InOrder,
            numbered: false,
            threshold_note: true,
            profile: true,
            knowledge: Placement::BeforeQuestion,
            system: FRIENDLY.into(),
            system_turn: true,
            date: String::new(),
        }
    }
}

impl Settings {
    /// The compact style that small models take best: short wording, one line an item.
    pub fn short() -> Self {
        Self { style: Style::Short, list: List::Lines, ..Self::default() }
    }

    /// The date for a chat template.
    pub fn date(&self) -> Option<&str> {
        (!self.date.is_empty()).then_some(self.date.as_str())
    }

    /// Are the values in range?
    ///
    /// # Errors
    /// Names the key that is not.
    pub fn check(&self) -> Result<()> {
        if self.history > 1000 {
            return Err(Error::usage("prompt.history", format!("{} items", self.history))
                .next("choose 0 to 1000; the authors use 30"));
        }
        if self.date().is_some_and(|d| d.parse::<jiff::civil::Date>().is_err()) {
            return Err(Error::usage("prompt.date", format!("`{}` is not a date", self.date))
                .next("write it as YYYY-MM-DD, or leave it empty"));
        }
        Ok(())
    }
}
