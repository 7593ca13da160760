//! Hugging Face folders.

use std::path::Path;

use rallrec::models::decoder::{Config, Family, families};
use rallrec::ops::rope::Scaling;
use rallrec::store::{LoadOptions, fixture, load, save_hf};
use rallrec::tensor::Dtype;
use serde_json::{Value, json};

use crate::common::{assert_same_weights, test_model};

const FAMILIES: [&Family; 6] = families::ALL;

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
            config.rope_scaling = (family == Family::LLAMA).then_some(Scaling {
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
    let config = fixture::config(Family::QWEN3);
    save(&base.path().join("f32"), &config, Dtype::F32);
    save(&base.path().join("bf16"), &config, Dtype::Bf16);
    let converted = load(&base.path().join("f32"), &LoadOptions { dtype: Some(Dtype::Bf16) }).unwrap();
    let stored = load(&base.path().join("bf16"), &LoadOptions::default()).unwrap();
    assert_eq!(crate::common::bits(&converted.weights.embed), crate::common::bits(&stored.weights.embed));
    assert_eq!(converted.weights.embed.dtype(), Some(Dtype::Bf16));
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
    assert_eq!(loaded.weights.embed.dtype(), Some(Dtype::Bf16));
}

#[test]
fn smollm2_tokenizer_matches_the_golden() {
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let tokenizer = rallrec::store::Tokenizer::from_folder(&folder).unwrap();
    crate::common::check_tokenizer(&tokenizer);
}

/// Changes config.json of a fresh folder and gives the error of loading it.
fn broken(edit: impl FnOnce(&mut Value)) -> String {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("m");
    save(&folder, &fixture::config(Family::LLAMA), Dtype::Bf16);
    let path = folder.join("config.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    load(&folder, &LoadOptions::default()).expect_err("must be refused").to_string()
}

/// transformers' MistralConfig: null is no window, and an absent key is one of 4,096.
#[test]
fn a_window_is_a_number_null_or_absent() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("m");
    save(&folder, &fixture::config(Family::MISTRAL), Dtype::Bf16);
    let path = folder.join("config.json");
    let published: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let read = |edit: &dyn Fn(&mut Value)| {
        let mut value = published.clone();
        edit(&mut value);
        std::fs::write(&path, value.to_string()).unwrap();
        load(&folder, &LoadOptions::default()).map(|loaded| loaded.config.window)
    };
    assert_eq!(read(&|_| {}).unwrap(), Some(5));
    assert_eq!(read(&|c| c["sliding_window"] = json!(4096)).unwrap(), Some(4096));
    assert_eq!(read(&|c| c["sliding_window"] = Value::Null).unwrap(), None);
    assert_eq!(read(&|c| drop(c.as_object_mut().unwrap().remove("sliding_window"))).unwrap(), Some(4096));
    assert_eq!(read(&|c| c["layer_types"] = json!(["sliding_attention", "sliding_attention"])).unwrap(), Some(5));
    for (key, value, said) in [
        ("sliding_window", json!(0), "window is 0"),
        ("sliding_window", json!("wide"), "not a count"),
        ("layer_types", json!(["sliding_attention", "full_attention"]), "full_attention"),
    ] {
        let error = read(&|c| c[key] = value.clone()).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("next:"), "{key} = {value}: {error}");
    }
}

