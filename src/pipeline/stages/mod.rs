//! The stages, one file each, and their chain: which recipe keys each one sees, what it reads, and
//! the order in which they run. What a stage sees and reads stands at the top of its file.

pub mod align;
pub mod baselines;
pub mod collab;
pub mod data;
pub mod describe;
pub mod embed;
pub mod evaluate;
pub mod experts;
pub mod graph;
mod made;
pub mod merge;
pub mod predict;
pub mod prompts;
pub mod rank;
pub mod reason;
pub mod refit;
pub mod retrieve;
pub mod spoil;
pub mod tune;

use std::sync::OnceLock;

use self::align::{Align, AlignInputs};
use self::baselines::{BaselinesInputs, BaselinesSettings, FitBaselines, FittedBaselines};
use self::collab::{Collab, CollabInputs, FeatureSettings, Features};
use self::data::{Raw, SampleRows, Tables, samples_settings, tables_settings};
use self::describe::{Describe, DescribeInputs, DescribeSettings};
use self::embed::{Embed, EmbedInputs, EmbedSettings};
use self::evaluate::{Evaluate, EvaluateInputs, EvaluateSettings};
use self::experts::{ExpertInputs, ExpertSettings, Experts};
use self::graph::{Collaborative, Graph, GraphInputs, GraphSettings};
use self::merge::{Merge, MergeInputs, MergeOutcome};
use self::predict::{Predict, PredictInputs, PredictSettings, Predictions};
use self::prompts::{PromptRows, Prompts, PromptsInputs, PromptsSettings};
use self::rank::{Rank, RankInputs, RankSettings, RankersSeen};
use self::reason::reward::{RewardInputs, RewardSettings, TuneByReward};
use self::reason::{Reason, ReasonInputs, ReasonSettings, Reasoning};
use self::refit::{Refit, RefitInputs, RefitSettings};
use self::retrieve::{Retrieve, RetrieveInputs, RetrieveSettings, Shown};
use self::spoil::{Spoil, SpoilInputs, SpoilSettings};
use self::tune::{Tune, TuneInputs, TuneSettings, Tuned};
use super::chosen::ChosenRows;
use super::finished::Finished;
use super::run::{Entered, Run};
use super::soft::SoftFrom;
use super::stage::Made;
use crate::collab::CrossFit;
use crate::config::{DescribeSource, Recipe, TunedBy};
use crate::data::{Dataset, Descriptions, GraphEdges, Part, Repeats, leaks};
use crate::device::{Choice, Device};
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::lm::{Facets, Options, Source};
use crate::merge::Expert;
use crate::monitor::Monitor;
use crate::retrieval::Embedding;
use crate::tensor::Matrix;

pub use self::made::{
    AllMade, ByUse, ByVariant, DataMade, Embeddings, GraphMade, GraphOnly, Reached, Scores, SoFar, TextMade,
};

/// The stages of one recipe in one run folder. Every method finds or makes one stage.
pub struct Chain<'a> {
    run: &'a Run,
    recipe: &'a Recipe,
    device: &'a Device,
    writer: Source,
    /// `None`: the writer.
    reasoner: Option<Source>,
    /// `None`: the writer.
    embedder: Option<Source>,
    fitted: OnceLock<CrossFit>,
}

impl<'a> Chain<'a> {
    /// Nothing is read or loaded yet.
    pub fn new(run: &'a Run, recipe: &'a Recipe, device: &'a Device) -> Self {
        let options = Options {
            dtype: recipe.model.dtype,
            arithmetic: recipe.model.arithmetic,
            on_cpu: matches!(recipe.device, Choice::Auto | Choice::Cpu),
            date: recipe.prompt.date.clone(),
            control_tokens_in_data: recipe.prompt.control_tokens_in_data,
            answers: [recipe.predict.yes.clone(), recipe.predict.no.clone()],
        };
        let other = |spec: &String| (!spec.is_empty()).then(|| Source::new(spec, options.clone()));
        Self {
            run,
            recipe,
            device,
            reasoner: other(&recipe.model.reasoning),
            embedder: other(&recipe.model.embedding),
            writer: Source::new(&recipe.model.path, options),
            fitted: OnceLock::new(),
        }
    }

