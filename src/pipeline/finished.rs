//! The artifacts behind a finished run's tables, found by what they say they are made of: neither
//! raw data nor models are looked at, so a run can be read wherever it lies.

use std::fs;
use std::path::{Path, PathBuf};

use rallrec_events::StageId;

use super::artifact::{Artifact, check_format, newest_first, read_manifest, redo};
use super::stage::{Made, Stage};
use super::stages::align::Align;
use super::stages::baselines::FitBaselines;
use super::stages::collab::Collab;
use super::stages::data::{SampleRows, Tables};
use super::stages::embed::Embed;
use super::stages::evaluate::{Evaluate, EvaluateInputs};
use super::stages::experts::Experts;
use super::stages::graph::{Collaborative, Graph};
use super::stages::merge::Merge;
use super::stages::predict::Predict;
use super::stages::reason::Reason;
use crate::data::{Dataset, Samples};
use crate::error::{Error, Result};
use crate::tensor::Matrix;

/// What a run's vectors of users and items are.
pub struct Vectors {
    /// LightGCN's.
    pub graph: Made<Collaborative>,
    /// Of the items' texts, where the run has any.
    pub text: Option<Made<Matrix>>,
    /// Text behind the projector, where the run has any.
    pub ssl: Option<Made<Matrix>>,
}

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
        let mut found = Vec::new();
        for folder in entries.flatten().map(|entry| entry.path()) {
            if folder.extension().is_some_and(|end| end == "part") {
                continue;
            }
            let manifest = read_manifest(&folder).map_err(|e| e.next("remove the folder and run the recipe again"))?;
            let Some(manifest) = manifest else { continue };
            found.push(Artifact { folder, manifest });
        }
        newest_first(&mut found);
        Ok(Self { run: run.to_owned(), artifacts: found })
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
        self.made::<S>(found.ok_or_else(|| self.missing(S::ID))?)
    }

    /// An artifact whose bytes are those that were written.
    fn made<S: Stage>(&self, artifact: &Artifact) -> Result<Made<S::Output>> {
        artifact.verify().map_err(|e| redo(&self.run, e, S::ID.name()))?;
        Ok(Made::new(artifact.clone(), S::load))
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
        Ok((tables, self.made::<SampleRows>(samples)?))
    }

    /// The vectors that the newest stages made.
    ///
    /// # Errors
    /// The stage `graph` is not there.
    pub fn embeddings(&self) -> Result<Vectors> {
        let graph = self.newest(Graph::ID, "").ok_or_else(|| self.missing(Graph::ID))?;
        let [text, ssl] = [Embed::ID, Align::ID].map(|stage| self.newest(stage, ""));
        Ok(Vectors {
            graph: self.made::<Graph>(graph)?,
            text: text.map(|artifact| self.made::<Embed>(artifact)).transpose()?,
            ssl: ssl.map(|artifact| self.made::<Align>(artifact)).transpose()?,
        })
    }

    /// Hands over what the run's tables of results are made of.
    ///
    /// # Errors
    /// A stage is not there.
    pub fn results<T>(&self, take: impl FnOnce(&EvaluateInputs<'_>) -> Result<T>) -> Result<T> {
        let results = self.newest(Evaluate::ID, "").ok_or_else(|| self.missing(Evaluate::ID))?;
        let brought = results.manifest.inputs.iter().any(|input| input.name == "experts");
        let experts = brought.then(|| self.behind::<Experts>(results, "experts", "experts")).transpose()?;
        take(&EvaluateInputs {
            tables: &self.behind::<Tables>(results, "tables", "tables")?,
            samples: &self.behind::<SampleRows>(results, "samples", "samples")?,
            colla: &self.behind::<Graph>(results, "graph", "")?,
            features: &self.behind::<Collab>(results, "collab", "score")?,
            baselines: &self.behind::<FitBaselines>(results, "baselines", "baselines")?,
            main: &self.behind::<Predict>(results, "predict", "score")?,
            ablation: &self.behind::<Predict>(results, "predict ablation", "ablation")?,
            zero_shot: &self.behind::<Predict>(results, "predict zero-shot", "zero_shot")?,
            experts: experts.as_ref(),
            reasoning: &self.behind::<Reason>(results, "reason", "")?,
            merged: &self.behind::<Merge>(results, "merge", "")?,
        })
    }
}
