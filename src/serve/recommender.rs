//! A run that is open for recommendations.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::ask::Model;
use super::found::Found;
use super::ids::Ids;
use super::reasons::{Link, REASONS, Tally, in_words, of_choices};
use super::{
    AskedModel, Because, BlendPart, MOST, Pair, Quality, Recommendation, Recommendations, Request, Score, Who,
};
use crate::collab::{BaselineSettings, Baselines};
use crate::config::Recipe;
use crate::data::{Item, ItemIdx, Part, Rated, UserIdx};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::rows;
use crate::monitor::Monitor;
use crate::pipeline::Run;
use crate::pipeline::stages::rank::Chosen;
use crate::pipeline::stages::{Chain, refit};
use crate::retrieval::mixture::Part as Block;
use crate::retrieval::rankers::{Blend, Popularity, Ranker, SILENT, Whom, best, filled};
use crate::retrieval::{Embedding, Mixture, RetrievalSettings, Retriever};

/// Users that are worked on at a time where all are asked for.
const BLOCK: usize = 1024;

/// Candidates that the tuned model is asked about at a time.
const ASKED: usize = 16;

/// A finished run, read once. It owns all that it needs; threads may share it.
pub struct Recommender {
    folder: PathBuf,
    recipe: Recipe,
    found: Found,
    ids: Ids,
    ranker: Arc<dyn Ranker>,
    popularity: Arc<Popularity>,
    /// Why it is this ranker.
    chosen: Chosen,
    /// `None` for a log without ratings.
    baselines: Option<Baselines>,
    /// Training rows of each item.
    tallies: Vec<Tally>,
    mixture: Mixture,
    settings: RetrievalSettings,
    /// The tuned model, found when it is first asked.
    model: Mutex<Option<Arc<Model>>>,
}

/// Somebody whose list is made.
struct Person {
    user: Option<UserIdx>,
    history: Vec<Rated>,
    /// Items of the history, rising.
    met: Vec<u32>,
}

impl Person {
    fn new(user: Option<UserIdx>, history: Vec<Rated>) -> Self {
        let mut met: Vec<u32> = history.iter().map(|row| row.item.0).collect();
        met.sort_unstable();
        met.dedup();
        Self { user, history, met }
    }

    fn whom(&self) -> Whom<'_> {
        Whom { user: self.user, history: &self.history }
    }
}

impl Recommender {
    /// Reads what recommendations are made of. `run` is opened for reading, `recipe` is the one of
    /// its folder; neither is needed afterwards.
    ///
    /// # Errors
    /// A stage that is not there, damaged files, a stop that was asked for.
    pub fn open(run: &Run, recipe: &Recipe, monitor: &dyn Monitor) -> Result<Self> {
        let found = Found::find(&Chain::new(run, recipe, &Device::Cpu))?;
        monitor.check()?;
        let data = found.data.output()?;
        let (threshold, own) = (recipe.data.threshold(), &recipe.recommend);
        let chosen = found.ranked.get()?.chosen.clone();
        let wanted: Vec<String> = chosen.parts.iter().map(|part| part.0.clone()).collect();
        let (ratings, fitted) = refit::read(
            found.refit.artifact(),
            (data.dataset, data.samples),
            threshold,
            own,
            &wanted,
            found.colla.get()?,
            monitor,
        )?;
        let part = |(name, weight): &(String, f32)| fitted.named(name).map(|ranker| (ranker.clone(), *weight));
        let parts: Vec<_> = chosen.parts.iter().filter_map(part).collect();
        let ranker: Arc<dyn Ranker> = match <[_; 1]>::try_from(parts) {
            Ok([(ranker, _)]) => ranker,
            Err(parts) => Arc::new(Blend::new(parts)),
        };
        let tallies = ratings.tallies().into_iter();
        let tallies = tallies.map(|(likes, all)| Tally { ratings: all as usize, likes: likes as usize }).collect();
        let baselines = (!recipe.data.is_implicit())
            .then(|| Baselines::fit(ratings.items, data.samples.part(Part::Train), &BaselineSettings::default()))
            .transpose()?;
        let settings = RetrievalSettings {
            embedding: if found.words.is_some() { Embedding::Mix3 } else { Embedding::Colla },
            faithful_off_by_one: false,
            faithful_target_in_history: false,
            ..recipe.retrieve.clone()
        };
        Ok(Self {
            folder: run.folder().to_owned(),
            recipe: recipe.clone(),
            ids: Ids::new(data.dataset),
            ranker,
            popularity: fitted.popularity,
            chosen,
            baselines,
            tallies,
            mixture: Mixture::build(&found.sources()?, &settings)?,
            settings,
            model: Mutex::new(None),
            found,
        })
    }

