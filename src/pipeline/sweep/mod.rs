//! A sweep: one recipe with other values of some keys, trial by trial in one run folder, so that
//! only what differs is done again. The validation rows choose; test rows are looked at once, by a
//! run of the chosen recipe.
//!
//! ```text
//! sweep.json      the trials so far: values, what validation says, seconds
//! sweep.md        the same for people
//! best.toml       the chosen recipe, whole
//! ```

mod axes;
mod report;
mod trial;

use std::path::Path;
use std::time::{Duration, Instant};

use rallrec_events::metric::Metric;
use rallrec_events::{Event, StageId};
use serde::{Deserialize, Serialize};

pub use axes::{Assignment, Axis, How, trials};
pub use trial::{Judge, for_choice};

use self::trial::{Said, ValidRows};
use crate::config::{self, Recipe};
use crate::durable;
use crate::error::{Error, Kind, Result};
use crate::eval::{EvalRows, EvalSettings, Metrics, Table, measure};
use crate::monitor::Monitor;
use crate::pipeline::progress::Verbosity;
use crate::pipeline::run::{Run, Span};
use crate::pipeline::whole::end;

/// The file that keeps the trials.
pub const FILE: &str = "sweep.json";

/// A recipe to try.
pub struct Trial {
    /// What it changes.
    pub values: Assignment,
    /// The recipe with it, without work that the choice does not need (see [`for_choice`]).
    pub recipe: Recipe,
    /// The same on smaller budgets, one a rung of the plan's halving.
    pub smaller: Vec<Recipe>,
}

/// Successive halving (Jamieson and Talwalkar, AISTATS 2016): all trials get a small budget, and
/// only the better part of them the next larger one.
#[derive(Debug, Clone, PartialEq)]
pub struct Halving {
    /// The key that is the budget: epochs, rows.
    pub key: String,
    /// Its values below the recipe's own, ascending; the trials' recipes have them in this order.
    pub rungs: Vec<String>,
    /// Share of the trials that go on from each rung, above 0 and below 1; at least one does.
    pub keep: f64,
}

/// What is to be done.
pub struct Plan<'a> {
    /// The run folder.
    pub folder: &'a Path,
    /// The trials in their order.
    pub trials: Vec<Trial>,
    /// Whose predictions decide.
    pub judge: Judge,
    /// By which metric.
    pub metric: &'static Metric,
    /// Budgets before the whole one.
    pub halving: Option<Halving>,
    /// No trial begins later than this.
    pub budget: Option<Duration>,
    /// What is printed on the way.
    pub verbosity: Verbosity,
}

/// A trial that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Keys with their values in TOML.
    pub values: Assignment,
    /// The metric on the validation rows; none of a trial that failed.
    pub value: Option<f64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The budget behind which halving left it; its value is the one at that budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<String>,
    /// Seconds that it took when it was done.
    pub seconds: f64,
    /// The stages that were done for it; the others were there already.
    pub done: Vec<String>,
}

/// What came of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swept {
    /// Name of the recipe.
    pub recipe: String,
    /// Whose predictions decided.
    pub judge: String,
    /// By which metric.
    pub metric: String,
    /// In the order of the plan; those that the budget left no time for are not there.
    pub trials: Vec<Tried>,
    /// Trials that the budget left no time for.
    pub left: usize,
    /// Which of them validation prefers.
    pub chosen: Option<usize>,
    /// What validation says of each trial that did not fail, in their order; each is tested against
    /// the chosen one where all have the same rows.
    pub tables: Vec<Table>,
    /// The same for judges that rank.
    pub ranking: Vec<RankedTrial>,
}

/// How well a trial's ranker does on the validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedTrial {
    /// Its values in words.
    pub name: String,
    /// `ndcg@10` and the like: name, value, low, high.
    pub metrics: Vec<(String, f64, f64, f64)>,
}