/// Both layouts of transformers, and what its Gemma configurations mean where they say nothing.
#[test]
fn gemma_names_layers_caps_and_bases_of_rope() {
    let base = tempfile::tempdir().unwrap();
    let with = |family: &'static Family, edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let folder = tempfile::tempdir_in(base.path()).unwrap();
        save(&folder.path().join("m"), &fixture::config(family), Dtype::Bf16);
        let path = folder.path().join("m/config.json");
        let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        edit(value.as_object_mut().unwrap());
        std::fs::write(&path, value.to_string()).unwrap();
        load(&folder.path().join("m"), &LoadOptions::default()).map(|loaded| loaded.config)
    };
    let without = |keys: &'static [&str]| {
        move |c: &mut serde_json::Map<String, Value>| keys.iter().for_each(|&key| drop(c.remove(key)))
    };
    let bare = &["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "layer_types"];
    let config = with(Family::GEMMA2, &without(bare)).unwrap();
    assert_eq!((config.score_cap, config.logit_cap, config.full_every), (Some(50.0), Some(30.0), Some(2)));
    assert_eq!(config.query_scalar, Some(256.0));
    assert_eq!([0, 1, 2, 3].map(|l| config.window_of(l)), [Some(5), None, Some(5), None]);
    let bare = &["tie_word_embeddings", "rope_theta", "rope_local_base_freq", "layer_types", "query_pre_attn_scalar"];
    let config = with(Family::GEMMA3, &without(bare)).unwrap();
    assert_eq!((config.rope_theta, config.local_rope_theta, config.full_every), (1e6, Some(1e4), Some(6)));
    assert!(config.tied && config.score_cap.is_none() && config.logit_cap.is_none());
    let scalar = |c: &mut serde_json::Map<String, Value>| drop(c.insert("query_pre_attn_scalar".into(), json!(16)));
    assert_eq!(with(Family::GEMMA3, &scalar).unwrap().query_scalar, None, "the head width");
    let newer = |c: &mut serde_json::Map<String, Value>| {
        without(&["rope_theta", "rope_local_base_freq", "rope_scaling"])(c);
        c.insert("sliding_window_pattern".into(), json!(3));
        c.remove("layer_types");
        let of = |theta: f64| json!({"rope_type": "default", "rope_theta": theta});
        let both = json!({"full_attention": of(7e5), "sliding_attention": of(7e3)});
        c.insert("rope_parameters".into(), both);
    };
    let config = with(Family::GEMMA3, &newer).unwrap();
    assert_eq!((config.rope_theta, config.local_rope_theta, config.full_every), (7e5, Some(7e3), Some(3)));
    let full = |c: &mut serde_json::Map<String, Value>| {
        c.insert("layer_types".into(), json!(["sliding_attention", "sliding_attention"]));
    };
    assert_eq!(with(Family::GEMMA3, &full).unwrap().full_every, None);
    for (key, value, said) in [
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types"),
        ("layer_types", json!(["sliding_attention", "chunked_attention"]), "chunked_attention"),
        ("hidden_activation", json!("gelu"), "gelu_pytorch_tanh"),
        ("final_logit_softcapping", json!(-1.0), "soft cap of the logits"),
        ("query_pre_attn_scalar", json!(0), "scalar of the queries"),
        ("rope_local_base_freq", json!(0.0), "layers with a window"),
        ("sliding_window", json!(0), "window is 0"),
        ("use_bidirectional_attention", json!(true), "later tokens"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 8.0}), "linear"),
    ] {
        let edit = |c: &mut serde_json::Map<String, Value>| drop(c.insert(key.into(), value.clone()));
        let error = with(Family::GEMMA3, &edit).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("next:"), "{key} = {value}: {error}");
    }
}

