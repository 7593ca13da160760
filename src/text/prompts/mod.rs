//! Everything that is said to a language model: the recommendation prompt, the request for a
//! description, the reasoning prompt and its second pass. Wording follows the papers' description
//! of it.

mod build;
mod describe;
mod fit;
mod list;
mod own;
mod reasoning;
#[cfg(test)]
mod tests;
mod wording;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, nouns};
use crate::retrieval::Template;
use crate::settings::{Checked, Faults};

pub use build::{Mark, Prompt, Prompter, SoftPlaces};
pub use describe::{clean_description, description};
pub use fit::{CutReport, Drop, Fitted, drop_order, fit};
pub use list::python_string;
pub use own::{OwnTemplate, VARIABLES};
pub use reasoning::{
    Conversation, ReasoningSettings, SecondPass, ThinkTag, no_thought, opens_thought, reasoning, second_pass,
};

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
    /// It means nothing: the data has no times, and the history was shuffled. No word is said of
    /// it.
    Unordered,
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
    /// A template file of your own that writes the user's turn, in the language of chat templates.
    /// docs/recipe.md has an example. Its variables:
    ///
    /// - `user`: the fields that the data knows of the user: `{{ user.age }}`, `{{ user.gender
    ///   }}`, ...
    /// - `items`: the history items shown, in order; each has `title`, `rating`, `liked`,
    ///   `genres`, and its own fields
    /// - `target`: the item asked about: `title`, `genres`, and its own fields
    /// - `list`: the history as `prompt.list` writes it; empty without history
    /// - `ratings`: the sentences that `collab.wording` asks for; empty without
    /// - `profile`: the sentences on the user; empty where `prompt.profile` is off or nothing
    ///   is known
    /// - `introduction`: the sentence before the list
    /// - `notes`: what stars mean, and when an item counts as liked
    /// - `question`: the question, with the title of the target
    /// - `answer_only`: the order to answer only yes or no
    /// - `order`: what the order of the items means: `in_order`, `most_relevant`, `relevant` or
    ///   `unordered`
    /// - `noun`: what an item is called: `movie`
    /// - `nouns`: what items are called: `movies`
    /// - `did`: what users do with items: `watched`
    /// - `threshold`: a rating above it is a like
    /// - `lowest`: the lowest rating of the scale
    /// - `highest`: the highest rating of the scale
    /// - `k`: how many history items are shown
    #[schemars(length(min = 1))]
    pub file: Option<PathBuf>,
    /// Number the items from 0. The template `low` of books has numbers all the same, as the
    /// authors have it.
    pub numbered: bool,
    /// Say from which rating on an item counts as liked. The template `low` of books never says so,
    /// as the authors have it.
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
    /// Faithful to the authors' wording: say that a list is "in order" also where the data has no
    /// times and the history was shuffled.
    pub faithful_order: bool,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self {
            style: Style::Paper,
            list: List::Python,
            order: Order::InOrder,
            file: None,
            numbered: false,
            threshold_note: true,
            profile: true,
            placement: Placement::BeforeQuestion,
            system: FRIENDLY.into(),
            system_turn: true,
            date: String::new(),
            control_tokens_in_data: false,
            faithful_order: false,
        }
    }
}

impl PromptSettings {
    /// The compact style that small models take best: short wording, one line an item.
    pub fn short() -> Self {
        Self { style: Style::Short, list: List::Lines, ..Self::default() }
    }

    /// The settings for items that `template` shows of this data.
    #[must_use]
    pub fn of_template(&self, template: Template, dataset: &Dataset) -> Self {
        let order = match template {
            Template::Simple | Template::Sequential if !dataset.has_times && !self.faithful_order => Order::Unordered,
            Template::Simple | Template::Sequential => Order::InOrder,
            Template::High | Template::Low => Order::MostRelevant,
            Template::Rerank => Order::Relevant,
        };
        let bare = template == Template::Low && self.style == Style::Paper && nouns::of(&dataset.noun).low_is_numbered;
        Self { order, numbered: self.numbered || bare, threshold_note: self.threshold_note && !bare, ..self.clone() }
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
