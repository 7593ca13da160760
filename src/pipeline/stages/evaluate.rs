//! `evaluate`: the tables. Every row of a table is scored on the same samples.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::baselines::FittedBaselines;
use super::collab::Features;
use super::data::DataOutput;
use super::experts::Opinions;
use super::graph::Collaborative;
use super::merge::MergeOutcome;
use super::predict::Predictions;
use super::reason::{self, Reasoning};
use crate::collab::{BaselineSettings, Baselines, GraphBaseline};
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, Part, Samples};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::{EvalRows, EvalSettings, Table, rows, slices};
use crate::events::StageId;
use crate::merge::Merged;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::results::Section;
use crate::pipeline::scores::{self, RowScores};
use crate::pipeline::stage::{Inputs, Made, Stage, Work};

/// Makes the tables of results.
pub struct Evaluate;

/// What `evaluate` sees of the recipe.
#[derive(Serialize)]
pub struct EvaluateSettings<'r> {
    evaluate: &'r EvalSettings,
    /// A rating above it is a like.
    threshold: f32,
}

impl<'r> EvaluateSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        Self { evaluate: &recipe.evaluate, threshold: recipe.data.threshold() }
    }
}

/// What the tables are made of.
pub struct EvaluateInputs<'a> {
    /// Items.
    pub tables: &'a Made<Dataset>,
    /// Rows, histories, labels.
    pub samples: &'a Made<Samples>,
    /// LightGCN, for its baseline.
    pub colla: &'a Made<Collaborative>,
    /// What ratings and graph alone say.
    pub features: &'a Made<Features>,
    /// Baselines that take some seconds.
    pub baselines: &'a Made<FittedBaselines>,
    /// The tuned model on the rows that are merged and reported.
    pub main: &'a Made<Predictions>,
    /// The tuned model on other histories.
    pub ablation: &'a Made<Predictions>,
    /// The untuned model.
    pub zero_shot: &'a Made<Predictions>,
    /// What files of other programs say, where the recipe names any.
    pub experts: Option<&'a Made<Opinions>>,
    /// Samples of the reasoning model.
    pub reasoning: &'a Made<Reasoning>,
    /// The merge.
    pub merged: &'a Made<MergeOutcome>,
}

impl Inputs for EvaluateInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        let experts = self.experts.map(|experts| ("experts", experts.content()));
        let others = [
            ("tables", self.tables.content()),
            ("samples", self.samples.content()),
            ("graph", self.colla.content()),
            ("collab", self.features.content()),
            ("baselines", self.baselines.content()),
            ("predict", self.main.content()),
            ("predict ablation", self.ablation.content()),
            ("predict zero-shot", self.zero_shot.content()),
            ("reason", self.reasoning.content()),
            ("merge", self.merged.content()),
        ];
        others.into_iter().chain(experts).collect()
    }
}

const FILE: &str = "tables.json";
/// Title of the table of ways to choose the shown history.
pub const HISTORIES: &str = "What retrieval adds (the tuned model, other histories shown)";

impl Stage for Evaluate {
    const ID: StageId = StageId::Evaluate;
    const VERSION: u32 = 6;
    type Settings<'r> = EvaluateSettings<'r>;
    type Inputs<'a> = EvaluateInputs<'a>;
    /// The tables, the main one first.
    type Output = Vec<Section>;

    fn run(settings: &EvaluateSettings<'_>, inputs: &EvaluateInputs<'_>, work: &Work<'_>) -> Result<()> {
        let evaluation = Evaluation::new(settings, inputs)?;
        let data = evaluation.data;
        let mut of_item = vec![0u32; data.dataset.items.len()];
        data.samples.part(Part::Train).iter().for_each(|sample| of_item[sample.item.at()] += 1);
        let mut tables = Vec::new();
        let mut all = Vec::new();
        for (title, columns) in evaluation.columns() {
            tables.push(columns.table(title, settings.evaluate, evaluation.data, &of_item)?);
            all.push(columns);
        }
        for section in &tables {
            for row in &section.table.rows {
                work.monitor.emit(row.event(&section.title, &section.table));
            }
        }
        let json = serde_json::to_vec(&tables).map_err(|e| Error::failed(FILE, e))?;
        durable::write(&work.folder.join(FILE), &json)?;
        scores::write(work.folder, &row_scores(&Predicted::of(all), evaluation.data))
    }

    fn load(artifact: &Artifact) -> Result<Vec<Section>> {
        artifact.json(FILE, "run the stage again: --from evaluate")
    }
}

/// What the models of the tables say of each test row.
pub struct Predicted {
    /// Names of the models: those of the tables' rows.
    pub models: Vec<String>,
    /// Test rows in order; of each, probabilities with the places of their models.
    pub rows: BTreeMap<usize, Vec<(usize, f64)>>,
}

