//! Artifacts of a run folder that its recipe does not use: those of other settings, tried before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::artifact::{Manifest, read_manifest};
use super::lock::Lock;
use super::run::Run;
use super::stages::{Chain, Unseen};
use crate::config::Recipe;
use crate::device::Device;
use crate::error::{Error, Result};

/// A folder that nothing uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What can go from a run folder, and what cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What the recipe does not use, in order of names.
    pub unused: Vec<Unused>,
    /// Why artifacts of stages that were not reached are kept; empty where every stage was.
    pub kept: String,
}

/// Keeps other processes out of the run folder until it is dropped.
///
/// # Errors
/// A process works there.
pub fn alone(run: &Path) -> Result<Lock> {
    Lock::take(run)
}

/// Looks for the artifacts that `recipe` does not use. Every stage is gone through as a run would:
/// up to the first one that is not there. Artifacts of that stage and of later ones are kept, as
/// work may go on in them.
///
/// # Errors
/// No run folder, or one of another layout.
pub fn find(run: &Path, recipe: &Recipe) -> Result<Found> {
    let opened = Run::open_finished(run)?;
    let outcome = Chain::new(&opened, recipe, &Device::Cpu).all(&Unseen);
    let reached: BTreeSet<String> = opened.times().into_iter().map(|time| time.stage).collect();
    let kept = outcome.err().map_or_else(String::new, |e| e.to_string().lines().next().unwrap_or_default().to_owned());

    let root = run.join("artifacts");
    let entries = fs::read_dir(&root).map_err(|e| Error::io(&root, "read the artifacts", &e))?;
    let folders: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| !p.is_symlink() && p.is_dir()).collect();
    let manifest = |folder: &Path| read_manifest(folder).ok().flatten();
    // What a used artifact was made of is used as well.
    let mut used: BTreeSet<PathBuf> = opened.used().into_iter().collect();
    let known: Vec<(&PathBuf, Manifest)> = folders.iter().filter_map(|f| Some((f, manifest(f)?))).collect();
    loop {
        let wanted: BTreeSet<&str> = (known.iter().filter(|(folder, _)| used.contains(*folder)))
            .flat_map(|(_, manifest)| manifest.inputs.iter().map(|input| input.content.as_str()))
            .collect();
        let more: Vec<PathBuf> = (known.iter())
            .filter(|(folder, manifest)| !used.contains(*folder) && wanted.contains(manifest.content.as_str()))
            .map(|(folder, _)| (*folder).clone())
            .collect();
        if more.is_empty() {
            break;
        }
        used.extend(more);
    }
    let of_stage = |folder: &PathBuf| {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.split(['-', '.']).next().unwrap_or_default().to_owned()
    };
    let mut unused = Vec::new();
    for folder in folders.into_iter().filter(|f| !used.contains(f) && reached.contains(&of_stage(f))) {
        let bytes = size(&folder).map_err(|e| Error::io(&folder, "look into the folder", &e))?;
        unused.push(Unused { folder, bytes });
    }
    unused.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(Found { unused, kept })
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { size(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
