//! `evaluate`: the tables. Every row of a table is scored on the same samples.

use std::collections::HashMap;

use super::data::Ground;
use super::graph::Collaborative;
use super::merge::MergedRows;
use super::predict::{Predictions, Who};
use super::prompts::Prompts;
use super::reason::{self, Reasoning};
use super::retrieve::{Retrieval, Set, Variant};
use crate::collab::{BaselineSettings, Baselines, GraphBaseline};
use crate::config::Recipe;
use crate::data::Part;
use crate::error::{Error, Result};
use crate::eval::{EvalRows, Score, Table};
use crate::events::StageId;
use crate::merge::Merged;
use crate::pipeline::artifact::write_atomically;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::results::{MergeSummary, Results, Section};
use crate::pipeline::run::Run;

/// What the tables are made of.
pub struct Inputs<'a> {
    /// Data and rows.
    pub ground: &'a Ground,
    /// LightGCN, for its baseline.
    pub colla: &'a Collaborative,
    /// What was retrieved, for what the authors' code would have retrieved otherwise.
    pub retrieval: &'a Retrieval,
    /// Prompts, for what the causal features alone say.
    pub prompts: &'a Prompts,
    /// Scores of the general model.
    pub predictions: &'a Predictions,
    /// Samples of the reasoning model.
    pub reasoning: &'a Reasoning,
    /// The merge.
    pub merged: &'a MergedRows,
}

/// Name of the first row.
const GLOBAL: &str = "global mean";

/// Runs the stage; it is cheap, and reused only as a whole.
pub fn evaluate(run: &Run, recipe: &Recipe, inputs: &Inputs<'_>, device: &str) -> Result<Results> {
    let key = KeyBuilder::new(StageId::Evaluate.name(), 3)
        .input("retrieve", &inputs.retrieval.artifact.key)
        .input("predict", &inputs.predictions.artifact.key)
        .input("reason", &inputs.reasoning.artifact.key)
        .input("merge", &inputs.merged.artifact.key)
        .input("graph", &inputs.colla.artifact.key)
        .settings("evaluate", &recipe.evaluate)?
        .finish();
    let artifact = run.stage(StageId::Evaluate, &key, |work| {
        let tables = tables(recipe, inputs)?;
        for section in &tables {
            for row in &section.table.rows {
                work.monitor.emit(row.event(&section.title, &section.table));
            }
        }
        let json = serde_json::to_vec(&tables).map_err(|e| Error::failed("tables.json", e))?;
        write_atomically(&work.folder.join("tables.json"), &json)
    })?;
    let path = artifact.file("tables.json");
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read the file", &e))?;
    let tables: Vec<Section> = serde_json::from_slice(&bytes)
        .map_err(|e| Error::input(path.display(), e).next("run the stage again: --from evaluate"))?;
    let (_, peak) = run.reporter().memory();
    let results = Results {
        version: 1,
        recipe: recipe.name.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        device: device.into(),
        score: match recipe.predict.score {
            Score::TwoWay => "two_way".into(),
            Score::DoubleSoftmax => "double_softmax".into(),
        },
        tables,
        merge: merge_summary(inputs),
        notes: notes(recipe, inputs),
        stages: run.times(),
        seconds: run.seconds(),
        peak_memory: peak,
    };
    let json = serde_json::to_vec_pretty(&results).map_err(|e| Error::failed("results.json", e))?;
    write_atomically(&run.folder().join("results.json"), &json)?;
    write_atomically(&run.folder().join("results.md"), results.markdown().as_bytes())?;
    Ok(results)
}

/// Named columns over some rows; a column with a gap is left out.
struct Columns {
    rows: Vec<usize>,
    named: Vec<(String, Vec<f64>)>,
}

impl Columns {
    fn new(rows: Vec<usize>) -> Self {
        Self { rows, named: Vec::new() }
    }

    fn add(&mut self, name: &str, value: impl Fn(usize) -> Option<f64>) {
        if let Some(values) = self.rows.iter().map(|&r| value(r)).collect::<Option<Vec<f64>>>() {
            self.named.push((name.to_string(), values));
        }
    }

    fn table(&self, title: &str, recipe: &Recipe, ground: &Ground) -> Result<Section> {
        let models: Vec<(&str, &[f64])> = self.named.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        // A table that lacks the row of the recipe's choice has the first one as its reference.
        let wanted = recipe.evaluate.reference.as_str();
        let reference = if models.iter().any(|m| m.0 == wanted) { wanted } else { GLOBAL };
        let users: Vec<u32> = self.rows.iter().map(|&row| ground.sample(row).user.0).collect();
        let rows = EvalRows { labels: &ground.labels(&self.rows), users: &users };
        let table = Table::build("test", rows, &models, Some(reference), &recipe.evaluate)?;
        Ok(Section { title: title.into(), table })
    }
}

