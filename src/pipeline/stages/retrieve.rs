//! `retrieve`: for every row and every way of retrieving, which history items the prompt shows, in which order.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::align::AlignedItems;
use super::data::Ground;
use super::embed::Embedded;
use super::graph::Collaborative;
use crate::config::Recipe;
use crate::data::Rated;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::Run;
use crate::retrieval::{Embedding, Mixture, Retrieved, Retriever, Settings, Sources, Template, needed, order};
use crate::tensor::Matrix;

/// A way of choosing the shown items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// The recipe's embedding and template: what is tuned, reported and merged.
    Main,
    /// The most recent items: no retrieval.
    NoRetrieval,
    /// By text only.
    Text,
    /// By LightGCN only.
    Collaborative,
    /// By text and LightGCN.
    Mix,
    /// By text, LightGCN and SSL.
    Mix3,
    /// As the recipe, but in order of similarity: no rerank.
    Unranked,
    /// As the recipe, but with what the authors' published retrieval does otherwise (D1, D6, D10).
    Published,
    /// A rendering of tuning rows.
    Rendering(Template),
}

impl Variant {
    /// The rows of the ablation table.
    pub const ABLATION: [Variant; 7] = [
        Variant::NoRetrieval,
        Variant::Text,
        Variant::Collaborative,
        Variant::Mix,
        Variant::Mix3,
        Variant::Unranked,
        Variant::Published,
    ];

    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Variant::Main => "recipe",
            Variant::NoRetrieval => "no retrieval",
            Variant::Text => "text only",
            Variant::Collaborative => "collaborative only",
            Variant::Mix => "mix",
            Variant::Mix3 => "mix3",
            Variant::Unranked => "without rerank",
            Variant::Published => "as the authors' code retrieves",
            Variant::Rendering(_) => "rendering",
        }
    }

    /// Retrieval settings of this variant.
    pub fn settings(self, recipe: &Recipe) -> Settings {
        let base = &recipe.retrieve;
        let with = |embedding| Settings { embedding, ..base.clone() };
        match self {
            Variant::Main => base.clone(),
            Variant::NoRetrieval => Settings { template: Template::Simple, ..base.clone() },
            Variant::Text => with(Embedding::Text),
            Variant::Collaborative => with(Embedding::Colla),
            Variant::Mix => with(Embedding::Mix),
            Variant::Mix3 => with(Embedding::Mix3),
            Variant::Unranked => Settings { template: Template::High, ..base.clone() },
            Variant::Published => base.clone().faithful(recipe.data.kind.set().ids_are_rows),
            Variant::Rendering(template) => Settings { template, ..base.clone() },
        }
    }
}

/// Which set a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// Tuning.
    Tune,
    /// Validation.
    Valid,
    /// Test.
    Test,
}

impl Set {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Set::Tune => "tune",
            Set::Valid => "valid",
            Set::Test => "test",
        }
    }
}

/// The shown history of one row and variant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// Which set.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// Index of the sample whose position the history is frozen at (the row itself, but for groups of targets).
    pub at: usize,
    /// Which variant.
    pub variant: Variant,
    /// History items in the order shown.
    pub items: Vec<Rated>,
    /// What was retrieved, with similarities; kept for the recipe's own variant of validation and test rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieved: Vec<Retrieved>,
}

/// All of them.
pub struct Retrieval {
    /// In the order of sets, rows, variants.
    pub shown: Vec<Shown>,
    /// The artifact.
    pub artifact: Artifact,
}

/// The item embeddings.
pub struct Embeddings<'a> {
    /// Text.
    pub text: &'a Embedded,
    /// LightGCN.
    pub colla: &'a Collaborative,
    /// SSL.
    pub ssl: &'a AlignedItems,
}

/// A row to be shown: set, row, frozen at, variant.
type Wish = (Set, usize, usize, Variant);

fn wishes(recipe: &Recipe, ground: &Ground) -> Vec<Wish> {
    let mut out = Vec::new();
    for group in &ground.rows.tune {
        for &template in &recipe.tune.templates {
            out.extend(group.iter().map(|&row| (Set::Tune, row, group[0], Variant::Rendering(template))));
        }
    }
    out.extend(ground.rows.valid.iter().map(|&row| (Set::Valid, row, row, Variant::Main)));
    for (n, &row) in ground.rows.test.iter().enumerate() {
        out.push((Set::Test, row, row, Variant::Main));
        if recipe.predict.ablation_rows == 0 || n < recipe.predict.ablation_rows {
            out.extend(Variant::ABLATION.iter().map(|&v| (Set::Test, row, row, v)));
        }
    }
    out
}

