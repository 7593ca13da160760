//! The chain of stages: which recipe keys each one sees, what it reads, and the order in which they
//! run.

use std::sync::OnceLock;

use rallrec_events::{Event, StageId};

use super::artifact::write_atomically;
use super::chosen::ChosenRows;
use super::examples;
use super::machine;
use super::results::{Results, Section};
use super::run::Run;
use super::scatter;
use super::soft::SoftFrom;
use super::stage::Made;
use super::stages::align::{Align, AlignInputs};
use super::stages::collab::{Collab, CollabInputs, FeatureSettings, Features};
use super::stages::data::{DataOutput, Raw, SampleRows, Tables, samples_settings, tables_settings};
use super::stages::describe::{Describe, DescribeInputs, DescribeSettings};
use super::stages::embed::{Embed, EmbedInputs, EmbedSettings};
use super::stages::evaluate::{Evaluate, EvaluateInputs, EvaluateSettings};
use super::stages::graph::{Collaborative, Graph, GraphInputs};
use super::stages::merge::{Merge, MergeInputs, MergeOutcome};
use super::stages::predict::{Predict, PredictInputs, PredictSettings, Predictions};
use super::stages::prompts::{PromptRows, Prompts, PromptsInputs, PromptsSettings};
use super::stages::reason::{Reason, ReasonInputs, ReasonSettings, Reasoning};
use super::stages::retrieve::{Retrieve, RetrieveInputs, RetrieveSettings, Shown};
use super::stages::tune::{Tune, TuneInputs, TuneSettings, Tuned};
use crate::collab::CrossFit;
use crate::config::{self, DescribeSource, Recipe};
use crate::data::{self, Dataset, Descriptions, GraphEdges, Kind as DataKind, Part, Samples, leaks};
use crate::device::{Choice, Device};
use crate::error::{Error, Kind, Result};
use crate::lm::{Facets, Options, Source};
use crate::merge::Expert;
use crate::monitor::Monitor;
use crate::retrieval::Embedding;
use crate::tensor::Matrix;

/// The stages of one recipe in one run folder. Every method finds or makes one stage.
pub struct Chain<'a> {
    run: &'a Run,
    recipe: &'a Recipe,
    device: &'a Device,
    writer: Source,
    /// `None`: the writer.
    reasoner: Option<Source>,
    fitted: OnceLock<CrossFit>,
}

/// What `data` made.
pub struct DataMade {
    /// Users, items, interactions.
    pub tables: Made<Dataset>,
    /// Labelled rows with their histories.
    pub samples: Made<Samples>,
    /// Those that this run uses.
    pub rows: ChosenRows,
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

/// What `embed` made.
pub struct TextMade {
    /// As the recipe embeds.
    pub text: Made<Matrix>,
    /// Of the plain texts alone, where retrieval asks for them and they are another embedding.
    pub plain: Option<Made<Matrix>>,
}

/// The item embeddings.
#[derive(Clone, Copy)]
pub struct Embeddings<'a> {
    /// Of texts.
    pub text: &'a TextMade,
    /// LightGCN's.
    pub colla: &'a Made<Collaborative>,
    /// Aligned texts.
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
}

/// What `predict` made.
pub struct Scores {
    /// The tuned model on the rows that are merged and reported.
    pub main: Made<Predictions>,
    /// The tuned model on the ablation's rows.
    pub ablation: Made<Predictions>,
    /// The untuned model.
    pub zero_shot: Made<Predictions>,
}

/// A run that went through all stages.
pub struct AllMade {
    /// `data`.
    pub data: DataMade,
    /// `retrieve`.
    pub shown: ByVariant<Made<Vec<Shown>>>,
    /// `predict`.
    pub scores: Scores,
    /// `reason`.
    pub reasoning: Made<Reasoning>,
    /// `merge`.
    pub merged: Made<MergeOutcome>,
    /// `evaluate`.
    pub tables: Made<Vec<Section>>,
}