/// Transformers' norms of Gemma multiply by one and the stored weight.
#[test]
fn norms_of_gemma_are_stored_less_one() {
    let base = tempfile::tempdir().unwrap();
    let (folder, config) = (base.path().join("m"), fixture::config(Family::GEMMA3));
    save(&folder, &config, Dtype::F32);
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let weights = fixture::weights(&config, 7, Dtype::F32).unwrap();
    for (name, norm) in [
        ("model.norm.weight", &weights.norm),
        ("model.layers.0.post_attention_layernorm.weight", weights.layers[0].attn_post_norm.as_ref().unwrap()),
        ("model.layers.1.pre_feedforward_layernorm.weight", &weights.layers[1].mlp_norm),
        ("model.layers.1.self_attn.q_norm.weight", weights.layers[1].q_norm.as_ref().unwrap()),
    ] {
        let values = stored.tensor(name).unwrap().data().to_vec();
        for (bytes, norm) in values.chunks_exact(4).zip(norm) {
            let stored = f32::from_le_bytes(bytes.try_into().unwrap());
            assert!((stored + 1.0 - norm).abs() <= 1e-7 && (stored - norm).abs() > 0.5, "{name}: {stored} for {norm}");
        }
    }
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
    save(&folder, &fixture::config(Family::LLAMA), Dtype::Bf16);
    let path = folder.join("config.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("rope_theta");
    value["rope_parameters"] = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    std::fs::write(&path, value.to_string()).unwrap();
    let config = load(&folder, &LoadOptions::default()).unwrap().config;
    assert_eq!(config.rope_theta, 5e5);
    let want = Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    assert_eq!(config.rope_scaling, Some(want));
}

/// Splits the tensors of a folder over two files with an index.
fn shard(folder: &Path, duplicate: bool) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut map = serde_json::Map::new();
    for file in 0..2 {
        let name = format!("model-{file}.safetensors");
        let mine = |i: usize| i % 2 == file || (duplicate && i == 0);
        let part: Vec<_> = all.tensors().into_iter().collect();
        let mut part: Vec<_> = part;
        part.sort_by(|a, b| a.0.cmp(&b.0));
        let part: Vec<_> = part.into_iter().enumerate().filter(|(i, _)| mine(*i)).map(|(_, t)| t).collect();
        part.iter().for_each(|(tensor, _)| drop(map.insert(tensor.clone(), name.clone().into())));
        safetensors::serialize_to_file(part, None, &folder.join(name)).unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_are_one_model() {
    let base = tempfile::tempdir().unwrap();
    let config = fixture::config(Family::QWEN2);
    let folder = base.path().join("m");
    save(&folder, &config, Dtype::F16);
    shard(&folder, false);
    let loaded = load(&folder, &LoadOptions::default()).unwrap();
    assert_same_weights(&loaded.weights, &fixture::weights(&config, 7, Dtype::F16).unwrap());
    std::fs::remove_file(folder.join("model-1.safetensors")).unwrap();
    assert!(load(&folder, &LoadOptions::default()).unwrap_err().to_string().contains("model-1.safetensors"));
    for (index, said) in [
        (json!({"weight_map": {"a": "../../etc/passwd"}}), "plain file name"),
        (json!({"weight_map": {"a": 3}}), "not a string"),
        (json!({"weight_map": {}}), "empty"),
        (json!({}), "weight_map"),
    ] {
        std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = load(&folder, &LoadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let folder = base.path().join("twice");
    save(&folder, &config, Dtype::F16);
    shard(&folder, true);
    assert!(load(&folder, &LoadOptions::default()).unwrap_err().to_string().contains("is also in"));
}

#[test]
fn damaged_files_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("m");
    save(&folder, &fixture::config(Family::LLAMA), Dtype::Bf16);
    let refused = |what: &str| {
        let error = load(&folder, &LoadOptions::default()).expect_err(what).to_string();
        assert!(error.contains("next:"), "{what}: {error}");
    };
    for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut.min(bytes.len() - 1)]).unwrap();
            refused(&format!("{name} cut at {cut}"));
        }
        std::fs::write(&path, [0xFF; 300]).unwrap();
        refused(&format!("{name} of other bytes"));
        std::fs::write(&path, bytes).unwrap();
    }
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + header]).unwrap();
    for (from, to) in [
        ("[264,32]", "[18446744073709551615,18446744073709551615]"),
        ("[264,32]", "[32,264]"),
        ("\"BF16\"", "\"I64\""),
        ("model.norm.weight", "model.layers.0.input_layernorm.weight"),
        ("\"data_offsets\":[0,", "\"data_offsets\":[8,"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let out = [&(changed.len() as u64).to_le_bytes(), changed.as_bytes(), &bytes[8 + header..]].concat();
        std::fs::write(&path, out).unwrap();
        refused(to);
    }
    for length in [u64::MAX, 1 << 40, 0] {
        std::fs::write(&path, [&length.to_le_bytes(), &bytes[8..]].concat()).unwrap();
        refused(&format!("header of {length} bytes"));
    }
    // NaN in a norm: the last values of the file belong to a tensor of the model, so all are made
    // NaN.
    let mut nan = bytes.clone();
    nan[8 + header..].fill(0xFF);
    std::fs::write(&path, nan).unwrap();
    refused("NaN norms");
    std::fs::remove_file(&path).unwrap();
    refused("no weights");
    // Well-formed, but its merges make tokens that are not there.
    std::fs::write(&path, &bytes).unwrap();
    let tokenizer = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).unwrap();
    std::fs::write(
        &tokenizer,
        text.replace("\"merges\":[[\"Y\",\"e\"]", "\"merges\":[[\"<|endoftext|>\",\"<|im_start|>\"]"),
    )
    .unwrap();
    refused("merges of nothing");
}

