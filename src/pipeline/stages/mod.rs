//! The stages, one file each, and the order in which they run.

mod align;
mod data;
mod describe;
mod embed;
mod evaluate;
mod examples;
mod features;
mod finished;
mod graph;
mod language;
mod merge;
mod predict;
mod prompts;
mod reason;
mod retrieve;
mod scatter;
mod scorer;
mod soft;
mod tune;

use rallrec_events::{Event, StageId};

pub use data::{ChosenRows, Ground, data as ground};
pub use finished::{Finished, ask_tuned, finished};
pub use graph::{Collaborative, graph as collaborative};
pub use language::Language;

use super::artifact::write_atomically;
use super::machine;
use super::results::Results;
use super::run::Run;
use crate::config::{self, Recipe};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::monitor::Monitor;

/// The language model, loaded when a stage first needs it: a run whose stages are all there loads none.
pub struct Lazy<'a> {
    recipe: &'a Recipe,
    loaded: Option<Language>,
}

impl Lazy<'_> {
    /// Loads on first use.
    pub fn get(&mut self) -> Result<&Language> {
        let loaded = match self.loaded.take() {
            Some(language) => language,
            None => Language::load(&self.recipe.model.path, self.recipe)?,
        };
        Ok(self.loaded.insert(loaded))
    }
}

/// Runs every stage that is not there yet; `None` when `--until` ended the run before the results.
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
    // On a thread of the pool: from outside it each of the thousands of parallel regions a second would cost two
    // changes of threads.
    let outcome = rayon::scope(|_| chain(run, recipe, &kernels, &device));
    let (word, message) = match &outcome {
        Ok(_) => ("done", String::new()),
        Err(e) if e.kind() == Kind::Stopped => ("stopped", e.to_string()),
        Err(e) => ("failed", e.to_string()),
    };
    reporter.tell_operators();
    reporter.emit(Event::RunFinished { outcome: word.into(), seconds: run.seconds(), message });
    outcome
}

fn chain(run: &Run, recipe: &Recipe, kernels: &Device, device: &str) -> Result<Option<Results>> {
    // Each `until` ends the run as soon as the next stage lies beyond it.
    macro_rules! unless_beyond {
        ($stage:expr) => {
            if run.is_beyond($stage) {
                return Ok(None);
            }
        };
    }
    let mut language = Lazy { recipe, loaded: None };
    let ground = data::data(run, recipe)?;
    unless_beyond!(StageId::Describe);
    if ground.dataset.items.iter().all(|i| i.title.trim().is_empty()) {
        return graph_only(run, recipe, kernels, &ground);
    }
    let described = describe::describe(run, recipe, kernels, &ground, &mut language)?;
    unless_beyond!(StageId::Embed);
    let text = embed::embed(run, recipe, kernels, &ground, &described, &mut language)?;
    unless_beyond!(StageId::Graph);
    let colla = graph::graph(run, recipe, kernels, &ground)?;
    unless_beyond!(StageId::Align);
    let ssl = align::align(run, recipe, kernels, &ground, &text, &colla)?;
    scatter::scatter(run, &ground, &text, &colla, &ssl)?;
    unless_beyond!(StageId::Retrieve);
    let embeddings = retrieve::Embeddings { text: &text, colla: &colla, ssl: &ssl };
    let retrieval = retrieve::retrieve(run, recipe, &ground, &embeddings)?;
    examples::tell_retrieval(run, recipe, &ground, &retrieval);
    unless_beyond!(StageId::Prompts);
    let prompts = prompts::prompts(run, recipe, &ground, &retrieval, &embeddings, &mut language)?;
    unless_beyond!(StageId::Tune);
    let tuned = tune::tune(run, recipe, kernels, &ground, &prompts, &mut language)?;
    unless_beyond!(StageId::Predict);
    let predictions = predict::predict(run, recipe, kernels, &prompts, &tuned, &mut language)?;
    unless_beyond!(StageId::Reason);
    let reasoning = reason::reason(run, recipe, kernels, &ground, &prompts, &predictions, &mut language)?;
    unless_beyond!(StageId::Merge);
    let merged = merge::merge(run, recipe, &ground, &prompts, &predictions, &reasoning)?;
    unless_beyond!(StageId::Evaluate);
    let inputs = evaluate::Inputs {
        ground: &ground,
        colla: &colla,
        retrieval: &retrieval,
        prompts: &prompts,
        predictions: &predictions,
        reasoning: &reasoning,
        merged: &merged,
    };
    evaluate::evaluate(run, recipe, &inputs, device).map(Some)
}

/// Items without titles can be embedded by their graph and in no other way.
fn graph_only(run: &Run, recipe: &Recipe, kernels: &Device, ground: &Ground) -> Result<Option<Results>> {
    if run.is_beyond(StageId::Graph) || !run.is_beyond(StageId::Align) {
        return Err(Error::usage(
            "data.kind",
            format!("no item of {} has a title: only the graph stages make sense", ground.dataset.name),
        )
        .next("run with --until graph, or use data with titles"));
    }
    graph::graph(run, recipe, kernels, ground)?;
    Ok(None)
}

/// Sizes the thread pool. It can be sized once in a process; later calls (in tests) keep the first size.
pub fn set_threads(threads: usize) {
    if threads > 0 {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}