impl<'a> Chain<'a> {
    /// Nothing is read or loaded yet.
    pub fn new(run: &'a Run, recipe: &'a Recipe, device: &'a Device) -> Self {
        let options = Options {
            dtype: recipe.model.dtype,
            arithmetic: recipe.model.arithmetic,
            on_cpu: matches!(recipe.device, Choice::Auto | Choice::Cpu),
            date: recipe.prompt.date.clone(),
            answers: [recipe.predict.yes.clone(), recipe.predict.no.clone()],
        };
        let other = Some(&recipe.model.reasoning).filter(|spec| !spec.is_empty());
        Self {
            run,
            recipe,
            device,
            reasoner: other.map(|spec| Source::new(spec, options.clone())),
            writer: Source::new(&recipe.model.path, options),
            fitted: OnceLock::new(),
        }
    }

    /// The model that writes, embeds and is tuned.
    pub fn writer(&self) -> &Source {
        &self.writer
    }

    /// `data`, its leak checks and the choice of rows.
    ///
    /// # Errors
    /// As every method here: those of the stage.
    pub fn data(&self) -> Result<DataMade> {
        let recipe = self.recipe;
        let raw = (recipe.data.kind != DataKind::SYNTHETIC).then_some(recipe.data.path.as_path());
        let mut stage = self.run.enter(StageId::Data, self.device);
        let tables = stage.part::<Tables>("tables", &tables_settings(recipe), &Raw(raw))?;
        let samples = stage.part::<SampleRows>("samples", &samples_settings(recipe), &&tables)?;
        stage.finish();
        let selection = if recipe.tune.select_on_test { Part::Test } else { Part::Valid };
        let allowed = leaks::Allowed {
            target_in_history: recipe.data.repeats == data::Repeats::Keep,
            later_edges: recipe.graph.edges == GraphEdges::LeaveOneOut,
            selection_on_test: recipe.tune.select_on_test,
        };
        let inputs = leaks::Inputs { samples: samples.get()?, edges: None, selection: Some(selection), allowed };
        leaks::check(inputs, self.run.reporter())?;
        let rows = ChosenRows::of(samples.get()?, recipe)?;
        for fewer in rows.fewer(recipe) {
            let next = "lower it, use more data, or set rows.pool = 0; nothing is to be done if that is enough";
            self.run.reporter().warn(&fewer.to_string(), next);
        }
        Ok(DataMade { tables, samples, rows })
    }

    /// `describe`.
    pub fn describe(&self, data: &DataMade) -> Result<Made<Descriptions>> {
        let source = self.recipe.describe.source;
        let file = self.recipe.describe.file.as_deref().filter(|_| source == DescribeSource::File);
        let model = (source == DescribeSource::Model).then(|| self.writer.view(Facets::ANSWERS));
        let inputs = DescribeInputs { tables: &data.tables, model, file };
        self.run.stage::<Describe>(&DescribeSettings::of(self.recipe), &inputs, self.device)
    }