/// A trial's values in words.
pub fn name(values: &Assignment) -> String {
    values.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// Runs the trials that are not there yet. `told` hears of each when it is done.
///
/// # Errors
/// A stop that was asked for, with the trials so far kept; the last trial's error where all fail.
pub fn run(plan: &Plan<'_>, told: &mut dyn FnMut(usize, &Tried)) -> Result<Swept> {
    let begun = Instant::now();
    let earlier = earlier(plan);
    let mut state = State { plan, tried: Vec::new(), said: Vec::new() };
    let mut last_error = None;
    let (mut open, mut first) = ((0..plan.trials.len()).collect::<Vec<_>>(), true);
    let rungs = plan.halving.as_ref().map_or(0, |halving| halving.rungs.len());
    'rungs: for rung in 0..=rungs {
        for &n in &open {
            if !first && plan.budget.is_some_and(|budget| begun.elapsed() > budget) {
                break 'rungs;
            }
            first = false;
            let budget = plan.halving.as_ref().and_then(|halving| halving.at(rung));
            let (mut tried, outcome) = attempt(plan, n, rung, budget.as_deref())?;
            tried.left_at = budget;
            // What is only found again took its time when it was done.
            let same = |e: &&Tried| e.values == tried.values && e.left_at == tried.left_at && tried.done.is_empty();
            if let Some(before) = earlier.iter().find(same) {
                (tried.seconds, tried.done) = (before.seconds, before.done.clone());
            }
            match outcome {
                Ok(said) if tried.left_at.is_none() => state.said.push((n, said)),
                Ok(_) => {}
                Err(error) => last_error = Some(error),
            }
            told(n, &tried);
            state.keep(n, tried);
            state.swept(false)?.write(plan.folder)?;
        }
        if let Some(halving) = plan.halving.as_ref().filter(|_| rung < rungs) {
            open = state.better(&open, halving.keep);
        }
    }
    if let Some(error) = last_error.filter(|_| state.tried.iter().all(|(_, tried)| tried.value.is_none())) {
        return Err(error.within("every trial failed; the last one"));
    }
    let swept = state.swept(true)?;
    swept.write(plan.folder)?;
    Ok(swept)
}

/// Runs one trial on one budget and tells of it.
fn attempt(plan: &Plan<'_>, n: usize, rung: usize, budget: Option<&str>) -> Result<(Tried, Result<Said>)> {
    let trial = &plan.trials[n];
    let recipe = trial.smaller.get(rung).unwrap_or(&trial.recipe);
    let run = Run::open(plan.folder, Span { until: Some(plan.judge.last()), from: None }, plan.verbosity)?;
    let at = budget.map_or_else(String::new, |budget| format!(", at {budget}"));
    let of = format!("trial {} of {}: {}{at}", n + 1, plan.trials.len(), name(&trial.values));
    run.reporter().emit(Event::Log { level: "info".into(), text: of });
    let outcome = trial::run(&run, recipe, plan.judge);
    if let Err(error) = &outcome
        && error.kind() == Kind::Stopped
    {
        end(&run, Some(error));
        return Err(error.clone());
    }
    let times = run.times();
    let done: Vec<String> = times.iter().filter(|t| !t.reused).map(|t| t.stage.clone()).collect();
    let (values, seconds) = (trial.values.clone(), run.seconds());
    let mut tried = Tried { values, value: None, failed: None, left_at: None, seconds, done };
    match &outcome {
        Ok(said) => {
            let metrics = said.metrics(&recipe.evaluate)?;
            let Some(value) = metrics.get(plan.metric_name()) else {
                return Err(Error::input("sweep", format!("{} is not defined on these rows", plan.metric.title))
                    .next("use more validation rows, or another --metric"));
            };
            tried.value = Some(value.value);
            run.reporter().emit(Event::ResultRow {
                row: format!("{}{at}", name(&trial.values)),
                split: "valid".into(),
                metrics: metrics.told(),
                table: Some("Sweep: validation rows".into()),
                n: said.rows().map(|rows| rows.rows.len() as u64),
                reference: None,
                against: Vec::new(),
            });
        }
        Err(error) => tried.failed = Some(error.to_string()),
    }
    end(&run, outcome.as_ref().err());
    run.reporter().sync()?;
    Ok((tried, outcome))
}

