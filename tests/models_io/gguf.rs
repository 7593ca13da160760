//! GGUF files.

use rallrec::models::llama::{LoadOptions, load};
use rallrec::ops::linear::Dtype;

use crate::common::{assert_same_weights, check_tokenizer, test_model};

#[test]
fn q4_1_as_bf16_has_the_bits_of_the_reference_folder() {
    let Some(gguf) = test_model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let quantised = load(&gguf, &LoadOptions { dtype: Some(Dtype::Bf16) }).unwrap();
    let folder = load(&folder, &LoadOptions::default()).unwrap();
    assert_same_weights(&quantised.weights, &folder.weights);
    assert_same_weights(&load(&gguf, &LoadOptions::default()).unwrap().weights, &folder.weights);
    assert_eq!(quantised.config, folder.config);
    assert_eq!(quantised.chat.source(), folder.chat.source());
    check_tokenizer(&quantised.tokenizer);
}

#[test]
fn unquantised_files_are_mapped_and_agree() {
    let Some(bf16) = test_model("SmolLM2-135M-Instruct.BF16.gguf") else { return };
    let Some(f16) = test_model("SmolLM2-135M-Instruct.F16.gguf") else { return };
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let folder = load(&folder, &LoadOptions::default()).unwrap();
    let bf16 = load(&bf16, &LoadOptions::default()).unwrap();
    assert_same_weights(&bf16.weights, &folder.weights);
    assert!(!bf16.source.stored.contains_key("q4_1") && bf16.source.stored.contains_key("bf16"));
    let f16 = load(&f16, &LoadOptions::default()).unwrap();
    assert_eq!(f16.weights.embed.dtype(), Dtype::F16);
}
