//! `data`: raw files to data set, samples and the rows that this run uses.

use std::collections::HashMap;

use crate::config::{Recipe, RowChoice};
use crate::data::{self, Dataset, Kind, Part, Rated, Sample, Samples, leaks};
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::run::Run;
use crate::rng::{Rng, Use};

/// Everything later stages stand on.
pub struct Ground {
    /// Tables.
    pub dataset: Dataset,
    /// Samples with histories and split.
    pub samples: Samples,
    /// The chosen rows.
    pub rows: ChosenRows,
    /// The artifact they come from.
    pub artifact: Artifact,
}

/// Indices into [`Samples::samples`].
pub struct ChosenRows {
    /// Targets that share a history, one entry a history; the first target's position is the history's length.
    pub tune: Vec<Vec<usize>>,
    /// Validation rows.
    pub valid: Vec<usize>,
    /// Test rows.
    pub test: Vec<usize>,
}

impl Ground {
    /// The sample at an index.
    pub fn sample(&self, row: usize) -> &Sample {
        &self.samples.samples[row]
    }

    /// Labels of rows.
    pub fn labels(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|&r| self.sample(r).label).collect()
    }

    /// The history of `row`, frozen at the position of `at` (the earliest target of its group).
    pub fn history_at(&self, row: usize, at: usize) -> Vec<Rated> {
        let (sample, base) = (self.sample(row), self.sample(at));
        let mut history = self.samples.history(base).to_vec();
        if row != at {
            history.retain(|r| r.item != sample.item);
        }
        history
    }
}

/// Runs or reuses the stage.
pub fn data(run: &Run, recipe: &Recipe) -> Result<Ground> {
    let mut key = KeyBuilder::new(StageId::Data.name(), 1).settings("data", &recipe.data)?;
    if recipe.data.kind != Kind::SYNTHETIC {
        key = key.path("raw", &recipe.data.path)?;
    }
    let artifact = run.stage(StageId::Data, &key.finish(), |work| {
        work.monitor.progress(0, 3, "steps");
        let dataset = data::open(&recipe.data, work.monitor)?;
        work.monitor.progress(1, 3, "steps");
        let samples = data::build_samples(&dataset, &recipe.data)?;
        work.monitor.progress(2, 3, "steps");
        dataset.write(&work.folder.join("dataset.bin"))?;
        samples.write(&work.folder.join("samples.bin"))?;
        work.monitor.progress(3, 3, "steps");
        Ok(())
    })?;
    let dataset = Dataset::read(&artifact.file("dataset.bin"))?;
    let samples = Samples::read(&artifact.file("samples.bin"))?;
    let selection = if recipe.tune.select_on_test { Part::Test } else { Part::Valid };
    let allowed = leaks::Allowed {
        target_in_history: recipe.data.repeats == data::Repeats::Keep,
        later_edges: recipe.graph.edges == data::GraphEdges::LeaveOneOut,
        selection_on_test: recipe.tune.select_on_test,
    };
    leaks::check(
        leaks::Inputs { samples: &samples, edges: None, selection: Some(selection), allowed },
        run.reporter(),
    )?;
    let rows = choose(&samples, recipe)?;
    Ok(Ground { dataset, samples, rows, artifact })
}

/// Draws the rows; a pure function of samples and settings.
fn choose(samples: &Samples, recipe: &Recipe) -> Result<ChosenRows> {
    let part = |part: Part, count: usize, key: &str| -> Result<Vec<usize>> {
        let range = samples.split.range(part);
        if range.is_empty() {
            return Err(Error::input("data", format!("the {} part of the split is empty", part.name()))
                .next("use more data, a smaller data.min_history, or another data.split"));
        }
        let pool = if recipe.rows.pool == 0 { range.len() } else { recipe.rows.pool.min(range.len()) };
        let mut rows: Vec<usize> = (range.start..range.start + pool).collect();
        if recipe.rows.choice == RowChoice::Random {
            Rng::new(recipe.rows.seed, Use::Rows, part as u32, 0).shuffle(&mut rows);
        }
        rows.truncate(count);
        rows.sort_unstable();
        if rows.is_empty() {
            return Err(Error::usage(format!("rows.{key}"), "no rows"));
        }
        Ok(rows)
    };
    let train = samples.split.range(Part::Train);
    if train.is_empty() {
        return Err(Error::input("data", "the training part of the split is empty")
            .next("use more data, or a smaller data.min_history"));
    }
    // For each training sample the next one of the same user, so that a group is one walk.
    let mut next: HashMap<u32, usize> = HashMap::new();
    let mut after = vec![usize::MAX; train.len()];
    for row in train.clone().rev() {
        let user = samples.samples[row].user.0;
        if let Some(later) = next.insert(user, row) {
            after[row - train.start] = later;
        }
    }
    let mut order: Vec<usize> = train.clone().collect();
    Rng::new(recipe.rows.seed, Use::Rows, Part::Train as u32, 0).shuffle(&mut order);
    let mut taken = vec![false; train.len()];
    let mut tune = Vec::new();
    for first in order {
        if tune.len() == recipe.rows.tune {
            break;
        }
        let mut group = Vec::new();
        let mut row = first;
        while row != usize::MAX && group.len() < recipe.tune.targets_per_history && !taken[row - train.start] {
            taken[row - train.start] = true;
            group.push(row);
            row = after[row - train.start];
        }
        if !group.is_empty() {
            tune.push(group);
        }
    }
    Ok(ChosenRows {
        tune,
        valid: part(Part::Valid, recipe.rows.valid, "valid")?,
        test: part(Part::Test, recipe.rows.test, "test")?,
    })
}