impl Halving {
    /// The budget of a rung in words; `None` for the whole one.
    fn at(&self, rung: usize) -> Option<String> {
        self.rungs.get(rung).map(|value| format!("{}={value}", self.key))
    }
}

impl Plan<'_> {
    /// As rows have it: lists of a ranker carry their length.
    fn metric_name(&self) -> &'static str {
        match (self.judge.ranks(), self.metric.name) {
            (true, "recall") => "recall@10",
            (true, "mrr") => "mrr@10",
            (true, _) => "ndcg@10",
            (false, name) => name,
        }
    }
}

/// Trials of an earlier call with the same judge.
fn earlier(plan: &Plan<'_>) -> Vec<Tried> {
    let file = plan.folder.join(FILE);
    let read = durable::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Swept>(&bytes).ok());
    let same = |swept: &Swept| swept.judge == plan.judge.name();
    read.filter(same).map_or_else(Vec::new, |swept| swept.trials)
}

impl Said {
    fn rows(&self) -> Option<&ValidRows> {
        match self {
            Said::Rows(rows) => Some(rows),
            Said::Ranked(_) => None,
        }
    }

    fn metrics(&self, settings: &EvalSettings) -> Result<Metrics> {
        match self {
            Said::Rows(rows) => measure(rows.against(), &rows.p, settings),
            Said::Ranked(metrics) => Ok(metrics.clone()),
        }
    }
}

impl ValidRows {
    fn against(&self) -> EvalRows<'_> {
        EvalRows { labels: &self.labels, users: &self.users, items: &[] }
    }
}

/// Trials so far.
struct State<'a> {
    plan: &'a Plan<'a>,
    /// By their place in the plan, in its order.
    tried: Vec<(usize, Tried)>,
    /// What those said that were run on the whole budget.
    said: Vec<(usize, Said)>,
}

