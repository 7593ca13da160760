//! `merge`: alpha, epsilon and S chosen on validation rows from the stored samples, then the merge
//! of the test rows.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::collab::Features;
use super::experts::Opinions as Outside;
use super::predict::Predictions;
use super::reason::{self, Reasoning};
use crate::content::Content;
use crate::durable;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::merge::{
    Cell, Expert, MergeSettings, Merged, Opinions, Samples, TunedMean, grid, merge as merge_rows, merge_all, sweep,
    weigh,
};
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};

/// The stage. It sees the recipe's section on the merge.
pub struct Merge;

/// What `merge` reads.
pub struct MergeInputs<'a> {
    /// Scores of the tuned model, with the rows and their labels.
    pub predictions: &'a Made<Predictions>,
    /// Further runs of the tuned model on the same rows.
    pub runs: Vec<&'a Made<Predictions>>,
    /// Samples of the reasoning model.
    pub reasoning: &'a Made<Reasoning>,
    /// What ratings and graph say, where they are an expert.
    pub features: Option<&'a Made<Features>>,
    /// What files say, where one is an expert.
    pub experts: Option<&'a Made<Outside>>,
}

impl Inputs for MergeInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        let mut all = contents([
            ("predict", Some(self.predictions.content())),
            ("reason", Some(self.reasoning.content())),
            ("collab", self.features.map(Made::content)),
            ("experts", self.experts.map(Made::content)),
        ]);
        all.extend(self.runs.iter().map(|run| ("run", run.content())));
        all
    }
}

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
    pub chosen: MergeSettings,
    /// Validation rows it was chosen on.
    pub valid_rows: usize,
    /// Test rows in order.
    pub test: Vec<(usize, Merged)>,
    /// The same rows, the reasoning model's samples being those without the hint; empty without
    /// `reason.ablation`.
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

const FILE: &str = "merge.json";

impl Stage for Merge {
    const ID: StageId = StageId::Merge;
    const VERSION: u32 = 3;
    type Settings<'r> = &'r MergeSettings;
    type Inputs<'a> = MergeInputs<'a>;
    type Output = MergeOutcome;

    fn run(settings: &&MergeSettings, inputs: &MergeInputs<'_>, work: &Work<'_>) -> Result<()> {
        let more = inputs.runs.iter().map(|run| run.get()).collect::<Result<Vec<_>>>()?;
        let opinions = ExpertOpinions {
            settings,
            predictions: TunedRuns { main: inputs.predictions.get()?, more: &more },
            reasoning: inputs.reasoning.get()?,
            features: inputs.features.map(Made::get).transpose()?,
            experts: inputs.experts.map(Made::get).transpose()?,
        };
        write(settings, &opinions, work)
    }

    fn load(artifact: &Artifact) -> Result<MergeOutcome> {
        artifact.json(FILE, "run the stage again: --from merge")
    }
}

/// What the tuned model says, run by run.
#[derive(Clone, Copy)]
pub struct TunedRuns<'a> {
    /// The first run: the recipe's adapter and template.
    pub main: &'a Predictions,
    /// Further runs, of the same rows.
    pub more: &'a [&'a Predictions],
}

impl TunedRuns<'_> {
    /// The probabilities of a row, the first run's first; empty where that has none.
    fn of(&self, set: Set, row: usize) -> Vec<f64> {
        let Some(first) = self.main.p(set, row, Variant::Main) else { return Vec::new() };
        std::iter::once(first).chain(self.more.iter().flat_map(|run| run.all_of(set, row))).collect()
    }
}

/// Reasoned rows of a set, in order, with both models' values.
fn gather(
    rows: &[usize],
    set: Set,
    predictions: TunedRuns<'_>,
    reasoning: &reason::Samples,
) -> Result<(Vec<usize>, Samples, Samples)> {
    let (mut kept, mut reasoned, mut tuned) = (Vec::new(), Vec::new(), Vec::new());
    for &row in rows {
        let samples = reasoning.get(&(set, row));
        let runs = predictions.of(set, row);
        if let (Some(samples), false) = (samples, runs.is_empty()) {
            kept.push(row);
            reasoned.push(samples.iter().map(|s| s.p).collect::<Vec<f64>>());
            tuned.push(runs);
        }
    }
    Ok((kept, Samples::new("reasoning", &reasoned)?, Samples::new("tuned", &tuned)?))
}

/// The merge of the validation rows that have samples, with settings that were chosen on them.
///
/// # Errors
/// Values that are no probabilities.
pub fn on_validation(
    predictions: TunedRuns<'_>,
    reasoning: &Reasoning,
    chosen: &MergeSettings,
) -> Result<Vec<(usize, Merged)>> {
    let all = predictions.main.labelled(Set::Valid).0;
    let (rows, reasoned, tuned) = gather(&all, Set::Valid, predictions, &reasoning.rows)?;
    Ok(rows.into_iter().zip(merge_rows(&reasoned, &tuned, chosen)?).collect())
}

/// Values of rows, by row.
fn labels_of(rows: &[usize], all: &(Vec<usize>, Vec<bool>)) -> Vec<bool> {
    let by_row: HashMap<usize, bool> = all.0.iter().copied().zip(all.1.iter().copied()).collect();
    rows.iter().filter_map(|row| by_row.get(row).copied()).collect()
}

