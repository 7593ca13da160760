//! What a stage is: a value with an id, the settings that it sees, what it reads, what it makes.
//!
//! The engine ([`super::run`]) derives a stage's key from its settings and from the *content* of
//! its inputs. What a stage does not see it cannot depend on, and an input that comes out as it was
//! ends the cascade.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

use super::artifact::Artifact;
use crate::content::Content;
use crate::device::Device;
use crate::error::Result;
use crate::events::StageId;
use crate::monitor::Monitor;

/// A stage, or a part of one that has an artifact of its own.
pub trait Stage {
    /// The stage's place in the order of a run.
    const ID: StageId;
    /// To be raised when the code writes something else for the same settings and inputs.
    const VERSION: u32;
    /// Files that say how the work went and that no stage reads: no part of the artifact's content.
    const NOTES: &'static [&'static str] = &[];
    /// Rows of other artifacts of the stage that were asked the same are taken over.
    const TAKES_OVER: bool = false;
    /// All of the recipe that it sees; their JSON goes into the key.
    type Settings<'r>: Serialize;
    /// All that it reads.
    type Inputs<'a>: Inputs;
    /// What the artifact holds, in memory.
    type Output;

    /// Writes the artifact's files into `work.folder`, where an interrupted try may have left some.
    ///
    /// # Errors
    /// Those of the work; a stop that was asked for.
    fn run(settings: &Self::Settings<'_>, inputs: &Self::Inputs<'_>, work: &Work<'_>) -> Result<()>;

    /// Reads a finished artifact.
    ///
    /// # Errors
    /// Files that are not there or damaged.
    fn load(artifact: &Artifact) -> Result<Self::Output>;
}

/// What a stage reads.
pub trait Inputs {
    /// Names and contents of the artifacts among them, in a fixed order. A finished run is read by
    /// these alone.
    fn made(&self) -> Vec<(&'static str, Content)>;

    /// Names and contents of what lies outside of the run folder: raw data, models, a file of
    /// descriptions.
    ///
    /// # Errors
    /// What cannot be read.
    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(Vec::new())
    }
}

impl Inputs for () {
    fn made(&self) -> Vec<(&'static str, Content)> {
        Vec::new()
    }
}

/// What a stage's work is given besides settings and inputs; none of it decides the result.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Its folder; files there survive a kill and are found again.
    pub folder: &'a Path,
    /// Folders of other artifacts of this stage, where rows may stand that were asked the same.
    /// Empty when the stage takes nothing over, or is to be done again from nothing.
    pub others: &'a [PathBuf],
    /// Where operators run.
    pub device: &'a Device,
    /// Where to report.
    pub monitor: &'a dyn Monitor,
}

/// The result of a stage, read from its files when it is first asked for.
pub struct Made<T> {
    artifact: Artifact,
    load: fn(&Artifact) -> Result<T>,
    value: OnceLock<T>,
}

impl<T> Made<T> {
    /// What `load` finds in a finished artifact.
    pub fn new(artifact: Artifact, load: fn(&Artifact) -> Result<T>) -> Self {
        Self { artifact, load, value: OnceLock::new() }
    }

    /// The result, read from its files at the first call.
    ///
    /// # Errors
    /// Files that are not there or damaged.
    pub fn get(&self) -> Result<&T> {
        match self.value.get() {
            Some(value) => Ok(value),
            None => {
                let value = (self.load)(&self.artifact)?;
                Ok(self.value.get_or_init(|| value))
            }
        }
    }

    /// What its files hold.
    pub fn content(&self) -> Content {
        self.artifact.manifest.content.clone()
    }

    /// The artifact that holds it.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

/// Contents of inputs that may be absent, in order.
pub fn contents<const N: usize>(inputs: [(&'static str, Option<Content>); N]) -> Vec<(&'static str, Content)> {
    inputs.into_iter().filter_map(|(name, content)| content.map(|c| (name, c))).collect()
}
