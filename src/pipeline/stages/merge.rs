//! `merge`: alpha, epsilon and S chosen on validation rows from the stored samples, then the merge of the test rows.

use serde::{Deserialize, Serialize};

use super::data::Ground;
use super::predict::{Predictions, Who};
use super::prompts::Prompts;
use super::reason::{self, Reasoning};
use super::retrieve::{Set, Variant};
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::merge::{
    Cell, Expert, Merged, Opinions, Samples, Settings, grid, merge as merge_rows, merge_all, sweep, weigh,
};
use crate::monitor::Monitor;
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::run::{Run, Work};

/// The stage's result.
#[derive(Serialize, Deserialize)]
pub struct MergeOutcome {
    /// The validation grid.
    pub cells: Vec<Cell>,
    /// The same grid on the test rows, to see what the choice was worth; nothing is chosen by it.
    pub test_cells: Vec<Cell>,
    /// Metric of the grid.
    pub metric: String,
    /// Settings with the chosen values.
    pub chosen: Settings,
    /// Validation rows it was chosen on.
    pub valid_rows: usize,
    /// Test rows in order.
    pub test: Vec<(usize, Merged)>,
    /// The same rows, the reasoning model's samples being those without the hint; empty without `reason.ablation`.
    pub without_hint: Vec<(usize, Merged)>,
    /// The merge of `merge.experts`, where the recipe names any.
    pub experts: Option<ExpertOutcome>,
}

/// The merge of any number of experts.
#[derive(Serialize, Deserialize)]
pub struct ExpertOutcome {
    /// Each expert's chosen alpha.
    pub alphas: Vec<(Expert, f64)>,
    /// Validation rows that they were chosen on.
    pub valid_rows: usize,
    /// Test rows with the merged probability, in order.
    pub test: Vec<(usize, f64)>,
}

/// The outcome with its artifact.
pub struct MergedRows {
    /// The outcome.
    pub outcome: MergeOutcome,
    /// The artifact.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn merge(
    run: &Run,
    recipe: &Recipe,
    ground: &Ground,
    prompts: &Prompts,
    predictions: &Predictions,
    reasoning: &Reasoning,
) -> Result<MergedRows> {
    let key = KeyBuilder::new(StageId::Merge.name(), 3)
        .input("predict", &predictions.artifact.key)
        .input("reason", &reasoning.artifact.key)
        .settings("merge", &recipe.merge)?
        .finish();
    let artifact =
        run.stage(StageId::Merge, &key, |work| write(work, recipe, ground, prompts, predictions, reasoning))?;
    let path = artifact.file("merge.json");
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read the file", &e))?;
    let outcome = serde_json::from_slice(&bytes)
        .map_err(|e| Error::input(path.display(), e).next("run the stage again: --from merge"))?;
    Ok(MergedRows { outcome, artifact })
}

/// Reasoned rows of a set, in order, with both models' values.
fn gather(
    rows: &[usize],
    set: Set,
    predictions: &Predictions,
    reasoning: &reason::Samples,
) -> Result<(Vec<usize>, Samples, Samples)> {
    let (mut kept, mut reasoned, mut tuned) = (Vec::new(), Vec::new(), Vec::new());
    for &row in rows {
        let samples = reasoning.get(&(set, row));
        let p = predictions.p(Who::Tuned, set, row, Variant::Main);
        if let (Some(samples), Some(p)) = (samples, p) {
            kept.push(row);
            reasoned.push(samples.iter().map(|s| s.p).collect::<Vec<f64>>());
            tuned.push([p]);
        }
    }
    Ok((kept, Samples::new("reasoning", &reasoned)?, Samples::new("tuned", &tuned)?))
}

