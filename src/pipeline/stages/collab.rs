//! `collab`: what ratings and graph say of every row by themselves, as numbers. The prompts may put
//! them into words, the tables and the merge take the probability.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use super::graph::Collaborative;
use crate::collab::{
    self, CausalFeatures, CollabSettings, CrossFit, FoldInSettings, FoldInSource, Sources, TextVectors, Weights,
};
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, Descriptions, Samples};
use crate::durable;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{RowRequest, Set};
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::tensor::Matrix;
use crate::text::item_text::words;
use crate::text::ratings::Wording;

/// Computes the causal features of every row.
pub struct Collab;

/// What it sees of the recipe; nothing where the recipe wants no features.
#[derive(Serialize)]
pub struct FeatureSettings {
    wanted: Option<Wanted>,
}

#[derive(Serialize)]
struct Wanted {
    /// How they are made; what is said of them is the prompts' matter.
    collab: CollabSettings,
    /// A rating above it is a like.
    threshold: f32,
    /// (set, row, frozen at).
    rows: Vec<(Set, usize, usize)>,
}

impl FeatureSettings {
    /// Of a recipe, for these rows.
    pub fn of(recipe: &Recipe, requests: &[RowRequest]) -> Self {
        let mut rows: Vec<_> = requests.iter().map(|r| (r.set, r.row, r.at)).collect();
        // A row has the same features in every rendering.
        rows.sort_unstable();
        rows.dedup();
        let wanted = Wanted { collab: unworded(recipe), threshold: recipe.data.threshold(), rows };
        Self { wanted: (recipe.collab.wording != Wording::None).then_some(wanted) }
    }
}

/// The section with everything but what is said; keys that nothing is made of are at their
/// defaults.
fn unworded(recipe: &Recipe) -> CollabSettings {
    let mut own = CollabSettings { wording: Wording::Silent, ..recipe.collab.clone() };
    let (fold_in, none) = (&mut own.fold_in, FoldInSettings::default());
    if !fold_in.sources.contains(&FoldInSource::Lightgcn) {
        fold_in.lightgcn_ridge = none.lightgcn_ridge;
    }
    if !fold_in.sources.contains(&FoldInSource::Ratings) {
        fold_in.ratings = none.ratings;
    }
    if own.content == collab::Content::None {
        own.content_ridge = CollabSettings::default().content_ridge;
    }
    own
}

/// What `collab` reads.
pub struct CollabInputs<'a> {
    /// Items, users, interactions.
    pub tables: &'a Made<Dataset>,
    /// Training rows and histories.
    pub samples: &'a Made<Samples>,
    /// LightGCN embeddings, where features are made of them.
    pub colla: Option<&'a Made<Collaborative>>,
    /// Descriptions, where little known items are held by TF-IDF.
    pub described: Option<&'a Made<Descriptions>>,
    /// Text embeddings, where they are held by those.
    pub text: Option<&'a Made<Matrix>>,
    /// The fit, which the parts of the stage share.
    pub fitted: &'a OnceLock<CrossFit>,
}

impl CollabInputs<'_> {
    /// Whether the features are made of LightGCN's embeddings.
    pub fn reads_graph(recipe: &Recipe) -> bool {
        let collab = &recipe.collab;
        collab.wording != Wording::None && (collab.affinity || collab.fold_in.sources.contains(&FoldInSource::Lightgcn))
    }

    /// What is read of the items' words by a content prior: descriptions, embeddings.
    pub fn reads_words(recipe: &Recipe) -> [bool; 2] {
        let content =
            if recipe.collab.wording == Wording::None { collab::Content::None } else { recipe.collab.content };
        let both = content == collab::Content::Both;
        [both || content == collab::Content::Tfidf, both || content == collab::Content::Embedding]
    }

    fn fit(&self, wanted: &Wanted, monitor: &dyn Monitor) -> Result<&CrossFit> {
        if let Some(fitted) = self.fitted.get() {
            return Ok(fitted);
        }
        let dataset = self.tables.get()?;
        // Where nothing is made of the graph, its vectors have no length.
        let none = Collaborative {
            users: Matrix::zeros(dataset.users.len(), 0),
            items: Matrix::zeros(dataset.items.len(), 0),
        };
        let Collaborative { users, items } = self.colla.map_or(Ok(&none), Made::get)?;
        let words = text_vectors(dataset, self.described, self.text)?;
        let (samples, threshold, words) = (self.samples.get()?, wanted.threshold, words.as_ref());
        let sources = Sources { samples, threshold, users, items, words };
        let fitted = CrossFit::fit(&wanted.collab, sources, wanted.collab.seed, monitor)?
            .ok_or_else(|| Error::failed("collab", "no features were asked for"))?;
        Ok(self.fitted.get_or_init(|| fitted))
    }
}

