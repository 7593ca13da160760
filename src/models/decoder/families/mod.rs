//! Families of decoders as data: what the arithmetic of a layer and the file formats need to know
//! about each.
//!
//! A new family is one file here and its line in [`ALL`]. Code reads the data and never asks which
//! family it is.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;

pub use super::activation::Activation;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

/// Every family, in the order in which messages list them.
pub const ALL: [&Family; 6] =
    [Family::LLAMA, Family::QWEN2, Family::QWEN3, Family::MISTRAL, Family::GEMMA2, Family::GEMMA3];

/// Which layers see only the newest positions ([`super::Config::window`] of them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None: the family has full attention.
    Never,
    /// All, where the model names a window.
    EveryLayer,
    /// All but every so-many-th, where the model says nothing else.
    AllButEvery(usize),
}

/// Where RMSNorm stands in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and before the MLP.
    Before,
    /// Before each, and behind each before the residual is added.
    BeforeAndAfter,
}

/// What a file means where it says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Width of a head; `None`: hidden / heads.
    pub head_dim: Option<usize>,
    /// The window.
    pub window: Option<usize>,
    /// Rope base.
    pub rope_theta: f64,
    /// Rope base of the layers with a window; `None`: the family has one base for all.
    pub local_rope_theta: Option<f64>,
    /// What scores are divided by the square root of; `None`: the head width.
    pub query_scalar: Option<f64>,
    /// Soft cap of attention's scores.
    pub score_cap: Option<f64>,
    /// Soft cap of the logits.
    pub logit_cap: Option<f64>,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl Defaults {
    const PLAIN: Self = Self {
        head_dim: None,
        window: None,
        rope_theta: 10_000.0,
        local_rope_theta: None,
        query_scalar: None,
        score_cap: None,
        logit_cap: None,
        tied: false,
    };
}

/// What a family is that says nothing of itself: Llama's layer. Names are missing.
const PLAIN: Family = Family {
    name: "",
    title: "",
    hf_architecture: "",
    hf_model_type: "",
    hf_flags: &[],
    hf_norms_from_one: false,
    gguf: "",
    gguf_pairs_rows: false,
    norms: Norms::Before,
    activation: Activation::SwiGlu,
    scaled_embeddings: false,
    scales: false,
    qkv_bias: false,
    qk_norm: false,
    windows: Windows::Never,
    defaults: Defaults::PLAIN,
};

/// What distinguishes a family of decoders.
pub struct Family {
    /// Short name, as artifacts and messages have it.
    pub name: &'static str,
    /// Its models, for people.
    pub title: &'static str,
    /// `architectures` in a Hugging Face config.json.
    pub hf_architecture: &'static str,
    /// `model_type` in a Hugging Face config.json.
    pub hf_model_type: &'static str,
    /// Keys that config.json of this family states as false.
    pub hf_flags: &'static [&'static str],
    /// A Hugging Face file stores the weights of norms less one.
    pub hf_norms_from_one: bool,
    /// `general.architecture` in a GGUF file, and the prefix of its keys.
    pub gguf: &'static str,
    /// A GGUF file stores the rows of q and k so that the two of a rotary pair are neighbours.
    pub gguf_pairs_rows: bool,
    /// Where the norms stand.
    pub norms: Norms,
    /// The MLP's activation.
    pub activation: Activation,
    /// Embeddings are multiplied by the square root of their width.
    pub scaled_embeddings: bool,
    /// A model of the family may have a scale of attention and soft caps of its own.
    pub scales: bool,
    /// q, k and v carry a bias.
    pub qkv_bias: bool,
    /// RMSNorm of each query and key head before the rotation.
    pub qk_norm: bool,
    /// Layers with a window.
    pub windows: Windows,
    /// What files of this family mean where they say nothing.
    pub defaults: Defaults,
}

impl Family {
    /// Gemma 2.
    pub const GEMMA2: &'static Family = &gemma2::FAMILY;
    /// Gemma 3, text.
    pub const GEMMA3: &'static Family = &gemma3::FAMILY;
    /// Llama 2, 3, 3.1, SmolLM2, and distillations into them.
    pub const LLAMA: &'static Family = &llama::FAMILY;
    /// Mistral 7B, Nemo, Ministral.
    pub const MISTRAL: &'static Family = &mistral::FAMILY;
    /// Qwen2 and 2.5.
    pub const QWEN2: &'static Family = &qwen2::FAMILY;
    /// Qwen3.
    pub const QWEN3: &'static Family = &qwen3::FAMILY;

    /// The family of a name in config.json: an architecture or a model type.
    pub fn of_hf(name: &str) -> Option<&'static Family> {
        ALL.into_iter().find(|f| f.hf_architecture == name || f.hf_model_type == name)
    }

    /// The family of a GGUF architecture. Llama and Mistral share one: what tells them apart is a
    /// window.
    pub fn of_gguf(architecture: &str, windowed: bool) -> Option<&'static Family> {
        let same = |f: &&Family| f.gguf == architecture;
        let fits = |f: &&Family| same(f) && (f.windows != Windows::Never) == windowed;
        ALL.into_iter().find(fits).or_else(|| ALL.into_iter().find(same))
    }

    /// Whether its models softly cap scores or logits, where their files say nothing else. Kernels
    /// do not.
    pub fn capped(&self) -> bool {
        self.defaults.score_cap.is_some() || self.defaults.logit_cap.is_some()
    }

    /// What `say` gives for every family, as a list for a message: `a, b or c`.
    pub fn list(say: impl Fn(&Family) -> &'static str) -> String {
        let mut names: Vec<&str> = Vec::new();
        for name in ALL.into_iter().map(say) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Family {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let found = ALL.into_iter().find(|f| f.name == name);
        found.ok_or_else(|| D::Error::custom(format!("{name} is no family; there are {}", Family::list(|f| f.name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_each_of_its_names() {
        for family in ALL {
            assert_eq!(Family::of_hf(family.hf_architecture), Some(family));
            assert_eq!(Family::of_hf(family.hf_model_type), Some(family));
            assert_eq!(Family::of_gguf(family.gguf, family.windows != Windows::Never), Some(family));
            let json = serde_json::to_string(family).unwrap();
            assert_eq!(serde_json::from_str::<&Family>(&json).unwrap(), family);
            assert_eq!(ALL.into_iter().filter(|f| f.name == family.name).count(), 1, "{family:?}");
            assert!(family.defaults.window.is_none() || family.windows != Windows::Never, "{family:?}");
        }
        assert_eq!(Family::of_hf("gpt2"), None);
        assert_eq!(Family::of_gguf("gpt2", false), None);
        assert!(serde_json::from_str::<&Family>("\"gpt2\"").unwrap_err().to_string().contains("qwen3"));
        assert_eq!(Family::list(|f| f.gguf), "llama, qwen2, qwen3, gemma2 or gemma3");
    }
}