    /// The model that writes and is tuned, and embeds unless another one does.
    pub fn writer(&self) -> &Source {
        &self.writer
    }

    /// The same, when the chain is needed no more.
    pub fn into_writer(self) -> Source {
        self.writer
    }

    /// `data`, its leak checks and the choice of rows.
    ///
    /// # Errors
    /// As every method here: those of the stage.
    pub fn data(&self) -> Result<DataMade> {
        let recipe = self.recipe;
        let mut stage = self.run.enter(StageId::Data, self.device);
        // A finished run is read wherever its raw data is now, or without it.
        let tables = if self.run.is_read_only() {
            Finished::open(self.run.folder())?.data()?.0
        } else {
            stage.part::<Tables>("tables", &tables_settings(recipe), &Raw::of(recipe, self.run.reporter()))?
        };
        let samples = stage.part::<SampleRows>("samples", &samples_settings(recipe), &&tables)?;
        stage.finish();
        let selection = if recipe.tune.select_on_test { Part::Test } else { Part::Valid };
        let allowed = leaks::Allowed {
            target_in_history: recipe.data.repeats == Repeats::Keep,
            later_edges: recipe.graph.edges == GraphEdges::LeaveOneOut,
            selection_on_test: recipe.tune.select_on_test,
        };
        let inputs = leaks::Inputs { samples: samples.get()?, edges: None, selection: Some(selection), allowed };
        leaks::check(inputs, self.run.reporter())?;
        let graph_only = graph_only(recipe, tables.get()?);
        let rows = match &graph_only {
            Some(_) => ChosenRows::none(),
            None => ChosenRows::of(samples.get()?, recipe)?,
        };
        if graph_only.is_none() {
            for fewer in rows.fewer(recipe) {
                let next = "lower it, use more data, or set rows.pool = 0; nothing is to be done if that is enough";
                self.run.reporter().warn(&fewer.to_string(), next);
            }
        }
        Ok(DataMade { tables, samples, rows, graph_only })
    }

    /// `describe`.
    pub fn describe(&self, data: &DataMade) -> Result<Made<Descriptions>> {
        let source = self.recipe.describe.source;
        let file = self.recipe.describe.file.as_deref().filter(|_| source == DescribeSource::File);
        let model = (source == DescribeSource::Model).then(|| self.writer.view(Facets::ANSWERS));
        let inputs = DescribeInputs { tables: &data.tables, model, file };
        let mut stage = self.run.enter(StageId::Describe, self.device);
        let described = stage.part::<Describe>("", &DescribeSettings::of(self.recipe), &inputs)?;
        let described = match SpoilSettings::of(self.recipe) {
            Some(settings) => {
                let inputs = SpoilInputs { tables: &data.tables, described: &described };
                stage.part::<Spoil>("spoiled", &settings, &inputs)?
            }
            None => described,
        };
        stage.finish();
        Ok(described)
    }

    /// `embed`.
    pub fn embed(&self, data: &DataMade, descriptions: &Made<Descriptions>) -> Result<TextMade> {
        let settings = EmbedSettings::of(self.recipe);
        let inputs = |reads: bool| EmbedInputs {
            tables: &data.tables,
            descriptions: reads.then_some(descriptions),
            model: self.embedder.as_ref().unwrap_or(&self.writer).view(Facets::EMBEDS),
        };
        let described = settings.reads_descriptions();
        let mut stage = self.run.enter(StageId::Embed, self.device);
        let text = stage.part::<Embed>("", &settings, &inputs(described))?;
        let plain = (described && self.recipe.retrieve.embedding == Embedding::Txt)
            .then(|| stage.part::<Embed>("plain", &settings.plain(), &inputs(false)))
            .transpose()?;
        stage.finish();
        Ok(TextMade { text, plain })
    }

