//! `predict`: the Yes/No probability of every row, by the tuned and the untuned model, for every variant.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::language::{self, Language};
use super::prompts::{PromptRow, Prompts};
use super::retrieve::{Set, Variant};
use super::scorer::Scorer;
use super::tune::Tuned;
use crate::config::Recipe;
use crate::device::Device;
use crate::error::Result;
use crate::eval::Score;
use crate::events::{Event, StageId};
use crate::generate::scoring::Bundle;
use crate::monitor::Monitor;
use crate::ops::cross_entropy::Choice;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::text::prompts::Prompt;

/// Which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// As it came.
    ZeroShot,
    /// With the adapter.
    Tuned,
}

/// One score.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prediction {
    /// Which model.
    pub model: Who,
    /// Which set.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// How the history was chosen.
    pub variant: Variant,
    /// How the probability was formed.
    pub score: Score,
    /// Probability of liking.
    pub p: f64,
    /// Logits and log-sum-exp behind it.
    pub choice: Choice,
    /// The row's label.
    pub label: bool,
}

/// All scores.
pub struct Predictions {
    rows: HashMap<(Who, Set, usize, Variant), Prediction>,
    /// The artifact.
    pub artifact: Artifact,
}

impl Predictions {
    /// One score.
    pub fn get(&self, model: Who, set: Set, row: usize, variant: Variant) -> Option<&Prediction> {
        self.rows.get(&(model, set, row, variant))
    }

    /// The probability of one score.
    pub fn p(&self, model: Who, set: Set, row: usize, variant: Variant) -> Option<f64> {
        self.get(model, set, row, variant).map(|p| p.p)
    }

    /// Mean of P(Yes) + P(No) over a model's test rows, with the history as the recipe has it.
    pub fn mean_mass(&self, model: Who) -> Option<f64> {
        let own = |p: &&Prediction| p.model == model && p.set == Set::Test && p.variant == Variant::Main;
        let mut rows: Vec<&Prediction> = self.rows.values().filter(own).collect();
        // Sums must not depend on the order of a hash map.
        rows.sort_by_key(|p| p.row);
        (!rows.is_empty()).then(|| rows.iter().map(|p| p.choice.mass()).sum::<f64>() / rows.len() as f64)
    }
}

/// Probability of "Yes" by the recipe's rule.
pub fn as_probability(choice: &Choice, rule: Score) -> f64 {
    match rule {
        Score::TwoWay => choice.two_way(),
        Score::DoubleSoftmax => {
            let [yes, no] = choice.probabilities();
            1.0 / (1.0 + (-(yes - no)).exp())
        }
    }
}

/// Scores prompts in order; those of one sample that stand next to each other share their common beginning. `tokens`
/// makes a prompt's tokens: as in tuning or as in scoring.
pub fn score_rows(
    language: &Language,
    model: &Scorer<'_>,
    rows: &[&PromptRow],
    tokens: &dyn Fn(&Prompt) -> Result<Vec<u32>>,
    monitor: &dyn Monitor,
) -> Result<Vec<Choice>> {
    let mut out = Vec::with_capacity(rows.len());
    let chunks: Vec<&[&PromptRow]> = rows.chunk_by(|a, b| a.set == b.set && a.row == b.row).collect();
    for some in chunks.chunks(16) {
        monitor.check()?;
        let mut bundles: Vec<Bundle> = Vec::with_capacity(some.len());
        for same in some {
            bundles.push(same.iter().map(|r| tokens(&r.prompt)).collect::<Result<_>>()?);
        }
        out.extend(model.score(&bundles, language.yes_no)?.into_iter().flatten());
    }
    Ok(out)
}

