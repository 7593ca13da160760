//! A run that is open for recommendations.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::prelude::*;

use super::ask::Model;
use super::found::Found;
use super::ids::Ids;
use super::newest::{Newest, Taken};
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
use crate::pipeline::stages::rank::Chosen;
use crate::pipeline::stages::{Chain, refit};
use crate::pipeline::{Run, newer};
use crate::retrieval::mixture::Part as Block;
use crate::retrieval::rankers::{Popularity, Ranker, SILENT, Whom, best, filled, normalise};
use crate::retrieval::{Embedding, Mixture, RetrievalSettings};

/// Users that are worked on at a time where all are asked for.
const BLOCK: usize = 1024;

/// Candidates that the tuned model is asked about at a time, and at first, before it is known what
/// one costs.
const ASKED: usize = 16;
const ASKED_FIRST: usize = 4;

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
    /// Items without one.
    cold: Vec<ItemIdx>,
    mixture: Mixture,
    /// What came after the run, where it was asked for.
    newest: Option<Newest>,
    /// The tuned model, found when it is first asked.
    model: Mutex<Option<Arc<Model>>>,
}

/// Somebody whose list is made.
struct Person {
    /// Of a user of the run.
    user: Option<UserIdx>,
    /// The run has fitted vectors on this very history.
    fitted: bool,
    history: Vec<Rated>,
    /// Items of the history, rising.
    met: Vec<u32>,
}

/// A candidate of a list.
struct Place {
    /// By the ranker, from 1.
    rank: usize,
    item: ItemIdx,
    answer: Option<Answer>,
}

/// What the tuned model says of a candidate.
#[derive(Clone, Copy)]
struct Answer {
    p: f64,
    /// What orders the candidates.
    merged: f64,
}

impl Person {
    fn new(user: Option<UserIdx>, fitted: bool, history: Vec<Rated>) -> Self {
        let mut met: Vec<u32> = history.iter().map(|row| row.item.0).collect();
        met.sort_unstable();
        met.dedup();
        Self { user, fitted, history, met }
    }

    fn whom(&self) -> Whom<'_> {
        Whom { user: self.user.filter(|_| self.fitted), history: &self.history }
    }
}

impl Recommender {
    /// Reads what recommendations are made of. `run` is opened for reading, `recipe` is the one of
    /// its folder; neither is needed afterwards.
    ///
    /// # Errors
    /// A stage that is not there, damaged files, a stop that was asked for.
    pub fn open(run: &Run, recipe: &Recipe, monitor: &dyn Monitor) -> Result<Self> {
        Self::opened(run, recipe, false, monitor)
    }

    /// The same with the ratings that the raw data has by now. Nothing is fitted for them:
    /// histories and counts (popularity, recent likes, item mean, item-kNN) take them in, people
    /// who are new are served by their histories, weights and vectors stay.
    ///
    /// # Errors
    /// As above; raw data that cannot be read.
    pub fn open_with_new_ratings(run: &Run, recipe: &Recipe, monitor: &dyn Monitor) -> Result<Self> {
        Self::opened(run, recipe, true, monitor)
    }