    /// `graph`, with the measure of its ranking and of others', and the chosen ranker for use.
    pub fn ranked_graph(&self, data: &DataMade) -> Result<GraphMade> {
        let mut stage = self.run.enter(StageId::Graph, self.device);
        let inputs = GraphInputs { tables: &data.tables, samples: &data.samples };
        let colla = stage.part::<Graph>("", &GraphSettings::of(self.recipe), &inputs)?;
        let inputs = RankInputs { tables: &data.tables, samples: &data.samples, colla: &colla };
        let rankers = RankersSeen(&self.recipe.recommend);
        let settings = RankSettings { threshold: self.recipe.data.threshold(), rankers };
        let ranked = stage.part::<Rank>("ranking", &settings, &inputs)?;
        let inputs = RefitInputs { tables: &data.tables, samples: &data.samples, ranked: &ranked };
        let refit = stage.part::<Refit>("rankers", &RefitSettings::of(self.recipe), &inputs)?;
        stage.finish();
        Ok(GraphMade { colla, ranked, refit })
    }

    /// `align`.
    pub fn align(&self, text: &TextMade, colla: &Made<Collaborative>) -> Result<Made<Matrix>> {
        self.run.stage::<Align>(&align::settings(self.recipe), &AlignInputs { text: &text.text, colla }, self.device)
    }

    /// `collab`.
    pub fn collab(
        &self,
        data: &DataMade,
        described: &Made<Descriptions>,
        from: Embeddings<'_>,
    ) -> Result<ByUse<Made<Features>>> {
        let [words, embeddings] = CollabInputs::reads_words(self.recipe);
        let inputs = CollabInputs {
            tables: &data.tables,
            samples: &data.samples,
            colla: CollabInputs::reads_graph(self.recipe).then_some(from.colla),
            described: words.then_some(described),
            text: embeddings.then_some(&from.text.text),
            fitted: &self.fitted,
        };
        let mut stage = self.run.enter(StageId::Collab, self.device);
        let settings = FeatureSettings::of(self.recipe, &data.rows.tuned(self.recipe));
        let tune = stage.part::<Collab>("tune", &settings, &inputs)?;
        let settings = FeatureSettings::of(self.recipe, &data.rows.scored());
        let score = stage.part::<Collab>("score", &settings, &inputs)?;
        stage.finish();
        Ok(ByUse { tune, score })
    }

