//! A part of `graph`, after its figures: what the chosen ranker is made of, fitted on the rows that
//! `recommend` may learn from. The tables stay those of the split.
//!
//! What takes seconds to fit is kept as matrices; the rest is counted again when it is read. The
//! graph's own vectors stay those of the training rows: users are folded in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use super::graph::Collaborative;
use super::rank::{Ranked, RankersSeen};
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, Kind, Samples};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::rows as rows_of;
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::matrices;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::retrieval::Words;
use crate::retrieval::rankers::{
    Ease, FactorSettings, Factors, FinalFit, Fitted, Kept, Ratings, RecommendSettings, Sides, Weight,
};
use crate::tensor::Matrix;
use crate::text::item_text::words;

/// Fits the chosen ranker for use.
pub struct Refit;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct RefitSettings<'r> {
    threshold: f32,
    /// All rows, and not those of training alone.
    all: bool,
    #[serde(flatten)]
    rankers: RankersSeen<'r>,
}

impl<'r> RefitSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let all = match recipe.recommend.fit {
            FinalFit::Auto => recipe.data.kind == Kind::TABLE,
            FinalFit::All => true,
            FinalFit::Training => false,
        };
        Self { threshold: recipe.data.threshold(), all, rankers: RankersSeen(&recipe.recommend) }
    }
}

/// What it reads.
pub struct RefitInputs<'a> {
    /// The catalogue.
    pub tables: &'a Made<Dataset>,
    /// The rows.
    pub samples: &'a Made<Samples>,
    /// Which ranker was chosen.
    pub ranked: &'a Made<Ranked>,
}

impl Inputs for RefitInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.tables.content()), ("samples", self.samples.content()), ("ranking", self.ranked.content())]
    }
}

/// What was kept, and of which rows.
#[derive(Serialize, Deserialize)]
struct Note {
    all: bool,
    /// Items of the rows of EASE's weights, on likes and on ratings.
    ease: [Option<Vec<u32>>; 2],
    /// What a pair without a like weighs in implicit ALS.
    factors: Option<f64>,
}

const NOTE: &str = "rankers.json";
const EASE: [&str; 2] = ["ease.safetensors", "ease_on_ratings.safetensors"];
const FACTORS: &str = "factors.safetensors";
const TENSOR: &str = "weights";

/// The rows that a ranker was fitted on, by the note in its artifact.
fn rows(dataset: &Dataset, samples: &Samples, threshold: f32, all: bool) -> Ratings {
    if all { Ratings::all(dataset, samples, threshold) } else { Ratings::training(dataset, samples, threshold) }
}

impl Stage for Refit {
    const ID: StageId = StageId::Graph;
    const VERSION: u32 = 2;
    type Settings<'r> = RefitSettings<'r>;
    type Inputs<'a> = RefitInputs<'a>;
    type Output = ();

    fn run(settings: &RefitSettings<'_>, inputs: &RefitInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (dataset, samples, ranked) = (inputs.tables.get()?, inputs.samples.get()?, inputs.ranked.get()?);
        let ratings = rows(dataset, samples, settings.threshold, settings.all);
        // What is counted in a moment is counted when it is read; LightGCN is an artifact of its
        // own.
        let kept = [rows_of::EASE, rows_of::EASE_RATED, rows_of::FACTORS];
        let wanted: Vec<String> =
            ranked.chosen.wanted().into_iter().filter(|name| kept.contains(&name.as_str())).collect();
        let none = Matrix::zeros(0, 0);
        let own = settings.rankers.0;
        let sides = Sides { graph: (&none, &none), words: None };
        let fitted = Fitted::fit(&ratings, own, sides, Some(&wanted), Kept::default(), work.monitor)?;
        let mut note = Note { all: settings.all, ease: [None, None], factors: None };
        for ((ease, file), items) in fitted.ease.iter().zip(EASE).zip(&mut note.ease) {
            let Some(ease) = ease else { continue };
            matrices::write(&work.folder.join(file), &[(TENSOR, ease.weights())])?;
            *items = Some(ease.items().to_vec());
        }
        if let Some(factors) = &fitted.factors {
            matrices::write(&work.folder.join(FACTORS), &[(TENSOR, factors.items())])?;
            note.factors = Some(factors.unseen_weight());
        }
        let json = serde_json::to_vec(&note).map_err(|e| Error::failed(NOTE, e))?;
        durable::write(&work.folder.join(NOTE), &json)
    }

    fn load(_: &Artifact) -> Result<()> {
        Ok(())
    }
}

/// What makes the files of this stage anew.
const AGAIN: &str = "run the stage again: --from graph";

fn damaged(artifact: &Artifact, error: &dyn std::fmt::Display) -> Error {
    Error::input(artifact.file(NOTE).display(), error).next(AGAIN)
}

fn note(artifact: &Artifact) -> Result<Note> {
    artifact.json(NOTE, AGAIN)
}

/// The rows that the kept rankers know, and whether these are all of the run.
///
/// # Errors
/// Damaged files.
pub fn known(artifact: &Artifact, data: DataOutput<'_>, threshold: f32) -> Result<(Ratings, bool)> {
    let all = note(artifact)?.all;
    Ok((rows(data.dataset, data.samples, threshold, all), all))
}

/// The items' words, where one of these rankers reads them.
pub fn words_for(wanted: &[String], dataset: &Dataset) -> Option<Arc<Words>> {
    wanted.iter().any(|name| name == rows_of::CONTENT).then(|| Arc::new(words(dataset, None)))
}

/// The chosen ranker's parts: those that were kept, and those that are counted on `ratings`.
/// `dataset`: whose items have the words.
///
/// # Errors
/// Damaged files.
pub fn read(
    artifact: &Artifact,
    ratings: &Ratings,
    settings: &RecommendSettings,
    wanted: &[String],
    dataset: &Dataset,
    graph: &Collaborative,
    monitor: &dyn crate::monitor::Monitor,
) -> Result<Fitted> {
    let note = note(artifact)?;
    let bad = |e: &dyn std::fmt::Display| damaged(artifact, e);
    let weights = [Weight::Like(ratings.threshold), Weight::Scale(ratings.scale.0, ratings.scale.1)];
    let mut kept = Kept::default();
    for (at, items) in note.ease.into_iter().enumerate() {
        if let Some(items) = items {
            let matrix = matrices::read(&artifact.file(EASE[at]), TENSOR)?;
            kept.ease[at] = Some(Ease::from_parts(weights[at], matrix, items, ratings.items).map_err(|e| bad(&e))?);
        }
    }
    if let Some(unseen_weight) = note.factors {
        let matrix = matrices::read(&artifact.file(FACTORS), TENSOR)?;
        let own = FactorSettings { unseen_weight, ..settings.factors.clone() };
        kept.factors = Some(Factors::from_parts(weights[0], matrix, &own).map_err(|e| bad(&e))?);
    }
    let sides = Sides { graph: (&graph.users, &graph.items), words: words_for(wanted, dataset) };
    Fitted::fit(ratings, settings, sides, Some(wanted), kept, monitor)
}
