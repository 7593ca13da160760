//! One trial of a sweep: the stages that its judge needs, and what they say of validation rows.

use rallrec_events::StageId;
use serde::{Deserialize, Serialize};

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::eval::{Metrics, rows};
use crate::merge::MergeSettings;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::run::Run;
use crate::pipeline::stage::Made;
use crate::pipeline::stages::merge::{TunedRuns, on_validation};
use crate::pipeline::stages::rank::Ranked;
use crate::pipeline::stages::{Chain, Reached, SoFar, Unseen};
use crate::pipeline::whole::{begin, set_threads};

/// Whose predictions of the validation rows decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The merge of the tuned and the reasoning model.
    Merged,
    /// The tuned model; the reasoning model is not asked.
    Tuned,
    /// The reasoning model: the mean of its samples.
    Reasoning,
    /// The best ranker of the catalogue, as `recommend` chooses it; needs no language model.
    Ranker,
    /// LightGCN's order of the catalogue; needs no language model.
    Lightgcn,
}

impl Judge {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Judge::Merged => "merged",
            Judge::Tuned => "tuned",
            Judge::Reasoning => "reasoning",
            Judge::Ranker => "ranker",
            Judge::Lightgcn => "lightgcn",
        }
    }

    /// It orders the catalogue, and says no Yes or No.
    pub fn ranks(self) -> bool {
        matches!(self, Judge::Ranker | Judge::Lightgcn)
    }

    /// The last stage that is needed.
    pub fn last(self) -> StageId {
        match self {
            Judge::Merged => StageId::Merge,
            Judge::Tuned => StageId::Predict,
            Judge::Reasoning => StageId::Reason,
            Judge::Ranker | Judge::Lightgcn => StageId::Graph,
        }
    }
}

/// What a trial says of the validation part.
pub(super) enum Said {
    /// Probabilities of rows.
    Rows(ValidRows),
    /// How well users' likes are ranked.
    Ranked(Metrics),
}

/// Probabilities of validation rows.
pub(super) struct ValidRows {
    pub rows: Vec<usize>,
    pub labels: Vec<bool>,
    pub users: Vec<u32>,
    pub p: Vec<f64>,
}

/// The recipe without the work that a choice by validation rows does not need: of the test rows one
/// is enough for every stage to go on.
pub fn for_choice(mut recipe: Recipe, swept: &dyn Fn(&str) -> bool) -> Recipe {
    // A tuning that looks at test rows needs them.
    if !recipe.tune.select_on_test && !swept("rows.test") {
        recipe.rows.test = 1;
    }
    recipe.predict.ablation_rows = 1;
    recipe.predict.zero_shot_rows = 1;
    recipe.reason.ablation = false;
    recipe.reason.without_retrieval = false;
    if !swept("reason.test_rows") {
        recipe.reason.test_rows = 1;
    }
    recipe
}

/// Runs the stages up to the judge's and asks it.
pub(super) fn run(run: &Run, recipe: &Recipe, judge: Judge) -> Result<Said> {
    let (kernels, device) = recipe.device.resolve()?;
    set_threads(recipe.threads)?;
    let stages = StageId::ALL.into_iter().filter(|stage| *stage <= judge.last());
    let stages = stages.filter(|stage| !judge.ranks() || matches!(stage, StageId::Data | StageId::Graph));
    begin(run, recipe, &device, false, stages.collect())?;
    rayon::scope(|_| ask(&Chain::new(run, recipe, &kernels), judge))
}

fn ask(chain: &Chain<'_>, judge: Judge) -> Result<Said> {
    let data = chain.data()?;
    if judge.ranks() {
        return ranked(&chain.ranked_graph(&data)?.ranked, judge).map(Said::Ranked);
    }
    if let Some(why) = &data.graph_only {
        return Err(Error::usage("--judge", why).next("choose --judge ranker or --judge lightgcn"));
    }
    let missing = || Error::failed("sweep", format!("a stage that '{}' needs was not done", judge.name()));
    let Reached::Until(made) = chain.behind(data, &Unseen)? else { return Err(missing()) };
    let SoFar { data, scores, reasoning, merged } = *made;
    let scores = scores.ok_or_else(missing)?;
    let main = scores.main.get()?;
    let p: Vec<(usize, f64)> = match judge {
        Judge::Tuned => {
            let rows = main.labelled(Set::Valid).0;
            rows.into_iter().filter_map(|row| Some((row, main.p(Set::Valid, row, Variant::Main)?))).collect()
        }
        _ => {
            let reasoning = reasoning.ok_or_else(missing)?;
            let runs = scores.runs.iter().map(Made::get).collect::<Result<Vec<_>>>()?;
            let of =
                |settings: &MergeSettings| on_validation(TunedRuns { main, more: &runs }, reasoning.get()?, settings);
            match merged {
                Some(merged) if judge == Judge::Merged => {
                    of(&merged.get()?.chosen)?.into_iter().map(|(row, m)| (row, m.p)).collect()
                }
                _ => of(&MergeSettings::default())?.into_iter().map(|(row, m)| (row, m.mean_reasoning)).collect(),
            }
        }
    };
    let samples = data.samples.get()?;
    let (rows, p): (Vec<usize>, Vec<f64>) = p.into_iter().unzip();
    if rows.is_empty() {
        return Err(Error::input("sweep", format!("'{}' says nothing of any validation row", judge.name()))
            .next("raise rows.valid or reason.valid_rows, or choose another --judge"));
    }
    let of = |row: &usize| &samples.samples[*row];
    Ok(Said::Rows(ValidRows {
        labels: rows.iter().map(|row| of(row).label).collect(),
        users: rows.iter().map(|row| of(row).user.0).collect(),
        rows,
        p,
    }))
}

fn ranked(ranked: &Made<Ranked>, judge: Judge) -> Result<Metrics> {
    let ranked = ranked.get()?;
    let name = if judge == Judge::Lightgcn { rows::LIGHTGCN } else { ranked.chosen.name.as_str() };
    let table = ranked.tables.iter().find(|table| table.split == "valid");
    let row = table.and_then(|table| table.row(name));
    row.map(|row| row.metrics.clone()).ok_or_else(|| {
        Error::input("sweep", format!("no validation user shows how well '{name}' ranks"))
            .next("set data.split.valid, e.g. to 0.1")
    })
}
