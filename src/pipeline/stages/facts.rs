//! Collaborative facts about a row, fitted on training rows only: used by the prompts, the tables and the merge.

use std::path::Path;

use rayon::prelude::*;

use super::data::Ground;
use super::graph::Collaborative;
use super::retrieve::Set;
use crate::config::Recipe;
use crate::data::{ItemIdx, Part, Rated, Sample, UserIdx};
use crate::error::{Error, Result};
use crate::eval::yardsticks::Logistic;
use crate::models::taste::{Source, Taste, als};
use crate::monitor::Monitor;
use crate::pipeline::artifact::write_atomically;
use crate::rng::{Rng, Use};
use crate::text::knowledge::{FEATURES, Facts, Knowledge, KnowledgeBase};

/// Training rows behind the weight of each fact.
const WEIGHING_ROWS: usize = 20_000;

/// What makes the facts of a row.
pub struct FactSource {
    base: Option<KnowledgeBase>,
    fit: Option<Logistic>,
    affinity: Option<Affinity>,
    tastes: Option<Tastes>,
}

struct Affinity {
    users: crate::Matrix,
    items: crate::Matrix,
}

/// Which rows the facts are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All, training rows among them: everything is fitted for each fold of users too.
    All,
    /// Those of validation, test and candidates.
    New,
}

impl FactSource {
    /// Fits what the recipe's `facts` section asks for.
    pub fn fit(recipe: &Recipe, ground: &Ground, colla: &Collaborative, monitor: &dyn Monitor) -> Result<Self> {
        let mut source = Self::unweighed(recipe, ground, colla, Rows::All, monitor)?;
        if source.base.is_none() {
            return Ok(source);
        }
        // The weight of each fact is learnt on a draw of training rows, each seen through the other users' folds.
        let range = ground.samples.split.range(Part::Train);
        let mut rows: Vec<usize> = range.collect();
        Rng::new(recipe.seed, Use::Rows, 77, 0).shuffle(&mut rows);
        rows.truncate(WEIGHING_ROWS);
        let features: Vec<[f64; FEATURES]> =
            rows.par_iter().filter_map(|&row| source.of(ground, Set::Tune, row, row)).map(|f| f.features()).collect();
        let labels: Vec<bool> = rows.iter().map(|&r| ground.sample(r).label).collect();
        source.fit = Some(Logistic::fit(features.as_flattened(), FEATURES, &labels, 1.0)?);
        Ok(source)
    }

    /// The same for rows that are not training rows, with the weights that [`write_weights`](Self::write_weights) has left in `file`;
    /// without that file they are learnt again.
    pub fn for_new_rows(
        recipe: &Recipe,
        ground: &Ground,
        colla: &Collaborative,
        file: &Path,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        // Runs of earlier versions have no such file.
        let Ok(bytes) = std::fs::read(file) else { return Self::fit(recipe, ground, colla, monitor) };
        let fit = serde_json::from_slice(&bytes)
            .map_err(|e| Error::input(file.display(), e).next("run the stage again: --from prompts"))?;
        Ok(Self { fit, ..Self::unweighed(recipe, ground, colla, Rows::New, monitor)? })
    }

    /// Writes what is learnt over the folds.
    pub fn write_weights(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_vec(&self.fit).map_err(|e| Error::failed(file.display(), e))?;
        write_atomically(file, &json)
    }

    fn unweighed(
        recipe: &Recipe,
        ground: &Ground,
        colla: &Collaborative,
        rows: Rows,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        if recipe.facts.knowledge == Knowledge::None {
            return Ok(Self { base: None, fit: None, affinity: None, tastes: None });
        }
        let train = ground.samples.part(Part::Train);
        let base = KnowledgeBase::fit(ground.dataset.items.len(), recipe.data.threshold(), train, &recipe.facts)?;
        let affinity =
            recipe.facts.affinity.then(|| Affinity { users: colla.users.clone(), items: colla.items.clone() });
        let tastes = (!recipe.facts.taste.sources.is_empty())
            .then(|| Tastes::fit(recipe, &base, train, &colla.items, rows, monitor))
            .transpose()?;
        Ok(Self { base: Some(base), fit: None, affinity, tastes })
    }

