//! What the stages of a run made, as those behind them and the report read it.

use super::baselines::FittedBaselines;
use super::data::DataOutput;
use super::experts::Opinions;
use super::graph::Collaborative;
use super::merge::MergeOutcome;
use super::predict::Predictions;
use super::rank::Ranked;
use super::reason::Reasoning;
use super::retrieve::Shown;
use crate::data::{Dataset, Samples};
use crate::error::Result;
use crate::events::StageId;
use crate::pipeline::chosen::ChosenRows;
use crate::pipeline::results::Section;
use crate::pipeline::stage::Made;
use crate::tensor::Matrix;

/// What `data` made.
pub struct DataMade {
    /// Users, items, interactions.
    pub tables: Made<Dataset>,
    /// Labelled rows with their histories.
    pub samples: Made<Samples>,
    /// Those that this run uses; none in a run of the graph stages alone.
    pub rows: ChosenRows,
    /// Why the graph stages alone make sense; `None` where all do.
    pub graph_only: Option<String>,
}

impl DataMade {
    /// Tables and samples.
    ///
    /// # Errors
    /// Damaged files.
    pub fn output(&self) -> Result<DataOutput<'_>> {
        Ok(DataOutput { dataset: self.tables.get()?, samples: self.samples.get()? })
    }
}

/// What `graph` made.
pub struct GraphMade {
    /// LightGCN's rows.
    pub colla: Made<Collaborative>,
    /// How well they and other rankers rank.
    pub ranked: Made<Ranked>,
    /// The chosen ranker, fitted for use.
    pub refit: Made<()>,
}

/// What `embed` made.
pub struct TextMade {
    /// As the recipe embeds.
    pub text: Made<Matrix>,
    /// Of the plain texts alone, where retrieval asks for them and they are another embedding.
    pub plain: Option<Made<Matrix>>,
}

/// Item embeddings of the three kinds that retrieval mixes.
#[derive(Clone, Copy)]
pub struct Embeddings<'a> {
    /// The language model's, of the texts.
    pub text: &'a TextMade,
    /// LightGCN's.
    pub colla: &'a Made<Collaborative>,
    /// Text embeddings behind the projector.
    pub ssl: &'a Made<Matrix>,
}

/// Artifacts of a stage that has one for the rows that are tuned on and one for those that are
/// scored.
pub struct ByUse<T> {
    /// Rows that tuning reads.
    pub tune: T,
    /// Rows that are merged and reported.
    pub score: T,
}

/// The same with the variants of the ablation table.
pub struct ByVariant<T> {
    /// Rows that tuning reads.
    pub tune: T,
    /// Rows that are merged and reported.
    pub score: T,
    /// Test rows in all variants.
    pub ablation: T,
    /// Rows that are merged and reported in other templates, for further runs of the tuned model.
    pub renderings: Option<T>,
}

/// What `predict` made.
pub struct Scores {
    /// The tuned model on the rows that are merged and reported.
    pub main: Made<Predictions>,
    /// Further runs of the tuned model on the same rows: other templates, other adapters.
    pub runs: Vec<Made<Predictions>>,
    /// The tuned model on the ablation's rows.
    pub ablation: Made<Predictions>,
    /// The untuned model.
    pub zero_shot: Made<Predictions>,
    /// What files of other programs say, where the recipe names any.
    pub experts: Option<Made<Opinions>>,
}

/// How far a run came.
pub enum Reached {
    /// Through all stages.
    All(Box<AllMade>),
    /// Through those that its data allows: the graph is trained and its ranking measured.
    Graph(Box<GraphOnly>),
    /// To the stage that `--until` names.
    Until(Box<SoFar>),
}

/// What a run made that ended at the stage that `--until` names, as far as others look at it.
pub struct SoFar {
    /// `data`.
    pub data: DataMade,
    /// `predict`.
    pub scores: Option<Scores>,
    /// `reason`.
    pub reasoning: Option<Made<Reasoning>>,
    /// `merge`.
    pub merged: Option<Made<MergeOutcome>>,
}

/// A run of the graph stages alone.
pub struct GraphOnly {
    /// How well the graph ranks.
    pub ranked: Made<Ranked>,
    /// Why there is no more.
    pub why: String,
    /// The stages that were left out.
    pub left_out: Vec<StageId>,
}

/// A run that went through all stages.
pub struct AllMade {
    /// `data`.
    pub data: DataMade,
    /// How well the graph ranks.
    pub ranked: Made<Ranked>,
    /// `retrieve`.
    pub shown: ByVariant<Made<Vec<Shown>>>,
    /// `predict`.
    pub scores: Scores,
    /// `reason`.
    pub reasoning: Made<Reasoning>,
    /// `merge`.
    pub merged: Made<MergeOutcome>,
    /// Baselines that are fitted beside the tables.
    pub baselines: Made<FittedBaselines>,
    /// `evaluate`.
    pub tables: Made<Vec<Section>>,
}
