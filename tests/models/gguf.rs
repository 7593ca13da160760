//! GGUF files.

use std::collections::BTreeMap;

use rallrec::models::decoder::{Config, Family, Model, Weights, families};
use rallrec::ops::linear::Weight;
use rallrec::ops::linear::weight::Values;
use rallrec::store::{LoadOptions, Loaded, fixture, load};
use rallrec::tensor::Dtype;

use crate::common::{assert_same_weights, check_tokenizer, test_model};

#[test]
fn q4_1_as_bf16_has_the_bits_of_the_reference_folder() {
    let Some(gguf) = test_model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let Some(folder) = test_model("SmolLM2-135M-Instruct") else { return };
    let quantised = load(&gguf, &LoadOptions { dtype: Some(Dtype::Bf16) }).unwrap();
    let folder = load(&folder, &LoadOptions::default()).unwrap();
    assert_same_weights(&quantised.weights, &folder.weights);
    assert_eq!(quantised.config, folder.config);
    assert_eq!(quantised.chat.source(), folder.chat.source());
    check_tokenizer(&quantised.tokenizer);
}

/// Kept as they are stored, weights are the values that they have as f32, in a fifth of the memory.
#[test]
fn q4_1_as_stored_has_the_values_of_the_file() {
    let Some(gguf) = test_model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let stored = load(&gguf, &LoadOptions::default()).unwrap().weights;
    let widened = load(&gguf, &LoadOptions { dtype: Some(Dtype::F32) }).unwrap().weights;
    let rows = |w: &Weight| {
        let mut out = vec![f32::NAN; 100 * w.cols()];
        w.read_rows(w.rows() - 100, &mut out);
        out.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    for (a, b) in stored.layers.iter().zip(&widened.layers) {
        for (a, b) in [(&a.q, &b.q), (&a.k, &b.k), (&a.down, &b.down)] {
            assert!(a.weight.dtype().is_none() && a.weight.bytes() * 5 < b.weight.bytes());
            assert!(rows(&a.weight) == rows(&b.weight));
        }
    }
    assert!(rows(stored.head()) == rows(widened.head()));
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
    assert_eq!(f16.weights.embed.dtype(), Some(Dtype::F16));
}

/// Writes GGUF files byte by byte.
#[derive(Default, Clone)]
struct Builder {
    pairs: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, Vec<u8>)>,
    /// Those that are not f32, and the number of their type.
    kinds: BTreeMap<String, u32>,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

impl Builder {
    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.pairs.retain(|(k, _)| k != key);
        self.pairs.push((key.into(), [&kind.to_le_bytes(), value].concat()));
    }

    fn uint(&mut self, key: &str, value: usize) {
        self.pair(key, 4, &(value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.pair(key, 6, &value.to_le_bytes());
    }

    fn string(&mut self, key: &str, value: &str) {
        self.pair(key, 8, &text(value));
    }

    fn list(&mut self, key: &str, kind: u32, items: &[Vec<u8>]) {
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[head, items.concat()].concat());
    }

    fn tensor(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push((name.into(), dims.iter().map(|&d| d as u64).collect(), data));
    }

    /// The f32 values of a tensor as blocks of Q8_0.
    fn in_blocks(&mut self, name: &str) {
        let (_, _, data) = self.tensors.iter_mut().find(|(n, ..)| n == name).unwrap();
        let values: Vec<f32> = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        *data = values
            .chunks_exact(32)
            .flat_map(|block| {
                let scale = block.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
                let codes = block.iter().map(|v| (v / scale).round() as i8 as u8);
                half::f16::from_f32(scale).to_le_bytes().into_iter().chain(codes).collect::<Vec<_>>()
            })
            .collect();
        self.kinds.insert(name.into(), 8);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            out.extend(text(key));
            out.extend(value);
        }
        let mut offset = 0usize;
        for (name, dims, data) in &self.tensors {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(self.kinds.get(name).unwrap_or(&0).to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + data.len()).next_multiple_of(32);
        }
        for (_, _, data) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(data);
        }
        out
    }
}