    /// `retrieve`.
    pub fn retrieve(&self, data: &DataMade, from: Embeddings<'_>) -> Result<ByVariant<Made<Vec<Shown>>>> {
        let mut stage = self.run.enter(StageId::Retrieve, self.device);
        let mut part = |name: &'static str, rows| {
            let settings = RetrieveSettings::of(self.recipe, rows);
            let inputs = retrieve_inputs(&settings, data, from);
            stage.part::<Retrieve>(name, &settings, &inputs)
        };
        let tune = part("tune", data.rows.tuned(self.recipe))?;
        let score = part("score", data.rows.scored())?;
        let ablation = part(
            "ablation",
            data.rows.ablation(self.recipe.predict.ablation_rows, &self.recipe.predict.more_histories),
        )?;
        let templates = &self.recipe.predict.renderings;
        let renderings =
            (!templates.is_empty()).then(|| part("renderings", data.rows.rendered(templates))).transpose()?;
        stage.finish();
        Ok(ByVariant { tune, score, ablation, renderings })
    }

    /// `prompts`.
    pub fn prompts(
        &self,
        data: &DataMade,
        shown: &ByVariant<Made<Vec<Shown>>>,
        features: &ByUse<Made<Features>>,
        from: Embeddings<'_>,
    ) -> Result<ByVariant<Made<PromptRows>>> {
        let settings = PromptsSettings::of(self.recipe);
        let mut stage = self.run.enter(StageId::Prompts, self.device);
        let mut part = |name: &'static str, shown, features| {
            let inputs = PromptsInputs {
                tables: &data.tables,
                samples: &data.samples,
                shown,
                features: settings.speaks().then_some(features),
                soft: SoftFrom::of(settings.soft(), &from.text.text, from.colla, from.ssl),
                model: self.writer.view(Facets::COUNTED),
                file: settings.file(),
            };
            stage.part::<Prompts>(name, &settings, &inputs)
        };
        let tune = part("tune", &shown.tune, &features.tune)?;
        let score = part("score", &shown.score, &features.score)?;
        let ablation = part("ablation", &shown.ablation, &features.score)?;
        let renderings =
            (shown.renderings.as_ref()).map(|shown| part("renderings", shown, &features.score)).transpose()?;
        stage.finish();
        Ok(ByVariant { tune, score, ablation, renderings })
    }

    /// `tune`.
    pub fn tune(&self, prompts: &ByVariant<Made<PromptRows>>, features: &ByUse<Made<Features>>) -> Result<Made<Tuned>> {
        let features = self.added_to(&features.tune);
        let inputs = TuneInputs { prompts: &prompts.tune, features, model: self.writer.view(Facets::LEARNS) };
        let tuned = self.run.stage::<Tune>(&TuneSettings::of(self.recipe), &inputs, self.device)?;
        if self.run.is_read_only() {
            // An adapter means something beside the weights that it was tuned with alone.
            let recipe = self.run.folder().join("recipe.toml");
            let next = format!(
                "bring the model of the run to the machine and set model.path in {} to it: it is known by what its \
                 files hold; what needs no model goes on without it",
                recipe.display()
            );
            let here = inputs.model.identity().map_err(|e| e.within("the tuned model").next(&next))?;
            if tuned.artifact().manifest.input("model") != Some(&here) {
                let what = "is another model than the run tuned";
                return Err(Error::input(self.writer.spec(), what).next(next));
            }
        }
        Ok(tuned)
    }

    /// What the tuned model says of the rows that are merged and reported: a part of `predict`.
    pub fn tuned_answers(
        &self,
        prompts: &ByVariant<Made<PromptRows>>,
        features: &ByUse<Made<Features>>,
        tuned: &Made<Tuned>,
    ) -> Result<Made<Predictions>> {
        let model = self.writer.view(Facets::ANSWERS);
        let features = self.added_to(&features.score);
        let inputs = PredictInputs { prompts: &prompts.score, tuned: Some(tuned), features, model };
        let mut stage = self.run.enter(StageId::Predict, self.device);
        let made = stage.part::<Predict>("score", &PredictSettings::tuned(self.recipe), &inputs)?;
        stage.finish();
        Ok(made)
    }

    /// The features, where the tuned model learns what they do not say.
    fn added_to<'b>(&self, features: &'b Made<Features>) -> Option<&'b Made<Features>> {
        self.recipe.tune.residual.then_some(features)
    }

    /// `tune` with the further adapters of `tune.more_seeds`, the recipe's own first.
    pub fn tune_all(
        &self,
        prompts: &ByVariant<Made<PromptRows>>,
        features: &ByUse<Made<Features>>,
    ) -> Result<Vec<Made<Tuned>>> {
        let features = self.added_to(&features.tune);
        let inputs = TuneInputs { prompts: &prompts.tune, features, model: self.writer.view(Facets::LEARNS) };
        let mut stage = self.run.enter(StageId::Tune, self.device);
        let mut tuned = vec![stage.part::<Tune>("", &TuneSettings::of(self.recipe), &inputs)?];
        for &seed in &self.recipe.tune.more_seeds {
            let settings = TuneSettings::of(self.recipe).with_seed(seed);
            tuned.push(stage.part::<Tune>("more", &settings, &inputs)?);
        }
        stage.finish();
        Ok(tuned)
    }

    /// `predict`. Of the adapters the first is the recipe's own.
    pub fn predict(
        &self,
        data: &DataMade,
        prompts: &ByVariant<Made<PromptRows>>,
        features: &ByUse<Made<Features>>,
        tuned: &[Made<Tuned>],
    ) -> Result<Scores> {
        let features = self.added_to(&features.score);
        let (tuned, more) = tuned.split_first().ok_or_else(|| Error::failed("predict", "there is no tuned model"))?;
        let model = self.writer.view(Facets::ANSWERS);
        let with = |prompts, tuned: Option<_>| {
            let features = features.filter(|_| tuned.is_some());
            PredictInputs { prompts, tuned, features, model }
        };
        let settings = PredictSettings::tuned(self.recipe);
        let mut stage = self.run.enter(StageId::Predict, self.device);
        let main = stage.part::<Predict>("score", &settings, &with(&prompts.score, Some(tuned)))?;
        let ablation = stage.part::<Predict>("ablation", &settings, &with(&prompts.ablation, Some(tuned)))?;
        let mut runs = Vec::new();
        if let Some(prompts) = &prompts.renderings {
            runs.push(stage.part::<Predict>("renderings", &settings, &with(prompts, Some(tuned)))?);
        }
        for other in more {
            runs.push(stage.part::<Predict>("more", &settings, &with(&prompts.score, Some(other)))?);
        }
        let settings = PredictSettings::zero_shot(self.recipe);
        let zero_shot = stage.part::<Predict>("zero_shot", &settings, &with(&prompts.score, None))?;
        let files = &self.recipe.experts;
        let inputs = ExpertInputs { tables: &data.tables, samples: &data.samples, files };
        let settings = ExpertSettings::of(self.recipe, &data.rows);
        let experts = (!files.is_empty()).then(|| stage.part::<Experts>("experts", &settings, &inputs)).transpose()?;
        stage.finish();
        Ok(Scores { main, runs, ablation, zero_shot, experts })
    }

    /// `reason`.
    pub fn reason(
        &self,
        data: &DataMade,
        prompts: &ByVariant<Made<PromptRows>>,
        tuned: &[Made<Tuned>],
        scores: &Scores,
    ) -> Result<Made<Reasoning>> {
        let model = self.reasoner.as_ref().unwrap_or(&self.writer).view(Facets::ANSWERS);
        let mut stage = self.run.enter(StageId::Reason, self.device);
        let by_reward = match self.recipe.reason.tuned_by {
            TunedBy::Reward => {
                let model = self.reasoner.as_ref().unwrap_or(&self.writer).view(Facets::LEARNS);
                let inputs = RewardInputs { prompts: &prompts.tune, model };
                Some(stage.part::<TuneByReward>("tuned", &RewardSettings::of(self.recipe), &inputs)?)
            }
            TunedBy::Nothing | TunedBy::Answer => None,
        };
        let by_answer = tuned.first().filter(|_| self.recipe.reason.tuned_by == TunedBy::Answer);
        let inputs = ReasonInputs {
            tables: &data.tables,
            samples: &data.samples,
            prompts: &prompts.score,
            others: self.recipe.reason.without_retrieval.then_some(&prompts.ablation),
            predictions: self.recipe.reason.hint.then_some(&scores.main),
            model,
            tuned: by_reward.as_ref().or(by_answer),
        };
        let made = stage.part::<Reason>("", &ReasonSettings::of(self.recipe), &inputs)?;
        stage.finish();
        Ok(made)
    }

    /// `merge`.
    pub fn merge(
        &self,
        scores: &Scores,
        reasoning: &Made<Reasoning>,
        features: &ByUse<Made<Features>>,
    ) -> Result<Made<MergeOutcome>> {
        let expert = self.recipe.merge.experts.contains(&Expert::Collaborative);
        let features = expert.then_some(&features.score);
        let outside = self.recipe.merge.experts.iter().any(|expert| matches!(expert, Expert::Outside(_)));
        let experts = scores.experts.as_ref().filter(|_| outside);
        let runs = scores.runs.iter().collect();
        let inputs = MergeInputs { predictions: &scores.main, runs, reasoning, features, experts };
        self.run.stage::<Merge>(&&self.recipe.merge, &inputs, self.device)
    }

    /// The baselines of `evaluate`.
    fn baselines(
        &self,
        stage: &mut Entered<'_>,
        data: &DataMade,
        described: &Made<Descriptions>,
    ) -> Result<Made<FittedBaselines>> {
        let inputs = BaselinesInputs { tables: &data.tables, samples: &data.samples, descriptions: described };
        stage.part::<FitBaselines>("baselines", &BaselinesSettings::of(self.recipe, &data.rows), &inputs)
    }

    /// All stages in order. `aside` receives what can be shown on the way.
    ///
    /// # Errors
    /// Those of the stages.
    pub fn all(&self, aside: &dyn Aside) -> Result<Reached> {
        self.behind(self.data()?, aside)
    }

    /// All stages behind `data` in order. `aside` receives what can be shown on the way.
    ///
    /// # Errors
    /// Those of the stages.
    pub fn behind(&self, data: DataMade, aside: &dyn Aside) -> Result<Reached> {
        let mut made = SoFar { data, scores: None, reasoning: None, merged: None };
        // Each ends the run as soon as the next stage lies beyond `--until`.
        macro_rules! unless_beyond {
            ($stage:expr) => {
                if self.run.is_beyond($stage) {
                    return Ok(Reached::Until(Box::new(made)));
                }
            };
        }
        unless_beyond!(StageId::Describe);
        if let Some(why) = made.data.graph_only.clone() {
            return self.graph_only(made, &why, aside);
        }
        if !self.run.is_beyond(StageId::Tune) {
            // Said now, and not after the hours that lie before the tuning.
            crate::data::two_classes(made.data.samples.get()?)?;
        }
        let described = self.describe(&made.data)?;
        aside.described(&described)?;
        unless_beyond!(StageId::Embed);
        let text = self.embed(&made.data, &described)?;
        unless_beyond!(StageId::Graph);
        let GraphMade { colla, ranked, .. } = self.ranked_graph(&made.data)?;
        unless_beyond!(StageId::Align);
        let ssl = self.align(&text, &colla)?;
        let from = Embeddings { text: &text, colla: &colla, ssl: &ssl };
        aside.embedded(&made.data, from)?;
        unless_beyond!(StageId::Collab);
        let features = self.collab(&made.data, &described, from)?;
        unless_beyond!(StageId::Retrieve);
        let shown = self.retrieve(&made.data, from)?;
        aside.retrieved(&made.data, &shown)?;
        unless_beyond!(StageId::Prompts);
        let prompts = self.prompts(&made.data, &shown, &features, from)?;
        unless_beyond!(StageId::Tune);
        let tuned = self.tune_all(&prompts, &features)?;
        unless_beyond!(StageId::Predict);
        let scores = made.scores.insert(self.predict(&made.data, &prompts, &features, &tuned)?);
        unless_beyond!(StageId::Reason);
        let reasoning = made.reasoning.insert(self.reason(&made.data, &prompts, &tuned, scores)?);
        unless_beyond!(StageId::Merge);
        made.merged = Some(self.merge(scores, reasoning, &features)?);
        unless_beyond!(StageId::Evaluate);
        let SoFar { data, scores: Some(scores), reasoning: Some(reasoning), merged: Some(merged) } = made else {
            return Err(Error::failed("evaluate", "a stage before it was not done"));
        };
        let mut stage = self.run.enter(StageId::Evaluate, self.device);
        let baselines = self.baselines(&mut stage, &data, &described)?;
        let inputs = EvaluateInputs {
            tables: &data.tables,
            samples: &data.samples,
            colla: &colla,
            features: &features.score,
            baselines: &baselines,
            main: &scores.main,
            ablation: &scores.ablation,
            zero_shot: &scores.zero_shot,
            experts: scores.experts.as_ref(),
            reasoning: &reasoning,
            merged: &merged,
        };
        let tables = stage.part::<Evaluate>("", &EvaluateSettings::of(self.recipe), &inputs)?;
        stage.finish();
        Ok(Reached::All(Box::new(AllMade { data, ranked, shown, scores, reasoning, merged, baselines, tables })))
    }

    /// The stages that need no Yes and No: `data` and `graph`; those of the items' words too where
    /// `--until` names one of them.
    fn graph_only(&self, made: SoFar, why: &str, aside: &dyn Aside) -> Result<Reached> {
        let data = &made.data;
        let last = self.run.until().unwrap_or(StageId::Evaluate);
        let titled = data.tables.get()?.items.iter().any(|item| !item.title.trim().is_empty());
        let done = without_answers(self.run.until(), titled);
        let left_out: Vec<StageId> = StageId::ALL.into_iter().filter(|stage| !done.contains(stage)).collect();
        let asked = left_out.iter().filter(|stage| **stage <= last).map(|stage| stage.name());
        let asked: Vec<&str> = asked.collect();
        if !asked.is_empty() {
            self.run.reporter().line().line(&format!("{why}: {} are left out", asked.join(", ")));
        }
        let text = if done.contains(&StageId::Describe) {
            let described = self.describe(data)?;
            aside.described(&described)?;
            done.contains(&StageId::Embed).then(|| self.embed(data, &described)).transpose()?
        } else {
            None
        };
        if !done.contains(&StageId::Graph) {
            return Ok(Reached::Until(Box::new(made)));
        }
        let GraphMade { colla, ranked, .. } = self.ranked_graph(data)?;
        if let Some(text) = text.filter(|_| done.contains(&StageId::Align)) {
            let ssl = self.align(&text, &colla)?;
            aside.embedded(data, Embeddings { text: &text, colla: &colla, ssl: &ssl })?;
        }
        Ok(Reached::Graph(Box::new(GraphOnly { ranked, why: why.to_owned(), left_out })))
    }
}

