//! All rankers of one set of rows.

use std::sync::Arc;

use super::{
    Blend, ContentBased, Ease, Factors, LightGcn, Neighbours, Popularity, Ranker, Ratings, RecommendSettings, Weight,
    ease_bytes,
};
use crate::error::Result;
use crate::eval::rows;
use crate::memory;
use crate::monitor::Monitor;
use crate::retrieval::Words;
use crate::tensor::Matrix;

/// Pseudo-ratings that hold an item's share of likes near the mean.
const ITEM_SHRINKAGE: f64 = 10.0;

/// Names of rankers with their weights.
pub type Weights = Vec<(String, f32)>;

/// Rankers fitted on the same rows.
pub struct Fitted {
    /// A rating above it is a like.
    pub threshold: f32,
    /// The reference, and what fills lists that are too short.
    pub popularity: Arc<Popularity>,
    /// All of them, popularity first.
    pub rankers: Vec<Arc<dyn Ranker>>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// EASE on likes and on ratings.
    pub ease: [Option<Arc<Ease>>; 2],
    /// Implicit ALS.
    pub factors: Option<Arc<Factors>>,
}

/// What was fitted before and is taken over.
#[derive(Default)]
pub struct Kept {
    /// EASE on likes and on ratings.
    pub ease: [Option<Ease>; 2],
    /// Implicit ALS.
    pub factors: Option<Factors>,
}

/// What rankers know besides ratings.
pub struct Sides<'a> {
    /// Users x dim and items x dim of LightGCN.
    pub graph: (&'a Matrix, &'a Matrix),
    /// The items' words; without them nothing is ranked by its content.
    pub words: Option<Arc<Words>>,
}