#[test]
fn paths_that_are_no_model_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let error = |path: &Path| load(path, &LoadOptions::default()).unwrap_err().to_string();
    assert!(error(&base.path().join("nothing")).contains("model pull"));
    assert!(error(base.path()).contains("neither config.json nor"));
    std::fs::write(base.path().join("a.gguf"), "x").unwrap();
    assert!(error(base.path()).contains("not a GGUF file"));
    std::fs::write(base.path().join("b.gguf"), "x").unwrap();
    assert!(error(base.path()).contains("2 .gguf files"));
    std::fs::write(base.path().join("notes.txt"), "x").unwrap();
    assert!(error(&base.path().join("notes.txt")).contains("is not a model"));
}

#[test]
fn the_tokenizer_helpers() {
    let with_bos = fixture::tokenizer_json(true).unwrap();
    let settings = fixture::tokenizer_settings();
    let new = |json: &str, settings: &Value| rallrec::store::Tokenizer::from_json(json.as_bytes(), settings).unwrap();
    let t = new(&with_bos, &settings);
    assert_eq!((t.bos(), t.eos(), t.special("bos_token")), (Some(3), Some(2), Some("<|bos|>")));
    let yes = t.single_token("Yes").unwrap();
    assert_eq!(t.encode("Yes", true).unwrap(), [3, yes]);
    assert_eq!(t.encode("Yes", false).unwrap(), [yes]);
    assert_eq!(t.encode("<|bos|>Yes", true).unwrap(), [3, yes], "one BOS, not two");
    let error = t.single_token("Maybe").unwrap_err().to_string();
    assert!(error.contains("\"M\", \"a\", \"y\""), "{error}");
    assert!(t.single_token("").is_err());
    let ids = t.encode("naïve 🎬<|im_end|>", false).unwrap();
    let mut stream = t.stream(true);
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces.concat(), "naïve 🎬");
    assert!(pieces.iter().all(|p| !p.contains('\u{FFFD}')), "{pieces:?}");
    assert_eq!(t.decode(&ids, false).unwrap(), "naïve 🎬<|im_end|>");
    // The settings overrule the post-processor, both ways.
    let mut off = settings.clone();
    off["add_bos_token"] = false.into();
    assert_eq!(new(&with_bos, &off).bos(), None);
    let without = fixture::tokenizer_json(false).unwrap();
    assert_eq!(new(&without, &settings).bos(), None);
    let mut on = settings.clone();
    on["add_bos_token"] = true.into();
    assert_eq!(new(&without, &on).bos(), Some(3));
}

#[test]
fn a_summary_counts_right() {
    let base = tempfile::tempdir().unwrap();
    let config = fixture::config(Family::LLAMA);
    let folder = base.path().join("m");
    save(&folder, &config, Dtype::Bf16);
    let summary = rallrec::store::inspect::inspect(&folder).unwrap();
    // Embedding 264 x 32; a layer: q, o 32 x 32, k, v 16 x 32, three of 64 x 32, two norms; the
    // final norm.
    let layer = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32 + 2 * 32;
    assert_eq!(summary.parameters, 264 * 32 + 2 * layer + 32);
    assert_eq!(summary.source.stored["bf16"], summary.parameters);
    assert_eq!(summary.memory.kv_per_token, 2 * 2 * 16 * 4);
    assert!(summary.tokenizer.yes.is_some() && summary.tokenizer.chat_template);
    assert_eq!(summary.tokenizer.after_answer.as_deref(), Some("<|im_end|>\n"));
    assert!(serde_json::to_string(&summary).unwrap().contains("\"family\":\"llama\""));
}
