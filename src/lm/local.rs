//! The local engine's model: weights, tokenizer and chat template.

use super::{Clip, Reader, Reading};
use crate::error::{Error, Result};
use crate::models::decoder::{Arithmetic, Model};
use crate::store::chat::{ChatTemplate, Message, Rendered};
use crate::store::tokenizer::Tokenizer;
use crate::store::{self, LoadOptions, hub};
use crate::tensor::Dtype;
use crate::text::prompts::{Conversation, Mark, Prompt, no_thought, opens_thought};

/// How a model is loaded and read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Storage of the weights; `None` as stored.
    pub dtype: Option<Dtype>,
    /// How products with the weights are done.
    pub arithmetic: Arithmetic,
    /// `arithmetic` is looked at: not where the products are the kernels', and codes would only
    /// take memory.
    pub on_cpu: bool,
    /// The date that chat templates print; empty: the one written in the template.
    pub date: String,
    /// Titles and other data become control tokens where they spell one.
    pub control_tokens_in_data: bool,
    /// The answer words: a model of which they are no single tokens is refused at once.
    pub answers: [String; 2],
}

/// A loaded model.
pub struct Local {
    /// Configuration and weights.
    pub model: Model,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    chat: ChatTemplate,
    date: String,
    control_tokens_in_data: bool,
    /// Tokens that end a generation.
    pub stop: Vec<u32>,
}

impl Local {
    /// Loads `spec`: a path, a name in the model store, or `builtin`.
    ///
    /// # Errors
    /// A model that is not there, cannot be read, or has other tokens for the answers than one
    /// each.
    pub fn load(spec: &str, options: &Options) -> Result<Self> {
        let load = LoadOptions { dtype: options.dtype };
        let loaded = match spec {
            crate::store::builtin::NAME => crate::store::builtin::load(&load)?,
            _ => store::load(&hub::resolve(spec)?, &load)?,
        };
        let tokenizer = loaded.tokenizer;
        options.answers.iter().filter(|a| !a.is_empty()).try_for_each(|a| tokenizer.single_token(a).map(drop))?;
        let mut stop = loaded.config.eos.clone();
        stop.extend(tokenizer.eos().filter(|id| !stop.contains(id)));
        let arithmetic = if options.on_cpu { options.arithmetic } else { Arithmetic::F32 };
        Ok(Self {
            model: Model::new(loaded.config, loaded.weights)?.with_arithmetic(arithmetic)?,
            tokenizer,
            chat: loaded.chat,
            date: options.date.clone(),
            control_tokens_in_data: options.control_tokens_in_data,
            stop,
        })
    }

    /// Ids of two answers.
    ///
    /// # Errors
    /// An answer that is not one token.
    pub fn answer_ids(&self, answers: [&str; 2]) -> Result<[u32; 2]> {
        Ok([self.tokenizer.single_token(answers[0])?, self.tokenizer.single_token(answers[1])?])
    }

    /// Tokens of anything that is read.
    ///
    /// # Errors
    /// A chat template that cannot be filled in.
    pub fn tokens(&self, reading: &Reading<'_>) -> Result<Vec<u32>> {
        match reading {
            Reading::Prompt(prompt) => self.prompt_tokens(prompt),
            Reading::Conversation(conversation) => self.conversation_tokens(conversation, false),
        }
    }

    /// The same for scoring, which is never inside a thought. A conversation that does not fit
    /// loses its middle, never the question or the place of the answer.
    pub fn scored_tokens(&self, reading: &Reading<'_>) -> Result<Vec<u32>> {
        let Reading::Conversation(conversation) = reading else { return self.tokens(reading) };
        let tokens = self.conversation_tokens(conversation, true)?;
        // The tokens in front of a later place take room too.
        let context = (self.model.config().context + 1).saturating_sub(conversation.answer_at);
        if tokens.len() <= context {
            return Ok(tokens);
        }
        let tail = context / 4;
        Ok([&tokens[..context - tail], &tokens[tokens.len() - tail..]].concat())
    }

    /// Tokens of a text that is embedded.
    ///
    /// # Errors
    /// A text that cannot be encoded.
    pub fn clip(&self, clip: &Clip<'_>) -> Result<Vec<u32>> {
        let mut ids = match self.control_tokens_in_data {
            true => self.tokenizer.encode(clip.text, true)?,
            false => self.tokenizer.encode_data(clip.text, true)?,
        };
        ids.truncate(clip.most_tokens.min(self.model.config().context).max(1));
        Ok(ids)
    }

