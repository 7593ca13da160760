//! What the tests share.

use std::path::PathBuf;

use rallrec::models::decoder::Weights;
use rallrec::ops::linear::weight::{Values, Weight};

/// A large test model: in the folder `RALLREC_TEST_MODELS`, else in the model store.
/// `None`, with a line that says so, where `name` is not there.
pub fn test_model(name: &str) -> Option<PathBuf> {
    let stored = || rallrec::store::hub::store().unwrap_or_default().join("smollm2-135m");
    let root = std::env::var_os("RALLREC_TEST_MODELS").map_or_else(stored, PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    let why = format!("no {} (set RALLREC_TEST_MODELS)", path.display());
    crate::shared::skip::skip(&format!("file {}", path.display()), why);
    None
}

/// The stored bits of a matrix.
pub fn bits(w: &Weight) -> Vec<u32> {
    match w.values() {
        Values::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        Values::Bf16(v) => v.iter().map(|x| u32::from(x.to_bits())).collect(),
        Values::F16(v) => v.iter().map(|x| u32::from(x.to_bits())).collect(),
        Values::Quantised(q) => panic!("quantised: {:?}", q.form()),
        Values::InFile(_) => panic!("in blocks of its file"),
    }
}

/// Every tensor of `a` has the bits of the same tensor of `b`.
pub fn assert_same_weights(a: &Weights, b: &Weights) {
    let matrix = |name: String, x: &Weight, y: &Weight| {
        assert_eq!((x.rows(), x.cols(), x.dtype()), (y.rows(), y.cols(), y.dtype()), "{name}");
        // No assert_eq: nobody wants to read a million numbers.
        assert!(bits(x) == bits(y), "{name}: the bits differ");
    };
    let vector = |name: String, x: Option<&[f32]>, y: Option<&[f32]>| {
        let bits = |v: Option<&[f32]>| v.map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        assert_eq!(bits(x), bits(y), "{name}");
    };
    matrix("embed".into(), &a.embed, &b.embed);
    assert_eq!(a.head.is_some(), b.head.is_some(), "head");
    if let (Some(x), Some(y)) = (&a.head, &b.head) {
        matrix("head".into(), x, y);
    }
    vector("norm".into(), Some(&a.norm), Some(&b.norm));
    assert_eq!(a.layers.len(), b.layers.len());
    for (i, (x, y)) in a.layers.iter().zip(&b.layers).enumerate() {
        for (name, x, y) in [
            ("q", &x.q, &y.q),
            ("k", &x.k, &y.k),
            ("v", &x.v, &y.v),
            ("o", &x.o, &y.o),
            ("gate", &x.gate, &y.gate),
            ("up", &x.up, &y.up),
            ("down", &x.down, &y.down),
        ] {
            matrix(format!("layer {i} {name}"), &x.weight, &y.weight);
            vector(format!("layer {i} {name} bias"), x.bias.as_deref(), y.bias.as_deref());
        }
        vector(format!("layer {i} attn_norm"), Some(&x.attn_norm), Some(&y.attn_norm));
        vector(format!("layer {i} mlp_norm"), Some(&x.mlp_norm), Some(&y.mlp_norm));
        let (post_a, post_b) = (x.attn_post_norm.as_deref(), y.attn_post_norm.as_deref());
        vector(format!("layer {i} attn_post_norm"), post_a, post_b);
        vector(format!("layer {i} mlp_post_norm"), x.mlp_post_norm.as_deref(), y.mlp_post_norm.as_deref());
        vector(format!("layer {i} q_norm"), x.q_norm.as_deref(), y.q_norm.as_deref());
        vector(format!("layer {i} k_norm"), x.k_norm.as_deref(), y.k_norm.as_deref());
    }
}

/// Every text of the golden gets its ids, and the ids give the text back.
pub fn check_tokenizer(tokenizer: &rallrec::store::Tokenizer) {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../goldens/tokenizer_smollm2.json")).unwrap();
    let golden = golden.as_array().unwrap();
    assert_eq!(golden.len(), 208);
    for entry in golden {
        let text = entry["text"].as_str().unwrap();
        let want: Vec<u32> = entry["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let got = tokenizer.encode(text, true).unwrap();
        assert_eq!(got, want, "{text:?}");
        assert_eq!(tokenizer.decode(&got, false).unwrap(), text);
    }
}