    /// Ranks the catalogue.
    ///
    /// # Errors
    /// Ids that the run does not know, numbers out of range, a run without a tuned model that is
    /// asked for it, a stop that was asked for.
    pub fn recommend(&self, request: &Request, monitor: &dyn Monitor) -> Result<Recommendations> {
        let excluded = self.checked(request)?;
        match &request.who {
            Who::User(id) => {
                self.for_person(Some(id.clone()), &self.person(self.ids.user(id)?)?, request, &excluded, monitor)
            }
            Who::History(given) => {
                let person = Person::new(None, self.ids.history(given, self.liked())?);
                self.for_person(None, &person, request, &excluded, monitor)
            }
        }
    }

    /// The same for every user of the run, in the order of the data set, handed to `take` one after
    /// the other; `request.who` plays no part. A block of users is worked on at a time. Returns the
    /// number of users.
    ///
    /// # Errors
    /// As above, and those of `take`.
    pub fn recommend_all(
        &self,
        request: &Request,
        monitor: &dyn Monitor,
        take: &mut dyn FnMut(Recommendations) -> Result<()>,
    ) -> Result<u64> {
        let excluded = self.checked(request)?;
        let users = &self.found.data.output()?.dataset.users;
        let all: Vec<u32> = (0..users.len() as u32).collect();
        for (block, own) in all.chunks(BLOCK).enumerate() {
            monitor.check()?;
            let one = |&user: &u32| {
                let person = self.person(UserIdx(user))?;
                self.for_person(Some(users[user as usize].raw.0.clone()), &person, request, &excluded, monitor)
            };
            let found: Vec<Recommendations> = own.par_iter().map(one).collect::<Result<_>>()?;
            for list in found {
                take(list)?;
            }
            monitor.progress((block * BLOCK + own.len()) as u64, all.len() as u64, "users");
        }
        Ok(all.len() as u64)
    }

    /// Items that the request excludes; says what is wrong with the request.
    fn checked(&self, request: &Request) -> Result<Vec<u32>> {
        if request.top == 0 || request.top > MOST {
            return Err(Error::usage("--top", format!("{} is out of range", request.top))
                .next(format!("give a number from 1 to {MOST}")));
        }
        if request.ask_model {
            self.check_model()?;
        }
        request.exclude.iter().map(|id| Ok(self.ids.item("--exclude", id)?.0)).collect()
    }

    fn for_person(
        &self,
        user: Option<String>,
        person: &Person,
        request: &Request,
        excluded: &[u32],
        monitor: &dyn Monitor,
    ) -> Result<Recommendations> {
        let mut hidden = person.met.clone();
        hidden.extend_from_slice(excluded);
        hidden.sort_unstable();
        hidden.dedup();
        let wide = if request.ask_model { request.top.max(self.recipe.recommend.candidates) } else { request.top };
        let (scores, ranked_by) = self.scores(person);
        let list = filled(best(&mut scores.clone(), &hidden, wide), &self.popularity, &hidden, wide);
        let mut places: Vec<(usize, ItemIdx, Option<f64>)> =
            list.into_iter().enumerate().map(|(place, item)| (place, ItemIdx(item), None)).collect();
        let mut model = None;
        if request.ask_model {
            let asked: Vec<ItemIdx> = places.iter().map(|place| place.1).collect();
            let begun = Instant::now();
            let answers = self.ask(person, &asked, monitor)?;
            let (candidates, asked) = (places.len(), answers.len());
            model = Some(AskedModel { candidates, asked, seconds: begun.elapsed().as_secs_f64() });
            places.iter_mut().zip(answers).for_each(|(place, p)| place.2 = Some(p));
            // Stable: equal answers keep the ranker's order, and what was not asked stays behind.
            places.sort_by(|a, b| b.2.unwrap_or(-1.0).total_cmp(&a.2.unwrap_or(-1.0)));
        }
        places.truncate(request.top);
        let explained = |(place, item, p): (usize, ItemIdx, Option<f64>)| {
            let score = Some(scores[item.at()]).filter(|score| *score > SILENT);
            let found = self.explain(person, item, place + 1, score, Link::People)?;
            Ok(Recommendation { model_probability: p, ..found })
        };
        let threshold = self.recipe.data.threshold();
        Ok(Recommendations {
            user,
            ratings: person.history.len(),
            liked: person.history.iter().filter(|row| row.rating > threshold).count(),
            ranked_by,
            parts: if ranked_by == self.chosen.name {
                self.chosen.parts.iter().map(BlendPart::from).collect()
            } else {
                Vec::new()
            },
            quality: (self.chosen.ndcg.filter(|_| ranked_by == self.chosen.name))
                .map(|[ndcg, popularity]| Quality { ndcg, popularity }),
            model,
            implicit: self.recipe.data.is_implicit(),
            candidates: self.tallies.len() - hidden.len(),
            items: places.into_iter().map(explained).collect::<Result<_>>()?,
            cold: self.cold(person, &hidden, request.cold)?,
        })
    }

