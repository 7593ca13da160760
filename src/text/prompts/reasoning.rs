//! What a reasoning model is asked: first to think, sampled several times; then, with its chain
//! of thought given back, for the answer whose probability is read.

use serde::{Deserialize, Serialize};

use super::Prompt;
use crate::store::chat::{Message, Role};
use crate::text::answer::chain_of_thought;

/// Where the opening think tag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThinkTag {
    /// After the assistant's header, where reasoning models were trained to see it, written by the
    /// chat template where it does so, else by us. The default.
    #[default]
    Assistant,
    /// Inside the user turn, without a generation prompt, the text encoded with special tokens once
    /// more: the authors' way.
    User,
    /// None from us, for models that have no such tag.
    None,
}

/// Where the second pass puts the chain of thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecondPass {
    /// In the user turn, after the task, as the authors do. The default.
    #[default]
    User,
    /// At the start of the assistant's turn, so that the answer follows its own chain of thought.
    Assistant,
}

/// How the reasoning model is prompted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReasoningSettings {
    /// The reasoning model's system message; empty, as the models' makers advise.
    pub system: String,
    /// Where the opening think tag stands; the authors put it into the user turn.
    pub think_tag: ThinkTag,
    /// Where the second pass puts the reasoning; the authors put it into the user turn.
    pub second_pass: SecondPass,
    /// The second pass reads Yes or No at this token of the answer. Tokens before it are written by
    /// the model, the likeliest each time. The authors' code reads DeepSeek-R1-Distill-Llama at the
    /// second, all other models at the first.
    #[schemars(range(min = 1, max = 16))]
    pub answer_position: usize,
}

impl Default for ReasoningSettings {
    fn default() -> Self {
        Self {
            system: String::new(),
            think_tag: ThinkTag::Assistant,
            second_pass: SecondPass::User,
            answer_position: 1,
        }
    }
}

/// A conversation and how it is turned into tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// Let the template write the assistant's header.
    pub generation_prompt: bool,
    /// Text to put right behind the rendered template: the beginning of the model's turn. Where the
    /// template has opened a thought already, see [`Conversation::beginning`].
    pub assistant_prefix: Message,
    /// Encode the rendered text with special tokens again: one BOS too many, as the authors have it
    /// (defect D8).
    pub extra_bos: bool,
    /// Where an answer is scored: at this token behind all that, counted from 1.
    pub answer_at: usize,
}

impl Conversation {
    /// Turns up to where the assistant answers.
    pub fn of(messages: Vec<Message>) -> Self {
        Self {
            messages,
            generation_prompt: true,
            assistant_prefix: Message::assistant(""),
            extra_bos: false,
            answer_at: 1,
        }
    }

    /// What to put behind the template's text, `rendered`: the prefix, so that each thought is
    /// opened once, whoever opens it. `answered`: an answer follows right away, so a thought that
    /// the template has opened is closed first.
    pub fn beginning(&self, rendered: &str, answered: bool) -> Message {
        let prefix = &self.assistant_prefix;
        if !self.generation_prompt || !opens_thought(rendered) {
            return prefix.clone();
        }
        match prefix.content.strip_prefix(OPEN) {
            Some(rest) => {
                // The template may write the line break as well.
                let rest = if rendered.ends_with('\n') { rest.trim_start_matches('\n') } else { rest };
                let gone = prefix.content.len() - rest.len();
                let tags = prefix.tags.iter().filter(|tag| tag.start >= gone);
                let tags = tags.map(|tag| tag.start - gone..tag.end - gone).collect();
                Message::assistant(rest).with_tags(tags)
            }
            None if answered => {
                let closed = no_thought(rendered);
                let (text, moved) = (closed + &prefix.content, no_thought(rendered).len());
                let tag = moved - CLOSE.len() - 2..moved - 2;
                let tags = std::iter::once(tag).chain(prefix.tags.iter().map(|t| t.start + moved..t.end + moved));
                Message::assistant(text).with_tags(tags.collect())
            }
            None => prefix.clone(),
        }
    }
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A chat template's text ends inside a thought: today's templates of DeepSeek-R1-Distill open one
/// behind the assistant's header, those of the first release did not.
pub fn opens_thought(rendered: &str) -> bool {
    rendered.trim_end().ends_with(OPEN)
}

/// What closes a thought that a template has just opened, as a thought of no words.
pub fn no_thought(rendered: &str) -> String {
    let line = if rendered.ends_with('\n') { "" } else { "\n" };
    format!("{line}\n{CLOSE}\n\n")
}

fn turns(prompt: &Prompt, system: &str, user: Message) -> Vec<Message> {
    let mut messages = Vec::with_capacity(2);
    if prompt.messages.iter().any(|m| m.role == Role::System) {
        messages.push(Message::system(system));
    }
    messages.push(user);
    messages
}

/// The first pass: the task, the hint (see [`crate::text::hint`]; empty for none), and the opening
/// think tag.
pub fn reasoning(prompt: &Prompt, hint: &str, settings: &ReasoningSettings) -> Conversation {
    let mut content = format!("{}{hint}", prompt.user());
    let user = settings.think_tag == ThinkTag::User;
    let mut tags = Vec::new();
    if user {
        content.push('\n');
        tags.push(content.len()..content.len() + OPEN.len());
        content.push_str(OPEN);
    }
    let prefix = if settings.think_tag == ThinkTag::Assistant { format!("{OPEN}\n") } else { String::new() };
    let own = 0..prefix.len();
    Conversation {
        messages: turns(prompt, &settings.system, Message::user(content).with_tags(tags)),
        generation_prompt: !user,
        assistant_prefix: Message::assistant(prefix).with_tags(vec![own]),
        extra_bos: user,
        answer_at: 1,
    }
}

/// The second pass of one sampled answer: the task without the hint, its chain of thought between
/// think tags, and the place where "Yes" or "No" is scored.
pub fn second_pass(prompt: &Prompt, answer: &str, settings: &ReasoningSettings) -> Conversation {
    let thoughts = format!("{OPEN}\n{}\n{CLOSE}", chain_of_thought(answer).trim());
    // The tags are ours; what stands between them is what the model wrote.
    let tags = |at: usize| {
        let end = at + thoughts.len();
        vec![at..at + OPEN.len(), end - CLOSE.len()..end]
    };
    let (user, assistant_prefix) = match settings.second_pass {
        SecondPass::User => {
            let task = format!("{}\n", prompt.user());
            let tags = tags(task.len());
            (Message::user(task + &thoughts).with_tags(tags), Message::assistant(""))
        }
        SecondPass::Assistant => {
            (Message::user(prompt.user()), Message::assistant(format!("{thoughts}\n\n")).with_tags(tags(0)))
        }
    };
    Conversation {
        messages: turns(prompt, &settings.system, user),
        generation_prompt: true,
        assistant_prefix,
        extra_bos: false,
        answer_at: settings.answer_position,
    }
}
