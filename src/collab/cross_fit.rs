//! The causal features of any row, fitted on training rows only.
//!
//! Training rows are cross-fitted: what describes a row comes from the users of the other folds.

use rayon::prelude::*;

use super::affinity::Affinity;
use super::als;
use super::content::TextVectors;
use super::counts::Counts;
use super::features::{CausalFeatures, FEATURES};
use super::fold_in::FoldIn;
use super::logistic::Logistic;
use super::settings::{CollabSettings, FoldInSettings, FoldInSource};
use crate::data::{ItemIdx, Part, Rated, Sample, Samples, UserIdx};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::rng::{Rng, Use};
use crate::tensor::Matrix;
use crate::text::ratings::Wording;

/// Training rows behind the weight of each feature.
const WEIGHING_ROWS: usize = 20_000;

/// What the features are computed from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Samples with their histories and the split.
    pub samples: &'a Samples,
    /// A rating above it is a like.
    pub threshold: f32,
    /// LightGCN's user vectors, users x d.
    pub users: &'a Matrix,
    /// LightGCN's item vectors, one row for each item of the catalogue.
    pub items: &'a Matrix,
    /// Vectors of the items' words, where little known items are held by them.
    pub words: Option<&'a TextVectors>,
}

/// Makes the causal features of a row.
pub struct CrossFit {
    parts: Parts,
    weights: Logistic,
}

impl CrossFit {
    /// Fits what the settings ask for; `None` where they ask for nothing. `seed` draws the rows
    /// that the weights of the features are learnt on.
    ///
    /// # Errors
    /// Settings out of range, no or one-class training rows, a stop that was asked for.
    pub fn fit(
        settings: &CollabSettings,
        sources: Sources<'_>,
        seed: u64,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>> {
        if settings.wording == Wording::None {
            return Ok(None);
        }
        let parts = Parts::fit(settings, sources, settings.folds as usize, monitor)?;
        let train = sources.samples.part(Part::Train);
        let mut rows: Vec<usize> = (0..train.len()).collect();
        Rng::new(seed, Use::Rows, 77, 0).shuffle(&mut rows);
        rows.truncate(WEIGHING_ROWS);
        let values = |&row: &usize| parts.training_row(&train[row], sources.samples.history(&train[row])).values();
        let values: Vec<[f64; FEATURES]> = rows.par_iter().map(values).collect();
        let labels: Vec<bool> = rows.iter().map(|&r| train[r].label).collect();
        let weights = Logistic::fit(values.as_flattened(), FEATURES, &labels, 1.0)?;
        Ok(Some(Self { parts, weights }))
    }

    /// The same for rows that are no training rows, with [`weights`](Self::weights) that were
    /// learnt before: nothing is fitted by folds.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn for_new_rows(
        settings: &CollabSettings,
        sources: Sources<'_>,
        weights: Logistic,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>> {
        if settings.wording == Wording::None {
            return Ok(None);
        }
        Ok(Some(Self { parts: Parts::fit(settings, sources, 0, monitor)?, weights }))
    }

    /// The weight of each feature.
    pub fn weights(&self) -> &Logistic {
        &self.weights
    }

    /// Features of a training row whose user has rated `history` before.
    pub fn training_row(&self, sample: &Sample, history: &[Rated]) -> CausalFeatures {
        self.parts.training_row(sample, history).calibrated(&self.weights)
    }

    /// Features of a validation or test row, or of an item that the user has not rated.
    pub fn new_row(&self, user: UserIdx, item: ItemIdx, history: &[Rated]) -> CausalFeatures {
        self.parts.new_row(user, item, history).calibrated(&self.weights)
    }
}

/// The features before they are weighed.
struct Parts {
    counts: Counts,
    affinity: Option<Affinity>,
    fold_ins: Option<FoldIns>,
}

impl Parts {
    fn fit(settings: &CollabSettings, sources: Sources<'_>, folds: usize, monitor: &dyn Monitor) -> Result<Self> {
        let train = sources.samples.part(Part::Train);
        let mut counts = Counts::fit(sources.items.rows(), sources.threshold, train, settings)?;
        if let Some(words) = sources.words {
            counts = counts.with_content(words, folds)?;
        }
        let affinity = settings.affinity.then(|| Affinity::new(sources.users.clone(), sources.items.clone()));
        let wanted = !settings.fold_in.sources.is_empty();
        let fold_ins = wanted
            .then(|| FoldIns::fit(&settings.fold_in, &counts, train, sources.items, folds, monitor))
            .transpose()?;
        Ok(Self { counts, affinity, fold_ins })
    }

    fn training_row(&self, sample: &Sample, history: &[Rated]) -> CausalFeatures {
        let features = self.counts.of_training_row(sample.user, sample.item, history);
        self.complete(features, sample.user, sample.item, history, Some(self.counts.fold_of(sample.user)))
    }

    fn new_row(&self, user: UserIdx, item: ItemIdx, history: &[Rated]) -> CausalFeatures {
        self.complete(self.counts.of_new_row(item, history), user, item, history, None)
    }

    fn complete(
        &self,
        mut features: CausalFeatures,
        user: UserIdx,
        item: ItemIdx,
        history: &[Rated],
        fold: Option<usize>,
    ) -> CausalFeatures {
        if let Some(affinity) = &self.affinity {
            features = features.with_affinity(affinity.share_below(user.at(), history, item.at()));
        }
        if let Some(fold_ins) = &self.fold_ins {
            features = features.with_fold_in(fold_ins.estimates(fold, item, history));
        }
        features
    }
}

/// A fold-in by every source: fitted on all training rows, and for each fold of users on the
/// others' rows.
struct FoldIns {
    whole: Vec<FoldIn>,
    without: Vec<Vec<FoldIn>>,
}

impl FoldIns {
    fn fit(
        settings: &FoldInSettings,
        counts: &Counts,
        train: &[Sample],
        lightgcn: &Matrix,
        folds: usize,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let fit = |fold: Option<usize>| -> Result<Vec<FoldIn>> {
            let means = counts.item_means(fold);
            let one = |source: &FoldInSource| match source {
                // LightGCN has seen the training graph whole: an edge says that a user met an item,
                // not the rating.
                FoldInSource::Lightgcn => FoldIn::on_embeddings(lightgcn, means.clone(), settings.lightgcn_ridge),
                FoldInSource::Ratings => {
                    let others = |s: &&Sample| Some(counts.fold_of(s.user)) != fold;
                    let rows: Vec<Sample> = train.iter().filter(others).copied().collect();
                    let factors = als::fit(&rows, &means, &settings.ratings, monitor)?;
                    FoldIn::new(factors, means.clone(), settings.ratings.ridge)
                }
            };
            settings.sources.iter().map(one).collect()
        };
        let mut without = Vec::with_capacity(folds);
        for fold in 0..folds {
            without.push(fit(Some(fold))?);
            monitor.progress(fold as u64 + 1, folds as u64 + 1, "folds");
        }
        Ok(Self { whole: fit(None)?, without })
    }

    fn estimates(&self, fold: Option<usize>, item: ItemIdx, history: &[Rated]) -> [f64; 2] {
        let sources = fold.and_then(|f| self.without.get(f)).unwrap_or(&self.whole);
        let mut out = [0.0; 2];
        out.iter_mut().zip(sources).for_each(|(to, fold_in)| *to = fold_in.estimate(item, history));
        out
    }
}