    /// Says whether the run knows the ids of a pair.
    ///
    /// # Errors
    /// Names the id that it does not know, and those that look most like it.
    pub fn check(&self, pair: &Pair) -> Result<()> {
        self.ids.user(&pair.user)?;
        self.ids.item("item", &pair.item).map(|_| ())
    }

    /// Scores pairs of users and items of the run.
    ///
    /// # Errors
    /// Ids that the run does not know; a stop that was asked for.
    pub fn score(&self, pairs: &[Pair], monitor: &dyn Monitor) -> Result<Vec<Score>> {
        // Pairs of one user cost one ranking.
        let mut by_user: BTreeMap<UserIdx, Vec<(usize, ItemIdx)>> = BTreeMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            let (user, item) = (self.ids.user(&pair.user)?, self.ids.item("item", &pair.item)?);
            by_user.entry(user).or_default().push((at, item));
        }
        let threshold = self.recipe.data.threshold();
        let of_user = |(user, items): (UserIdx, Vec<(usize, ItemIdx)>)| -> Result<Vec<(usize, Score)>> {
            monitor.check()?;
            let person = self.person(user)?;
            let (scores, ranked_by) = self.scores(&person);
            let one = |(at, item): (usize, ItemIdx)| {
                let predicted = |b: &Baselines| b.predict(item, &person.history, |rating| rating > threshold);
                let score = Score {
                    user: pairs[at].user.clone(),
                    item: pairs[at].item.clone(),
                    score: Some(scores[item.at()]).filter(|score| *score > SILENT),
                    ranked_by,
                    probability: self.baselines.as_ref().map(predicted),
                    met: person.met.binary_search(&item.0).is_ok(),
                };
                (at, score)
            };
            Ok(items.into_iter().map(one).collect())
        };
        let by_user: Vec<_> = by_user.into_iter().collect();
        let found: Vec<Vec<(usize, Score)>> = by_user.into_par_iter().map(of_user).collect::<Result<_>>()?;
        let mut found: Vec<(usize, Score)> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(|own| own.0);
        Ok(found.into_iter().map(|own| own.1).collect())
    }

    /// Says why the tuned model cannot be asked.
    fn check_model(&self) -> Result<()> {
        match &self.found.data.graph_only {
            None => Ok(()),
            Some(why) => Err(Error::usage("--score llm", format!("this run has no tuned model: {why}"))
                .next("leave it out: the ranker's order is the best there is")),
        }
    }

    /// A rating that counts as a like, for rows of a history without one.
    fn liked(&self) -> f32 {
        match self.found.data.output() {
            Ok(data) => data.dataset.scale.1.max(self.recipe.data.threshold() + 1.0),
            Err(_) => self.recipe.data.threshold() + 1.0,
        }
    }

    fn person(&self, user: UserIdx) -> Result<Person> {
        Ok(Person::new(Some(user), self.found.data.output()?.samples.of_user(user)))
    }

    /// One score an item, and what gave them.
    fn scores(&self, person: &Person) -> (Vec<f32>, &'static str) {
        let mut scores = vec![SILENT; self.tallies.len()];
        if self.ranker.scores(person.whom(), &mut scores) {
            return (scores, self.ranker.name());
        }
        self.popularity.scores(person.whom(), &mut scores);
        (scores, self.popularity.name())
    }

    /// The tuned model's answers about the first of `items`, as many as fit into the budget.
    fn ask(&self, person: &Person, items: &[ItemIdx], monitor: &dyn Monitor) -> Result<Vec<f64>> {
        let user = person.user.ok_or_else(|| {
            Error::usage("--score llm", "the tuned model reads the profile of a user of the run")
                .next("leave it out, or name a user")
        })?;
        let model = {
            let mut place = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            match &*place {
                Some(model) => model.clone(),
                None => {
                    let run = Run::open_finished(&self.folder)?;
                    let model = Arc::new(Model::find(&run, &self.recipe, &self.found, monitor)?);
                    place.insert(model).clone()
                }
            }
        };
        let budget = self.recipe.recommend.model_seconds;
        let begun = Instant::now();
        let mut answers = Vec::with_capacity(items.len());
        for some in items.chunks(ASKED) {
            if budget > 0.0 && !answers.is_empty() && begun.elapsed().as_secs_f64() >= budget {
                break;
            }
            answers.extend(model.ask(&self.recipe, &self.found, user, &person.history, some, monitor)?);
        }
        Ok(answers)
    }

    /// Items without training rows, by the similarity of their text to what the person liked.
    fn cold(&self, person: &Person, hidden: &[u32], most: usize) -> Result<Vec<Recommendation>> {
        if most == 0 || self.found.words.is_none() {
            return Ok(Vec::new());
        }
        let mut cold: Vec<(f32, ItemIdx)> = Vec::new();
        for item in (0..self.tallies.len() as u32).filter(|item| self.tallies[*item as usize].ratings == 0) {
            if hidden.binary_search(&item).is_err()
                && let Some(nearest) = self.nearest(person, ItemIdx(item), Link::Text)?.first()
            {
                cold.push((nearest.weight, ItemIdx(item)));
            }
        }
        cold.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        cold.truncate(most);
        let explained = |(place, (score, item)): (usize, (f32, ItemIdx))| {
            self.explain(person, item, place + 1, Some(score), Link::Text)
        };
        cold.into_iter().enumerate().map(explained).collect()
    }

    /// The liked items of the history nearest to `item`, nearest first; empty when none is liked.
    fn nearest(&self, person: &Person, item: ItemIdx, link: Link) -> Result<Vec<Because>> {
        let items = &self.found.data.output()?.dataset.items;
        let retriever = Retriever::new(&self.mixture, &self.settings, items)?;
        let threshold = self.recipe.data.threshold();
        let block = match link {
            Link::People => Block::Colla,
            Link::Text => Block::Text,
        };
        // Of an item that stands there twice, the last row counts.
        let mut last: Vec<&Rated> = Vec::with_capacity(person.met.len());
        let mut named = HashSet::new();
        last.extend(person.history.iter().rev().filter(|row| named.insert(row.item)));
        let mut near: Vec<(f32, &Rated)> = last
            .into_iter()
            .filter(|row| row.rating > threshold && row.item != item)
            .map(|row| (retriever.similarity(item, row.item, Some(block)), row))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.item.cmp(&b.1.item)));
        let because = |(weight, row): (f32, &Rated)| {
            let Item { raw, title, .. } = &items[row.item.at()];
            Because { item: raw.0.clone(), title: title.clone(), rating: row.rating, weight }
        };
        Ok(near.into_iter().take(REASONS).map(because).collect())
    }

    /// The liked items of the history that speak for `item` by the score that ranked it, the
    /// strongest first.
    fn because(&self, person: &Person, item: ItemIdx) -> Result<Vec<Because>> {
        let threshold = self.recipe.data.threshold();
        let liked = |met: ItemIdx| {
            let row = person.history.iter().rev().find(|row| row.item == met)?;
            (row.rating > threshold).then_some(row.rating)
        };
        let mut parts = self.ranker.because(person.whom(), item);
        parts.retain(|part| part.1 > 0.0);
        if parts.is_empty() {
            // Scores of vectors are no sums over the history: the nearest vectors stand for them.
            let vectors = self.chosen.parts.iter().any(|p| p.0 == rows::LIGHTGCN || p.0 == rows::FACTORS);
            return if vectors { self.nearest(person, item, Link::People) } else { Ok(Vec::new()) };
        }
        parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let items = &self.found.data.output()?.dataset.items;
        let because = |(met, weight): (ItemIdx, f32)| {
            let Item { raw, title, .. } = &items[met.at()];
            Some(Because { item: raw.0.clone(), title: title.clone(), rating: liked(met)?, weight })
        };
        Ok(parts.into_iter().filter_map(because).take(REASONS).collect())
    }

    fn explain(
        &self,
        person: &Person,
        index: ItemIdx,
        rank: usize,
        score: Option<f32>,
        link: Link,
    ) -> Result<Recommendation> {
        let Item { raw, title, genres, .. } = &self.found.data.output()?.dataset.items[index.at()];
        let tally = self.tallies[index.at()];
        let because = match (link, score) {
            (Link::Text, _) => self.nearest(person, index, link)?,
            (Link::People, Some(_)) => self.because(person, index)?,
            // Behind the ranker's own items: what is popular.
            (Link::People, None) => Vec::new(),
        };
        let reason =
            if self.baselines.is_some() { in_words(&because, link, tally) } else { of_choices(&because, link, tally) };
        Ok(Recommendation {
            item: raw.0.clone(),
            title: title.clone(),
            genres: genres.clone(),
            rank,
            score,
            model_probability: None,
            item_ratings: tally.ratings,
            item_likes: tally.likes,
            is_cold: tally.ratings == 0,
            because,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_may_share_it() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Recommender>();
    }
}