fn write(settings: &MergeSettings, opinions: &ExpertOpinions<'_>, work: &Work<'_>) -> Result<()> {
    let ExpertOpinions { predictions, reasoning, .. } = *opinions;
    let [all_valid, all_test] = [Set::Valid, Set::Test].map(|set| predictions.main.labelled(set));
    let gather = |rows: &[usize], set, samples| gather(rows, set, predictions, samples);
    let (valid, valid_r, valid_t) = gather(&all_valid.0, Set::Valid, &reasoning.rows)?;
    let (test, test_r, test_t) = gather(&all_test.0, Set::Test, &reasoning.rows)?;
    let (cells, test_cells, chosen) = if settings.sweep.is_empty() {
        (Vec::new(), Vec::new(), settings.clone())
    } else {
        let labels = labels_of(&valid, &all_valid);
        let (cells, chosen) = sweep(&valid_r, &valid_t, &labels, settings, work.monitor)?;
        let labels = labels_of(&test, &all_test);
        // Test rows of one class have no AUC, none at all have nothing; that is no reason to stop.
        let mixed = labels.iter().any(|l| *l) && labels.iter().any(|l| !l);
        let mut test_cells = if mixed { grid(&test_r, &test_t, &labels, settings, work.monitor)? } else { Vec::new() };
        test_cells.iter_mut().zip(&cells).for_each(|(test, valid)| test.chosen = valid.chosen);
        (cells, test_cells, chosen)
    };
    let merged = merge_rows(&test_r, &test_t, &chosen)?;
    for ((&row, m), label) in test.iter().zip(&merged).zip(labels_of(&test, &all_test)) {
        work.monitor.emit(m.event(row as u64, Some(label)));
    }
    let (bare, bare_r, bare_t) = gather(&all_test.0, Set::Test, &reasoning.without_hint)?;
    let without_hint = bare.into_iter().zip(merge_rows(&bare_r, &bare_t, &chosen)?).collect();
    let wanted = !settings.experts.is_empty();
    let experts = wanted.then(|| opinions.merge(&all_valid, &all_test.0, &chosen, work.monitor)).transpose()?;
    let outcome = MergeOutcome {
        cells,
        test_cells,
        metric: settings.sweep.metric.name().into(),
        chosen,
        valid_rows: valid.len(),
        test: test.into_iter().zip(merged).collect(),
        without_hint,
        experts,
    };
    let json = serde_json::to_vec(&outcome).map_err(|e| Error::failed(FILE, e))?;
    durable::write(&work.folder.join(FILE), &json)
}

/// What every expert says.
#[derive(Clone, Copy)]
struct ExpertOpinions<'a> {
    settings: &'a MergeSettings,
    predictions: TunedRuns<'a>,
    reasoning: &'a Reasoning,
    features: Option<&'a Features>,
    experts: Option<&'a Outside>,
}

impl ExpertOpinions<'_> {
    fn of(&self, set: Set, rows: &[usize]) -> Result<Vec<Opinions>> {
        let of = |expert: &Expert, row: usize| -> Option<(f64, f64)> {
            match expert {
                Expert::Tuned => {
                    let runs = self.predictions.of(set, row);
                    let first = *runs.first()?;
                    let (mean, var) = Samples::new("tuned", &[runs]).ok()?.moments(usize::MAX).ok()?;
                    let p = if self.settings.tuned_mean == TunedMean::First { first } else { mean[0] };
                    Some((p, var[0]))
                }
                Expert::Collaborative => self.features.and_then(|f| f.p(set, row)).map(|p| (p, 0.0)),
                Expert::Outside(name) => self.experts.and_then(|all| all.p(name, set, row)).map(|p| (p, 0.0)),
                Expert::Reasoning => {
                    let p: Vec<f64> = self.reasoning.rows.get(&(set, row))?.iter().map(|s| s.p).collect();
                    let (mean, var) = Samples::new("reasoning", &[p]).ok()?.moments(usize::MAX).ok()?;
                    Some((mean[0], var[0]))
                }
            }
        };
        let experts = self.settings.experts.iter();
        experts.map(|e| Opinions::new(e.name(), rows.iter().map(|&row| of(e, row)))).collect()
    }

    /// Weights from all validation rows (with their labels), then the merge of all test rows.
    fn merge(
        &self,
        (valid, labels): &(Vec<usize>, Vec<bool>),
        test: &[usize],
        chosen: &MergeSettings,
        monitor: &dyn Monitor,
    ) -> Result<ExpertOutcome> {
        let settings = self.settings;
        let [tau_reasoning, tau_tuned] = chosen.trust().map(|t| t.tau);
        let tau = |e: &Expert| if *e == Expert::Reasoning { tau_reasoning } else { tau_tuned };
        let taus: Vec<f64> = settings.experts.iter().map(tau).collect();
        let (epsilon, metric) = (chosen.epsilon, settings.sweep.metric);
        let said = self.of(Set::Valid, valid)?;
        let trust = weigh(&said, &taus, labels, &settings.weights, epsilon, metric, monitor)?;
        let (p, _) = merge_all(&self.of(Set::Test, test)?, &trust, epsilon)?;
        Ok(ExpertOutcome {
            alphas: settings.experts.iter().cloned().zip(trust.iter().map(|t| t.alpha)).collect(),
            valid_rows: valid.len(),
            test: test.iter().copied().zip(p).collect(),
        })
    }
}
