//! What several test programs share.
#![allow(dead_code)]

pub mod families;
pub mod skip;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rallrec::store::{LoadOptions, Loaded, load};
use rallrec::tensor::Dtype;

/// SmolLM2-135M-Instruct in bf16: where `RALLREC_SMOLLM2` says, or in the model store. `None`, with
/// a line that says so, when it is not there.
pub fn smollm2() -> Option<Loaded> {
    let named = std::env::var_os("RALLREC_SMOLLM2").map(PathBuf::from);
    let path = named.or_else(|| rallrec::store::hub::resolve("smollm2-135m").ok());
    match path.filter(|p| p.exists()) {
        Some(path) => Some(load(&path, &LoadOptions { dtype: Some(Dtype::Bf16) }).expect("the model loads")),
        None => {
            let why = "no SmolLM2 (set RALLREC_SMOLLM2 to its folder, or `rallrec model pull smollm2-135m`)";
            skip::skip("model smollm2-135m", why);
            None
        }
    }
}

/// A file of the reference outputs that are in the repository: below `RALLREC_GOLDENS` where that
/// names a folder, because the test program may run on a machine without the repository.
pub fn kept_golden(name: &str) -> PathBuf {
    let moved = std::env::var_os("RALLREC_GOLDENS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    moved.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")).join(name)
}

/// A file of the reference outputs beside the repository, or below `RALLREC_GOLDENS`; `None`, with
/// a line that says so, when it is absent.
pub fn golden(name: &str) -> Option<PathBuf> {
    let moved = Some(kept_golden(name)).filter(|path| std::env::var_os("RALLREC_GOLDENS").is_some() && path.exists());
    let path = moved.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden").join(name));
    if path.exists() {
        return Some(path);
    }
    skip::skip(&format!("file {}", path.display()), format!("no {}", path.display()));
    None
}

/// The tensors of a safetensors file.
pub struct Tensors(HashMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Reads all.
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("readable");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let all = file.tensors().into_iter();
        Self(all.map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect())
    }

    fn get(&self, name: &str, dtype: safetensors::Dtype) -> &[u8] {
        let (found, _, bytes) = self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(*found, dtype, "{name}");
        bytes
    }

    /// Shape.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].1
    }

    /// f32 values.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.get(name, safetensors::Dtype::F32).as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    /// f32 values, where there is such a tensor.
    pub fn maybe_f32(&self, name: &str) -> Option<Vec<f32>> {
        self.0.contains_key(name).then(|| self.f32(name))
    }

    /// f64 values.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        self.get(name, safetensors::Dtype::F64).as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect()
    }

    /// i32 values, as token ids.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name, safetensors::Dtype::I32).as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
    }
}

/// Fails, naming the worst element, unless all differ by at most `tolerance`; NaN fails.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let mut worst = (0.0, 0);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(g) - w).abs();
        assert!(difference <= tolerance, "{what}[{i}]: {g} instead of {w} (tolerance {tolerance:e})");
        if difference > worst.0 {
            worst = (difference, i);
        }
    }
    worst.0
}

/// f32 as f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}
