//! Products in whole numbers.

use super::{Arithmetic, Family, Model, Texts, Wanted};
use crate::store::fixture;
use crate::tensor::Dtype;

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    model.all_logits(tokens).unwrap().into_vec()
}

/// Rounded numbers change logits a little, and are used at all: by every family, with biases and
/// without.
#[test]
fn rounded_and_whole_numbers_change_little() {
    for family in [Family::LLAMA, Family::QWEN2, Family::QWEN3] {
        let loaded = fixture::model(family, 3, Dtype::F32).unwrap();
        let model = Model::new(loaded.config, loaded.weights).unwrap();
        let tokens: Vec<u32> = (5..40).collect();
        let want = logits(&model, &tokens);
        for (arithmetic, most, smaller) in [(Arithmetic::Bf16, 0.02, 2), (Arithmetic::Int8, 0.03, 2)] {
            let rounded = model.with_arithmetic(arithmetic).unwrap();
            let got = logits(&rounded, &tokens);
            let square = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let off = square(&mut want.iter().zip(&got).map(|(a, b)| a - b)) / square(&mut want.iter().copied());
            assert!(off > 1e-5 && off < most, "{family:?} in {arithmetic:?}: {off}");
            assert_eq!(logits(&rounded.with_arithmetic(Arithmetic::F32).unwrap(), &tokens), want);
            assert!(rounded.layer_bytes() * smaller <= model.layer_bytes(), "{family:?} in {arithmetic:?}");
        }
    }
}

/// A row has the same bits alone and behind a cached past.
#[test]
fn rows_in_rounded_and_whole_numbers_do_not_see_each_other() {
    rows_do_not_see_each_other(Arithmetic::Bf16);
    rows_do_not_see_each_other(Arithmetic::Int8);
}

fn rows_do_not_see_each_other(arithmetic: Arithmetic) {
    let loaded = fixture::model(Family::LLAMA, 3, Dtype::F32).unwrap();
    let model = Model::new(loaded.config, loaded.weights).unwrap().with_arithmetic(arithmetic).unwrap();
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
