//! The causal features of a run's rows. The weights of the features are kept with the prompts.

use std::path::Path;

use super::data::Ground;
use super::graph::Collaborative;
use super::retrieve::Set;
use crate::collab::{CausalFeatures, CrossFit, Sources};
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::pipeline::artifact::write_atomically;

fn sources<'a>(recipe: &Recipe, ground: &'a Ground, colla: &'a Collaborative) -> Sources<'a> {
    let threshold = recipe.data.threshold();
    Sources { samples: &ground.samples, threshold, users: &colla.users, items: &colla.items }
}

/// Fits what the recipe asks for on training rows, and writes the weights to `file`.
pub fn fit(
    recipe: &Recipe,
    ground: &Ground,
    colla: &Collaborative,
    file: &Path,
    monitor: &dyn Monitor,
) -> Result<Option<CrossFit>> {
    let fitted = CrossFit::fit(&recipe.collab, sources(recipe, ground, colla), recipe.collab.seed, monitor)?;
    let weights = fitted.as_ref().map(CrossFit::weights);
    let json = serde_json::to_vec(&weights).map_err(|e| Error::failed(file.display(), e))?;
    write_atomically(file, &json)?;
    Ok(fitted)
}

/// The same for rows that are no training rows, with the weights in `file`; without that file they are learnt again.
pub fn for_new_rows(
    recipe: &Recipe,
    ground: &Ground,
    colla: &Collaborative,
    file: &Path,
    monitor: &dyn Monitor,
) -> Result<Option<CrossFit>> {
    let sources = sources(recipe, ground, colla);
    // Runs of earlier versions have no such file.
    let Ok(bytes) = std::fs::read(file) else {
        return CrossFit::fit(&recipe.collab, sources, recipe.collab.seed, monitor);
    };
    let weights = serde_json::from_slice(&bytes)
        .map_err(|e| Error::input(file.display(), e).next("run the stage again: --from prompts"))?;
    match weights {
        Some(weights) => CrossFit::for_new_rows(&recipe.collab, sources, weights, monitor),
        None => CrossFit::fit(&recipe.collab, sources, recipe.collab.seed, monitor),
    }
}

/// The features of a row whose history is frozen at the row `at`.
pub fn of(fitted: &CrossFit, ground: &Ground, set: Set, row: usize, at: usize) -> CausalFeatures {
    let (sample, history) = (ground.sample(row), ground.history_at(row, at));
    match set {
        Set::Tune => fitted.training_row(sample, &history),
        Set::Valid | Set::Test => fitted.new_row(sample.user, sample.item, &history),
    }
}
