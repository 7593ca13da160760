//! `retrieve`: for every row and every way of retrieving, which history items the prompt shows, in
//! which order.
//!
//! Three artifacts: rows that are tuned on, rows that are scored, and the variants of the ablation
//! table, so that more rows of one kind leave the others alone.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use super::graph::Collaborative;
use crate::collab::reranker::{Learned, Pairs};
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, ItemIdx, Part, Rated, Samples, UserIdx};
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{RowRequest, Set, Variant};
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::retrieval::{
    Embedding, Mixture, RerankRule, RetrievalSettings, Retrieved, Retriever, SimilarUser, Sources, Template, needed,
    order,
};
use crate::tensor::Matrix;

/// Chooses the history that each prompt shows.
pub struct Retrieve;

/// What `retrieve` sees of the recipe.
#[derive(Clone, Serialize)]
pub struct RetrieveSettings {
    /// Keys that nothing is made of are at their defaults.
    retrieval: RetrievalSettings,
    raw_ids_are_rows: bool,
    /// A rating above it is a like; the learnt rule looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    rows: Vec<RowRequest>,
}

impl RetrieveSettings {
    /// Of a recipe, for these rows.
    pub fn of(recipe: &Recipe, rows: Vec<RowRequest>) -> Self {
        let raw_ids_are_rows = recipe.data.kind.set().ids_are_rows;
        let threshold = (recipe.retrieve.rule == RerankRule::Learned).then(|| recipe.data.threshold());
        let mut own = Self { retrieval: recipe.retrieve.clone(), raw_ids_are_rows, threshold, rows };
        let (embeddings, none) = (own.embeddings(), RetrievalSettings::default());
        let retrieval = &mut own.retrieval;
        if !retrieval.rule.weighs() {
            (retrieval.gamma, retrieval.beta) = (none.gamma, none.beta);
        }
        if retrieval.similar_user == SimilarUser::Off {
            retrieval.similar_items = none.similar_items;
        }
        if !embeddings.contains(&Embedding::Mix2) {
            retrieval.softmax_over = none.softmax_over;
        }
        if !embeddings.contains(&Embedding::Txt) {
            retrieval.pca_plain = none.pca_plain;
        }
        own
    }

    /// The settings of a variant.
    fn variant(&self, variant: Variant) -> RetrievalSettings {
        variant.settings(&self.retrieval, self.raw_ids_are_rows)
    }

    /// The embeddings that the rows are looked up by.
    pub fn embeddings(&self) -> Vec<Embedding> {
        let mut found: Vec<Embedding> = Vec::new();
        for request in &self.rows {
            let embedding = self.variant(request.variant).embedding;
            if !found.contains(&embedding) {
                found.push(embedding);
            }
        }
        found
    }

    /// Items of similar users are borrowed.
    pub fn borrows(&self) -> bool {
        self.retrieval.similar_user != SimilarUser::Off
    }
}

/// What it reads. Of the embeddings, those that the rows are looked up by.
pub struct RetrieveInputs<'a> {
    /// Items, users, interactions.
    pub tables: &'a Made<Dataset>,
    /// Rows and histories.
    pub samples: &'a Made<Samples>,
    /// Embeddings of the plain texts.
    pub plain: Option<&'a Made<Matrix>>,
    /// Text embeddings.
    pub text: Option<&'a Made<Matrix>>,
    /// LightGCN embeddings.
    pub colla: Option<&'a Made<Collaborative>>,
    /// SSL embeddings.
    pub ssl: Option<&'a Made<Matrix>>,
}

impl Inputs for RetrieveInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([
            ("tables", Some(self.tables.content())),
            ("samples", Some(self.samples.content())),
            ("plain", self.plain.map(Made::content)),
            ("text", self.text.map(Made::content)),
            ("graph", self.colla.map(Made::content)),
            ("align", self.ssl.map(Made::content)),
        ])
    }
}

/// The shown history of one row and variant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// Which row.
    #[serde(flatten)]
    pub request: RowRequest,
    /// History items in the order shown.
    pub items: Vec<Rated>,
    /// What was retrieved, with similarities; kept for the recipe's own variant of validation and
    /// test rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieved: Vec<Retrieved>,
}

