//! Everything that is said to a language model: the recommendation prompt, the request for a
//! description, the reasoning prompt and its second pass. Wording follows the papers' description
//! of it.

mod build;
mod describe;
mod fit;
mod list;
mod reasoning;
#[cfg(test)]
mod tests;
mod wording;

use serde::{Deserialize, Serialize};

use crate::settings::{Checked, Faults};

pub use build::{Mark, Prompt, Prompter, SoftPlaces};
pub use describe::{clean_description, description};
pub use fit::{CutReport, Drop, Fitted, drop_order, fit};
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

/// What the order of the shown items means. It follows from the template and decides one word of
/// the wording.
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
pub struct PromptSettings {
    /// Full sentences as in the papers, or few words for small models and small budgets.
    pub style: Style,
    /// How the history is written.
    pub list: List,
    /// What the order of the items means; whoever shows them knows it.
    #[serde(skip)]
    pub order: Order,
    /// Number the items from 0, as the authors do in one template of the book data.
    pub numbered: bool,
    /// Say from which rating on an item counts as liked.
    pub threshold_note: bool,
    /// Say who the user is, where the data knows.
    pub profile: bool,
    /// Where the sentences go that `collab.wording` asks for.
    pub placement: Placement,
    /// The system message, in tuning and scoring alike; `predict.system` sets another one for
    /// scoring (defect D8).
    pub system: String,
    /// Send a system turn at all, even an empty one.
    pub system_turn: bool,
    /// The date, as YYYY-MM-DD, for chat templates that print one. Empty: the date written in the
    /// template, so that a prompt never changes by day.
    pub date: String,
    /// Let titles, descriptions and users' fields become control tokens where they spell one, as
    /// transformers does. Off, they stay words, so a title cannot end a turn.
    pub control_tokens_in_data: bool,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self {
            style: Style::Paper,
            list: List::Python,
            order: Order::InOrder,
            numbered: false,
            threshold_note: true,
            profile: true,
            placement: Placement::BeforeQuestion,
            system: FRIENDLY.into(),
            system_turn: true,
            date: String::new(),
            control_tokens_in_data: false,
        }
    }
}

impl PromptSettings {
    /// The compact style that small models take best: short wording, one line an item.
    pub fn short() -> Self {
        Self { style: Style::Short, list: List::Lines, ..Self::default() }
    }

    /// The date for a chat template.
    pub fn date(&self) -> Option<&str> {
        (!self.date.is_empty()).then_some(self.date.as_str())
    }
}

impl Checked for PromptSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let fine = self.date().is_none_or(|d| d.parse::<jiff::civil::Date>().is_ok());
        let what = format!("`{}` is not a date", self.date);
        faults.unless(fine, "date", what, "write it as YYYY-MM-DD, or leave it empty");
        faults
    }
}
