//! PEFT adapter folders.

use std::path::Path;

use rallrec::models::decoder::{Config, Family, families};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::rng::{Rng, Use};
use rallrec::store::fixture;
use rallrec::store::peft;
use serde_json::{Value, json};

fn width(config: &Config, target: Target) -> (usize, usize) {
    match target {
        Target::QProj => (config.q_width(), config.hidden),
        Target::KProj | Target::VProj => (config.kv_width(), config.hidden),
        Target::OProj => (config.hidden, config.q_width()),
        Target::GateProj | Target::UpProj => (config.intermediate, config.hidden),
        Target::DownProj => (config.hidden, config.intermediate),
    }
}

fn random(config: &Config, targets: &[Target]) -> Adapter {
    let mut rng = Rng::new(3, Use::Init, 0, 0);
    let mut values = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f32>>();
    let rank = 4;
    let mut pair = |&t: &Target| {
        let (out, inp) = width(config, t);
        Pair { a: values(rank * inp), b: values(out * rank) }
    };
    let pairs = (0..config.layers).map(|_| targets.iter().map(&mut pair).collect()).collect();
    Adapter { rank, alpha: 16.0, dropout: 0.05, targets: targets.to_vec(), pairs }
}

#[test]
fn what_is_written_is_what_is_read() {
    let base = tempfile::tempdir().unwrap();
    for (i, family) in families::ALL.into_iter().enumerate() {
        let config = fixture::config(family);
        for (j, targets) in [&Target::ALL[..], &[Target::QProj, Target::VProj]].into_iter().enumerate() {
            let adapter = random(&config, targets);
            let folder = base.path().join(format!("{i}{j}"));
            peft::write(&folder, &adapter, &config, "tiny").unwrap();
            assert_eq!(peft::read(&folder, &config).unwrap(), adapter);
        }
    }
}

#[test]
fn an_adapter_of_peft_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/lora_adapter");
    if !folder.exists() {
        crate::shared::skip::skip(&format!("file {}", folder.display()), format!("no {}", folder.display()));
        return;
    }
    let mut config = fixture::config(Family::LLAMA);
    (config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim) = (30, 576, 9, 3, 64);
    let adapter = peft::read(&folder, &config).unwrap();
    assert_eq!((adapter.rank, adapter.alpha, adapter.scale()), (8, 16.0, 2.0));
    assert_eq!(adapter.targets, [Target::QProj, Target::VProj]);
    let pair = adapter.pair(29, Target::VProj).unwrap();
    assert_eq!((pair.a.len(), pair.b.len()), (8 * 576, 192 * 8));
    // For another model its shapes are refused.
    config.hidden = 512;
    let error = peft::read(&folder, &config).unwrap_err().to_string();
    assert!(error.contains("shape"), "{error}");
}

#[test]
fn what_is_not_plain_lora_is_refused_by_name() {
    let base = tempfile::tempdir().unwrap();
    let config = fixture::config(Family::LLAMA);
    let folder = base.path().join("a");
    peft::write(&folder, &random(&config, &[Target::QProj]), &config, "tiny").unwrap();
    let path = folder.join("adapter_config.json");
    let sound: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut changed = sound.clone();
        changed[key] = value;
        std::fs::write(&path, changed.to_string()).unwrap();
        peft::read(&folder, &config)
    };
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("use_something_new", json!(true)),
        ("eva_config", json!({"rho": 2.0})),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 16})),
        ("alpha_pattern", json!({"q_proj": 16})),
        ("layers_to_transform", json!([1])),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("target_modules", json!(["q_proj", "v_proj"])),
        ("r", json!(0)),
        ("r", json!(1e300)),
        ("r", json!("8")),
        ("lora_alpha", Value::Null),
        ("lora_dropout", json!(1.5)),
    ] {
        let error = with(key, value.clone()).expect_err(key).to_string();
        assert!(error.contains(key), "{key} = {value}: {error}");
        assert!(error.contains("next:"), "{key} = {value}: {error}");
    }
    let error = with("r", json!(8)).unwrap_err().to_string();
    assert!(error.contains("lora_A") && error.contains("shape"), "{error}");
    // rsLoRA multiplies by alpha / sqrt(r).
    assert_eq!(with("use_rslora", json!(true)).unwrap().scale(), 16.0 / 2.0);
    assert_eq!(with("use_dora", json!(false)).unwrap().scale(), 4.0);
}

#[test]
fn damaged_adapters_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let config = fixture::config(Family::LLAMA);
    let folder = base.path().join("a");
    let mut adapter = random(&config, &[Target::QProj]);
    peft::write(&folder, &adapter, &config, "tiny").unwrap();
    let path = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 4, 8, 60, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(peft::read(&folder, &config).is_err(), "{cut} bytes");
    }
    std::fs::write(&path, &bytes).unwrap();
    let mut fewer = config.clone();
    fewer.layers = 1;
    assert!(peft::read(&folder, &fewer).unwrap_err().to_string().contains("layers.1"));
    adapter.pairs[1][0].b[3] = f32::NAN;
    assert!(peft::write(&base.path().join("b"), &adapter, &config, "tiny").is_err());
    assert!(!base.path().join("b").exists());
}
