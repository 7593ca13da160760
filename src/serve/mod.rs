//! The whole catalogue ranked for one user of a finished run, with the parts of each score and
//! reasons in words.

mod ask;

use serde::Serialize;

use crate::collab::{BaselineSettings, Baselines};
use crate::config::Recipe;
use crate::data::{Item, ItemIdx, Part, Rated, UserIdx};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::pipeline::Run;
use crate::pipeline::stage::Made;
use crate::pipeline::stages::data::DataOutput;
use crate::pipeline::stages::graph::Collaborative;
use crate::pipeline::stages::{Chain, DataMade, TextMade};
use crate::retrieval::history::Parts;
use crate::retrieval::{Embedding, Mixture, RetrievalSettings, Retriever, Sources, catalogue};
use crate::tensor::Matrix;

/// Liked items named as a reason.
const REASONS: usize = 2;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// Id of the user as the data set writes it.
    pub user: String,
    /// Recommendations, 1 to 256.
    pub top: usize,
    /// Items without ratings to learn from that are listed besides.
    pub cold: usize,
    /// Ask the tuned language model about the recommendations, and order them by its answer.
    pub ask_model: bool,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Recommendations {
    /// Id of the user.
    pub user: String,
    /// Ratings in the user's history.
    pub ratings: usize,
    /// How many of them are likes.
    pub liked: usize,
    /// What the candidates were ranked by: `lightgcn`, or `popularity` for a user outside the
    /// training graph.
    pub ranked_by: &'static str,
    /// The log tells what was met, and not how it was rated: every row counts as a like.
    pub implicit: bool,
    /// Items the user has not rated.
    pub candidates: usize,
    /// Best first.
    pub items: Vec<Recommendation>,
    /// Items that the graph knows nothing of, by similarity of their text to what the user liked.
    pub cold: Vec<Recommendation>,
}

/// One item.
#[derive(Debug, Clone, Serialize)]
pub struct Recommendation {
    /// Id of the item.
    pub item: String,
    /// Title.
    pub title: String,
    /// Genres.
    pub genres: Vec<String>,
    /// Inner product of the user's and the item's LightGCN rows; none for items outside the graph.
    pub lightgcn_score: Option<f32>,
    /// Place by that score, from 1.
    pub lightgcn_rank: Option<usize>,
    /// The tuned language model's probability, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_probability: Option<f64>,
    /// Share of likes among the item's training ratings, pulled towards the mean where there are
    /// few.
    pub item_mean: f64,
    /// Training ratings of the item.
    pub item_ratings: usize,
    /// How many of them are likes.
    pub item_likes: usize,
    /// Probability by item mean and the user's own share of likes, no text and no graph.
    pub baseline: f64,
    /// No training rating.
    pub is_cold: bool,
    /// The liked history items that are nearest to it, nearest first.
    pub because: Vec<Because>,
    /// All that in words.
    pub reason: String,
}

/// A liked item that speaks for a recommendation.
#[derive(Debug, Clone, Serialize)]
pub struct Because {
    /// Id.
    pub item: String,
    /// Title.
    pub title: String,
    /// The user's rating.
    pub rating: f32,
    /// Similarity by the mixed embedding.
    pub similarity: f32,
    /// Similarity by each of its parts.
    pub parts: Parts,
}

/// Ranks for one user after the other and hands each list to `take`. `run` is opened for reading,
/// `recipe` is the one of its folder.
///
/// # Errors
/// A stage that is not there, a user that is not in the data, what `take` returns.
pub fn recommend(
    run: &Run,
    recipe: &Recipe,
    requests: &[Request],
    monitor: &dyn Monitor,
    mut take: impl FnMut(Recommendations) -> Result<()>,
) -> Result<()> {
    let chain = Chain::new(run, recipe, &Device::Cpu);
    let found = Finished::find(&chain)?;
    if let Some(why) = found.data.graph_only.as_ref().filter(|_| requests.iter().any(|request| request.ask_model)) {
        return Err(Error::usage("--score llm", format!("this run has no tuned model: {why}"))
            .next("leave it out: LightGCN ranks"));
    }
    // A user that is not there is said before anything is written.
    for request in requests {
        find_user(found.data.output()?, &request.user)?;
    }
    for request in requests {
        monitor.check()?;
        take(for_one(&chain, recipe, &found, request, monitor)?)?;
    }
    Ok(())
}