/// Runs or reuses the stage.
pub fn predict(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    prompts: &Prompts,
    tuned: &Tuned,
    language: &mut super::Lazy<'_>,
) -> Result<Predictions> {
    let key = KeyBuilder::new(StageId::Predict.name(), 1)
        .input("prompts", &prompts.artifact.key)
        .input("tune", &tuned.artifact.key)
        .settings("predict", &recipe.predict)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?.finish();
    let artifact =
        run.stage(StageId::Predict, &key, |work| write(work, recipe, device, prompts, tuned, language.get()?))?;
    let rows: Vec<Prediction> = read_rows(&artifact.file("predictions.jsonl"))?;
    let rows = rows.into_iter().map(|p| ((p.model, p.set, p.row, p.variant), p)).collect();
    Ok(Predictions { rows, artifact })
}

fn write(
    work: &Work<'_>,
    recipe: &Recipe,
    device: &Device,
    prompts: &Prompts,
    tuned: &Tuned,
    language: &Language,
) -> Result<()> {
    let (mut file, done) = RowFile::<Prediction>::open(&work.folder.join("predictions.jsonl"))?;
    let there: HashSet<_> = done.iter().map(|p| (p.model, p.set, p.row, p.variant)).collect();
    let mut tests = Vec::new();
    let mut wanted: Vec<(Who, &PromptRow)> = Vec::new();
    for row in prompts.rows.iter().filter(|r| r.set != Set::Tune) {
        wanted.push((Who::Tuned, row));
        if row.set == Set::Test && row.variant == Variant::Main {
            tests.push(row);
        }
    }
    let zero_shot = if recipe.predict.zero_shot_rows == 0 { tests.len() } else { recipe.predict.zero_shot_rows };
    wanted.extend(tests.into_iter().take(zero_shot).map(|row| (Who::ZeroShot, row)));
    let total = wanted.len() as u64;
    wanted.retain(|(who, r)| !there.contains(&(*who, r.set, r.row, r.variant)));
    let mut count = total - wanted.len() as u64;
    let inputs = prompts.inputs(language)?;
    let adapted = language.with_adapter(&tuned.adapter, tuned.projector.as_ref().zip(inputs.as_ref()))?;
    for some in wanted.chunk_by(|a, b| a.0 == b.0) {
        let model = Scorer::new(device, if some[0].0 == Who::Tuned { &adapted } else { &language.model })?;
        let rows: Vec<&PromptRow> = some.iter().map(|(_, r)| *r).collect();
        // Whole samples at a time, so that their variants stay together.
        let samples: Vec<&[&PromptRow]> = rows.chunk_by(|a, b| a.set == b.set && a.row == b.row).collect();
        for few in samples.chunks(16) {
            work.monitor.check()?;
            let rows = few.concat();
            let began = Instant::now();
            // What a projector was not trained for has no soft tokens.
            let tokens = |prompt: &Prompt| match some[0].0 {
                Who::Tuned => language.scoring_tokens(prompt),
                Who::ZeroShot => language.scoring_tokens(&prompt.without_soft()),
            };
            for (row, choice) in rows.iter().zip(score_rows(language, &model, &rows, &tokens, work.monitor)?) {
                let p = as_probability(&choice, recipe.predict.score);
                let who = some[0].0;
                file.append(&Prediction {
                    model: who,
                    set: row.set,
                    row: row.row,
                    variant: row.variant,
                    score: recipe.predict.score,
                    p,
                    choice,
                    label: row.label,
                })?;
                work.monitor.emit(Event::SampleScored {
                    stage: StageId::Predict.into(),
                    model: format!("{}/{}", if who == Who::Tuned { "tuned" } else { "zero_shot" }, row.variant.title()),
                    row: row.row as u64,
                    p,
                    yes_no_mass: choice.mass(),
                    label: Some(row.label),
                });
                count += 1;
            }
            work.monitor.emit(Event::PromptCost {
                how: "plain".into(),
                prompts: rows.len() as u64,
                seconds: began.elapsed().as_secs_f64(),
                tokens: 0,
            });
            work.monitor.progress(count, total, "prompts");
        }
    }
    Ok(())
}
