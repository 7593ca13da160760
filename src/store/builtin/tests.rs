use super::*;
use crate::generate::Finish;
use crate::tensor::Dtype;
use crate::tiny_model::exam;

#[test]
fn loads_in_every_type() {
    for (dtype, want) in [(None, Dtype::Bf16), (Some(Dtype::F32), Dtype::F32), (Some(Dtype::F16), Dtype::F16)] {
        let loaded = load(&LoadOptions { dtype }).unwrap();
        assert_eq!(loaded.weights.embed.dtype(), Some(want));
        assert!(loaded.tokenizer.single_token("Yes").unwrap() != loaded.tokenizer.single_token("No").unwrap());
        assert!(!loaded.chat.is_fallback() && !loaded.config.eos.is_empty() && loaded.config.bos.is_none());
        assert!(loaded.source.notes.is_empty(), "{:?}", loaded.source.notes);
    }
    let bytes: usize =
        [FILES.config, FILES.tokenizer, FILES.tokenizer_config, FILES.weights].map(<[u8]>::len).iter().sum();
    assert!(bytes <= 3 << 20, "{bytes} bytes are too many for a program to carry");
    // The documentation says which file this is.
    let hash = blake3::hash(FILES.weights).to_hex().to_string();
    assert!(
        include_str!("../../../docs/tiny-model.md").contains(&hash),
        "docs/tiny-model.md names another hash: {hash}"
    );
    assert_eq!(fingerprint().len(), 64);
    assert_eq!(fingerprint(), fingerprint());
}

#[test]
fn damage_is_named() {
    let options = LoadOptions::default();
    let cut = Files { weights: &FILES.weights[..1000], ..FILES };
    assert!(load_files(NAME, &cut, &options).unwrap_err().to_string().contains("model.safetensors"));
    let other = Files { config: b"{", ..FILES };
    assert!(load_files(NAME, &other, &options).unwrap_err().to_string().contains("config.json"));
    let text = String::from_utf8(FILES.config.to_vec()).unwrap();
    let wider = text.replace("\"intermediate_size\": 256", "\"intermediate_size\": 128");
    assert_ne!(text, wider);
    let wrong = Files { config: wider.as_bytes(), ..FILES };
    assert!(load_files(NAME, &wrong, &options).unwrap_err().to_string().contains("shape"));
}

/// The bounds leave room: the figures themselves are in docs/tiny-model.md.
#[test]
fn answers_about_a_world_it_has_not_seen() {
    let result = exam(load(&LoadOptions::default()).unwrap(), 77, 300).unwrap();
    for style in &result.zero_shot {
        assert!(style.auc > 0.54, "{}: AUC {}", style.name, style.auc);
        assert!(style.mass > 0.9, "{}: {} of the probability is on Yes and No", style.name, style.mass);
    }
    assert!(result.answered > 0.8, "{} of the thoughts end in an answer", result.answered);
    assert!(result.spread > 0.01, "samples agree too well: {}", result.spread);
    for (text, finish) in &result.descriptions {
        assert!(text.split_whitespace().count() >= 8, "{text:?}");
        assert_eq!(*finish, Finish::Stop, "{text:?}");
    }
}
