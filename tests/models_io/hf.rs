//! Hugging Face folders.

use std::path::Path;

use rallrec::models::llama::{Config, Family, LoadOptions, RopeScaling, fixture, load, save_hf};
use rallrec::ops::linear::Dtype;
use serde_json::{Value, json};

use crate::common::{assert_same_weights, test_model};

const FAMILIES: [Family; 3] = [Family::Llama, Family::Qwen2, Family::Qwen3];

fn save(folder: &Path, config: &Config, dtype: Dtype) {
    let weights = fixture::weights(config, 7, dtype).unwrap();
    let tokenizer = fixture::tokenizer_json(config.bos.is_some()).unwrap();
    save_hf(folder, config, &weights, dtype, &tokenizer, Some(fixture::CHAT_TEMPLATE)).unwrap();
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    let base = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let mut config = fixture::config(family);
            config.bos = Some(3);
            config.rope_scaling = (family == Family::Llama).then_some(RopeScaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 512,
            });
            let folder = base.path().join(format!("{family:?}-{dtype:?}"));
            save(&folder, &config, dtype);
            let loaded = load(&folder, &LoadOptions::default()).unwrap();
            assert_eq!(loaded.config, config);
            assert_same_weights(&loaded.weights, &fixture::weights(&config, 7, dtype).unwrap());
            assert!(!loaded.chat.is_fallback());
            assert_eq!(
                loaded.tokenizer.encode("Yes", true).unwrap(),
                [3, loaded.tokenizer.single_token("Yes").unwrap()]
            );
        }
    }
}

#[test]
fn another_dtype_is_converted_by_rounding() {
    let base = tempfile::tempdir().unwrap();
    let config = fixture::config(Family::Qwen3);
    save(&base.path().join("f32"), &config, Dtype::F32);
    save(&base.path().join("bf16"), &config, Dtype::Bf16);
    let converted = load(&base.path().join("f32"), &LoadOptions { dtype: Some(Dtype::Bf16) }).unwrap();
    let stored = load(&base.path().join("bf16"), &LoadOptions::default()).unwrap();
    assert_eq!(crate::common::bits(&converted.weights.embed), crate::common::bits(&stored.weights.embed));
    assert_eq!(converted.weights.embed.dtype(), Dtype::Bf16);
}

#[test]
fn smollm2_loads_mapped() {
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let loaded = load(&folder, &LoadOptions::default()).unwrap();
    let c = &loaded.config;
    assert_eq!((c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.intermediate), (30, 576, 9, 3, 64, 1536));
    assert_eq!((c.vocab, c.rope_theta, c.norm_eps, c.tied, c.bos), (49152, 100_000.0, 1e-5, true, None));
    assert_eq!(c.eos, [2]);
    assert_eq!(loaded.tokenizer.single_token("Yes").unwrap(), 10539);
    assert_eq!(loaded.tokenizer.single_token("No").unwrap(), 5230);
    assert_eq!(loaded.weights.embed.dtype(), Dtype::Bf16);
}

#[test]
fn smollm2_tokenizer_matches_the_golden() {
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let tokenizer = rallrec::text::Tokenizer::from_folder(&folder).unwrap();
    crate::common::check_tokenizer(&tokenizer);
}

/// Changes config.json of a fresh folder and gives the error of loading it.
fn broken(edit: impl FnOnce(&mut Value)) -> String {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("m");
    save(&folder, &fixture::config(Family::Llama), Dtype::Bf16);
    let path = folder.join("config.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    load(&folder, &LoadOptions::default()).expect_err("must be refused").to_string()
}

#[test]
fn unsupported_configurations_are_refused_by_name() {
    for (key, value, said) in [
        ("architectures", json!(["GemmaForCausalLM"]), "GemmaForCausalLM"),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "yarn"),
        ("rope_scaling", json!({"type": "linear", "factor": 4.0}), "linear"),
        ("rope_parameters", json!({"rope_type": "dynamic", "rope_theta": 1e4}), "dynamic"),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 4.0}), "low_freq_factor"),
        ("sliding_window", json!(4096), "sliding"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "sliding_attention"),
        ("quantization_config", json!({"quant_method": "gptq"}), "quantization_config"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("attention_bias", json!(true), "attention_bias"),
        ("mlp_bias", json!(true), "mlp_bias"),
        ("num_attention_heads", json!(0), "number of heads is 0"),
        ("num_key_value_heads", json!(3), "cannot share"),
        ("num_hidden_layers", json!(0), "layers"),
        ("num_hidden_layers", json!(1_000_000_000), "layers"),
        ("num_hidden_layers", json!(3), "model.layers.2"),
        ("num_hidden_layers", json!(1), "model.layers.1"),
        ("hidden_size", json!(-32), "not a count"),
        ("hidden_size", json!(u64::MAX), "hidden"),
        ("hidden_size", json!(64), "shape"),
        ("head_dim", json!(7), "odd"),
        ("rms_norm_eps", json!(-1e-5), "epsilon"),
        ("rms_norm_eps", json!("NaN"), "not a number"),
        ("rope_theta", json!(0.0), "rope base"),
        ("vocab_size", json!(1000), "shape"),
        ("vocab_size", Value::Null, "vocab_size"),
        ("eos_token_id", json!(100_000), "outside the vocabulary"),
        ("tie_word_embeddings", json!(false), "lm_head.weight"),
    ] {
        let error = broken(|c| c[key] = value.clone());
        assert!(error.contains(said), "{key} = {value}: {error}");
        assert!(error.contains("next:"), "{key} = {value}: {error}");
    }
    let error = broken(|c| *c = json!([1, 2]));
    assert!(error.contains("not a JSON object"), "{error}");
}

#[test]
fn newer_rope_parameters_are_read() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("m");
    save(&folder, &fixture::config(Family::Llama), Dtype::Bf16);
    let path = folder.join("config.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("rope_theta");
    value["rope_parameters"] = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    std::fs::write(&path, value.to_string()).unwrap();
    let config = load(&folder, &LoadOptions::default()).unwrap().config;
    assert_eq!(config.rope_theta, 5e5);
    let want = RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    assert_eq!(config.rope_scaling, Some(want));
}
