//! The artifacts behind a finished run's tables, found by what they say they are made of: neither
//! raw data nor models are looked at, so a run can be read wherever it lies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rallrec_events::StageId;

use super::artifact::{Artifact, MANIFEST, Manifest, check_format};
use super::stage::{Made, Stage};
use super::stages::collab::Collab;
use super::stages::data::{SampleRows, Tables};
use super::stages::evaluate::{Evaluate, EvaluateInputs};
use super::stages::graph::Graph;
use super::stages::merge::Merge;
use super::stages::predict::Predict;
use super::stages::reason::Reason;
use crate::data::{Dataset, Samples};
use crate::error::{Error, Result};

/// The artifacts of a run folder.
pub struct Finished {
    run: PathBuf,
    /// The newest first.
    artifacts: Vec<Artifact>,
}

impl Finished {
    /// Reads what the artifacts say of themselves.
    ///
    /// # Errors
    /// No run folder, or one of another layout.
    pub fn open(run: &Path) -> Result<Self> {
        check_format(run)?;
        let all = run.join("artifacts");
        let entries = fs::read_dir(&all).map_err(|e| {
            Error::io(&all, "read the run", &e).next("give the folder that `rallrec run` wrote into, e.g. runs/demo")
        })?;
        let mut found: Vec<(SystemTime, Artifact)> = Vec::new();
        for folder in entries.flatten().map(|entry| entry.path()) {
            let file = folder.join(MANIFEST);
            if folder.extension().is_some_and(|end| end == "part") || !file.exists() {
                continue;
            }
            let text = fs::read(&file).map_err(|e| Error::io(&file, "read the file", &e))?;
            let manifest: Manifest = serde_json::from_slice(&text)
                .map_err(|e| Error::input(file.display(), e).next("remove the folder and run the recipe again"))?;
            let changed = fs::metadata(&file).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((changed, Artifact { folder, manifest }));
        }
        found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.folder.cmp(&b.1.folder)));
        Ok(Self { run: run.to_owned(), artifacts: found.into_iter().map(|(_, artifact)| artifact).collect() })
    }

    fn missing(&self, stage: StageId) -> Error {
        Error::input(self.run.display(), format!("there is no finished stage `{stage}`")).next(format!(
            "run the recipe to that stage: rallrec run {} --out {}",
            self.run.join("recipe.toml").display(),
            self.run.display()
        ))
    }

    fn newest(&self, stage: StageId, part: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|a| a.manifest.stage == stage.name() && a.manifest.part == part)
    }

    /// The artifact that another one calls `input`.
    fn behind<S: Stage>(&self, of: &Artifact, input: &str, part: &str) -> Result<Made<S::Output>> {
        let wanted = of.manifest.inputs.iter().find(|record| record.name == input);
        let found = wanted.and_then(|wanted| {
            self.artifacts.iter().find(|a| {
                a.manifest.stage == S::ID.name() && a.manifest.part == part && a.manifest.content == wanted.content
            })
        });
        let found = found.ok_or_else(|| self.missing(S::ID))?;
        for file in &found.manifest.files {
            let path = found.file(&file.name);
            let bytes = fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
            if bytes != file.bytes {
                return Err(Error::input(path.display(), format!("has {bytes} bytes and had {}", file.bytes))
                    .next(format!("remove {} and run the recipe again", found.folder.display())));
            }
        }
        Ok(Made::new(found.clone(), S::load))
    }

    /// Tables and samples: those of the run's results, where it has any.
    ///
    /// # Errors
    /// The stage `data` is not there.
    pub fn data(&self) -> Result<(Made<Dataset>, Made<Samples>)> {
        if let Some(results) = self.newest(StageId::Evaluate, "") {
            let tables = self.behind::<Tables>(results, "tables", "tables")?;
            return Ok((tables, self.behind::<SampleRows>(results, "samples", "samples")?));
        }
        let samples = self.newest(StageId::Data, "samples").ok_or_else(|| self.missing(StageId::Data))?;
        let tables = self.behind::<Tables>(samples, "tables", "tables")?;
        Ok((tables, Made::new(samples.clone(), SampleRows::load)))
    }

    /// Hands over what the run's tables of results are made of.
    ///
    /// # Errors
    /// A stage is not there.
    pub fn results<T>(&self, take: impl FnOnce(&EvaluateInputs<'_>) -> Result<T>) -> Result<T> {
        let results = self.newest(Evaluate::ID, "").ok_or_else(|| self.missing(Evaluate::ID))?;
        take(&EvaluateInputs {
            tables: &self.behind::<Tables>(results, "tables", "tables")?,
            samples: &self.behind::<SampleRows>(results, "samples", "samples")?,
            colla: &self.behind::<Graph>(results, "graph", "")?,
            features: &self.behind::<Collab>(results, "collab", "score")?,
            main: &self.behind::<Predict>(results, "predict", "score")?,
            ablation: &self.behind::<Predict>(results, "predict ablation", "ablation")?,
            zero_shot: &self.behind::<Predict>(results, "predict zero-shot", "zero_shot")?,
            reasoning: &self.behind::<Reason>(results, "reason", "")?,
            merged: &self.behind::<Merge>(results, "merge", "")?,
        })
    }
}