    /// `embed`.
    pub fn embed(&self, data: &DataMade, descriptions: &Made<Descriptions>) -> Result<TextMade> {
        let settings = EmbedSettings::of(self.recipe);
        let inputs = |reads: bool| EmbedInputs {
            tables: &data.tables,
            descriptions: reads.then_some(descriptions),
            model: self.writer.view(Facets::EMBEDS),
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

    /// `graph`.
    pub fn graph(&self, data: &DataMade) -> Result<Made<Collaborative>> {
        let inputs = GraphInputs { tables: &data.tables, samples: &data.samples };
        self.run.stage::<Graph>(&&self.recipe.graph, &inputs, self.device)
    }

    /// `align`.
    pub fn align(&self, text: &TextMade, colla: &Made<Collaborative>) -> Result<Made<Matrix>> {
        self.run.stage::<Align>(&&self.recipe.align, &AlignInputs { text: &text.text, colla }, self.device)
    }

    /// `collab`.
    pub fn collab(&self, data: &DataMade, colla: &Made<Collaborative>) -> Result<ByUse<Made<Features>>> {
        let inputs = CollabInputs {
            tables: &data.tables,
            samples: &data.samples,
            colla: CollabInputs::reads_graph(self.recipe).then_some(colla),
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
        let ablation = part("ablation", data.rows.ablation(self.recipe.predict.ablation_rows))?;
        stage.finish();
        Ok(ByVariant { tune, score, ablation })
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
            };
            stage.part::<Prompts>(name, &settings, &inputs)
        };
        let tune = part("tune", &shown.tune, &features.tune)?;
        let score = part("score", &shown.score, &features.score)?;
        let ablation = part("ablation", &shown.ablation, &features.score)?;
        stage.finish();
        Ok(ByVariant { tune, score, ablation })
    }

    /// `tune`.
    pub fn tune(&self, prompts: &ByVariant<Made<PromptRows>>) -> Result<Made<Tuned>> {
        let inputs = TuneInputs { prompts: &prompts.tune, model: self.writer.view(Facets::LEARNS) };
        self.run.stage::<Tune>(&TuneSettings::of(self.recipe), &inputs, self.device)
    }

    /// `predict`.
    pub fn predict(&self, prompts: &ByVariant<Made<PromptRows>>, tuned: &Made<Tuned>) -> Result<Scores> {
        let model = self.writer.view(Facets::ANSWERS);
        let with = |prompts, tuned| PredictInputs { prompts, tuned, model };
        let settings = PredictSettings::tuned(self.recipe);
        let mut stage = self.run.enter(StageId::Predict, self.device);
        let main = stage.part::<Predict>("score", &settings, &with(&prompts.score, Some(tuned)))?;
        let ablation = stage.part::<Predict>("ablation", &settings, &with(&prompts.ablation, Some(tuned)))?;
        let settings = PredictSettings::zero_shot(self.recipe);
        let zero_shot = stage.part::<Predict>("zero_shot", &settings, &with(&prompts.score, None))?;
        stage.finish();
        Ok(Scores { main, ablation, zero_shot })
    }

    /// `reason`.
    pub fn reason(
        &self,
        data: &DataMade,
        prompts: &ByVariant<Made<PromptRows>>,
        scores: &Scores,
    ) -> Result<Made<Reasoning>> {
        let inputs = ReasonInputs {
            tables: &data.tables,
            samples: &data.samples,
            prompts: &prompts.score,
            predictions: self.recipe.reason.hint.then_some(&scores.main),
            model: self.reasoner.as_ref().unwrap_or(&self.writer).view(Facets::ANSWERS),
        };
        self.run.stage::<Reason>(&ReasonSettings::of(self.recipe), &inputs, self.device)
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
        let inputs = MergeInputs { predictions: &scores.main, reasoning, features };
        self.run.stage::<Merge>(&&self.recipe.merge, &inputs, self.device)
    }

    /// `evaluate`.
    pub fn evaluate(&self, inputs: &EvaluateInputs<'_>) -> Result<Made<Vec<Section>>> {
        self.run.stage::<Evaluate>(&EvaluateSettings::of(self.recipe), inputs, self.device)
    }

    /// All stages in order; `None` when `--until` ends the run before the last. `aside` is told of
    /// what can be shown on the way.
    ///
    /// # Errors
    /// Those of the stages.
    pub fn all(&self, aside: &dyn Aside) -> Result<Option<AllMade>> {
        // Each ends the run as soon as the next stage lies beyond `--until`.
        macro_rules! unless_beyond {
            ($stage:expr) => {
                if self.run.is_beyond($stage) {
                    return Ok(None);
                }
            };
        }
        let data = self.data()?;
        unless_beyond!(StageId::Describe);
        if data.tables.get()?.items.iter().all(|i| i.title.trim().is_empty()) {
            return self.graph_only(&data);
        }
        let described = self.describe(&data)?;
        aside.described(&described)?;
        unless_beyond!(StageId::Embed);
        let text = self.embed(&data, &described)?;
        unless_beyond!(StageId::Graph);
        let colla = self.graph(&data)?;
        unless_beyond!(StageId::Align);
        let ssl = self.align(&text, &colla)?;
        let from = Embeddings { text: &text, colla: &colla, ssl: &ssl };
        aside.embedded(&data, from)?;
        unless_beyond!(StageId::Collab);
        let features = self.collab(&data, &colla)?;
        unless_beyond!(StageId::Retrieve);
        let shown = self.retrieve(&data, from)?;
        aside.retrieved(&data, &shown)?;
        unless_beyond!(StageId::Prompts);
        let prompts = self.prompts(&data, &shown, &features, from)?;
        unless_beyond!(StageId::Tune);
        let tuned = self.tune(&prompts)?;
        unless_beyond!(StageId::Predict);
        let scores = self.predict(&prompts, &tuned)?;
        unless_beyond!(StageId::Reason);
        let reasoning = self.reason(&data, &prompts, &scores)?;
        unless_beyond!(StageId::Merge);
        let merged = self.merge(&scores, &reasoning, &features)?;
        unless_beyond!(StageId::Evaluate);
        let tables = self.evaluate(&EvaluateInputs {
            tables: &data.tables,
            samples: &data.samples,
            colla: &colla,
            features: &features.score,
            main: &scores.main,
            ablation: &scores.ablation,
            zero_shot: &scores.zero_shot,
            reasoning: &reasoning,
            merged: &merged,
        })?;
        Ok(Some(AllMade { data, shown, scores, reasoning, merged, tables }))
    }

    /// Items without titles can be embedded by their graph and in no other way.
    fn graph_only(&self, data: &DataMade) -> Result<Option<AllMade>> {
        if self.run.is_beyond(StageId::Graph) || !self.run.is_beyond(StageId::Align) {
            let what = format!("no item of {} has a title: only the graph stages make sense", data.tables.get()?.name);
            return Err(Error::usage("data.kind", what).next("run with --until graph, or use data with titles"));
        }
        self.graph(data)?;
        Ok(None)
    }
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

/// Shows results to whoever watches.
struct Showing<'a> {
    run: &'a Run,
    recipe: &'a Recipe,
}

impl Aside for Showing<'_> {
    fn described(&self, described: &Made<Descriptions>) -> Result<()> {
        let (found, source) = (described.get()?, self.recipe.describe.source);
        let items = found.texts.len();
        if found.missing > 0 && source != DescribeSource::None {
            self.run.reporter().line().line(&format!(
                "describe   {} of {items} items have no description: their templated text stands in",
                found.missing
            ));
        }
        if source == DescribeSource::File && found.missing == items && !self.recipe.data.kind.set().described {
            let next = "set describe.file to a file of this data set";
            self.run.reporter().warn("no item has a description", next);
        }
        Ok(())
    }