/// The probabilities that the tables are made of.
///
/// # Errors
/// Artifacts that cannot be read.
pub fn predicted(settings: &EvaluateSettings<'_>, inputs: &EvaluateInputs<'_>) -> Result<Predicted> {
    Ok(Predicted::of(Evaluation::new(settings, inputs)?.columns().into_iter().map(|(_, columns)| columns)))
}

impl Predicted {
    /// Of the columns of all tables.
    fn of(tables: impl IntoIterator<Item = Columns>) -> Self {
        let mut found = Self { models: Vec::new(), rows: BTreeMap::new() };
        for columns in tables {
            for (name, values) in columns.named {
                let model = found.models.iter().position(|model| *model == name).unwrap_or_else(|| {
                    found.models.push(name);
                    found.models.len() - 1
                });
                for (row, p) in columns.rows.iter().zip(values) {
                    let models = found.rows.entry(*row).or_default();
                    // A model says the same of a row in every table.
                    if models.iter().all(|(other, _)| *other != model) {
                        models.push((model, p));
                    }
                }
            }
        }
        found
    }
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

    /// `of_item`: training ratings of each item.
    fn table(&self, title: &str, settings: &EvalSettings, data: DataOutput<'_>, of_item: &[u32]) -> Result<Section> {
        let models: Vec<(&str, &[f64])> = self.named.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        // A table that lacks the row of the recipe's choice has the first one as its reference.
        let wanted = settings.reference.as_str();
        let reference = if models.iter().any(|m| m.0 == wanted) { wanted } else { rows::GLOBAL_MEAN };
        let labels: Vec<bool> = self.rows.iter().map(|&r| data.sample(r).label).collect();
        let users: Vec<u32> = self.rows.iter().map(|&r| data.sample(r).user.0).collect();
        let items: Vec<u32> = self.rows.iter().map(|&r| data.sample(r).item.0).collect();
        let ratings: Vec<u32> = self.rows.iter().map(|&r| of_item[data.sample(r).item.at()]).collect();
        let apart = EvalRows { labels: &labels, users: &users, items: &items };
        // Rows of an item that nobody rated share all that is known of it: its words.
        let cold = ratings.iter().all(|ratings| *ratings == 0);
        let rows = if cold { apart } else { EvalRows { items: &[], ..apart } };
        let table = Table::build("test", rows, &models, Some(reference), settings)?;
        let slices = slices::slices(apart, &ratings, &models)?;
        Ok(Section { title: title.into(), table, published: None, slices })
    }
}

/// The same by the names of users, items and models.
fn row_scores(predicted: &Predicted, data: DataOutput<'_>) -> Vec<RowScores> {
    let told = |(&row, models): (&usize, &Vec<(usize, f64)>)| {
        let sample = data.sample(row);
        RowScores {
            user: data.dataset.users[sample.user.at()].raw.0.clone(),
            item: data.dataset.items[sample.item.at()].raw.0.clone(),
            time: sample.time,
            label: sample.label,
            p: models.iter().map(|&(model, p)| (predicted.models[model].clone(), p)).collect(),
        }
    };
    predicted.rows.iter().map(told).collect()
}

/// All that was predicted, and the baselines without a language model, fitted on training rows
/// only.
struct Evaluation<'a> {
    settings: &'a EvaluateSettings<'a>,
    data: DataOutput<'a>,
    base: Baselines,
    lightgcn: GraphBaseline<'a>,
    features: &'a Features,
    fitted: &'a FittedBaselines,
    main: &'a Predictions,
    ablation: &'a Predictions,
    zero_shot: &'a Predictions,
    experts: Option<&'a Opinions>,
    reasoning: &'a Reasoning,
    merged: &'a MergeOutcome,
}

impl<'a> Evaluation<'a> {
    fn new(settings: &'a EvaluateSettings<'a>, inputs: &EvaluateInputs<'a>) -> Result<Self> {
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let train = data.samples.part(Part::Train);
        let colla = inputs.colla.get()?;
        Ok(Self {
            settings,
            data,
            base: Baselines::fit(data.dataset.items.len(), train, &BaselineSettings::default())?,
            lightgcn: GraphBaseline::fit(&colla.users, &colla.items, train, settings.evaluate.seed)?,
            features: inputs.features.get()?,
            fitted: inputs.baselines.get()?,
            main: inputs.main.get()?,
            ablation: inputs.ablation.get()?,
            zero_shot: inputs.zero_shot.get()?,
            experts: inputs.experts.map(Made::get).transpose()?,
            reasoning: inputs.reasoning.get()?,
            merged: inputs.merged.get()?,
        })
    }