    fn opened(run: &Run, recipe: &Recipe, with_new: bool, monitor: &dyn Monitor) -> Result<Self> {
        let found = Found::find(&Chain::new(run, recipe, &Device::Cpu))?;
        monitor.check()?;
        let data = found.data.output()?;
        let (threshold, own) = (recipe.data.threshold(), &recipe.recommend);
        let chosen = found.ranked.get()?.chosen.clone();
        let wanted = chosen.wanted();
        let ids = Ids::new(data.dataset);
        let (mut ratings, all) = refit::known(found.refit.artifact(), data, threshold)?;
        let newest = with_new
            .then(|| newer::now(recipe, monitor))
            .transpose()?
            .map(|now| Newest::of(&now, &ids, data.dataset, data.samples));
        if let Some(newest) = newest.as_ref().filter(|_| all) {
            let own: Vec<Vec<Rated>> = ratings.by_user.clone();
            let of_run = (0..).map(UserIdx).zip(&own).map(|(user, own)| newest.of_user(user).unwrap_or(own));
            ratings = ratings.with_rows(of_run.chain(newest.people().map(|person| person.1)));
        }
        let fitted =
            refit::read(found.refit.artifact(), &ratings, own, &wanted, data.dataset, found.colla.get()?, monitor)?;
        let ranker = fitted.joined(&chosen.parts, chosen.few.as_ref());
        let tallies = ratings.tallies().into_iter();
        let tallies: Vec<Tally> =
            tallies.map(|(likes, all)| Tally { ratings: all as usize, likes: likes as usize }).collect();
        let all_items = (0..tallies.len() as u32).map(ItemIdx);
        let cold = all_items.zip(&tallies).filter(|(_, tally)| tally.ratings == 0).map(|(item, _)| item).collect();
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
            ids,
            ranker,
            popularity: fitted.popularity,
            chosen,
            baselines,
            tallies,
            cold,
            mixture: Mixture::build(&found.sources()?, &settings)?,
            newest,
            model: Mutex::new(None),
            found,
        })
    }

    /// What was taken in besides the run, where it was asked for.
    pub fn taken(&self) -> Option<Taken> {
        self.newest.as_ref().map(|newest| newest.taken)
    }

    /// Loads the tuned model, which is loaded otherwise when it is first asked.
    ///
    /// # Errors
    /// A run without a tuned model, a model that is not there, a stop that was asked for.
    pub fn load_model(&self, monitor: &dyn Monitor) -> Result<()> {
        self.check_model()?;
        self.model(monitor).map(drop)
    }

    /// Seconds that the tuned model may take for a list, by the recipe; 0 sets no limit.
    pub fn model_seconds(&self) -> f64 {
        self.recipe.recommend.model_seconds
    }

    /// Whether the tuned model is loaded.
    pub fn has_model(&self) -> bool {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).is_some()
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
                let new = self.newest.as_ref().and_then(|newest| newest.of_person(id));
                let person = match new {
                    Some(history) => Person::new(None, false, history.to_vec()),
                    None => self.person(self.ids.user(id)?)?,
                };
                self.for_person(Some(id.clone()), &person, request, &excluded, monitor)
            }
            Who::History(given) => {
                let person = Person::new(None, false, self.ids.history(given, self.liked())?);
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
        let mut count = all.len() as u64;
        for (id, history) in self.newest.iter().flat_map(Newest::people) {
            monitor.check()?;
            let person = Person::new(None, false, history.to_vec());
            take(self.for_person(Some(id.to_owned()), &person, request, &excluded, monitor)?)?;
            count += 1;
        }
        Ok(count)
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
        let mut places: Vec<Place> =
            (1..).zip(list).map(|(rank, item)| Place { rank, item: ItemIdx(item), answer: None }).collect();
        let model = if request.ask_model {
            let budget = request.model_seconds.unwrap_or(self.recipe.recommend.model_seconds);
            Some(self.asked(person, &mut places, &scores, budget, monitor)?)
        } else {
            None
        };
        places.truncate(request.top);
        let explained = |Place { rank, item, answer }: Place| {
            let score = Some(scores[item.at()]).filter(|score| *score > SILENT);
            let found = self.explain(person, item, rank, score, Link::People)?;
            let (p, merged) = (answer.map(|answer| answer.p), answer.map(|answer| answer.merged));
            Ok(Recommendation { model_probability: p, merged_score: merged, ..found })
        };
        let threshold = self.recipe.data.threshold();
        let liked = person.history.iter().filter(|row| row.rating > threshold).count();
        Ok(Recommendations {
            user,
            ratings: person.history.len(),
            liked,
            ranked_by,
            parts: if ranked_by == self.chosen.name {
                self.chosen.parts(liked).iter().map(BlendPart::from).collect()
            } else {
                Vec::new()
            },
            quality: (self.chosen.ndcg.filter(|_| ranked_by == self.chosen.name)).map(|[ndcg, popularity]| {
                let test = self.chosen.test;
                Quality { ndcg, popularity, test_ndcg: test.map(|t| t[0]), test_popularity: test.map(|t| t[1]) }
            }),
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
        Ok(match self.newest.as_ref().and_then(|newest| newest.of_user(user)) {
            Some(history) => Person::new(Some(user), false, history.to_vec()),
            None => Person::new(Some(user), true, self.found.data.output()?.samples.of_user(user)),
        })
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

    fn model(&self, monitor: &dyn Monitor) -> Result<Arc<Model>> {
        let mut place = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*place {
            return Ok(model.clone());
        }
        let run = Run::open_finished(&self.folder)?;
        let model = Model::find(&run, &self.recipe, &self.found, &self.chosen, monitor)?;
        Ok(place.insert(Arc::new(model)).clone())
    }

    /// Asks the tuned model about the candidates, best first, as many as fit into `budget` seconds
    /// (0: all), and orders them by its answers and the ranker's scores as the validation rows
    /// weigh them; by its answers alone where no such row was answered.
    fn asked(
        &self,
        person: &Person,
        places: &mut [Place],
        scores: &[f32],
        budget: f64,
        monitor: &dyn Monitor,
    ) -> Result<AskedModel> {
        let loaded = Instant::now();
        let model = self.model(monitor)?;
        let begun = Instant::now();
        let items: Vec<ItemIdx> = places.iter().map(|place| place.item).collect();
        let mut answers: Vec<f64> = Vec::with_capacity(items.len());
        while answers.len() < items.len() {
            let spent = begun.elapsed().as_secs_f64();
            let next = (items.len() - answers.len()).min(if answers.is_empty() { ASKED_FIRST } else { ASKED });
            let takes = spent / answers.len().max(1) as f64 * next as f64;
            if budget > 0.0 && !answers.is_empty() && spent + takes > budget {
                break;
            }
            let some = &items[answers.len()..answers.len() + next];
            answers.extend(model.ask(&self.recipe, &self.found, person.user, &person.history, some, monitor)?);
        }
        let asked = AskedModel {
            candidates: items.len(),
            asked: answers.len(),
            seconds: loaded.elapsed().as_secs_f64(),
            seconds_each: begun.elapsed().as_secs_f64() / answers.len().max(1) as f64,
            weight: model.weight(),
        };
        let mut scaled = scores.to_vec();
        normalise(&mut scaled);
        for (place, p) in places.iter_mut().zip(answers) {
            let score = f64::from(scaled[place.item.at()]);
            let merged = asked.weight.map_or(p, |weight| weight.merged(score, p));
            place.answer = Some(Answer { p, merged });
        }
        // Stable: equals keep the ranker's order, and what was not asked stays behind.
        let by = |place: &Place| place.answer.map_or(f64::NEG_INFINITY, |answer| answer.merged);
        places.sort_by(|a, b| by(b).total_cmp(&by(a)));
        Ok(asked)
    }

    /// Items without training rows, by the similarity of their text to what the person liked.
    fn cold(&self, person: &Person, hidden: &[u32], most: usize) -> Result<Vec<Recommendation>> {
        if most == 0 || self.found.words.is_none() {
            return Ok(Vec::new());
        }
        let liked = self.liked_once(person);
        if liked.is_empty() {
            return Ok(Vec::new());
        }
        // What an item is most like decides; the reasons are asked for those that are listed.
        let nearest = |item: ItemIdx| {
            let near = liked.iter().map(|row| self.mixture.similarity(item, row.item, Some(Block::Text)));
            near.fold(f32::NEG_INFINITY, f32::max)
        };
        let shown = self.cold.iter().filter(|item| hidden.binary_search(&item.0).is_err());
        let mut cold: Vec<(f32, ItemIdx)> = shown.map(|&item| (nearest(item), item)).collect();
        let rank = |a: &(f32, ItemIdx), b: &(f32, ItemIdx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if cold.len() > most {
            cold.select_nth_unstable_by(most - 1, rank);
            cold.truncate(most);
        }
        cold.sort_unstable_by(rank);
        let explained = |(place, (score, item)): (usize, (f32, ItemIdx))| {
            self.explain(person, item, place + 1, Some(score), Link::Text)
        };
        cold.into_iter().enumerate().map(explained).collect()
    }

    /// The likes of a history. Of an item that stands there twice, the last row counts.
    fn liked_once<'p>(&self, person: &'p Person) -> Vec<&'p Rated> {
        let threshold = self.recipe.data.threshold();
        let mut named = HashSet::with_capacity(person.met.len());
        let last = person.history.iter().rev().filter(|row| named.insert(row.item));
        last.filter(|row| row.rating > threshold).collect()
    }

    /// The liked items of the history nearest to `item`, nearest first; empty when none is liked.
    fn nearest(&self, person: &Person, item: ItemIdx, link: Link) -> Result<Vec<Because>> {
        let items = &self.found.data.output()?.dataset.items;
        let block = match link {
            Link::People => Block::Colla,
            Link::Text => Block::Text,
        };
        let mut near: Vec<(f32, &Rated)> = self
            .liked_once(person)
            .into_iter()
            .filter(|row| row.item != item)
            .map(|row| (self.mixture.similarity(item, row.item, Some(block)), row))
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
        let likes = person.history.iter().filter(|row| row.rating > threshold).count();
        let mut parts = self.ranker.because(person.whom(), item);
        parts.retain(|part| part.1 > 0.0);
        if parts.is_empty() {
            // Scores of vectors are no sums over the history: the nearest vectors stand for them.
            let vectors = self.chosen.parts(likes).iter().any(|p| p.0 == rows::LIGHTGCN || p.0 == rows::FACTORS);
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
            merged_score: None,
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