fn for_one(
    chain: &Chain<'_>,
    recipe: &Recipe,
    found: &Finished,
    request: &Request,
    monitor: &dyn Monitor,
) -> Result<Recommendations> {
    let data = found.data.output()?;
    let (users, vectors) = (&found.colla.get()?.users, &found.colla.get()?.items);
    let user = find_user(data, &request.user)?;
    let about = About::new(found, recipe, user)?;
    let candidates: Vec<ItemIdx> = (0..data.dataset.items.len() as u32)
        .map(ItemIdx)
        .filter(|i| !about.history.iter().any(|r| r.item == *i))
        .collect();
    let known = |m: &crate::Matrix, row: usize| m.row(row).iter().any(|&v| v != 0.0);
    let in_graph = known(users, user.at());
    let mut items = Vec::new();
    if in_graph {
        let seen: Vec<ItemIdx> = about.history.iter().map(|r| r.item).collect();
        let hits = catalogue::recommend(users, vectors, user, &seen, request.top)?;
        for (place, (item, score)) in hits.into_iter().enumerate() {
            items.push(about.explain(item, Some((place + 1, score)))?);
        }
    } else {
        let mut order = candidates.clone();
        order.sort_by(|&a, &b| about.baseline(b).total_cmp(&about.baseline(a)).then(a.cmp(&b)));
        for item in order.into_iter().take(request.top) {
            items.push(about.explain(item, None)?);
        }
    }
    if request.ask_model {
        let asked: Vec<ItemIdx> = items.iter().map(|r| r.0).collect();
        let answers = ask::ask_tuned(chain, recipe, found, user, &about.history, &asked, monitor)?;
        for ((_, item), p) in items.iter_mut().zip(answers) {
            item.model_probability = Some(p);
        }
        // Stable: equal answers keep the first order.
        items.sort_by(|a, b| b.1.model_probability.unwrap_or(0.0).total_cmp(&a.1.model_probability.unwrap_or(0.0)));
    }
    let mut cold: Vec<(f32, ItemIdx)> = Vec::new();
    if request.cold > 0 && found.words.is_some() {
        for &item in candidates.iter().filter(|i| !known(vectors, i.at())) {
            let nearest = about.nearest(item)?.first().map_or(0.0, |b| b.parts.ssl.or(b.parts.text).unwrap_or(0.0));
            cold.push((nearest, item));
        }
        cold.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        cold.truncate(request.cold);
    }
    let listed: Vec<ItemIdx> = items.iter().map(|i| i.0).collect();
    cold.retain(|c| !listed.contains(&c.1));
    Ok(Recommendations {
        user: request.user.clone(),
        ratings: about.history.len(),
        liked: about.history.iter().filter(|r| r.rating > about.threshold).count(),
        ranked_by: if in_graph { "lightgcn" } else { "popularity" },
        implicit: recipe.data.is_implicit(),
        candidates: candidates.len(),
        items: items.into_iter().map(|i| i.1).collect(),
        cold: cold.into_iter().map(|(_, i)| about.explain(i, None).map(|e| e.1)).collect::<Result<_>>()?,
    })
}

/// Data set and item embeddings of a run.
struct Finished {
    data: DataMade,
    colla: Made<Collaborative>,
    /// `None` where a run of the graph stages alone did not embed the items' words.
    words: Option<Words>,
}

/// What the words of the items came to.
struct Words {
    text: TextMade,
    ssl: Made<Matrix>,
}