    fn add_baselines(&self, columns: &mut Columns) {
        let (data, threshold) = (self.data, self.settings.threshold);
        columns.add(rows::GLOBAL_MEAN, |_| Some(self.base.global()));
        columns.add(rows::ITEM_MEAN, |row| Some(self.base.item(data.sample(row).item)));
        columns.add(rows::ITEM_AND_HISTORY, |row| {
            let sample = data.sample(row);
            Some(self.base.predict(sample.item, data.samples.history(sample), |r| r > threshold))
        });
        columns.add(rows::EXPOSURE, |row| Some(self.lightgcn.predict(data.sample(row))));
        for (at, name) in rows::FITTED.into_iter().enumerate() {
            columns.add(name, |row| self.fitted.p(at, Set::Test, row));
        }
        columns.add(rows::FEATURES, |row| self.features.p(Set::Test, row));
        for (name, experts) in self.experts.iter().flat_map(|all| all.names().map(move |name| (name, all))) {
            columns.add(name, |row| experts.p(name, Set::Test, row));
        }
    }

    /// The columns of every table, with its title, the main one first.
    fn columns(&self) -> Vec<(&'static str, Columns)> {
        let Self { main, merged, reasoning, .. } = self;
        let tuned = |row: usize| main.p(Set::Test, row, Variant::Main);
        let zero_shot = |row: usize| self.zero_shot.p(Set::Test, row, Variant::Main);
        let by_row =
            |rows: &[(usize, Merged)]| -> HashMap<usize, f64> { rows.iter().map(|(r, m)| (*r, m.p)).collect() };
        let (merged_p, bare_p) = (by_row(&merged.test), by_row(&merged.without_hint));
        let mean_of = |samples: &reason::Samples, row: usize| {
            let samples = samples.get(&(Set::Test, row))?;
            Some(samples.iter().map(|s| s.p).sum::<f64>() / samples.len() as f64)
        };
        let experts: HashMap<usize, f64> = merged.experts.iter().flat_map(|e| e.test.iter().copied()).collect();
        let experts_p = |row: usize| experts.get(&row).copied();
        let experts_name = rows::merged_of(merged.experts.as_ref().map_or(0, |e| e.alphas.len()));
        let mut sections = Vec::new();
        let test = main.labelled(Set::Test).0;
        let with_merge: Vec<usize> = merged.test.iter().map(|(row, _)| *row).collect();
        let all = with_merge.len() == test.len();

        let mut first = Columns::new(with_merge);
        self.add_baselines(&mut first);
        first.add(rows::ZERO_SHOT, zero_shot);
        first.add(rows::TUNED, tuned);
        first.add(rows::REASONING, |row| mean_of(&reasoning.rows, row));
        first.add(rows::MERGED, |row| merged_p.get(&row).copied());
        let plain_mean = |rows: &[(usize, Merged)]| -> HashMap<usize, f64> {
            let of = |(row, m): &(usize, Merged)| (*row, f64::midpoint(m.mean_tuned, m.mean_reasoning));
            if merged.chosen.plain_mean { rows.iter().map(of).collect() } else { HashMap::new() }
        };
        let (plain, plain_bare) = (plain_mean(&merged.test), plain_mean(&merged.without_hint));
        first.add(rows::PLAIN_MEAN, |row| plain.get(&row).copied());
        first.add(rows::REASONING_BARE, |row| mean_of(&reasoning.without_hint, row));
        first.add(rows::REASONING_RECENT, |row| mean_of(&reasoning.without_retrieval, row));
        first.add(rows::MERGED_BARE, |row| bare_p.get(&row).copied());
        first.add(rows::PLAIN_MEAN_BARE, |row| plain_bare.get(&row).copied());
        first.add(&experts_name, experts_p);
        if !first.rows.is_empty() {
            let title = if all { "Test rows" } else { "Test rows with reasoning samples" };
            sections.push((title, first));
        }
        if !all {
            let mut wide = Columns::new(test.clone());
            self.add_baselines(&mut wide);
            wide.add(rows::ZERO_SHOT, zero_shot);
            wide.add(rows::TUNED, tuned);
            wide.add(&experts_name, experts_p);
            sections.push(("All test rows, without reasoning", wide));
        }
        let shown = |variant: Variant| move |row: usize| self.ablation.p(Set::Test, row, variant);
        let usual = &Variant::ABLATION[..Variant::USUAL];
        let scored = |row: &usize| usual.iter().all(|&v| shown(v)(*row).is_some());
        let mut ablation = Columns::new(test.into_iter().filter(scored).collect());
        if !ablation.rows.is_empty() {
            self.add_baselines(&mut ablation);
            ablation.add(rows::ZERO_SHOT, zero_shot);
            ablation.add(rows::TUNED_AS_RECIPE, tuned);
            for variant in Variant::ABLATION {
                ablation.add(&rows::tuned_on(variant.title()), shown(variant));
            }
            sections.push((HISTORIES, ablation));
        }
        sections
    }
}