fn tables(recipe: &Recipe, inputs: &Inputs<'_>) -> Result<Vec<Section>> {
    let Inputs { ground, predictions, reasoning, merged, .. } = *inputs;
    let without = WithoutWords::fit(recipe, inputs)?;
    let test = &ground.rows.test;
    let of = |who: Who, variant: Variant| move |row: usize| predictions.p(who, Set::Test, row, variant);
    let by_row = |rows: &[(usize, Merged)]| -> HashMap<usize, f64> { rows.iter().map(|(r, m)| (*r, m.p)).collect() };
    let (merged_p, bare_p) = (by_row(&merged.outcome.test), by_row(&merged.outcome.without_hint));
    let mean_of = |samples: &reason::Samples, row: usize| {
        let samples = samples.get(&(Set::Test, row))?;
        Some(samples.iter().map(|s| s.p).sum::<f64>() / samples.len() as f64)
    };
    let experts: HashMap<usize, f64> = merged.outcome.experts.iter().flat_map(|e| e.test.iter().copied()).collect();
    let experts_p = |row: usize| experts.get(&row).copied();
    let experts_name = format!("merged, {} experts", recipe.merge.experts.len());
    let mut sections = Vec::new();
    let with_merge: Vec<usize> = merged.outcome.test.iter().map(|(row, _)| *row).collect();
    let all = with_merge.len() == test.len();

    let mut main = Columns::new(with_merge.clone());
    without.add(&mut main, inputs);
    main.add("zero-shot", of(Who::ZeroShot, Variant::Main));
    main.add("tuned", of(Who::Tuned, Variant::Main));
    main.add("reasoning", |row| mean_of(&reasoning.rows, row));
    main.add("merged", |row| merged_p.get(&row).copied());
    main.add("reasoning, without the hint", |row| mean_of(&reasoning.without_hint, row));
    main.add("merged, without the hint", |row| bare_p.get(&row).copied());
    main.add(&experts_name, experts_p);
    if !with_merge.is_empty() {
        let title = if all { "Test rows".to_string() } else { "Test rows with reasoning samples".to_string() };
        sections.push(main.table(&title, recipe, ground)?);
    }
    if !all {
        let mut wide = Columns::new(test.clone());
        without.add(&mut wide, inputs);
        wide.add("zero-shot", of(Who::ZeroShot, Variant::Main));
        wide.add("tuned", of(Who::Tuned, Variant::Main));
        wide.add(&experts_name, experts_p);
        sections.push(wide.table("All test rows, without reasoning", recipe, ground)?);
    }
    let scored =
        |row: &usize| Variant::ABLATION.iter().all(|&v| predictions.p(Who::Tuned, Set::Test, *row, v).is_some());
    let mut ablation = Columns::new(test.iter().copied().filter(scored).collect());
    if !ablation.rows.is_empty() {
        without.add(&mut ablation, inputs);
        ablation.add("zero-shot", of(Who::ZeroShot, Variant::Main));
        ablation.add("tuned, as the recipe retrieves", of(Who::Tuned, Variant::Main));
        for variant in Variant::ABLATION {
            ablation.add(&format!("tuned, {}", variant.title()), of(Who::Tuned, variant));
        }
        sections.push(ablation.table(
            "What retrieval adds (the tuned model, other histories shown)",
            recipe,
            ground,
        )?);
    }
    Ok(sections)
}

/// Predictors without a language model, fitted on training rows only.
struct WithoutWords<'a> {
    base: Baselines,
    lightgcn: GraphBaseline<'a>,
    threshold: f32,
}

impl<'a> WithoutWords<'a> {
    fn fit(recipe: &Recipe, inputs: &Inputs<'a>) -> Result<Self> {
        let ground = inputs.ground;
        let train = ground.samples.part(Part::Train);
        let base = Baselines::fit(ground.dataset.items.len(), train, &BaselineSettings::default())?;
        let lightgcn = GraphBaseline::fit(&inputs.colla.users, &inputs.colla.items, train, recipe.evaluate.seed)?;
        Ok(Self { base, lightgcn, threshold: recipe.data.threshold() })
    }

    fn add(&self, columns: &mut Columns, inputs: &Inputs<'_>) {
        let ground = inputs.ground;
        let likes = |r: f32| r > self.threshold;
        columns.add(GLOBAL, |_| Some(self.base.global()));
        columns.add("item mean", |row| Some(self.base.item(ground.sample(row).item)));
        columns.add("item mean + own history", |row| {
            let sample = ground.sample(row);
            Some(self.base.predict(sample.item, ground.samples.history(sample), likes))
        });
        columns.add("LightGCN", |row| Some(self.lightgcn.predict(ground.sample(row))));
        let features = inputs.prompts.facts(Set::Test);
        columns.add("facts alone", |row| features.get(&row).copied());
    }
}