/// The stages of a log without ratings: those of the items' words, where there are `titles`, only
/// if the run is to end in one of them.
pub fn without_answers(until: Option<StageId>, titles: bool) -> Vec<StageId> {
    let words = [StageId::Describe, StageId::Embed, StageId::Align];
    let wanted = titles && until.is_some_and(|last| words.contains(&last));
    let own = |stage: &StageId| matches!(stage, StageId::Data | StageId::Graph) || (wanted && words.contains(stage));
    StageId::ALL.into_iter().filter(|stage| until.is_none_or(|last| *stage <= last)).filter(own).collect()
}

/// Why the stages that ask for Yes or No, or read words, cannot be: `None` where they can.
fn graph_only(recipe: &Recipe, dataset: &Dataset) -> Option<String> {
    if recipe.data.is_implicit() {
        return Some("the log has no ratings, so there is no Yes and No to tell apart".into());
    }
    let untitled = dataset.items.iter().all(|item| item.title.trim().is_empty());
    untitled.then(|| format!("no item of {} has a title, so there are no words to ask about", dataset.name))
}

/// The embeddings that a part of `retrieve` looks its rows up by.
fn retrieve_inputs<'b>(settings: &RetrieveSettings, data: &'b DataMade, from: Embeddings<'b>) -> RetrieveInputs<'b> {
    let embeddings = settings.embeddings();
    let any = |wanted: &[Embedding]| embeddings.iter().any(|e| wanted.contains(e));
    let mixed = [Embedding::Mix, Embedding::Mix2, Embedding::Mix3, Embedding::Hybrid];
    let plain = from.text.plain.as_ref().unwrap_or(&from.text.text);
    RetrieveInputs {
        tables: &data.tables,
        samples: &data.samples,
        plain: any(&[Embedding::Txt]).then_some(plain),
        text: (any(&[Embedding::Text]) || any(&mixed)).then_some(&from.text.text),
        colla: (any(&[Embedding::Colla]) || any(&mixed) || settings.borrows()).then_some(from.colla),
        ssl: any(&[Embedding::Mix3]).then_some(from.ssl),
    }
}

/// What is done with results on the way, beside the stages.
pub trait Aside {
    /// Descriptions are there.
    ///
    /// # Errors
    /// Those of the implementation, here and below.
    fn described(&self, described: &Made<Descriptions>) -> Result<()>;
    /// Item embeddings are there.
    fn embedded(&self, data: &DataMade, from: Embeddings<'_>) -> Result<()>;
    /// Histories are chosen.
    fn retrieved(&self, data: &DataMade, shown: &ByVariant<Made<Vec<Shown>>>) -> Result<()>;
}

/// Nobody looks at results on the way.
pub struct Unseen;

impl Aside for Unseen {
    fn described(&self, _: &Made<Descriptions>) -> Result<()> {
        Ok(())
    }
    fn embedded(&self, _: &DataMade, _: Embeddings<'_>) -> Result<()> {
        Ok(())
    }
    fn retrieved(&self, _: &DataMade, _: &ByVariant<Made<Vec<Shown>>>) -> Result<()> {
        Ok(())
    }
}