fn all(w: &Weight) -> Vec<f32> {
    let mut out = vec![0.0; w.rows() * w.cols()];
    w.read_rows(0, &mut out);
    out
}

/// The converter's row order for q and k of the Llama architecture.
fn permute(values: Vec<f32>, head_dim: usize, cols: usize) -> Vec<f32> {
    let (rows, half) = (values.len() / cols, head_dim / 2);
    let mut out = vec![0.0; values.len()];
    for head in 0..rows / head_dim {
        for pair in 0..2 {
            for j in 0..half {
                let (from, to) = (head * head_dim + pair * half + j, head * head_dim + 2 * j + pair);
                out[to * cols..][..cols].copy_from_slice(&values[from * cols..][..cols]);
            }
        }
    }
    out
}

fn tiny(family: &'static Family) -> (Builder, Config, Weights) {
    let mut config = fixture::config(family);
    config.bos = None;
    // Which is not in GGUF files.
    config.query_scalar = None;
    let weights = fixture::weights(&config, 11, Dtype::F32).unwrap();
    let mut b = Builder::default();
    let arch = family.gguf;
    let key = |name: &str| format!("{arch}.{name}");
    b.string("general.architecture", arch);
    if let Some(window) = config.window {
        b.uint(&key("attention.sliding_window"), window);
    }
    if let Some(every) = config.full_every {
        b.uint(&key("attention.sliding_window_pattern"), every);
    }
    for (name, value) in [
        ("rope.freq_base_swa", config.local_rope_theta),
        ("attn_logit_softcapping", config.score_cap),
        ("final_logit_softcapping", config.logit_cap),
    ] {
        if let Some(value) = value {
            b.float(&key(name), value as f32);
        }
    }
    b.uint(&key("block_count"), config.layers);
    b.uint(&key("context_length"), config.context);
    b.uint(&key("embedding_length"), config.hidden);
    b.uint(&key("feed_forward_length"), config.intermediate);
    b.uint(&key("attention.head_count"), config.heads);
    b.uint(&key("attention.head_count_kv"), config.kv_heads);
    b.uint(&key("attention.key_length"), config.head_dim);
    b.float(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    b.float(&key("rope.freq_base"), 10_000.0);
    let json: serde_json::Value = serde_json::from_str(&fixture::tokenizer_json(false).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::from("[PAD]"); config.vocab];
    vocab.iter().for_each(|(token, id)| tokens[id.as_u64().unwrap() as usize] = token.clone());
    b.string("tokenizer.ggml.model", "gpt2");
    b.string("tokenizer.ggml.pre", "gpt-2");
    b.list("tokenizer.ggml.tokens", 8, &tokens.iter().map(|t| text(t)).collect::<Vec<_>>());
    let kind = |i: usize| if i < 4 { 3i32 } else { 1 };
    b.list(
        "tokenizer.ggml.token_type",
        5,
        &(0..config.vocab).map(|i| kind(i).to_le_bytes().to_vec()).collect::<Vec<_>>(),
    );
    b.list("tokenizer.ggml.merges", 8, &["Y e", "Ye s", "N o"].map(text));
    b.uint("tokenizer.ggml.eos_token_id", 2);
    let (vocab, hidden) = (config.vocab, config.hidden);
    b.tensor("token_embd.weight", &[hidden, vocab], &all(&weights.embed));
    b.tensor("output_norm.weight", &[hidden], &weights.norm);
    if let Some(head) = &weights.head {
        b.tensor("output.weight", &[hidden, vocab], &all(head));
    }
    for (i, l) in weights.layers.iter().enumerate() {
        let name = |part: &str| format!("blk.{i}.{part}");
        for (part, linear) in [
            ("attn_q", &l.q),
            ("attn_k", &l.k),
            ("attn_v", &l.v),
            ("attn_output", &l.o),
            ("ffn_gate", &l.gate),
            ("ffn_up", &l.up),
            ("ffn_down", &l.down),
        ] {
            let (rows, cols) = (linear.weight.rows(), linear.weight.cols());
            let mut values = all(&linear.weight);
            if family.gguf_pairs_rows && matches!(part, "attn_q" | "attn_k") {
                values = permute(values, config.head_dim, cols);
            }
            b.tensor(&name(&format!("{part}.weight")), &[cols, rows], &values);
            if let Some(bias) = &linear.bias {
                b.tensor(&name(&format!("{part}.bias")), &[rows], bias);
            }
        }
        for (part, values) in [
            ("attn_norm", Some(&l.attn_norm)),
            ("ffn_norm", Some(&l.mlp_norm)),
            ("post_attention_norm", l.attn_post_norm.as_ref()),
            ("post_ffw_norm", l.mlp_post_norm.as_ref()),
            ("attn_q_norm", l.q_norm.as_ref()),
            ("attn_k_norm", l.k_norm.as_ref()),
        ] {
            if let Some(values) = values {
                b.tensor(&name(&format!("{part}.weight")), &[values.len()], values);
            }
        }
    }
    (b, config, weights)
}

fn load_bytes(bytes: &[u8]) -> rallrec::Result<rallrec::store::Loaded> {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    load(&path, &LoadOptions::default())
}

/// What looks rows up alone needs no copy of the table.
#[test]
fn embeddings_in_blocks_stay_in_the_file_where_nothing_multiplies_them() {
    let mut found = [0; 2];
    for family in families::ALL {
        let (mut b, config, _) = tiny(family);
        b.in_blocks("token_embd.weight");
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("m.gguf");
        std::fs::write(&path, b.bytes()).unwrap();
        let stored = load(&path, &LoadOptions::default()).unwrap();
        let widened = load(&path, &LoadOptions { dtype: Some(Dtype::F32) }).unwrap();
        let table = &stored.weights.embed;
        match table.values() {
            Values::InFile(_) => assert!(!config.tied, "{family:?}"),
            Values::Quantised(_) => assert!(config.tied, "{family:?}"),
            _ => panic!("{family:?}: embeddings were widened"),
        }
        found[usize::from(config.tied)] += 1;
        assert_eq!(all(table), all(&widened.weights.embed), "{family:?}");
        assert!(config.tied || table.bytes() == 264 * 34, "{family:?}: {} bytes", table.bytes());
        let logits = |loaded: Loaded| {
            let model = Model::new(loaded.config, loaded.weights).unwrap();
            model.all_logits(&(5..300).map(|t| t % 264).collect::<Vec<u32>>()).unwrap().into_vec()
        };
        assert_eq!(logits(stored), logits(widened), "{family:?}");
    }
    assert!(found.iter().all(|&n| n > 0), "{found:?}");
}

fn refused(bytes: &[u8], said: &str) {
    let error = load_bytes(bytes).expect_err(said).to_string();
    assert!(error.contains(said), "expected {said:?}: {error}");
    assert!(error.contains("next:"), "{error}");
}

#[test]
fn every_family_comes_back_from_a_file() {
    for family in families::ALL {
        let (builder, config, weights) = tiny(family);
        let loaded = load_bytes(&builder.bytes()).unwrap();
        assert_eq!(loaded.config, config);
        assert_same_weights(&loaded.weights, &weights);
        let reference = fixture::model(family, 1, Dtype::F32).unwrap().tokenizer;
        for text in ["Yes", "No", "Yes, I like 42 films.<|im_end|>\n", "naïve 🎬"] {
            assert_eq!(loaded.tokenizer.encode(text, true).unwrap(), reference.encode(text, true).unwrap(), "{text}");
        }
        assert!(loaded.chat.is_fallback() && loaded.source.notes.iter().any(|n| n.contains("ChatML")));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = tiny(Family::LLAMA).0.bytes();
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("m.gguf");
    // Every byte of the first part, then coarser.
    for cut in (0..2000).chain((2000..bytes.len()).step_by(997)).chain([bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(load(&path, &LoadOptions::default()).is_err(), "cut at {cut}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let (sound, ..) = tiny(Family::LLAMA);
    let bytes = sound.bytes();
    let patched = |at: usize, with: &[u8]| {
        let mut out = bytes.clone();
        out[at..at + with.len()].copy_from_slice(with);
        out
    };
    refused(b"GGML....", "not a GGUF file");
    refused(&patched(4, &1u32.to_le_bytes()), "version 1");
    refused(&patched(4, &3u32.to_be_bytes()), "big-endian");
    refused(&patched(8, &u64::MAX.to_le_bytes()), "tensors are announced");
    refused(&patched(16, &u64::MAX.to_le_bytes()), "pairs are announced");
    refused(&patched(24, &(1u64 << 62).to_le_bytes()), "announced");
    let with = |edit: &dyn Fn(&mut Builder)| {
        let mut b = sound.clone();
        edit(&mut b);
        b.bytes()
    };
    refused(&with(&|b| b.pairs.push(b.pairs[0].clone())), "comes twice");
    refused(&with(&|b| b.tensors.push(b.tensors[0].clone())), "comes twice");
    refused(&with(&|b| b.string("general.architecture", "mamba")), "mamba");
    refused(&with(&|b| b.string("general.architecture", "qwen2")), "qwen2.");
    refused(&with(&|b| b.string("tokenizer.ggml.pre", "tekken")), "tekken");
    refused(&with(&|b| b.string("tokenizer.ggml.model", "llama")), "tokenizers of type llama");
    refused(&with(&|b| b.string("llama.rope.scaling.type", "yarn")), "yarn");
    refused(&with(&|b| b.uint("llama.expert_count", 8)), "expert_count");
    refused(&with(&|b| b.uint("llama.attention.head_count", 0)), "heads is 0");
    refused(&with(&|b| b.uint("llama.attention.head_count_kv", 3)), "cannot share");
    refused(&with(&|b| b.uint("llama.block_count", 3)), "blk.2");
    refused(&with(&|b| b.uint("llama.block_count", 1)), "blk.1");
    refused(&with(&|b| b.float("llama.attention.layer_norm_rms_epsilon", f32::NAN)), "epsilon");
    refused(&with(&|b| b.float("llama.rope.freq_base", f32::INFINITY)), "rope base");
    refused(&with(&|b| b.uint("general.alignment", 24)), "alignment");
    refused(&with(&|b| b.uint("tokenizer.ggml.eos_token_id", 9999)), "9999");
    refused(&with(&|b| b.list("tokenizer.ggml.merges", 8, &[text("Y zzz")])), "merge 0");
    refused(&with(&|b| b.list("tokenizer.ggml.token_type", 5, &[vec![1, 0, 0, 0]])), "1 types");
    refused(&with(&|b| b.tensors[1].1 = vec![16, 2]), "shape");
    refused(&with(&|b| b.tensors[0].1 = vec![u64::MAX, u64::MAX]), "overflow");
    refused(&with(&|b| b.tensors[0].1 = vec![0, 5]), "length 0");
    refused(&with(&|b| drop(b.tensors.remove(1))), "output_norm.weight");
    refused(&with(&|b| b.tensor("blk.0.attn_q.bias", &[32], &[0.0; 32])), "attn_q.bias");
    refused(&with(&|b| b.tensors[1].2[..4].copy_from_slice(&f32::NAN.to_le_bytes())), "finite");
    refused(&with(&|b| b.tensor("rope_freqs.weight", &[4], &[1.0, 1.0, 3.0, 8.0])), "rope_freqs");
    assert!(load_bytes(&with(&|b| b.tensor("rope_freqs.weight", &[4], &[1.0; 4]))).is_ok());
}
