//! A run that is open for recommendations.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::ask::Model;
use super::found::Found;
use super::ids::Ids;
use super::reasons::{Link, REASONS, Tally, in_words, of_choices};
use super::{Because, MOST, Pair, Recommendation, Recommendations, Request, Score, Who};
use crate::collab::{BaselineSettings, Baselines};
use crate::config::Recipe;
use crate::data::{GraphEdges, Item, ItemIdx, Part, Rated, UserIdx, graph_edges};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::pipeline::Run;
use crate::pipeline::stages::Chain;
use crate::retrieval::mixture::Part as Block;
use crate::retrieval::rankers::{LightGcn, Popularity, Ranker, SILENT, Whom, best, filled};
use crate::retrieval::{Embedding, Mixture, RetrievalSettings, Retriever};

/// A finished run, read once. It owns all that it needs; threads may share it.
pub struct Recommender {
    folder: PathBuf,
    recipe: Recipe,
    found: Found,
    ids: Ids,
    ranker: Box<dyn Ranker>,
    popularity: Popularity,
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
        let items = data.dataset.items.len();
        let threshold = recipe.data.threshold();
        let pairs = graph_edges(data.dataset, data.samples, GraphEdges::TrainSplit);
        let popularity = Popularity::new(items, &pairs);
        let colla = found.colla.get()?;
        let ranker: Box<dyn Ranker> = Box::new(LightGcn::new(colla.users.clone(), &colla.items)?);
        let mut tallies = vec![Tally::default(); items];
        let train = data.samples.part(Part::Train);
        for sample in train {
            let tally = &mut tallies[sample.item.at()];
            *tally = Tally { ratings: tally.ratings + 1, likes: tally.likes + usize::from(sample.rating > threshold) };
        }
        let baselines = (!recipe.data.is_implicit())
            .then(|| Baselines::fit(items, train, &BaselineSettings::default()))
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
            popularity,
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
        if request.top == 0 || request.top > MOST {
            return Err(Error::usage("--top", format!("{} is out of range", request.top))
                .next(format!("give a number from 1 to {MOST}")));
        }
        if request.ask_model {
            self.check_model()?;
        }
        let (name, person) = match &request.who {
            Who::User(id) => (Some(id.clone()), self.person(id)?),
            Who::History(given) => (None, Person::new(None, self.ids.history(given, self.liked())?)),
        };
        let mut hidden = person.met.clone();
        for id in &request.exclude {
            hidden.push(self.ids.item("--exclude", id)?.0);
        }
        hidden.sort_unstable();
        hidden.dedup();

        let (scores, ranked_by) = self.scores(&person)?;
        let list = filled(best(&mut scores.clone(), &hidden, request.top), &self.popularity, &hidden, request.top);
        let mut items = Vec::with_capacity(list.len());
        for (place, item) in list.into_iter().enumerate() {
            let score = scores[item as usize];
            items.push((ItemIdx(item), self.explain(&person, ItemIdx(item), place + 1, score, Link::People)?));
        }
        if request.ask_model {
            let asked: Vec<ItemIdx> = items.iter().map(|r| r.0).collect();
            let answers = self.ask(&person, &asked, monitor)?;
            for ((_, item), p) in items.iter_mut().zip(answers) {
                item.model_probability = Some(p);
            }
            // Stable: equal answers keep the first order.
            items.sort_by(|a, b| b.1.model_probability.unwrap_or(0.0).total_cmp(&a.1.model_probability.unwrap_or(0.0)));
        }
        let threshold = self.recipe.data.threshold();
        Ok(Recommendations {
            user: name,
            ratings: person.history.len(),
            liked: person.history.iter().filter(|row| row.rating > threshold).count(),
            ranked_by,
            implicit: self.recipe.data.is_implicit(),
            candidates: self.tallies.len() - hidden.len(),
            items: items.into_iter().map(|item| item.1).collect(),
            cold: self.cold(&person, &hidden, request.cold)?,
        })
    }

    /// Scores pairs of users and items of the run.
    ///
    /// # Errors
    /// Ids that the run does not know; a stop that was asked for.
    pub fn score(&self, pairs: &[Pair], monitor: &dyn Monitor) -> Result<Vec<Score>> {
        let mut out = Vec::with_capacity(pairs.len());
        let mut last: Option<(&str, Person, Vec<f32>, &'static str)> = None;
        for pair in pairs {
            monitor.check()?;
            let item = self.ids.item("item", &pair.item)?;
            // Pairs of one user after the other cost one ranking.
            if last.as_ref().is_none_or(|(user, ..)| *user != pair.user) {
                let person = self.person(&pair.user)?;
                let (scores, by) = self.scores(&person)?;
                last = Some((&pair.user, person, scores, by));
            }
            let Some((_, person, scores, ranked_by)) = &last else { continue };
            let score = scores[item.at()];
            let threshold = self.recipe.data.threshold();
            out.push(Score {
                user: pair.user.clone(),
                item: pair.item.clone(),
                score: score.is_finite().then_some(score),
                ranked_by,
                probability: self
                    .baselines
                    .as_ref()
                    .map(|baselines| baselines.predict(item, &person.history, |rating| rating > threshold)),
                met: person.met.binary_search(&item.0).is_ok(),
            });
        }
        Ok(out)
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

    fn person(&self, id: &str) -> Result<Person> {
        let user = self.ids.user(id)?;
        Ok(Person::new(Some(user), self.found.data.output()?.samples.of_user(user)))
    }

    /// One score an item, and what gave them.
    fn scores(&self, person: &Person) -> Result<(Vec<f32>, &'static str)> {
        let mut scores = vec![SILENT; self.tallies.len()];
        if self.ranker.scores(person.whom(), &mut scores) {
            return Ok((scores, self.ranker.name()));
        }
        self.popularity.scores(person.whom(), &mut scores);
        Ok((scores, self.popularity.name()))
    }

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
        model.ask(&self.recipe, &self.found, user, &person.history, items, monitor)
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
        let explained =
            |(place, (score, item)): (usize, (f32, ItemIdx))| self.explain(person, item, place + 1, score, Link::Text);
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
        let mut named = std::collections::HashSet::new();
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

    fn explain(&self, person: &Person, index: ItemIdx, rank: usize, score: f32, link: Link) -> Result<Recommendation> {
        let Item { raw, title, genres, .. } = &self.found.data.output()?.dataset.items[index.at()];
        let tally = self.tallies[index.at()];
        let because = self.nearest(person, index, link)?;
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