/// Runs or reuses the stage.
pub fn retrieve(run: &Run, recipe: &Recipe, ground: &Ground, from: &Embeddings<'_>) -> Result<Retrieval> {
    let key = KeyBuilder::new(StageId::Retrieve.name(), 1)
        .input("data", &ground.artifact.key)
        .input("embed", &from.text.artifact.key)
        .input("graph", &from.colla.artifact.key)
        .input("align", &from.ssl.artifact.key)
        .settings("retrieve", &recipe.retrieve)?
        .settings("rows", &(&recipe.rows, &recipe.tune.templates, recipe.tune.targets_per_history))?
        .settings("ablation", &recipe.predict.ablation_rows)?
        .finish();
    let artifact = run.stage(StageId::Retrieve, &key, |work| {
        let wishes = wishes(recipe, ground);
        let path = work.folder.join("shown.jsonl");
        if path.exists() {
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, "start the file again", &e))?;
        }
        let (mut file, _) = RowFile::<Shown>::open(&path)?;
        let sources = Sources {
            plain: Some(&from.text.text),
            text: Some(&from.text.text),
            colla: Some(&from.colla.items),
            ssl: Some(&from.ssl.ssl),
        };
        let mut mixtures: HashMap<Embedding, Mixture> = HashMap::new();
        for (_, _, _, variant) in &wishes {
            let settings = variant.settings(recipe);
            if let std::collections::hash_map::Entry::Vacant(slot) = mixtures.entry(settings.embedding) {
                slot.insert(Mixture::build(&sources, &settings)?);
            }
        }
        let neighbours = SimilarUsers::new(recipe, ground, &from.colla.users);
        let total = wishes.len() as u64;
        for (n, chunk) in wishes.chunks(4096).enumerate() {
            work.monitor.check()?;
            let found: Vec<Result<Shown>> =
                chunk.par_iter().map(|wish| show(wish, recipe, ground, &mixtures, &neighbours)).collect();
            for shown in found {
                file.append(&shown?)?;
            }
            work.monitor.progress((n * 4096 + chunk.len()) as u64, total, "prompts");
        }
        Ok(())
    })?;
    Ok(Retrieval { shown: read_rows(&artifact.file("shown.jsonl"))?, artifact })
}

fn show(
    &(set, row, at, variant): &Wish,
    recipe: &Recipe,
    ground: &Ground,
    mixtures: &HashMap<Embedding, Mixture>,
    neighbours: &SimilarUsers,
) -> Result<Shown> {
    let settings = variant.settings(recipe);
    let history = ground.history_at(row, at);
    let target = ground.sample(row).item;
    let mixture = &mixtures[&settings.embedding];
    let retriever = Retriever::new(mixture, &settings, &ground.dataset.items)?;
    let retrieved = retriever.retrieve(&history, target, needed(&settings))?;
    let mut items: Vec<Rated> =
        order(&history, target, &retrieved, &settings).into_iter().map(|p| history[p as usize]).collect();
    if let Some(other) = neighbours.history_of(ground, row) {
        let lent = retriever.borrow_from(other, &retrieved, &history, target)?;
        if settings.similar_user == crate::retrieval::SimilarUser::Replace {
            items.drain(..lent.len().min(items.len()));
        }
        items.splice(0..0, lent.iter().map(|r| other[r.position as usize]));
    }
    let keep = variant == Variant::Main && set != Set::Tune;
    Ok(Shown { set, row, at, variant, items, retrieved: if keep { retrieved } else { Vec::new() } })
}

/// The most similar user of each user, by LightGCN, where the recipe borrows from one.
struct SimilarUsers(HashMap<u32, u32>);

impl SimilarUsers {
    fn new(recipe: &Recipe, ground: &Ground, users: &Matrix) -> Self {
        if recipe.retrieve.similar_user == crate::retrieval::SimilarUser::Off {
            return Self(HashMap::new());
        }
        let mut wanted: Vec<u32> = ground.samples.samples.iter().map(|s| s.user.0).collect();
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

    /// What the similar user had rated by the time of the row's target.
    fn history_of<'a>(&self, ground: &'a Ground, row: usize) -> Option<&'a [Rated]> {
        let sample = ground.sample(row);
        let other = self.0.get(&sample.user.0)?;
        let timeline = ground.samples.timelines.get(*other as usize)?;
        let end = timeline.partition_point(|r| r.time < sample.time);
        Some(&timeline[..end])
    }
}