fn write(
    work: &Work<'_>,
    recipe: &Recipe,
    ground: &Ground,
    prompts: &Prompts,
    predictions: &Predictions,
    reasoning: &Reasoning,
) -> Result<()> {
    let gather = |rows: &[usize], set, samples| gather(rows, set, predictions, samples);
    let (valid, valid_r, valid_t) = gather(&ground.rows.valid, Set::Valid, &reasoning.rows)?;
    let (test, test_r, test_t) = gather(&ground.rows.test, Set::Test, &reasoning.rows)?;
    let (cells, test_cells, chosen) = if recipe.merge.sweep.is_empty() {
        (Vec::new(), Vec::new(), recipe.merge.clone())
    } else {
        let (cells, chosen) = sweep(&valid_r, &valid_t, &ground.labels(&valid), &recipe.merge, work.monitor)?;
        let labels = ground.labels(&test);
        // Test rows of one class have no AUC, none at all have nothing; that is no reason to stop.
        let mixed = labels.iter().any(|l| *l) && labels.iter().any(|l| !l);
        let mut test_cells =
            if mixed { grid(&test_r, &test_t, &labels, &recipe.merge, work.monitor)? } else { Vec::new() };
        test_cells.iter_mut().zip(&cells).for_each(|(test, valid)| test.chosen = valid.chosen);
        (cells, test_cells, chosen)
    };
    let merged = merge_rows(&test_r, &test_t, &chosen)?;
    for (&row, m) in test.iter().zip(&merged) {
        work.monitor.emit(m.event(row as u64, Some(ground.sample(row).label)));
    }
    let (bare, bare_r, bare_t) = gather(&ground.rows.test, Set::Test, &reasoning.without_hint)?;
    let without_hint = bare.into_iter().zip(merge_rows(&bare_r, &bare_t, &chosen)?).collect();
    let heard = Heard { recipe, prompts, predictions, reasoning };
    let experts = (!recipe.merge.experts.is_empty()).then(|| heard.merge(ground, &chosen, work.monitor)).transpose()?;
    let outcome = MergeOutcome {
        cells,
        test_cells,
        metric: recipe.merge.sweep.metric.name().into(),
        chosen,
        valid_rows: valid.len(),
        test: test.into_iter().zip(merged).collect(),
        without_hint,
        experts,
    };
    let json = serde_json::to_vec(&outcome).map_err(|e| Error::failed("merge.json", e))?;
    write_atomically(&work.folder.join("merge.json"), &json)
}

/// All that any expert has said.
struct Heard<'a> {
    recipe: &'a Recipe,
    prompts: &'a Prompts,
    predictions: &'a Predictions,
    reasoning: &'a Reasoning,
}

impl Heard<'_> {
    fn opinions(&self, set: Set, rows: &[usize]) -> Result<Vec<Opinions>> {
        let facts = self.prompts.facts(set);
        let of = |expert: Expert, row: usize| -> Option<(f64, f64)> {
            match expert {
                Expert::Tuned => self.predictions.p(Who::Tuned, set, row, Variant::Main).map(|p| (p, 0.0)),
                Expert::Collaborative => facts.get(&row).map(|&p| (p, 0.0)),
                Expert::Reasoning => {
                    let p: Vec<f64> = self.reasoning.rows.get(&(set, row))?.iter().map(|s| s.p).collect();
                    let (mean, var) = Samples::new("reasoning", &[p]).ok()?.moments(usize::MAX).ok()?;
                    Some((mean[0], var[0]))
                }
            }
        };
        let experts = self.recipe.merge.experts.iter();
        experts.map(|&e| Opinions::new(e.name(), rows.iter().map(|&row| of(e, row)))).collect()
    }

    /// Weights from all validation rows, then the merge of all test rows.
    fn merge(&self, ground: &Ground, chosen: &Settings, monitor: &dyn Monitor) -> Result<ExpertOutcome> {
        let settings = &self.recipe.merge;
        let [tau_reasoning, tau_tuned] = chosen.trust().map(|t| t.tau);
        let tau = |e: &Expert| if *e == Expert::Reasoning { tau_reasoning } else { tau_tuned };
        let taus: Vec<f64> = settings.experts.iter().map(tau).collect();
        let (valid, test) = (&ground.rows.valid, &ground.rows.test);
        let (epsilon, metric) = (chosen.epsilon, settings.sweep.metric);
        let said = self.opinions(Set::Valid, valid)?;
        let trust = weigh(&said, &taus, &ground.labels(valid), &settings.weights, epsilon, metric, monitor)?;
        let (p, _) = merge_all(&self.opinions(Set::Test, test)?, &trust, epsilon)?;
        Ok(ExpertOutcome {
            alphas: settings.experts.iter().copied().zip(trust.iter().map(|t| t.alpha)).collect(),
            valid_rows: valid.len(),
            test: test.iter().copied().zip(p).collect(),
        })
    }
}