impl Fitted {
    /// Fits the rankers that `wanted` names, all where it is `None`.
    ///
    /// # Errors
    /// Those of the fits; a stop that was asked for.
    pub fn fit(
        ratings: &Ratings,
        settings: &RecommendSettings,
        Sides { graph, words }: Sides<'_>,
        wanted: Option<&[String]>,
        mut kept: Kept,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.iter().any(|own| own == name));
        let pairs = ratings.pairs();
        let popularity = Arc::new(Popularity::new(ratings.items, &pairs));
        let mut fitted = Self {
            threshold: ratings.threshold,
            rankers: vec![popularity.clone()],
            popularity,
            notes: Vec::new(),
            ease: [None, None],
            factors: None,
        };
        // Where everything is liked, there is no share of likes, and ratings say no more than
        // likes.
        let rated = ratings.by_user.iter().flatten().any(|row| row.rating <= ratings.threshold);
        if is_wanted(rows::RECENT)
            && let Some(recent) = Popularity::recent(ratings, settings.half_life)
        {
            fitted.rankers.push(Arc::new(recent));
        }
        if rated && is_wanted(rows::ITEM_MEAN) {
            fitted.rankers.push(Arc::new(Popularity::item_mean(ratings, ITEM_SHRINKAGE)));
        }
        if settings.neighbours > 0 && is_wanted(rows::NEIGHBOURS) {
            monitor.check()?;
            fitted.rankers.push(Arc::new(Neighbours::fit(ratings, settings.neighbours)));
        }
        let weights = [Weight::Like(ratings.threshold), Weight::Scale(ratings.scale.0, ratings.scale.1)];
        for (at, (weight, name)) in weights.into_iter().zip([rows::EASE, rows::EASE_RATED]).enumerate() {
            if !is_wanted(name) || (at == 1 && !rated) {
                continue;
            }
            let ease = match kept.ease[at].take() {
                Some(ease) => ease,
                None => {
                    let (needs, limit) = (ease_bytes(ratings, weight) >> 20, settings.ease_memory);
                    if needs > limit || limit == 0 {
                        fitted.notes.push(format!(
                            "ranking: {name} is left out: its items x items table needs {needs} MiB, and \
                             recommend.ease_memory allows {limit}"
                        ));
                        continue;
                    }
                    let next = "set a smaller recommend.ease_memory: the ranker is then left out";
                    memory::ask("recommend.ease_memory", ease_bytes(ratings, weight), next)?;
                    Ease::fit(ratings, weight, settings.ease_ridge, monitor)?
                }
            };
            let ease = Arc::new(ease);
            fitted.ease[at] = Some(ease.clone());
            fitted.rankers.push(ease);
        }
        if settings.factors.dim > 0 && is_wanted(rows::FACTORS) {
            let factors = match kept.factors.take() {
                Some(factors) => factors,
                None => Factors::fit(ratings, &settings.factors, monitor)?,
            };
            let factors = Arc::new(factors);
            fitted.factors = Some(factors.clone());
            fitted.rankers.push(factors);
        }
        if is_wanted(rows::CONTENT)
            && let Some(content) = words.and_then(|words| ContentBased::new(words, ratings.threshold))
        {
            fitted.rankers.push(Arc::new(content));
        }
        if is_wanted(rows::LIGHTGCN) {
            fitted.rankers.push(Arc::new(LightGcn::new(graph.0.clone(), graph.1, &pairs)?));
        }
        Ok(fitted)
    }

    /// The ranker of a name.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn Ranker>> {
        self.rankers.iter().find(|ranker| ranker.name() == name)
    }

    /// The ranker of these names with their weights: itself where it is one, else their blend.
    /// `few`: other ones for histories of fewer likes than this.
    pub fn joined(&self, parts: &Weights, few: Option<&(usize, Weights)>) -> Arc<dyn Ranker> {
        let part = |(name, weight): &(String, f32)| self.named(name).map(|ranker| (ranker.clone(), *weight));
        let of = |weights: &Weights| weights.iter().filter_map(part).collect::<Vec<_>>();
        let blend = Blend::new(of(parts));
        if let Some((below, weights)) = few {
            return Arc::new(blend.with_few(*below, self.threshold, of(weights)));
        }
        match <[_; 1]>::try_from(of(parts)) {
            Ok([(ranker, _)]) => ranker,
            Err(_) => Arc::new(blend),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ratings;
    use super::*;
    use crate::monitor::Silent;

    fn names(rows: &Ratings, settings: &RecommendSettings) -> (Vec<&'static str>, Vec<String>) {
        let graph = (Matrix::zeros(rows.by_user.len(), 2), Matrix::zeros(rows.items, 2));
        let words = Words::of(["red sea", "red sky", "green"]);
        let sides = Sides { graph: (&graph.0, &graph.1), words: Some(Arc::new(words)) };
        let fitted = Fitted::fit(rows, settings, sides, None, Kept::default(), &Silent).unwrap();
        (fitted.rankers.iter().map(|ranker| ranker.name()).collect(), fitted.notes)
    }

    #[test]
    fn what_the_data_or_the_recipe_leave_out_is_left_out() {
        let rows = ratings(3, &[(0, 0, 5), (0, 1, 1), (1, 1, 4), (1, 2, 5)]);
        let all = RecommendSettings::default();
        let every = [
            rows::POPULARITY,
            rows::RECENT,
            rows::ITEM_MEAN,
            rows::NEIGHBOURS,
            rows::EASE,
            rows::EASE_RATED,
            rows::FACTORS,
            rows::CONTENT,
            rows::LIGHTGCN,
        ];
        assert_eq!(names(&rows, &all), (every.to_vec(), Vec::new()));
        let liked = ratings(3, &[(0, 0, 5), (1, 1, 5)]);
        assert_eq!(
            names(&Ratings { has_times: false, ..liked }, &all).0,
            [rows::POPULARITY, rows::NEIGHBOURS, rows::EASE, rows::FACTORS, rows::CONTENT, rows::LIGHTGCN]
        );
        let few = RecommendSettings { ease_memory: 0, neighbours: 0, ..all };
        let (names, notes) = names(&rows, &few);
        assert!(!names.contains(&rows::EASE) && !names.contains(&rows::NEIGHBOURS));
        assert!(notes.len() == 2 && notes[0].contains("EASE is left out"), "{notes:?}");
    }
}
