//! The tensors of a decoder and their names in Hugging Face and GGUF files.

use super::families::Norms;
use super::{Config, Family};

/// A tensor of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Embed,
    Norm,
    Head,
    Layer(usize, LayerPart),
}

/// A tensor of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPart {
    AttnNorm,
    Q,
    K,
    V,
    O,
    QBias,
    KBias,
    VBias,
    QNorm,
    KNorm,
    MlpNorm,
    Gate,
    Up,
    Down,
    AttnPostNorm,
    MlpPostNorm,
}

use LayerPart as L;

impl Part {
    /// Name in a Hugging Face checkpoint.
    pub(crate) fn hf(self, family: &Family) -> String {
        match self {
            Part::Embed => "model.embed_tokens.weight".into(),
            Part::Norm => "model.norm.weight".into(),
            Part::Head => "lm_head.weight".into(),
            Part::Layer(i, part) => {
                let name = match part {
                    L::AttnNorm => "input_layernorm.weight",
                    L::Q => "self_attn.q_proj.weight",
                    L::K => "self_attn.k_proj.weight",
                    L::V => "self_attn.v_proj.weight",
                    L::O => "self_attn.o_proj.weight",
                    L::QBias => "self_attn.q_proj.bias",
                    L::KBias => "self_attn.k_proj.bias",
                    L::VBias => "self_attn.v_proj.bias",
                    L::QNorm => "self_attn.q_norm.weight",
                    L::KNorm => "self_attn.k_norm.weight",
                    // What stands behind attention is the MLP's own norm, unless attention has one
                    // there.
                    L::MlpNorm if family.norms == Norms::Before => "post_attention_layernorm.weight",
                    L::MlpNorm => "pre_feedforward_layernorm.weight",
                    L::AttnPostNorm => "post_attention_layernorm.weight",
                    L::MlpPostNorm => "post_feedforward_layernorm.weight",
                    L::Gate => "mlp.gate_proj.weight",
                    L::Up => "mlp.up_proj.weight",
                    L::Down => "mlp.down_proj.weight",
                };
                format!("model.layers.{i}.{name}")
            }
        }
    }

    /// Name in a GGUF file.
    pub(crate) fn gguf(self) -> String {
        match self {
            Part::Embed => "token_embd.weight".into(),
            Part::Norm => "output_norm.weight".into(),
            Part::Head => "output.weight".into(),
            Part::Layer(i, part) => {
                let name = match part {
                    L::AttnNorm => "attn_norm.weight",
                    L::Q => "attn_q.weight",
                    L::K => "attn_k.weight",
                    L::V => "attn_v.weight",
                    L::O => "attn_output.weight",
                    L::QBias => "attn_q.bias",
                    L::KBias => "attn_k.bias",
                    L::VBias => "attn_v.bias",
                    L::QNorm => "attn_q_norm.weight",
                    L::KNorm => "attn_k_norm.weight",
                    L::MlpNorm => "ffn_norm.weight",
                    L::AttnPostNorm => "post_attention_norm.weight",
                    L::MlpPostNorm => "post_ffw_norm.weight",
                    L::Gate => "ffn_gate.weight",
                    L::Up => "ffn_up.weight",
                    L::Down => "ffn_down.weight",
                };
                format!("blk.{i}.{name}")
            }
        }
    }

    /// (rows, cols); vectors are one row.
    pub(crate) fn shape(self, c: &Config) -> (usize, usize) {
        match self {
            Part::Embed | Part::Head => (c.vocab, c.hidden),
            Part::Norm | Part::Layer(_, L::AttnNorm | L::MlpNorm | L::AttnPostNorm | L::MlpPostNorm) => (1, c.hidden),
            Part::Layer(_, L::Q) => (c.q_width(), c.hidden),
            Part::Layer(_, L::K | L::V) => (c.kv_width(), c.hidden),
            Part::Layer(_, L::O) => (c.hidden, c.q_width()),
            Part::Layer(_, L::QBias) => (1, c.q_width()),
            Part::Layer(_, L::KBias | L::VBias) => (1, c.kv_width()),
            Part::Layer(_, L::QNorm | L::KNorm) => (1, c.head_dim),
            Part::Layer(_, L::Gate | L::Up) => (c.intermediate, c.hidden),
            Part::Layer(_, L::Down) => (c.hidden, c.intermediate),
        }
    }

    /// Whether it is a vector, kept in f32.
    pub(crate) fn is_vector(self) -> bool {
        self.is_norm() || matches!(self, Part::Layer(_, L::QBias | L::KBias | L::VBias))
    }

    /// Whether it is the weight of a norm.
    pub(crate) fn is_norm(self) -> bool {
        use LayerPart::*;
        matches!(self, Part::Norm | Part::Layer(_, AttnNorm | MlpNorm | QNorm | KNorm | AttnPostNorm | MlpPostNorm))
    }

    /// Every tensor of a model of this configuration.
    pub(crate) fn all(config: &Config) -> Vec<Part> {
        let mut parts = vec![Part::Embed];
        for i in 0..config.layers {
            let mut add = |list: &[LayerPart]| parts.extend(list.iter().map(|&p| Part::Layer(i, p)));
            add(&[L::AttnNorm, L::Q, L::K, L::V, L::O]);
            if config.family.qkv_bias {
                add(&[L::QBias, L::KBias, L::VBias]);
            }
            if config.family.qk_norm {
                add(&[L::QNorm, L::KNorm]);
            }
            add(&[L::MlpNorm, L::Gate, L::Up, L::Down]);
            if config.family.norms == Norms::BeforeAndAfter {
                add(&[L::AttnPostNorm, L::MlpPostNorm]);
            }
        }
        parts.push(Part::Norm);
        if !config.tied {
            parts.push(Part::Head);
        }
        parts
    }
}