    fn embedded(&self, data: &DataMade, from: Embeddings<'_>) -> Result<()> {
        scatter::scatter(self.run, data.tables.get()?, from)
    }

    fn retrieved(&self, data: &DataMade, shown: &ByVariant<Made<Vec<Shown>>>) -> Result<()> {
        let embedding = self.recipe.retrieve.embedding;
        examples::report_retrieval(self.run.reporter(), embedding, data.output()?, shown.score.get()?);
        Ok(())
    }
}

/// Runs every stage that is not there yet; `None` when `--until` ended the run before the results.
///
/// # Errors
/// Those of the stages; a stop that was asked for.
pub fn run_all(run: &Run, recipe: &Recipe) -> Result<Option<Results>> {
    let (kernels, device) = recipe.device.resolve()?;
    set_threads(recipe.threads);
    let reporter = run.reporter();
    write_atomically(&run.folder().join("recipe.toml"), config::annotated(recipe)?.as_bytes())?;
    reporter.emit(Event::RunStarted {
        recipe: recipe.name.clone(),
        device: device.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        resumed: run.folder().join("results.json").exists(),
    });
    reporter.emit(machine::facts(&device, rayon::current_num_threads()));
    reporter.emit(Event::Plan { stages: StageId::ALL.map(String::from).to_vec() });
    // On a thread of the pool: from outside it each of the thousands of parallel regions a second
    // would cost two changes of threads.
    let outcome = rayon::scope(|_| {
        let made = Chain::new(run, recipe, &kernels).all(&Showing { run, recipe })?;
        made.map(|made| super::summary::write(run, recipe, &made, &device)).transpose()
    });
    let (word, message) = match &outcome {
        Ok(_) => ("done", String::new()),
        Err(e) if e.kind() == Kind::Stopped => ("stopped", e.to_string()),
        Err(e) => ("failed", e.to_string()),
    };
    reporter.report_operators();
    reporter.emit(Event::RunFinished { outcome: word.into(), seconds: run.seconds(), message });
    outcome
}

/// Sizes the thread pool. It can be sized once in a process; later calls (in tests) keep the first
/// size.
pub fn set_threads(threads: usize) {
    if threads > 0 {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}