fn merge_summary(inputs: &Inputs<'_>) -> Option<MergeSummary> {
    let outcome = &inputs.merged.outcome;
    let n = outcome.test.len();
    if n == 0 {
        return None;
    }
    let mean = |f: &dyn Fn(&Merged) -> f64| outcome.test.iter().map(|(_, m)| f(m)).sum::<f64>() / n as f64;
    let samples: Vec<_> = inputs.reasoning.rows.values().flatten().collect();
    let of_samples = |f: &dyn Fn(&super::reason::Reasoned) -> f64| {
        samples.iter().map(|s| f(s)).sum::<f64>() / samples.len().max(1) as f64
    };
    Some(MergeSummary {
        cells: outcome.cells.clone(),
        test_cells: outcome.test_cells.clone(),
        metric: if outcome.cells.is_empty() { "the recipe".into() } else { outcome.metric.clone() },
        valid_rows: outcome.valid_rows,
        alpha: outcome.chosen.alpha,
        epsilon: outcome.chosen.epsilon,
        samples: outcome.chosen.samples,
        mean_share: mean(&|m| m.share_reasoning),
        largest_share: outcome.test.iter().map(|(_, m)| m.share_reasoning).fold(0.0, f64::max),
        mean_variance: mean(&|m| m.var_reasoning),
        mean_tokens: of_samples(&|s| f64::from(s.tokens)),
        unparsed: of_samples(&|s| f64::from(u8::from(s.answer.is_none()))),
    })
}

fn notes(recipe: &Recipe, inputs: &Inputs<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let rows = &inputs.ground.rows;
    let targets: usize = rows.tune.iter().map(Vec::len).sum();
    let chosen = match (recipe.tune.select_on_test, recipe.tune.valid_rows) {
        (true, 0) => "early stop on the TEST rows themselves (D7): optimistic".to_string(),
        (true, n) => format!("early stop on the first {n} TEST rows themselves (D7): optimistic"),
        (false, 0) => format!("early stop on {} validation rows", rows.valid.len()),
        (false, n) => format!("early stop on {} validation rows", n.min(rows.valid.len())),
    };
    notes.push(format!("tuned on {targets} training targets behind {} histories; {chosen}", rows.tune.len()));
    if let Some(mass) = inputs.predictions.mean_mass(Who::Tuned) {
        notes.push(format!("P(Yes) + P(No) of the tuned model: {mass:.3} on average over the test rows"));
    }
    if recipe.collab.wording != crate::text::ratings::Wording::None {
        notes.push(
            "prompts carry causal features in words (an option beyond the papers), cross-fitted on training rows"
                .into(),
        );
    }
    if recipe.soft.is_on() {
        notes.push("the tuned model reads soft prompt tokens (an option beyond the papers)".into());
    }
    if let Some(experts) = &inputs.merged.outcome.experts {
        let weights: Vec<String> = experts.alphas.iter().map(|(e, a)| format!("{} {a}", e.name())).collect();
        notes.push(format!("experts' weights, by {} validation rows: {}", experts.valid_rows, weights.join(", ")));
    }
    notes.extend(published(recipe, inputs.retrieval));
    if recipe.faithful {
        notes.push("faithful = true: the authors' defects are reproduced; the numbers are for comparison".into());
    }
    notes
}

/// How far the authors' published retrieval is from the recipe's, on the same rows.
fn published(recipe: &Recipe, retrieval: &Retrieval) -> Option<String> {
    let items = |variant: Variant| -> HashMap<usize, Vec<u32>> {
        let own = retrieval.shown.iter().filter(|s| s.set == Set::Test && s.variant == variant);
        own.map(|s| (s.row, s.items.iter().map(|r| r.item.0).collect())).collect()
    };
    let (ours, theirs) = (items(Variant::Main), items(Variant::Published));
    let (mut rows, mut changed, mut shown, mut other) = (0, 0, 0, 0);
    for (row, theirs) in &theirs {
        let ours = ours.get(row)?;
        let new = theirs.iter().filter(|i| !ours.contains(i)).count();
        rows += 1;
        changed += usize::from(ours != theirs);
        shown += theirs.len();
        other += new;
    }
    (rows > 0 && !recipe.faithful).then(|| {
        format!(
            "the authors' published retrieval (D1, D6, D10) changes what is shown in {changed} of {rows} rows; {:.1} % of \
             the items that it shows are others",
            100.0 * other as f64 / shown.max(1) as f64
        )
    })
}
