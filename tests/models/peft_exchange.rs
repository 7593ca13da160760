//! Adapters between this engine and PEFT, both ways, on a tiny model in Hugging Face layout with
//! LoRA on every linear layer: the other side's logits are met within 5e-4.
//!
//! `RALLREC_PYTHON` names an interpreter with `peft`, `transformers` and `torch`; without it the
//! two-way test skips and the golden (an adapter that PEFT 0.21 wrote, with its logits) stands
//! alone. `RALLREC_WRITE_GOLDENS=1` makes the golden again.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shared::{assert_close, wide};
use rallrec::models::decoder::train::Parameters;
use rallrec::models::decoder::{Config, Family, Model, families};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::rng::{Rng, Use};
use rallrec::store::peft;
use rallrec::store::{LoadOptions, fixture, load, save_hf};
use rallrec::tensor::Dtype;
use serde_json::Value;

/// Absolute, on logits of a few units.
const TOLERANCE: f64 = 5e-4;
/// An adapter that moves no logit by so much would show nothing.
const EFFECT: f64 = 0.1;

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![72, 101, 97, 116], vec![1, 90, 40, 2], (0..40).map(|i| 5 + i * 37 % 250).collect()]
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/peft")
}

/// The fixture model in a folder.
fn save(folder: &Path, family: &'static Family) -> Config {
    let config = fixture::config(family);
    let weights = fixture::weights(&config, 5, Dtype::F32).unwrap();
    let tokenizer = fixture::tokenizer_json(false).unwrap();
    save_hf(folder, &config, &weights, Dtype::F32, &tokenizer, Some(fixture::CHAT_TEMPLATE)).unwrap();
    config
}

fn model(folder: &Path) -> Model {
    let loaded = load(folder, &LoadOptions::default()).unwrap();
    Model::new(loaded.config, loaded.weights).unwrap()
}

fn last_logits(model: &Model, adapter: Option<&Adapter>) -> Vec<Vec<f32>> {
    let model = model.with_adapter(adapter).unwrap();
    let logits = |ids: &Vec<u32>| model.last_logits(&[ids]).unwrap().row(0).to_vec();
    prompts().iter().map(logits).collect()
}

/// Random pairs on every linear layer.
fn adapter(config: &Config) -> Adapter {
    let mut rng = Rng::new(3, Use::Init, 0, 0);
    let mut adapter = Adapter::init(config, 4, 12.0, &Target::ALL, 9).unwrap();
    adapter.visit_mut(&mut |_, values| values.iter_mut().for_each(|v| *v = 0.2 * rng.normal())).unwrap();
    adapter
}

/// The list `key` of logits in the script's output.
fn said(out: &Value, key: &str) -> Vec<Vec<f64>> {
    serde_json::from_value(out[key].clone()).unwrap_or_else(|e| panic!("{key}: {e}"))
}

fn compare(what: &str, ours: &[Vec<f32>], theirs: &[Vec<f64>]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "{what}: prompts");
    ours.iter().zip(theirs).map(|(a, b)| assert_close(what, a, b, TOLERANCE)).fold(0.0, f64::max)
}

fn moves(base: &[Vec<f32>], adapted: &[Vec<f32>]) {
    let far = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).any(|(a, b)| f64::from((a - b).abs()) > EFFECT);
    assert!(base.iter().zip(adapted).all(far), "the adapter has no effect");
}

