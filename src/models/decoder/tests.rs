//! Products in whole numbers.

use super::{Arithmetic, Family, Model, Texts, Wanted};
use crate::store::fixture;
use crate::tensor::Dtype;

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    model.all_logits(tokens).unwrap().into_vec()
}

/// Whole numbers change logits a little, and are used at all: by every family, with biases and
/// without.
#[test]
fn whole_numbers_change_little() {
    for family in [Family::LLAMA, Family::QWEN2, Family::QWEN3] {
        let loaded = fixture::model(family, 3, Dtype::F32).unwrap();
        let model = Model::new(loaded.config, loaded.weights).unwrap();
        let eight = model.with_arithmetic(Arithmetic::Int8).unwrap();
        let tokens: Vec<u32> = (5..40).collect();
        let (want, got) = (logits(&model, &tokens), logits(&eight, &tokens));
        let square = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off = square(&mut want.iter().zip(&got).map(|(a, b)| a - b)) / square(&mut want.iter().copied());
        assert!(off > 1e-5 && off < 0.03, "{family:?}: {off}");
        assert_eq!(logits(&eight.with_arithmetic(Arithmetic::F32).unwrap(), &tokens), want);
        assert!(eight.layer_bytes() * 2 < model.layer_bytes());
    }
}

/// A row has the same bits alone and behind a cached past.
#[test]
fn rows_in_whole_numbers_do_not_see_each_other() {
    let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
    let model = Model::new(loaded.config, loaded.weights).unwrap().with_arithmetic(Arithmetic::Int8).unwrap();
    let tokens: Vec<u32> = (5..25).collect();
    let whole = logits(&model, &tokens);
    let mut cache = model.cache(tokens.len()).unwrap();
    let mut step = Vec::new();
    for (seen, tokens) in tokens.chunks(1).enumerate() {
        let mut texts = Texts::default();
        texts.add(tokens, &[], 0, seen);
        let hidden = model.read(&texts, &mut cache, Wanted::All).unwrap();
        step.extend(model.logits(&hidden).unwrap().download().unwrap());
    }
    assert_eq!(whole, step);
}