impl Inputs for CollabInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([
            ("tables", Some(self.tables.content())),
            ("samples", Some(self.samples.content())),
            ("graph", self.colla.map(Made::content)),
            ("describe", self.described.map(Made::content)),
            ("text", self.text.map(Made::content)),
        ])
    }
}

/// Vectors of the items' words, where one of the two is there, or both are.
///
/// # Errors
/// Damaged artifacts.
pub fn text_vectors(
    dataset: &Dataset,
    described: Option<&Made<Descriptions>>,
    text: Option<&Made<Matrix>>,
) -> Result<Option<Arc<TextVectors>>> {
    let words = described.map(|described| Ok(words(dataset, Some(described.get()?)))).transpose()?;
    let found = match (words, text) {
        (Some(words), Some(text)) => TextVectors::of_both(words, text.get()?)?,
        (Some(words), None) => TextVectors::Words(words),
        (None, Some(text)) => TextVectors::of_embedding(text.get()?)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Arc::new(found)))
}

/// One row's features.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FeatureRow {
    set: Set,
    row: usize,
    features: CausalFeatures,
}

/// The features of rows.
#[derive(Default)]
pub struct Features {
    by_row: HashMap<(Set, usize), CausalFeatures>,
}

impl Features {
    /// Those of a row.
    pub fn of(&self, set: Set, row: usize) -> Option<&CausalFeatures> {
        self.by_row.get(&(set, row))
    }

    /// For tests: rows with a probability each.
    #[cfg(test)]
    pub fn of_rows(rows: impl IntoIterator<Item = (Set, usize, f64)>) -> Self {
        let half = crate::text::ratings::RatingSummary { liked: 0.5, stars: 3.0, count: 0 };
        let of = |p| CausalFeatures {
            item: half,
            user: half,
            global: 0.5,
            affinity: None,
            fold_in: [0.0; 2],
            like_texts: [0.0; 2],
            p,
        };
        Self { by_row: rows.into_iter().map(|(set, row, p)| ((set, row), of(p))).collect() }
    }

    /// What they alone say of a row.
    pub fn p(&self, set: Set, row: usize) -> Option<f64> {
        self.of(set, row).map(|f| f.p)
    }
}

const ROWS: &str = "features.jsonl";
/// The weight of each feature; `recommend` makes features of new rows with them.
const WEIGHTS: &str = "weights.json";

impl Stage for Collab {
    const ID: StageId = StageId::Collab;
    const VERSION: u32 = 2;
    type Settings<'r> = FeatureSettings;
    type Inputs<'a> = CollabInputs<'a>;
    type Output = Features;

    fn run(settings: &FeatureSettings, inputs: &CollabInputs<'_>, work: &Work<'_>) -> Result<()> {
        let mut file = RowFile::<FeatureRow>::anew(&work.folder.join(ROWS))?;
        let Some(wanted) = &settings.wanted else { return Ok(()) };
        let fitted = inputs.fit(wanted, work.monitor)?;
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let total = wanted.rows.len() as u64;
        for (n, &(set, row, at)) in wanted.rows.iter().enumerate() {
            if n % 256 == 0 {
                work.monitor.check()?;
            }
            let (sample, history) = (data.sample(row), data.history_at(row, at));
            let features = match set {
                Set::Tune => fitted.training_row(sample, &history),
                Set::Valid | Set::Test => fitted.new_row(sample.user, sample.item, &history),
            };
            file.append(&FeatureRow { set, row, features })?;
            work.monitor.progress(n as u64 + 1, total, "rows");
        }
        let json = serde_json::to_vec(fitted.weights()).map_err(|e| Error::failed(WEIGHTS, e))?;
        durable::write(&work.folder.join(WEIGHTS), &json)
    }

    fn load(artifact: &Artifact) -> Result<Features> {
        let rows: Vec<FeatureRow> = read_rows(&artifact.file(ROWS))?;
        Ok(Features { by_row: rows.into_iter().map(|r| ((r.set, r.row), r.features)).collect() })
    }
}

/// The fit for rows that are no training rows, with the weights of an artifact; `None` where the
/// recipe wants no features.
///
/// # Errors
/// Weights that cannot be read.
pub fn for_new_rows(
    recipe: &Recipe,
    data: DataOutput<'_>,
    colla: &Collaborative,
    words: Option<&Arc<TextVectors>>,
    artifact: &Artifact,
    monitor: &dyn Monitor,
) -> Result<Option<CrossFit>> {
    if recipe.collab.wording == Wording::None {
        return Ok(None);
    }
    let weights: Weights = artifact.json(WEIGHTS, "run the stage again: --from collab")?;
    let Collaborative { users, items } = colla;
    let sources = Sources { samples: data.samples, threshold: recipe.data.threshold(), users, items, words };
    CrossFit::for_new_rows(&unworded(recipe), sources, weights, monitor)
}
