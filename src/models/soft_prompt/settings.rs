//! What a recipe may set.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::mlp::Activation;

/// Which embeddings become soft tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// No soft tokens. The default.
    #[default]
    None,
    /// LightGCN's.
    Colla,
    /// The aligned text embedding.
    Ssl,
    /// The text embedding.
    Text,
}

/// Which items get a soft token behind their title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// The target. The default.
    #[default]
    Target,
    /// The target and every history item shown.
    All,
}

/// What the user's soft token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// The user has none. The default.
    #[default]
    None,
    /// The mean over the liked items of the history, whether shown or not.
    Liked,
    /// LightGCN's embedding of the user.
    Graph,
}

/// Soft prompt tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `none`, `colla` (LightGCN), `ssl` (aligned text) or `text`. Default `none`: no soft tokens.
    pub source: Source,
    /// Which items get one behind their title: `target`, or `all` with the history items shown. Default `target`.
    pub items: Items,
    /// A token for the user at the beginning of the prompt: `none`, `liked` (mean over the liked items of the history) or
    /// `graph` (LightGCN's user embedding; with `colla` and `ssl` only). Default `none`.
    pub user: User,
    /// Hidden width of the projector, 1 to 65536. Default 128.
    pub hidden: usize,
    /// `silu`, `relu`, `tanh`, or `identity`: a linear map of rank `hidden`. Default `silu`.
    pub activation: Activation,
    /// Highest learning rate of the projector, above 0; warm-up and schedule are those of `tune.lora`. Default 1e-3.
    pub learning_rate: f64,
    /// Mean norm of a fresh projector's vectors, in units of the mean norm of the model's token embeddings, above 0 and at
    /// most 100. Default 1.
    pub scale: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::None,
            items: Items::Target,
            user: User::None,
            hidden: 128,
            activation: Activation::Silu,
            learning_rate: 1e-3,
            scale: 1.0,
        }
    }
}

impl Settings {
    /// Whether there are soft tokens.
    pub fn is_on(&self) -> bool {
        self.source != Source::None
    }

    /// Refuses values outside the ranges above.
    ///
    /// # Errors
    /// Names the first key that is out of range, and what it may be.
    pub fn check(&self) -> Result<()> {
        let bad = |key: &str, what: &str| {
            Err(Error::usage(format!("soft.{key}"), what).next("mend the recipe, or use --set"))
        };
        match self {
            s if !(1..=65_536).contains(&s.hidden) => bad("hidden", "must be 1 to 65536"),
            s if !(s.learning_rate.is_finite() && s.learning_rate > 0.0) => bad("learning_rate", "must be above 0"),
            s if !(s.scale > 0.0 && s.scale <= 100.0) => bad("scale", "must be above 0 and at most 100"),
            s if s.source == Source::Text && s.user == User::Graph => {
                bad("user", "\"graph\" lies in LightGCN's space: soft.source must be \"colla\" or \"ssl\"")
            }
            _ => Ok(()),
        }
    }
}