const FILE: &str = "shown.jsonl";

impl Stage for Retrieve {
    const ID: StageId = StageId::Retrieve;
    const VERSION: u32 = 2;
    type Settings<'r> = RetrieveSettings;
    type Inputs<'a> = RetrieveInputs<'a>;
    /// In the order of the rows asked for.
    type Output = Vec<Shown>;

    fn run(settings: &RetrieveSettings, inputs: &RetrieveInputs<'_>, work: &Work<'_>) -> Result<()> {
        let mut file = RowFile::<Shown>::anew(&work.folder.join(FILE))?;
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let colla = inputs.colla.map(Made::get).transpose()?;
        let sources = Sources {
            plain: inputs.plain.map(Made::get).transpose()?,
            text: inputs.text.map(Made::get).transpose()?,
            colla: colla.map(|c| &c.items),
            ssl: inputs.ssl.map(Made::get).transpose()?,
        };
        let histories = Histories::new(settings, data, &sources, colla.map(|c| &c.users))?;
        let total = settings.rows.len() as u64;
        for (n, chunk) in settings.rows.chunks(4096).enumerate() {
            work.monitor.check()?;
            let found: Vec<Result<Shown>> = chunk.par_iter().map(|&request| histories.of_row(request)).collect();
            for shown in found {
                file.append(&shown?)?;
            }
            work.monitor.progress((n * 4096 + chunk.len()) as u64, total, "prompts");
        }
        Ok(())
    }

    fn load(artifact: &Artifact) -> Result<Vec<Shown>> {
        read_rows(&artifact.file(FILE))
    }
}

/// Training rows that the learnt rule is fitted on.
const LEARNED_FROM: usize = 4000;

/// Chooses the items that a prompt shows.
pub struct Histories<'a> {
    settings: &'a RetrieveSettings,
    data: DataOutput<'a>,
    mixtures: HashMap<Embedding, Mixture>,
    /// Learnt for each embedding, where the rule is learnt.
    learned: HashMap<Embedding, Learned>,
    neighbours: SimilarUsers,
}

impl<'a> Histories<'a> {
    /// Builds the mixtures that the rows are looked up by. `users`: LightGCN's, where items are
    /// borrowed.
    ///
    /// # Errors
    /// An embedding that is not there.
    pub fn new(
        settings: &'a RetrieveSettings,
        data: DataOutput<'a>,
        sources: &Sources<'_>,
        users: Option<&Matrix>,
    ) -> Result<Self> {
        let mut mixtures = HashMap::new();
        for embedding in settings.embeddings() {
            let own = RetrievalSettings { embedding, ..settings.retrieval.clone() };
            mixtures.insert(embedding, Mixture::build(sources, &own)?);
        }
        let neighbours =
            users.filter(|_| settings.borrows()).map_or_else(Default::default, |u| SimilarUsers::new(data.samples, u));
        let mut found = Self { settings, data, mixtures, learned: HashMap::new(), neighbours };
        if let Some(threshold) = settings.threshold {
            for embedding in settings.embeddings() {
                let learned = found.learn(embedding, threshold)?;
                found.learned.insert(embedding, learned);
            }
        }
        Ok(found)
    }

    /// Learns the order of history items on training rows spread over the training part.
    fn learn(&self, embedding: Embedding, threshold: f32) -> Result<Learned> {
        let settings = RetrievalSettings { embedding, ..self.settings.retrieval.clone() };
        let retriever = self.retriever(&settings)?;
        let train = self.data.samples.part(Part::Train);
        let step = train.len().div_ceil(LEARNED_FROM).max(1);
        let rows: Vec<_> = train.iter().step_by(step).collect();
        let of_row = |sample: &&crate::data::Sample| -> Result<(Vec<Retrieved>, Vec<bool>)> {
            let history = self.data.samples.history(sample);
            let retrieved = retriever.retrieve(history, sample.item, usize::MAX)?;
            let liked = |r: &Retrieved| history[r.position as usize].rating > threshold;
            let tells = retrieved.iter().map(|r| liked(r) == sample.label).collect();
            Ok((retrieved, tells))
        };
        let mut pairs = Pairs::default();
        for found in rows.par_iter().map(of_row).collect::<Vec<_>>() {
            let (retrieved, tells) = found?;
            pairs.add(&retrieved, &tells);
        }
        pairs.fit()
    }