impl State<'_> {
    /// Keeps what a trial came to, in the place of what it came to on a smaller budget.
    fn keep(&mut self, n: usize, mut tried: Tried) {
        match self.tried.binary_search_by_key(&n, |(other, _)| *other) {
            Ok(at) => {
                tried.seconds += self.tried[at].1.seconds;
                self.tried[at].1 = tried;
            }
            Err(at) => self.tried.insert(at, (n, tried)),
        }
    }

    /// The better part of `open` by what they came to, in the plan's order: at least one, and none
    /// that failed.
    fn better(&self, open: &[usize], keep: f64) -> Vec<usize> {
        let value = |n: usize| self.tried.iter().find(|(other, _)| *other == n).and_then(|(_, tried)| tried.value);
        let known = open.iter().filter_map(|&n| Some((n, value(n).filter(|v| v.is_finite())?)));
        let mut ordered: Vec<(usize, f64)> = known.collect();
        let sign = if self.plan.metric.is_better(1.0, 0.0) { -1.0 } else { 1.0 };
        ordered.sort_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)).then(a.0.cmp(&b.0)));
        ordered.truncate(((keep * open.len() as f64).ceil() as usize).max(1));
        let mut kept: Vec<usize> = ordered.into_iter().map(|(n, _)| n).collect();
        kept.sort_unstable();
        kept
    }

    fn of(&self, n: usize) -> Option<&Tried> {
        self.tried.iter().find(|(other, _)| *other == n).map(|(_, tried)| tried)
    }

    /// `finally`: with the tables, which take a while.
    fn swept(&self, finally: bool) -> Result<Swept> {
        let plan = self.plan;
        let mut chosen: Option<(usize, f64)> = None;
        for (at, (_, tried)) in self.tried.iter().enumerate().filter(|(_, (_, tried))| tried.left_at.is_none()) {
            let Some(value) = tried.value.filter(|v| v.is_finite()) else { continue };
            // Of equal ones the first.
            if chosen.is_none_or(|(_, best)| plan.metric.is_better(value, best)) {
                chosen = Some((at, value));
            }
        }
        let chosen = chosen.map(|(at, _)| at);
        let named = |n: usize| self.of(n).map(|tried| name(&tried.values)).unwrap_or_default();
        let ranking = self.said.iter().filter_map(|(n, said)| match said {
            Said::Ranked(metrics) => Some(RankedTrial { name: named(*n), metrics: metrics.told() }),
            Said::Rows(_) => None,
        });
        Ok(Swept {
            recipe: plan.trials.first().map_or_else(String::new, |trial| trial.recipe.name.clone()),
            judge: plan.judge.name().into(),
            metric: plan.metric_name().into(),
            trials: self.tried.iter().map(|(_, tried)| tried.clone()).collect(),
            left: plan.trials.len() - self.tried.len(),
            chosen,
            tables: if finally { self.tables(chosen)? } else { Vec::new() },
            ranking: ranking.collect(),
        })
    }

    /// One table of all trials where they have the same rows, else one each.
    fn tables(&self, chosen: Option<usize>) -> Result<Vec<Table>> {
        let rows: Vec<(usize, &ValidRows)> = self.said.iter().filter_map(|(n, s)| Some((*n, s.rows()?))).collect();
        let Some((first, _)) = rows.first() else { return Ok(Vec::new()) };
        let settings = &self.plan.trials[*first].recipe.evaluate;
        let named = |n: usize| self.of(n).map(|tried| name(&tried.values)).unwrap_or_default();
        let chosen = chosen.and_then(|at| self.tried.get(at)).map(|(n, _)| named(*n));
        let table = |of: &[(usize, &ValidRows)], reference: Option<&str>| {
            let names: Vec<String> = of.iter().map(|(n, _)| named(*n)).collect();
            let models: Vec<(&str, &[f64])> =
                of.iter().zip(&names).map(|((_, rows), name)| (name.as_str(), rows.p.as_slice())).collect();
            Table::build("valid", of[0].1.against(), &models, reference, settings)
        };
        if rows.iter().all(|(_, own)| own.rows == rows[0].1.rows) {
            return Ok(vec![table(&rows, chosen.as_deref())?]);
        }
        rows.iter().map(|one| table(std::slice::from_ref(one), None)).collect()
    }
}

impl Swept {
    /// Writes `sweep.json` and `sweep.md`.
    fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::failed(FILE, e))?;
        durable::write(&folder.join(FILE), &json)?;
        durable::write(&folder.join("sweep.md"), self.render().as_bytes())
    }
}

/// Writes the chosen recipe.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_best(folder: &Path, recipe: &Recipe) -> Result<()> {
    durable::write(&folder.join("best.toml"), config::annotated(recipe)?.as_bytes())
}

/// Refuses keys of which the judge sees nothing.
///
/// # Errors
/// No stage up to the judge's sees any of the keys.
pub fn check_judge(axes: &[Axis], judge: Judge) -> Result<()> {
    let seen = |key: &str| config::explain::first_stage(key).is_some_and(|stage: StageId| stage <= judge.last());
    let words = |stage: StageId| judge.ranks() && !matches!(stage, StageId::Data | StageId::Graph);
    let unseen = |key: &str| !seen(key) || config::explain::first_stage(key).is_some_and(words);
    match axes.iter().find(|axis| unseen(axis.key())) {
        Some(axis) => Err(Error::usage(
            format!("--over {}", axis.key()),
            format!("no stage that '{}' needs sees this key, so every trial would say the same", judge.name()),
        )
        .next("choose another --judge, or leave the key out; `rallrec explain KEY` says which stages see it")),
        None => Ok(()),
    }
}
