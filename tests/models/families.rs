//! Logits of a small random model of every family, as transformers computes them in f32.
//!
//! The golden has transformers' numbers. With `RALLREC_PYTHON`, an interpreter with `transformers`
//! and `torch`, they are computed again, and `RALLREC_WRITE_GOLDENS=1` keeps them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rallrec::models::decoder::{Family, Model, families};
use rallrec::store::{LoadOptions, fixture, load, save_hf};
use rallrec::tensor::Dtype;

use crate::shared::families::{SEED, STEP, config, prompts};
use crate::shared::{assert_close, kept_golden};

/// Absolute, on logits of a few units.
const TOLERANCE: f64 = 1e-4;
type Logits = BTreeMap<String, Vec<Vec<f64>>>;

/// A small model in a folder.
fn save(folder: &Path, family: &'static Family) {
    let config = config(family);
    let weights = fixture::weights(&config, SEED, Dtype::F32).unwrap();
    let tokenizer = fixture::tokenizer_json(false).unwrap();
    save_hf(folder, &config, &weights, Dtype::F32, &tokenizer, Some(fixture::CHAT_TEMPLATE)).unwrap();
}

/// Logits behind each prompt.
fn ours(folder: &Path) -> Vec<Vec<f32>> {
    let loaded = load(folder, &LoadOptions::default()).unwrap();
    let model = Model::new(loaded.config, loaded.weights).unwrap();
    let last = |ids: &Vec<u32>| model.last_logits(&[ids]).unwrap().row(0).iter().step_by(STEP).copied().collect();
    prompts().iter().map(last).collect()
}

/// Those of transformers, where there is an interpreter.
fn theirs(folder: &Path) -> Option<Vec<Vec<f64>>> {
    let interpreter = std::env::var_os("RALLREC_PYTHON")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/families.py");
    let asked = serde_json::to_string(&prompts()).unwrap();
    let run = Command::new(&interpreter).arg(script).arg(folder).arg(asked).env("HF_HUB_OFFLINE", "1").output();
    let output = run.unwrap_or_else(|e| panic!("{interpreter:?}: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout).unwrap();
    let rounded = |v: &f64| (v * 1e6).round() / 1e6;
    Some(all.iter().map(|row| row.iter().step_by(STEP).map(rounded).collect()).collect())
}

#[test]
fn every_family_has_the_logits_of_transformers() {
    let base = tempfile::tempdir().unwrap();
    let mut kept: Logits =
        serde_json::from_slice(&std::fs::read(kept_golden("families.json")).unwrap_or_default()).unwrap_or_default();
    for family in families::ALL {
        let folder = base.path().join(family.name);
        save(&folder, family);
        let computed = theirs(&folder);
        if let (Some(logits), true) = (&computed, std::env::var_os("RALLREC_WRITE_GOLDENS").is_some()) {
            kept.insert(family.name.to_owned(), logits.clone());
        }
        let ours = ours(&folder);
        let want = kept.get(family.name).unwrap_or_else(|| panic!("{} is not in the golden", family.name));
        for want in [Some(want), computed.as_ref()].into_iter().flatten() {
            assert_eq!(want.len(), ours.len());
            let apart = ours.iter().zip(want).map(|(a, b)| assert_close(family.name, a, b, TOLERANCE));
            println!("{}: within {:.1e}", family.name, apart.fold(0.0, f64::max));
        }
    }
    if std::env::var_os("RALLREC_WRITE_GOLDENS").is_some() {
        std::fs::write(kept_golden("families.json"), serde_json::to_string(&kept).unwrap() + "\n").unwrap();
    }
}