    fn date(&self) -> Option<&str> {
        (!self.date.is_empty()).then_some(self.date.as_str())
    }

    fn rendered(&self, messages: &[Message], generation_prompt: bool) -> Result<Rendered> {
        if self.control_tokens_in_data {
            let text = self.chat.render(messages, generation_prompt, self.date())?;
            return Ok(Rendered { text, ..Rendered::default() });
        }
        self.chat.render_data(messages, generation_prompt, self.date(), &self.tokenizer)
    }

    fn encoded(&self, rendered: &Rendered, between: &[(usize, u32)]) -> Result<Vec<u32>> {
        if self.control_tokens_in_data && between.is_empty() {
            return self.tokenizer.encode(&rendered.text, true);
        }
        self.tokenizer.encode_rendered(rendered, true, between)
    }

    /// A recommendation prompt as its chat template writes it, up to where the answer is read. A
    /// thought that the template opens is closed: the answer follows right away.
    fn answered(&self, messages: &[Message]) -> Result<Rendered> {
        let mut rendered = self.rendered(messages, true)?;
        if opens_thought(&rendered.text) {
            let closed = no_thought(&rendered.text);
            rendered.push(&closed, &[]);
        }
        Ok(rendered)
    }

    /// Tokens of a recommendation prompt up to where the answer is read.
    ///
    /// Its soft tokens have the ids from the vocabulary's size on. They are put between the text's
    /// tokens, which are those of the prompt without them.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        if prompt.soft.is_empty() {
            return self.encoded(&self.answered(&prompt.messages)?, &[]);
        }
        let rendered = self.answered(&prompt.messages)?;
        let text = rendered.text.as_str();
        // Templates may trim a turn.
        let (turn, own) = (prompt.user(), prompt.user().trim());
        let (Some(at), Some(skipped)) = (text.rfind(own), turn.find(own)) else {
            return Err(Error::input("chat template", "changes the user's words: there is no place for soft tokens")
                .next("set soft.source to \"none\", or use a model whose template keeps them"));
        };
        let place = |mark: &Mark| (at + mark.at.saturating_sub(skipped), self.soft_id(mark.token));
        let between: Vec<_> = prompt.soft.iter().map(place).collect();
        self.encoded(&rendered, &between)
    }

    /// Id of soft token number `token`.
    pub fn soft_id(&self, token: u32) -> u32 {
        (self.model.config().vocab as u32).saturating_add(token)
    }

    /// `tokens` with one BOS too many, as the authors have it (defect D8); unchanged where the
    /// tokenizer adds none.
    pub fn extra_bos(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.tokenizer.bos() {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Tokens of a conversation. `answered`: an answer is read right behind it.
    ///
    /// # Errors
    /// A chat template that cannot be filled in.
    pub fn conversation_tokens(&self, conversation: &Conversation, answered: bool) -> Result<Vec<u32>> {
        let mut rendered = self.rendered(&conversation.messages, conversation.generation_prompt)?;
        let prefix = conversation.beginning(&rendered.text, answered);
        let words = match self.control_tokens_in_data {
            true => Vec::new(),
            false => self.tokenizer.spelled(&prefix.content, &prefix.tags),
        };
        rendered.hidden |= !self.control_tokens_in_data && self.tokenizer.hides(&prefix.content);
        rendered.push(&prefix.content, &words);
        let tokens = self.encoded(&rendered, &[])?;
        Ok(if conversation.extra_bos { self.extra_bos(tokens) } else { tokens })
    }

    /// Tokens of a gold answer, with the end-of-turn token when that is a target too.
    pub fn answer_tokens(&self, answer: &str, end_of_turn: bool) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(answer, false)?;
        if end_of_turn {
            tokens.extend(self.tokenizer.encode(&self.chat.after_answer()?, false)?.first());
        }
        Ok(tokens)
    }
}

impl Reader for Local {
    fn context(&self) -> usize {
        self.model.config().context
    }

    fn count(&self, reading: &Reading<'_>) -> Result<usize> {
        self.tokens(reading).map(|t| t.len())
    }
}