    fn retriever<'r>(&'r self, settings: &'r RetrievalSettings) -> Result<Retriever<'r>> {
        let mixture = self
            .mixtures
            .get(&settings.embedding)
            .ok_or_else(|| Error::failed("retrieve", format!("{:?} was not asked for", settings.embedding)))?;
        Retriever::new(mixture, settings, &self.data.dataset.items)
    }

    fn of_row(&self, request: RowRequest) -> Result<Shown> {
        let sample = self.data.sample(request.row);
        let history = self.data.history_at(request.row, request.at);
        let (items, retrieved) = self.choose(request.variant, sample.user, Some(sample.time), &history, sample.item)?;
        let keep = request.variant == Variant::Main && request.set != Set::Tune;
        Ok(Shown { request, items, retrieved: if keep { retrieved } else { Vec::new() } })
    }

    /// The items that a prompt about `target` shows of `history`, and what was retrieved. What a
    /// similar user rated at `time` or later is not borrowed.
    ///
    /// # Errors
    /// An item that is not in the data set.
    pub fn choose(
        &self,
        variant: Variant,
        user: UserIdx,
        time: Option<i64>,
        history: &[Rated],
        target: ItemIdx,
    ) -> Result<(Vec<Rated>, Vec<Retrieved>)> {
        let settings = self.settings.variant(variant);
        let retriever = self.retriever(&settings)?;
        let mut retrieved = retriever.retrieve(history, target, needed(&settings))?;
        if let Some(learned) = self.learned.get(&settings.embedding).filter(|_| settings.template == Template::Rerank) {
            retrieved = learned.sorted(&retrieved);
        }
        let mut items: Vec<Rated> =
            order(history, target, &retrieved, &settings).into_iter().map(|p| history[p as usize]).collect();
        if let Some(other) = self.neighbours.history_of(self.data.samples, user, time) {
            let lent = retriever.borrow_from(other, &retrieved, history, target)?;
            if settings.similar_user == SimilarUser::Replace {
                items.drain(..lent.len().min(items.len()));
            }
            items.splice(0..0, lent.iter().map(|r| other[r.position as usize]));
        }
        Ok((items, retrieved))
    }
}

/// The most similar user of each user, by LightGCN, where the recipe borrows from one.
#[derive(Default)]
struct SimilarUsers(HashMap<u32, u32>);

impl SimilarUsers {
    fn new(samples: &Samples, users: &Matrix) -> Self {
        let mut wanted: Vec<u32> = samples.samples.iter().map(|s| s.user.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let norm = |u: u32| users.row(u as usize).iter().map(|x| x * x).sum::<f32>().sqrt();
        let norms: Vec<f32> = wanted.iter().map(|&u| norm(u)).collect();
        let nearest = |u: u32| -> Option<u32> {
            let mine = users.row(u as usize);
            let mut best: Option<(f32, u32)> = None;
            for (&other, &length) in wanted.iter().zip(&norms).filter(|(o, n)| **o != u && **n > 0.0) {
                let dot: f32 = mine.iter().zip(users.row(other as usize)).map(|(a, b)| a * b).sum();
                let score = dot / length;
                if best.is_none_or(|(s, _)| score > s) {
                    best = Some((score, other));
                }
            }
            best.map(|b| b.1)
        };
        Self(wanted.par_iter().filter_map(|&u| nearest(u).map(|n| (u, n))).collect())
    }

    /// What the similar user had rated before `time`.
    fn history_of<'a>(&self, samples: &'a Samples, user: UserIdx, time: Option<i64>) -> Option<&'a [Rated]> {
        let other = self.0.get(&user.0)?;
        let timeline = samples.shown_to_others(UserIdx(*other));
        let end = time.map_or(timeline.len(), |time| timeline.partition_point(|r| r.time < time));
        Some(&timeline[..end])
    }
}
