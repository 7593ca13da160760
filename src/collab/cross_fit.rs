//! The causal features of any row, fitted on training rows only.
//!
//! Training rows are cross-fitted: what describes a row comes from the users of the other folds.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::affinity::Affinity;
use super::als;
use super::content::TextVectors;
use super::counts::Counts;
use super::features::{CausalFeatures, FEATURES};
use super::fold_in::{FoldIn, ItemMeans};
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
    pub words: Option<&'a Arc<TextVectors>>,
}

/// The weight of each feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of items that somebody has rated.
    #[serde(flatten)]
    rated: Logistic,
    /// Of items that nobody has rated, with a content prior: learnt on training rows as if nobody
    /// had rated their items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unrated: Option<Logistic>,
}

impl Weights {
    /// The features with the probability that follows from them.
    fn weighed(&self, features: CausalFeatures) -> CausalFeatures {
        let own = self.unrated.as_ref().filter(|_| features.item.count == 0);
        features.calibrated(own.unwrap_or(&self.rated))
    }
}

/// Makes the causal features of a row.
pub struct CrossFit {
    parts: Parts,
    weights: Weights,
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
        let features = |&row: &usize| parts.training_row(&train[row], sources.samples.history(&train[row]));
        let features: Vec<CausalFeatures> = rows.par_iter().map(features).collect();
        let labels: Vec<bool> = rows.iter().map(|&r| train[r].label).collect();
        let fit = |values: Vec<[f64; FEATURES]>| Logistic::fit(values.as_flattened(), FEATURES, &labels, 1.0);
        let rated = fit(features.iter().map(CausalFeatures::values).collect())?;
        let unrated = |(row, features): (&usize, &CausalFeatures)| {
            let Sample { user, item, .. } = train[*row];
            features.unrated(parts.counts.prior_of(item, Some(parts.counts.fold_of(user)))).values()
        };
        let unrated = sources.words.map(|_| fit(rows.iter().zip(&features).map(unrated).collect())).transpose()?;
        let weights = Weights { rated, unrated };
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
        weights: Weights,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>> {
        if settings.wording == Wording::None {
            return Ok(None);
        }
        Ok(Some(Self { parts: Parts::fit(settings, sources, 0, monitor)?, weights }))
    }

    /// The weight of each feature.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Features of a training row whose user has rated `history` before.
    pub fn training_row(&self, sample: &Sample, history: &[Rated]) -> CausalFeatures {
        self.weights.weighed(self.parts.training_row(sample, history))
    }

    /// Features of a validation or test row, or of an item that the user has not rated.
    pub fn new_row(&self, user: UserIdx, item: ItemIdx, history: &[Rated]) -> CausalFeatures {
        self.weights.weighed(self.parts.new_row(user, item, history))
    }
}

/// The features before they are weighed.
struct Parts {
    counts: Counts,
    affinity: Option<Affinity>,
    fold_ins: Option<FoldIns>,
    like_texts: Option<LikeTexts>,
}

/// The user's ratings of items with like texts.
struct LikeTexts {
    words: Arc<TextVectors>,
    /// By all rows, then without each fold of users.
    means: Vec<ItemMeans>,
}

impl LikeTexts {
    fn estimates(&self, fold: Option<usize>, item: ItemIdx, history: &[Rated]) -> [f64; 2] {
        let means = self.means.get(fold.map_or(0, |fold| fold + 1));
        means.map_or([0.0; 2], |means| self.words.near(item.at(), &means.residuals(history, Some(item))))
    }
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
        let like_texts = sources.words.map(|words| {
            let means = std::iter::once(None).chain((0..folds).map(Some)).map(|fold| counts.item_means(fold));
            LikeTexts { words: Arc::clone(words), means: means.collect() }
        });
        Ok(Self { counts, affinity, fold_ins, like_texts })
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
        if let Some(like_texts) = &self.like_texts {
            features = features.with_like_texts(like_texts.estimates(fold, item, history));
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

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::*;
    use crate::data::synthetic::{SyntheticSettings, generate};
    use crate::data::{By, DataSettings, SplitSettings, build_samples};
    use crate::monitor::Silent;
    use crate::text::item_text::words;

    struct World {
        samples: Samples,
        words: Arc<TextVectors>,
        none: [Matrix; 2],
        settings: CollabSettings,
    }

    /// Items withheld from training: what is learnt of words is all that is known of them.
    fn world() -> World {
        let (dataset, _) = generate(&SyntheticSettings { users: 120, items: 80, ratings: 6000, ..Default::default() });
        let split = SplitSettings { by: By::Items, ..SplitSettings::default() };
        let samples = build_samples(&dataset, &DataSettings { split, ..DataSettings::default() }).unwrap();
        let none = [dataset.users.len(), dataset.items.len()].map(|n| Matrix::zeros(n, 0));
        let words = Arc::new(TextVectors::Words(words(&dataset, None)));
        let settings =
            CollabSettings { wording: Wording::Silent, content: Content::Tfidf, ..CollabSettings::default() };
        World { samples, words, none, settings }
    }

    fn fit(world: &World, samples: &Samples, words: bool) -> CrossFit {
        let [users, items] = &world.none;
        let words = words.then_some(&world.words);
        let sources = Sources { samples, threshold: 3.0, users, items, words };
        CrossFit::fit(&world.settings, sources, 1, &Silent).unwrap().unwrap()
    }

    fn mean_loss(fitted: &CrossFit, samples: &Samples) -> f64 {
        let rows = samples.part(Part::Test);
        let loss = |s: &Sample| {
            let p = fitted.new_row(s.user, s.item, samples.history(s)).p;
            -if s.label { p.ln() } else { (1.0 - p).ln() }
        };
        rows.iter().map(loss).sum::<f64>() / rows.len() as f64
    }

    #[test]
    fn items_that_nobody_rated_are_weighed_by_what_is_left_of_them() {
        let world = world();
        let [with, without] = [true, false].map(|words| fit(&world, &world.samples, words));
        assert!(with.weights.unrated.is_some() && without.weights.unrated.is_none());
        let cold = world.samples.part(Part::Test)[0];
        let features = with.new_row(cold.user, cold.item, world.samples.history(&cold));
        assert_eq!((features.item.count, features.fold_in), (0, [0.0; 2]));
        assert_eq!(features.p, with.weights.unrated.as_ref().unwrap().predict(&features.values()));
        let (loss, bare) = (mean_loss(&with, &world.samples), mean_loss(&without, &world.samples));
        assert!(loss < bare, "{loss} with words, {bare} without");
        // What is stored weighs as what was fitted; weights of one kind alone are read as well.
        let json = serde_json::to_string(with.weights()).unwrap();
        assert_eq!(&serde_json::from_str::<Weights>(&json).unwrap(), with.weights());
        let plain = serde_json::to_string(&with.weights.rated).unwrap();
        assert_eq!(serde_json::from_str::<Weights>(&plain).unwrap().rated, with.weights.rated);
    }

    #[test]
    fn a_training_rows_own_rating_has_no_part_in_its_features_with_words_either() {
        let world = world();
        let row = *world.samples.part(Part::Train).last().unwrap();
        let features = |samples: &Samples| {
            let fitted = fit(&world, samples, true);
            fitted.parts.training_row(&row, world.samples.history(&row))
        };
        let mut other = world.samples.clone();
        let at = other.split.range(Part::Train).end - 1;
        other.samples[at].rating = if row.rating > 3.0 { 1.0 } else { 5.0 };
        other.samples[at].label = !row.label;
        assert_eq!(features(&world.samples), features(&other));
    }
}
