//! A language model with its tokenizer and chat template, as the stages use it.

use std::path::PathBuf;

use crate::config::{ModelSettings, Recipe};
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::models::decoder::{Arithmetic, Model};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Inputs, Projector};
use crate::pipeline::key::KeyBuilder;
use crate::store::chat::{ChatTemplate, Message};
use crate::store::tokenizer::Tokenizer;
use crate::store::{self, LoadOptions, hub};
use crate::text::prompts::{Conversation, Mark, Prompt};

/// See the module.
pub struct Language {
    /// Configuration and weights.
    pub model: Model,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    chat: ChatTemplate,
    date: String,
    scoring_system: Option<String>,
    /// Ids of the answers.
    pub yes_no: [u32; 2],
    /// Tokens that end a generation.
    pub stop: Vec<u32>,
}

impl Language {
    /// Loads `spec`: a path, a name in the model store, or `builtin`.
    pub fn load(spec: &str, recipe: &Recipe) -> Result<Self> {
        let predict = &recipe.predict;
        let options = LoadOptions { dtype: recipe.model.dtype };
        let loaded = match spec {
            crate::store::builtin::NAME => crate::store::builtin::load(&options)?,
            _ => store::load(&hub::resolve(spec)?, &options)?,
        };
        let tokenizer = loaded.tokenizer;
        let yes_no = [tokenizer.single_token(&predict.yes)?, tokenizer.single_token(&predict.no)?];
        let mut stop = loaded.config.eos.clone();
        stop.extend(tokenizer.eos().filter(|id| !stop.contains(id)));
        // Elsewhere the products are the kernels', and codes would only take memory.
        let cpu = matches!(recipe.device, Choice::Auto | Choice::Cpu);
        let arithmetic = if cpu { recipe.model.arithmetic } else { Arithmetic::F32 };
        Ok(Self {
            model: Model::new(loaded.config, loaded.weights)?.with_arithmetic(arithmetic)?,
            tokenizer,
            chat: loaded.chat,
            date: recipe.prompt.date.clone(),
            scoring_system: predict.system.clone(),
            yes_no,
            stop,
        })
    }

    /// The same with an adapter, and with the soft tokens that a projector makes of these embeddings.
    pub fn with_adapter(&self, adapter: &Adapter, soft: Option<(&Projector, &Inputs)>) -> Result<Model> {
        let tokens = soft.map(|(projector, inputs)| projector.tokens(inputs)).transpose()?;
        self.model.with_adapter(Some(adapter))?.with_soft(tokens)
    }

    fn date(&self) -> Option<&str> {
        (!self.date.is_empty()).then_some(self.date.as_str())
    }

    /// Tokens of a conversation up to where the assistant answers.
    pub fn chat_tokens(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.chat.render(messages, true, self.date())?, true)
    }

    /// Tokens of a recommendation prompt up to where the answer is read.
    ///
    /// Its soft tokens have the ids from the vocabulary's size on. They are put between the text's tokens, which are those of
    /// the prompt without them.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        if prompt.soft.is_empty() {
            return self.chat_tokens(&prompt.messages);
        }
        let text = self.chat.render(&prompt.messages, true, self.date())?;
        // Templates may trim a turn.
        let (turn, own) = (prompt.user(), prompt.user().trim());
        let (Some(at), Some(skipped)) = (text.rfind(own), turn.find(own)) else {
            return Err(Error::input("chat template", "changes the user's words: there is no place for soft tokens")
                .next("set soft.source to \"none\", or use a model whose template keeps them"));
        };
        let place = |mark: &Mark| (at + mark.at.saturating_sub(skipped), self.soft_id(mark.token));
        let between: Vec<_> = prompt.soft.iter().map(place).collect();
        self.tokenizer.encode_between(&text, true, &between)
    }

    /// Id of soft token number `token`.
    pub fn soft_id(&self, token: u32) -> u32 {
        (self.model.config().vocab as u32).saturating_add(token)
    }

    /// The same for scoring, with `predict.system` where the recipe sets it.
    pub fn scoring_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match &self.scoring_system {
            Some(system) => self.prompt_tokens(&prompt.with_system(system)),
            None => self.prompt_tokens(prompt),
        }
    }

    /// `tokens` with one BOS too many, as the authors have it (defect D8); unchanged where the tokenizer adds none.
    pub fn extra_bos(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.tokenizer.bos() {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Tokens of a reasoning prompt.
    pub fn conversation_tokens(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let mut text = self.chat.render(&conversation.messages, conversation.generation_prompt, self.date())?;
        text.push_str(&conversation.assistant_prefix);
        let tokens = self.tokenizer.encode(&text, true)?;
        Ok(if conversation.extra_bos { self.extra_bos(tokens) } else { tokens })
    }

    /// Tokens of a gold answer, with the end-of-turn token when that is learnt too.
    pub fn answer_tokens(&self, answer: &str, end_of_turn: bool) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(answer, false)?;
        if end_of_turn {
            tokens.extend(self.tokenizer.encode(&self.chat.after_answer()?, false)?.first());
        }
        Ok(tokens)
    }
}

/// Adds the model's files to a key.
pub fn add_to_key(key: KeyBuilder, name: &str, spec: &str, settings: &ModelSettings) -> Result<KeyBuilder> {
    let key = key.settings(&format!("{name} settings"), settings)?;
    if spec == crate::store::builtin::NAME {
        return key.settings(name, &crate::store::builtin::fingerprint());
    }
    let path: PathBuf = hub::resolve(spec)?;
    key.path(name, &path)
}
