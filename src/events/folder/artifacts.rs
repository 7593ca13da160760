//! Artifacts of a run folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RunFolder;

/// What an artifact is made of, in its folder.
const MANIFEST: &str = "artifact.json";

/// One artifact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArtifactInfo {
    /// Stage, with a dot and the part where a stage has several artifacts.
    pub stage: String,
    /// Short key.
    pub key: String,
    /// `false` while the stage is at work, or after it was stopped.
    pub complete: bool,
    /// Bytes of its files.
    pub bytes: u64,
    /// Seconds of work, of a complete one.
    pub seconds: Option<f64>,
    /// Where it lies.
    pub path: PathBuf,
}

impl RunFolder {
    /// The artifacts by stage and key; empty when there are none. Sizes of complete ones come from
    /// their `artifact.json`.
    pub fn artifacts(&self) -> Vec<ArtifactInfo> {
        let Ok(entries) = fs::read_dir(self.path().join("artifacts")) else { return Vec::new() };
        let mut out: Vec<_> = entries.flatten().filter_map(|e| describe(&e.path())).collect();
        out.sort_by(|a, b| (&a.stage, &a.key).cmp(&(&b.stage, &b.key)));
        out
    }

    /// The complete artifact of a stage and short key, or the latest complete one of the stage.
    pub fn artifact(&self, stage: &str, key: Option<&str>) -> Option<ArtifactInfo> {
        let mut of_stage: Vec<_> = self.artifacts().into_iter().filter(|a| a.stage == stage && a.complete).collect();
        if let Some(key) = key.filter(|k| !k.is_empty()) {
            return of_stage.into_iter().find(|a| a.key == key);
        }
        let written = |a: &ArtifactInfo| fs::metadata(a.path.join(MANIFEST)).and_then(|m| m.modified()).ok();
        of_stage.sort_by_key(written);
        of_stage.pop()
    }
}

fn describe(path: &Path) -> Option<ArtifactInfo> {
    let name = path.file_name()?.to_str()?;
    let (whole, complete) = name.strip_suffix(".part").map_or((name, true), |n| (n, false));
    let (stage, key) = whole.rsplit_once('-')?;
    if !path.is_dir() {
        return None;
    }
    let done: Option<serde_json::Value> =
        fs::read(path.join(MANIFEST)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let field = |name: &str| done.as_ref().and_then(|d| d.get(name));
    Some(ArtifactInfo {
        stage: stage.to_string(),
        key: key.to_string(),
        complete,
        bytes: field("bytes").and_then(serde_json::Value::as_u64).unwrap_or_else(|| bytes_of(path)),
        seconds: field("seconds").and_then(serde_json::Value::as_f64),
        path: path.to_path_buf(),
    })
}

/// Bytes of all files below a folder; what cannot be read counts nothing. Links are not followed.
pub fn bytes_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(meta) if meta.is_dir() => bytes_of(&e.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