impl Finished {
    /// Finds what the stages `data` to `align` have made.
    fn find(chain: &Chain<'_>) -> Result<Self> {
        let data = chain.data()?;
        let colla = chain.graph(&data)?;
        let words = Words::find(chain, &data, &colla);
        let words = if data.graph_only.is_some() { words.ok() } else { Some(words?) };
        Ok(Self { data, colla, words })
    }

    /// The item embeddings under the names that a mixture knows.
    fn sources(&self) -> Result<Sources<'_>> {
        let colla = Some(&self.colla.get()?.items);
        let Some(words) = &self.words else { return Ok(Sources { colla, ..Sources::default() }) };
        let text = words.text.text.get()?;
        let plain = words.text.plain.as_ref().map_or(Ok(text), Made::get)?;
        Ok(Sources { plain: Some(plain), text: Some(text), colla, ssl: Some(words.ssl.get()?) })
    }
}

impl Words {
    fn find(chain: &Chain<'_>, data: &DataMade, colla: &Made<Collaborative>) -> Result<Self> {
        let text = chain.embed(data, &chain.describe(data)?)?;
        let ssl = chain.align(&text, colla)?;
        Ok(Self { text, ssl })
    }
}

/// The user of an id, or an error with the ids that look most like it.
fn find_user(data: DataOutput<'_>, id: &str) -> Result<UserIdx> {
    let users = &data.dataset.users;
    if let Some(at) = users.iter().position(|u| u.raw.0 == id) {
        return Ok(UserIdx(at as u32));
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let mut near: Vec<(usize, u64, &str)> = users
        .iter()
        .map(|u| {
            let away = match (number(id), number(&u.raw.0)) {
                (Some(a), Some(b)) => a.abs_diff(b),
                _ => 0,
            };
            (strsim::damerau_levenshtein(id, &u.raw.0), away, u.raw.0.as_str())
        })
        .collect();
    near.sort_unstable();
    let names: Vec<&str> = near.iter().take(5).map(|n| n.2).collect();
    Err(Error::usage("--user", format!("there is no user '{id}' among the {} of this run", users.len()))
        .next(format!("the nearest ids are: {}", names.join(", "))))
}

/// What is known of one user and of every item.
struct About<'a> {
    data: DataOutput<'a>,
    mixture: Mixture,
    settings: RetrievalSettings,
    /// `None` for a log without ratings.
    baselines: Option<Baselines>,
    /// Likes and ratings of each item in training.
    counts: Vec<(usize, usize)>,
    history: Vec<Rated>,
    threshold: f32,
}

impl<'a> About<'a> {
    fn new(found: &'a Finished, recipe: &Recipe, user: UserIdx) -> Result<Self> {
        let settings = RetrievalSettings {
            embedding: if found.words.is_some() { Embedding::Mix3 } else { Embedding::Colla },
            faithful_off_by_one: false,
            faithful_target_in_history: false,
            ..recipe.retrieve.clone()
        };
        let data = found.data.output()?;
        let train = data.samples.part(Part::Train);
        let items = data.dataset.items.len();
        let mut counts = vec![(0, 0); items];
        for sample in train {
            let count = &mut counts[sample.item.at()];
            *count = (count.0 + usize::from(sample.label), count.1 + 1);
        }
        Ok(Self {
            data,
            mixture: Mixture::build(&found.sources()?, &settings)?,
            settings,
            baselines: if recipe.data.is_implicit() {
                None
            } else {
                Some(Baselines::fit(items, train, &BaselineSettings::default())?)
            },
            counts,
            history: data.samples.of_user(user),
            threshold: recipe.data.threshold(),
        })
    }

    /// What is known of the item without text or graph; for a log without ratings, the share of
    /// users who met it.
    fn baseline(&self, item: ItemIdx) -> f64 {
        match &self.baselines {
            Some(baselines) => baselines.predict(item, &self.history, |r| r > self.threshold),
            None => self.counts[item.at()].1 as f64 / self.data.dataset.users.len().max(1) as f64,
        }
    }

