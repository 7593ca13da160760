//! A model that is loaded when it is first used, and what of it a stage sees.

use std::sync::OnceLock;

use serde::Serialize;

use super::local::{Local, Options};
use super::running::{Adapted, Running};
use super::{LanguageModel, Reader};
use crate::content::Content;
use crate::device::Device;
use crate::error::Result;
use crate::models::decoder::Arithmetic;
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Inputs, Projector};
use crate::store::{builtin, hub};
use crate::tensor::Dtype;

/// A model by its path or name.
pub struct Source {
    spec: String,
    options: Options,
    content: OnceLock<Content>,
    local: OnceLock<Local>,
}

/// What of a model decides a stage's result, besides the content of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facets {
    /// The storage of the weights.
    pub dtype: bool,
    /// How products with the weights are done where nothing is trained.
    pub arithmetic: bool,
    /// The same where an adapter is trained.
    pub learning: bool,
    /// The date that chat templates print.
    pub date: bool,
}

impl Facets {
    /// Prompts are counted in tokens.
    pub const COUNTED: Self = Self { dtype: false, arithmetic: false, learning: false, date: true };
    /// Texts without a template are embedded.
    pub const EMBEDS: Self = Self { dtype: true, arithmetic: true, learning: false, date: false };
    /// The model is trained.
    pub const LEARNS: Self = Self { dtype: true, arithmetic: false, learning: true, date: true };
    /// The model answers.
    pub const ANSWERS: Self = Self { dtype: true, arithmetic: true, learning: false, date: true };
}

/// A model as one stage sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    source: &'a Source,
    facets: Facets,
}

#[derive(Serialize)]
struct Identity<'a> {
    files: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<Option<Dtype>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arithmetic: Option<Arithmetic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    control_tokens_in_data: bool,
}

impl Source {
    /// `spec`: a path, a name in the model store, or `builtin`. Nothing is read yet.
    pub fn new(spec: &str, options: Options) -> Self {
        Self { spec: spec.into(), options, content: OnceLock::new(), local: OnceLock::new() }
    }

    /// Path or name.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// The model as a stage sees it.
    pub fn view(&self, facets: Facets) -> View<'_> {
        View { source: self, facets }
    }

    /// What its files hold; their place is no part of it.
    fn files(&self) -> Result<Content> {
        if let Some(content) = self.content.get() {
            return Ok(content.clone());
        }
        let content = match self.spec.as_str() {
            builtin::NAME => Content::of_text(&builtin::fingerprint()),
            spec => Content::of_path(&hub::resolve(spec)?)?,
        };
        Ok(self.content.get_or_init(|| content).clone())
    }

    fn local(&self) -> Result<&Local> {
        match self.local.get() {
            Some(local) => Ok(local),
            None => {
                let local = Local::load(&self.spec, &self.options)?;
                Ok(self.local.get_or_init(|| local))
            }
        }
    }
}

impl<'a> View<'a> {
    /// What answers of the model depend on, as far as this view shows it.
    ///
    /// # Errors
    /// A model that is not there.
    pub fn identity(&self) -> Result<Content> {
        let Options { dtype, arithmetic, date, control_tokens_in_data, .. } = &self.source.options;
        Content::of(&Identity {
            files: self.source.files()?,
            dtype: self.facets.dtype.then_some(*dtype),
            arithmetic: match self.facets {
                Facets { arithmetic: true, .. } => Some(*arithmetic),
                // Only where it is another than f32: what was tuned before stays.
                Facets { learning: true, .. } => Some(self.learns_in()).filter(|&a| a != Arithmetic::F32),
                _ => None,
            },
            date: self.facets.date.then_some(date.as_str()),
            control_tokens_in_data: *control_tokens_in_data,
        })
    }

    /// How products with frozen weights are done where an adapter is trained.
    pub fn learns_in(&self) -> Arithmetic {
        self.source.options.arithmetic.of_training()
    }

    /// The model's path or name, for files that other programs read.
    pub fn spec(&self) -> &'a str {
        self.source.spec()
    }

    /// Its tokens and its context.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub fn reader(&self) -> Result<&'a dyn Reader> {
        Ok(self.source.local()?)
    }

    /// The local engine, for what it alone can: training.
    ///
    /// # Errors
    /// A model that cannot be loaded.
    pub fn local(&self) -> Result<&'a Local> {
        self.source.local()
    }

    /// The model on `device`.
    ///
    /// # Errors
    /// A model that cannot be loaded, or does not fit.
    pub fn open(&self, device: &Device) -> Result<Box<dyn LanguageModel + 'a>> {
        let local = self.source.local()?;
        Ok(Box::new(Running::new(local, &local.model, device)?))
    }

    /// The model with an adapter, and with the soft tokens that a projector makes of these
    /// embeddings.
    ///
    /// # Errors
    /// A model that cannot be loaded, an adapter of another model.
    pub fn adapted(&self, adapter: &Adapter, soft: Option<(&Projector, &Inputs)>) -> Result<Adapted<'a>> {
        Adapted::new(self.source.local()?, adapter, soft)
    }
}