/// Runs the script; `None`, with a line that says so, where there is no interpreter.
fn python(mode: &str, model: &Path, adapter: &Path, work: &Path) -> Option<Value> {
    let Some(interpreter) = std::env::var_os("RALLREC_PYTHON") else {
        let why = "RALLREC_PYTHON does not name an interpreter with peft, transformers and torch";
        crate::shared::skip::skip("env RALLREC_PYTHON", why);
        return None;
    };
    let (asked, out) = (work.join("prompts.json"), work.join("out.json"));
    std::fs::write(&asked, serde_json::to_string(&prompts()).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/peft_exchange.py");
    let output = Command::new(&interpreter)
        .arg(script)
        .arg(mode)
        .args([model, adapter, &asked, &out])
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap_or_else(|e| panic!("{interpreter:?}: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap())
}

#[test]
fn peft_reads_ours() {
    for family in families::ALL {
        let work = tempfile::tempdir().unwrap();
        let (folder, to) = (work.path().join("model"), work.path().join("adapter"));
        let config = save(&folder, family);
        let adapter = adapter(&config);
        peft::write(&to, &adapter, &config, "fixture").unwrap();
        let Some(out) = python("read", &folder, &to, work.path()) else { return };
        // A and B of seven layers in each of two blocks: none was left out in silence.
        assert_eq!(out["tensors"], 2 * 7 * config.layers, "{family:?}");
        let model = model(&folder);
        let (base, ours) = (last_logits(&model, None), last_logits(&model, Some(&adapter)));
        moves(&base, &ours);
        let plain = compare("without adapter", &base, &said(&out, "base"));
        let worst = compare("peft with our adapter", &ours, &said(&out, "adapted"));
        println!("{family:?}: base within {plain:.1e}, our adapter in PEFT within {worst:.1e}");
    }
}

#[test]
fn we_read_pefts() {
    for family in families::ALL {
        let work = tempfile::tempdir().unwrap();
        let (folder, from) = (work.path().join("model"), work.path().join("adapter"));
        let config = save(&folder, family);
        let Some(out) = python("write", &folder, &from, work.path()) else { return };
        let adapter = peft::read(&from, &config).unwrap();
        assert_eq!((adapter.rank, adapter.alpha, adapter.targets.as_slice()), (4, 12.0, &Target::ALL[..]));
        let model = model(&folder);
        let (base, ours) = (last_logits(&model, None), last_logits(&model, Some(&adapter)));
        moves(&base, &ours);
        let worst = compare("PEFT's adapter", &ours, &said(&out, "adapted"));
        println!("{family:?}: PEFT's adapter here within {worst:.1e}");
        if family == Family::LLAMA && std::env::var_os("RALLREC_WRITE_GOLDENS").is_some() {
            std::fs::create_dir_all(golden()).unwrap();
            for name in ["adapter_config.json", "adapter_model.safetensors"] {
                std::fs::copy(from.join(name), golden().join(name)).unwrap();
            }
            std::fs::write(golden().join("logits.json"), out.to_string()).unwrap();
        }
    }
}

#[test]
fn an_adapter_that_peft_wrote_gives_its_logits() {
    let work = tempfile::tempdir().unwrap();
    let config = save(&work.path().join("model"), Family::LLAMA);
    let adapter = peft::read(&golden(), &config).unwrap();
    assert_eq!((adapter.rank, adapter.alpha, adapter.targets.as_slice()), (4, 12.0, &Target::ALL[..]));
    let model = model(&work.path().join("model"));
    let out: Value = serde_json::from_slice(&std::fs::read(golden().join("logits.json")).unwrap()).unwrap();
    let (base, ours) = (last_logits(&model, None), last_logits(&model, Some(&adapter)));
    moves(&base, &ours);
    compare("without adapter", &base, &said(&out, "base"));
    compare("the golden adapter", &ours, &said(&out, "adapted"));
    // Halves that are exchanged, or a scale that is forgotten, must show.
    let wrong = Adapter { alpha: adapter.alpha / 2.0, ..adapter.clone() };
    moves(&ours, &last_logits(&model, Some(&wrong)));
    // Written by us and read again it is the same adapter.
    let again = work.path().join("again");
    peft::write(&again, &adapter, &config, "fixture").unwrap();
    assert_eq!(peft::read(&again, &config).unwrap(), adapter);
    let pair: &Pair = adapter.pair(1, Target::DownProj).unwrap();
    assert!(wide(&pair.b).iter().any(|v| *v != 0.0));
}