    /// The facts of a row, `None` when the recipe wants none.
    pub fn of(&self, ground: &Ground, set: Set, row: usize, at: usize) -> Option<Facts> {
        let base = self.base.as_ref()?;
        let sample = ground.sample(row);
        let history = ground.history_at(row, at);
        Some(match set {
            Set::Tune => {
                let facts = base.of_training_row(sample.user, sample.item, &history);
                self.complete(facts, sample.user, sample.item, &history, Some(base.fold_of(sample.user)))
            }
            Set::Valid | Set::Test => {
                let facts = base.of_new_row(sample.item, &history);
                self.complete(facts, sample.user, sample.item, &history, None)
            }
        })
    }

    /// The facts of an item that the user has not rated.
    pub fn of_candidate(&self, user: UserIdx, item: ItemIdx, history: &[Rated]) -> Option<Facts> {
        let facts = self.base.as_ref()?.of_new_row(item, history);
        Some(self.complete(facts, user, item, history, None))
    }

    fn complete(
        &self,
        mut facts: Facts,
        user: UserIdx,
        item: ItemIdx,
        history: &[Rated],
        fold: Option<usize>,
    ) -> Facts {
        if let Some(affinity) = &self.affinity {
            facts = facts.with_affinity(affinity.share_below(user.at(), item.at()));
        }
        if let Some(tastes) = &self.tastes {
            facts = facts.with_taste(tastes.of(fold, item, history));
        }
        match &self.fit {
            Some(fit) => facts.calibrated(fit),
            None => facts,
        }
    }
}

impl Affinity {
    /// Share of the catalogue that suits the user less than the item does.
    fn share_below(&self, user: usize, item: usize) -> f64 {
        let user = self.users.row(user);
        let score = |i: usize| -> f32 { user.iter().zip(self.items.row(i)).map(|(a, b)| a * b).sum() };
        let own = score(item);
        let below = (0..self.items.rows()).filter(|&i| score(i) < own).count();
        below as f64 / self.items.rows().max(1) as f64
    }
}

/// Taste by every source: fitted on all training rows, and for each fold of users on the others' rows.
struct Tastes {
    whole: Vec<Taste>,
    without: Vec<Vec<Taste>>,
}

impl Tastes {
    fn fit(
        recipe: &Recipe,
        base: &KnowledgeBase,
        train: &[Sample],
        lightgcn: &crate::Matrix,
        rows: Rows,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let settings = &recipe.facts.taste;
        let fit = |fold: Option<usize>| -> Result<Vec<Taste>> {
            let usual = base.usual(fold);
            let one = |source: &Source| match source {
                // LightGCN has seen the training graph whole: an edge says that a user met an item, not the rating.
                Source::Lightgcn => Taste::on_embeddings(lightgcn, usual.clone(), settings.lightgcn_ridge),
                Source::Ratings => {
                    let others = |s: &&Sample| Some(base.fold_of(s.user)) != fold;
                    let rows: Vec<Sample> = train.iter().filter(others).copied().collect();
                    let factors = als::fit(&rows, &usual, &settings.ratings, monitor)?;
                    Taste::new(factors, usual.clone(), settings.ratings.ridge)
                }
            };
            settings.sources.iter().map(one).collect()
        };
        let folds = if rows == Rows::All { recipe.facts.folds as usize } else { 0 };
        let mut without = Vec::with_capacity(folds);
        for fold in 0..folds {
            without.push(fit(Some(fold))?);
            monitor.progress(fold as u64 + 1, folds as u64 + 1, "folds");
        }
        Ok(Self { whole: fit(None)?, without })
    }

    fn of(&self, fold: Option<usize>, item: ItemIdx, history: &[Rated]) -> [f64; 2] {
        let sources = fold.and_then(|f| self.without.get(f)).unwrap_or(&self.whole);
        let mut out = [0.0; 2];
        out.iter_mut().zip(sources).for_each(|(to, taste)| *to = taste.of(item, history));
        out
    }
}