    /// The liked history items nearest to `item`, nearest first; empty when none is liked.
    fn nearest(&self, item: ItemIdx) -> Result<Vec<Because>> {
        let items = &self.data.dataset.items;
        let retriever = Retriever::new(&self.mixture, &self.settings, items)?;
        let all = retriever.retrieve(&self.history, item, usize::MAX)?;
        let rating = |p: u32| self.history[p as usize].rating;
        let liked = |r: &&crate::retrieval::Retrieved| rating(r.position) > self.threshold;
        Ok(all
            .iter()
            .filter(liked)
            .take(REASONS)
            .map(|r| Because {
                item: items[r.item.at()].raw.0.clone(),
                title: items[r.item.at()].title.clone(),
                rating: rating(r.position),
                similarity: r.similarity,
                parts: r.parts,
            })
            .collect())
    }

    fn explain(&self, index: ItemIdx, place: Option<(usize, f32)>) -> Result<(ItemIdx, Recommendation)> {
        let Item { raw, title, genres, .. } = &self.data.dataset.items[index.at()];
        let (likes, ratings) = self.counts[index.at()];
        let because = self.nearest(index)?;
        let reason =
            if self.baselines.is_some() { in_words(&because, likes, ratings) } else { of_choices(&because, ratings) };
        Ok((
            index,
            Recommendation {
                item: raw.0.clone(),
                title: title.clone(),
                genres: genres.clone(),
                lightgcn_score: place.map(|p| p.1),
                lightgcn_rank: place.map(|p| p.0),
                model_probability: None,
                item_mean: self.baselines.as_ref().map_or_else(|| self.baseline(index), |b| b.item(index)),
                item_ratings: ratings,
                item_likes: likes,
                baseline: self.baseline(index),
                is_cold: ratings == 0,
                because,
                reason,
            },
        ))
    }
}

/// What the nearest of the parts means to a person.
fn nearness(parts: &Parts) -> &'static str {
    let by = [(parts.colla, "liked by the same people"), (parts.ssl, "similar in taste"), (parts.text, "similar text")];
    let best = by.into_iter().filter_map(|(s, w)| s.map(|s| (s, w))).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or("similar", |b| b.1)
}

fn in_words(because: &[Because], likes: usize, ratings: usize) -> String {
    let mut parts = Vec::new();
    let named: Vec<String> = because.iter().map(|b| format!("{} stars to {}", b.rating, b.title)).collect();
    if let Some(first) = because.first() {
        parts.push(format!("because you gave {} ({})", named.join(" and "), nearness(&first.parts)));
    }
    parts.push(match ratings {
        0 => "nobody had rated it yet".to_string(),
        n => format!("{:.0} % of {n} others liked it", 100.0 * likes as f64 / n as f64),
    });
    parts.join(", ")
}

/// The same for a log without ratings.
fn of_choices(because: &[Because], chosen: usize) -> String {
    let mut parts = Vec::new();
    let named: Vec<&str> = because.iter().map(|b| b.title.as_str()).collect();
    if let Some(first) = because.first() {
        let nearness = if first.parts.text.is_none() { "chosen by the same people" } else { nearness(&first.parts) };
        parts.push(format!("because you chose {} ({nearness})", named.join(" and ")));
    }
    parts.push(match chosen {
        0 => "nobody had chosen it yet".to_string(),
        1 => "1 other chose it".to_string(),
        n => format!("{n} others chose it"),
    });
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_what_speaks_for_the_item() {
        let parts = Parts { text: Some(0.2), colla: Some(0.1), ssl: Some(0.7) };
        let one =
            |title: &str, rating| Because { item: "1".into(), title: title.into(), rating, similarity: 0.5, parts };
        assert_eq!(
            in_words(&[one("A", 5.0), one("B", 4.5)], 41, 50),
            "because you gave 5 stars to A and 4.5 stars to B (similar in taste), 82 % of 50 others liked it"
        );
        assert_eq!(in_words(&[], 0, 0), "nobody had rated it yet");
    }
}
