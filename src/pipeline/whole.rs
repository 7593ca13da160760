//! A whole run: every stage that is not there yet, what is shown on the way, the results.

use rallrec_events::{Event, StageId};

use super::results::Results;
use super::run::Run;
use super::stage::Made;
use super::stages::retrieve::Shown;
use super::stages::{Aside, ByVariant, Chain, DataMade, Embeddings, Reached, without_answers};
use super::{examples, machine, scatter, summary, told};
use crate::config::{self, DescribeSource, Recipe};
use crate::data::Descriptions;
use crate::durable;
use crate::error::{Error, Kind, Result};
use crate::monitor::Monitor;

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
        told::once(self.run.folder(), &shown.score.content(), || {
            examples::report_retrieval(self.run.reporter(), embedding, data.output()?, shown.score.get()?);
            Ok(())
        })
    }
}

/// Runs every stage that is not there yet; `None` when `--until` ended the run before the results.
///
/// # Errors
/// Those of the stages; a stop that was asked for.
pub fn run_all(run: &Run, recipe: &Recipe) -> Result<Option<Results>> {
    let (kernels, device) = recipe.device.resolve()?;
    set_threads(recipe.threads)?;
    let reporter = run.reporter();
    let resumed = run.folder().join("results.json").exists();
    set_other_results_aside(run, recipe)?;
    let plan = if recipe.data.is_implicit() {
        without_answers(run.until(), !recipe.data.kind.set().graph_only)
    } else {
        StageId::ALL.to_vec()
    };
    begin(run, recipe, &device, resumed, plan)?;
    // On a thread of the pool: from outside it each of the thousands of parallel regions a second
    // would cost two changes of threads.
    let outcome: Result<Option<Results>> = rayon::scope(|_| {
        Ok(match Chain::new(run, recipe, &kernels).all(&Showing { run, recipe })? {
            Reached::All(made) => Some(summary::write(run, recipe, &made, &device)?),
            Reached::Graph(made) => Some(summary::write_graph_only(run, recipe, &made, &device)?),
            Reached::Until(_) => None,
        })
    });
    end(run, outcome.as_ref().err());
    // A run that is said to be done is on the disk, and in its place.
    run.is_there().and(outcome).and_then(|results| reporter.sync().map(|()| results))
}

/// Keeps the recipe in the run folder, and tells of the run before its first stage.
///
/// # Errors
/// A folder that cannot be written.
pub fn begin(run: &Run, recipe: &Recipe, device: &str, resumed: bool, plan: Vec<StageId>) -> Result<()> {
    let reporter = run.reporter();
    durable::write(&run.folder().join("recipe.toml"), config::annotated(recipe)?.as_bytes())?;
    reporter.emit(Event::RunStarted {
        recipe: recipe.name.clone(),
        device: device.to_owned(),
        program: env!("CARGO_PKG_VERSION").into(),
        resumed,
    });
    reporter.emit(machine::facts(device, rayon::current_num_threads()));
    reporter.emit(Event::Plan { stages: plan.into_iter().map(String::from).collect() });
    Ok(())
}

/// The run's last word: how it ended.
pub fn end(run: &Run, error: Option<&Error>) {
    let (outcome, message) = match error {
        None => ("done", String::new()),
        Some(e) if e.kind() == Kind::Stopped => ("stopped", e.to_string()),
        Some(e) => ("failed", e.to_string()),
    };
    run.reporter().report_operators();
    run.reporter().emit(Event::RunFinished { outcome: outcome.into(), seconds: run.seconds(), message });
}

/// Results of other settings must not stand beside this recipe until the run has come to its own:
/// who compares or reports the run would take the one for the other.
fn set_other_results_aside(run: &Run, recipe: &Recipe) -> Result<()> {
    let at = |name: &str| run.folder().join(name);
    // A pipe in the recipe's place would be waited for.
    if !at("results.json").is_file() || !at("recipe.toml").is_file() {
        return Ok(());
    }
    // Another program's recipe, or a damaged one, says nothing of the results.
    let Ok(before) = config::load(&at("recipe.toml"), &[]) else { return Ok(()) };
    let mut other: Vec<String> = config::differing(&before, recipe)?.into_iter().map(|(key, _)| key).collect();
    other.retain(|key| config::explain::first_stage(key).is_some());
    if other.is_empty() {
        return Ok(());
    }
    for (name, aside) in [("results.json", "results.before.json"), ("results.md", "results.before.md")] {
        if at(name).is_file() {
            durable::rename(&at(name), &at(aside))?;
        }
    }
    let more = if other.len() > 3 { format!(" and {} more", other.len() - 3) } else { String::new() };
    other.truncate(3);
    let what = format!("this folder had results of another recipe ({}{more} differ)", other.join(", "));
    run.reporter().warn(&what, "they are in results.before.json; give another recipe a folder of its own with --out");
    Ok(())
}

/// Sizes the thread pool. It can be sized once in a process; later calls (in tests) keep the first
/// size.
///
/// # Errors
/// The system gives no threads.
pub fn set_threads(threads: usize) -> Result<()> {
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
        // The pool of an earlier call has no cause.
        Err(error) if std::error::Error::source(&error).is_some() => {
            Err(Error::failed("threads", format!("cannot be started: {error}"))
                .next("allow the process more memory or more processes, or set threads to fewer"))
        }
        _ => Ok(()),
    }
}
