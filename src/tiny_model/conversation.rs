//! One conversation of a lesson: what is said to the model, and what it should answer.

use crate::error::Result;
use crate::models::decoder::train::{Branch, Group};
use crate::store::{ChatTemplate, Message, Tokenizer};
use crate::text::prompts::Conversation;

/// Prompt and answer as text.
pub(super) struct Lesson {
    pub conversation: Conversation,
    pub answer: String,
    /// Weight of each token of the answer.
    pub weight: f32,
}

impl Lesson {
    /// An answer to plain turns.
    pub fn new(messages: Vec<Message>, answer: String, weight: f32) -> Self {
        Self { conversation: Conversation::of(messages), answer, weight }
    }

    /// Everything that a tokenizer must know, without marks of turns.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.conversation.messages.iter().map(|m| m.content.as_str()).chain([self.answer.as_str()])
    }
}

/// Lessons of one group; what they have in common at the start is computed once.
///
/// # Errors
/// A template or tokenizer that fails.
pub(super) fn group(lessons: &[Lesson], tokenizer: &Tokenizer, chat: &ChatTemplate, context: usize) -> Result<Group> {
    let after = chat.after_answer()?;
    let after = after.trim_end();
    let mut sequences = Vec::with_capacity(lessons.len());
    for lesson in lessons {
        let c = &lesson.conversation;
        let mut text = chat.render(&c.messages, c.generation_prompt, None)?;
        text += &c.assistant_prefix.content;
        let mut tokens = tokenizer.encode(&text, true)?;
        let prompt = tokens.len();
        tokens.extend(tokenizer.encode(&format!("{}{after}", lesson.answer), false)?);
        if tokens.len() <= context {
            sequences.push((tokens, prompt, lesson.weight));
        }
    }
    let mut common = sequences.first().map_or(0, |s| s.1);
    for (tokens, prompt, _) in &sequences {
        let same = sequences[0].0.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // Each branch keeps a token in front of what it learns.
        common = common.min(same).min(prompt.saturating_sub(1));
    }
    let prefix = sequences.first().map_or_else(Vec::new, |s| s.0[..common].to_vec());
    let branches = sequences
        .into_iter()
        .map(|(tokens, prompt, weight)| Branch {
            targets: prompt - common..tokens.len() - common,
            tokens: tokens[common..].to_vec(),
            weight,
        })
        .collect();
    Ok(Group { prefix, branches })
}

/// A running text, every token of it a target.
///
/// # Errors
/// A tokenizer that fails.
pub(super) fn running(texts: &[String], tokenizer: &Tokenizer, weight: f32) -> Result<Group> {
    let mut branches = Vec::with_capacity(texts.len());
    for text in texts {
        let tokens = tokenizer.encode(text, true)?;
        if tokens.len() > 1 {
            branches.push(Branch { targets: 1..tokens.len(), tokens, weight });
        }
    }
    Ok(Group { prefix: Vec::new(), branches })
}
