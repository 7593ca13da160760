//! What a recipe may set.

use serde::{Deserialize, Serialize};

use crate::ops::mlp::Activation;
use crate::settings::{Checked, Faults};

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
pub struct SoftSettings {
    /// Which embeddings become soft tokens: of LightGCN (`colla`), of aligned text (`ssl`), of
    /// text, or none.
    pub source: Source,
    /// Which items get a soft token behind their title.
    pub items: Items,
    /// What a soft token for the user, at the beginning of the prompt, is made of. `graph` goes
    /// with `colla` and `ssl` only.
    pub user: User,
    /// Width of the projector's hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// What stands between the projector's two layers; `identity` makes it a linear map of rank
    /// `hidden`.
    pub activation: Activation,
    /// Highest learning rate of the projector; warm-up and schedule are those of `tune.lora`.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Mean norm of a fresh projector's vectors, in units of the mean norm of the model's token
    /// embeddings.
    #[schemars(range(max = 100.0), extend("exclusiveMinimum" = 0))]
    pub scale: f64,
}

impl Default for SoftSettings {
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

impl SoftSettings {
    /// Whether there are soft tokens.
    pub fn is_on(&self) -> bool {
        self.source != Source::None
    }
}

impl Checked for SoftSettings {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        faults.unless(
            !(self.source == Source::Text && self.user == User::Graph),
            "user",
            "\"graph\" lies in LightGCN's space, and the source \"text\" does not",
            "set soft.source to \"colla\" or \"ssl\", or soft.user to \"liked\"",
        );
        faults
    }
}
