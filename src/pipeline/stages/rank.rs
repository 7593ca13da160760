//! A part of `graph`: how well its vectors and other rankers order the catalogue, beside
//! popularity, on the users who like something that is held out; and which of them `recommend` is
//! to rank by.

use std::sync::Arc;

use rallrec_events::Event;
use rallrec_events::metric::{COVERAGE, RANKING};
use serde::Serialize;

use super::graph::Collaborative;
use crate::content::Content;
use crate::data::split::{HeldOut, held_out};
use crate::data::{Dataset, Part, Samples};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::ranking::{CUTS, RankingTable};
use crate::eval::rows;
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::retrieval::rankers::{Blend, Fitted, Kept, Ranker, Ratings, RecommendSettings, Sides, Weights, judge};
use crate::text::item_text::words;

/// Evaluates rankers.
pub struct Rank;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct RankSettings<'r> {
    /// A rating above it is a like.
    pub threshold: f32,
    /// The rankers.
    #[serde(flatten)]
    pub rankers: RankersSeen<'r>,
}

/// The rankers' settings without those of what comes after the figures.
pub struct RankersSeen<'r>(pub &'r RecommendSettings);

impl Serialize for RankersSeen<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let none = RecommendSettings::default();
        let RecommendSettings { fit, candidates, model_seconds, .. } = none;
        RecommendSettings { fit, candidates, model_seconds, ..self.0.clone() }.serialize(to)
    }
}

/// What it reads.
pub struct RankInputs<'a> {
    /// The catalogue.
    pub tables: &'a Made<Dataset>,
    /// What is held out.
    pub samples: &'a Made<Samples>,
    /// LightGCN embeddings.
    pub colla: &'a Made<Collaborative>,
}

impl Inputs for RankInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.tables.content()), ("samples", self.samples.content()), ("graph", self.colla.content())]
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub struct Ranked {
    /// Of validation and of test, where somebody likes something in them.
    pub tables: Vec<RankingTable>,
    /// What is worth knowing about them.
    pub notes: Vec<String>,
    /// What `recommend` ranks by.
    pub chosen: Chosen,
}

/// The ranker that validation shows to be the best.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Chosen {
    /// Its row in the tables.
    pub name: String,
    /// Rankers that it is made of, with their weights; itself where it is one of its own.
    pub parts: Weights,
    /// Of a blend: other weights for histories of fewer likes than this.
    #[serde(default)]
    pub few: Option<(usize, Weights)>,
    /// NDCG@10 on the validation part, its own and that of popularity; none without such a part.
    pub ndcg: Option<[f64; 2]>,
    /// The same on the test part, which had no part in the choice: of a blend, whose weights the
    /// validation users chose, the figure on these is flattering.
    #[serde(default)]
    pub test: Option<[f64; 2]>,
}

impl Chosen {
    /// The rankers that serve a history of so many likes, with their weights.
    pub fn parts(&self, likes: usize) -> &Weights {
        match &self.few {
            Some((below, few)) if likes < *below => few,
            _ => &self.parts,
        }
    }

    /// The names of all rankers that it is made of.
    pub fn wanted(&self) -> Vec<String> {
        let all = self.parts.iter().chain(self.few.iter().flat_map(|few| &few.1));
        all.map(|part| part.0.clone()).collect()
    }

    /// The best of a table; `None` for one that is empty.
    fn of(table: &RankingTable, blend: Option<&Blend>) -> Option<Self> {
        let value = |name: &str| table.row(name)?.value("ndcg@10");
        let mut best: Option<(&str, f64)> = None;
        for row in &table.rows {
            let Some(own) = value(&row.name) else { continue };
            // On equal terms the simpler one, which stands first.
            if best.is_none_or(|best| own > best.1) {
                best = Some((&row.name, own));
            }
        }
        let (name, own) = best?;
        let parts = match blend.filter(|_| name == rows::BLEND) {
            Some(blend) => blend.weights(),
            None => vec![(name.to_owned(), 1.0)],
        };
        let few = blend.filter(|_| name == rows::BLEND).and_then(Blend::few);
        Some(Self { name: name.to_owned(), parts, few, ndcg: Some([own, value(&table.reference)?]), test: None })
    }

    /// With its figure in the table of the test part.
    fn tested(mut self, tables: &[RankingTable]) -> Self {
        let table = tables.iter().find(|table| table.split == Part::Test.name());
        let value = |name: &str| table?.row(name)?.value("ndcg@10");
        self.test = table.and_then(|table| Some([value(&self.name)?, value(&table.reference)?]));
        self
    }

    /// Without validation users: the ranker that is the best on most data sets.
    fn unseen(fitted: &Fitted) -> Self {
        let order = [rows::EASE_RATED, rows::EASE, rows::FACTORS, rows::NEIGHBOURS, rows::LIGHTGCN];
        let name = order.into_iter().find(|name| fitted.named(name).is_some()).unwrap_or(rows::POPULARITY);
        Self { name: name.into(), parts: vec![(name.into(), 1.0)], few: None, ndcg: None, test: None }
    }

    /// In words.
    pub fn told(&self) -> String {
        let sum = |weights: &Weights| {
            let parts: Vec<String> = weights.iter().map(|(name, weight)| format!("{weight} {name}")).collect();
            parts.join(" + ")
        };
        let parts = match &self.few {
            Some((below, few)) => format!(" ({}; below {below} likes {})", sum(&self.parts), sum(few)),
            None if self.parts.len() > 1 => format!(" ({})", sum(&self.parts)),
            None => String::new(),
        };
        let test = self.test.map(|[own, other]| format!("{own:.4} on the test part (popularity {other:.4})"));
        match self.ndcg {
            Some([own, popularity]) => format!(
                "`recommend` ranks by {}{parts}: NDCG@10 {own:.4} on the validation part, which chose it \
                 (popularity {popularity:.4}){}",
                self.name,
                test.map_or_else(String::new, |test| format!(", {test}"))
            ),
            None => format!(
                "`recommend` ranks by {}: no validation user shows which ranker is the best{}",
                self.name,
                test.map_or_else(String::new, |test| format!("; NDCG@10 {test}"))
            ),
        }
    }
}

const FILE: &str = "ranking.json";

impl Stage for Rank {
    const ID: StageId = StageId::Graph;
    const VERSION: u32 = 4;
    type Settings<'r> = RankSettings<'r>;
    type Inputs<'a> = RankInputs<'a>;
    type Output = Ranked;

    fn run(settings: &RankSettings<'_>, inputs: &RankInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (dataset, samples) = (inputs.tables.get()?, inputs.samples.get()?);
        let Collaborative { users, items } = inputs.colla.get()?;
        let (threshold, own, catalogue) = (settings.threshold, settings.rankers.0, dataset.items.len());
        let ratings = Ratings::training(dataset, samples, threshold);
        let sides = Sides { graph: (users, items), words: Some(Arc::new(words(dataset, None))) };
        let fitted = Fitted::fit(&ratings, own, sides, None, Kept::default(), work.monitor)?;
        let mut ranked = Ranked { notes: fitted.notes.clone(), ..Ranked::default() };
        for note in &fitted.notes {
            work.monitor.warn(note, "item-kNN compares items without such a table");
        }
        let valid = held_out(samples, Part::Valid, threshold);
        let blend = if valid.is_empty() || own.blend_users == 0 {
            None
        } else {
            let step = valid.len().div_ceil(own.blend_users);
            let some: Vec<_> = valid.iter().step_by(step).cloned().collect();
            let blend = Blend::choose(&fitted.rankers, &some, catalogue, threshold, work.monitor)?;
            (blend.weights().len() > 1 || blend.few().is_some()).then_some(blend)
        };
        let rankers = || fitted.rankers.iter().map(|ranker| &**ranker as &dyn Ranker);
        let rankers: Vec<&dyn Ranker> = rankers().chain(blend.iter().map(|blend| blend as &dyn Ranker)).collect();
        for part in [Part::Valid, Part::Test] {
            let asked = held_out(samples, part, threshold);
            if asked.is_empty() {
                continue;
            }
            let popularity = &fitted.popularity;
            ranked.tables.push(judge(&rankers, popularity, &asked, part, catalogue, work.device, work.monitor)?);
            let untrained = |user: &&HeldOut<'_>| ratings.by_user[user.user.at()].is_empty();
            let unknown = asked.iter().filter(untrained).count();
            if unknown > 0 {
                ranked.notes.push(format!(
                    "ranking, {} part: {unknown} of {} users have no training row; they are folded in by what they \
                     met before",
                    part.name(),
                    asked.len()
                ));
            }
        }
        let valid = ranked.tables.iter().find(|table| table.split == Part::Valid.name());
        let chosen = valid.and_then(|table| Chosen::of(table, blend.as_ref()));
        ranked.chosen = chosen.unwrap_or_else(|| Chosen::unseen(&fitted)).tested(&ranked.tables);
        tell(&ranked, work);
        ranked.notes.extend(behind(&ranked));
        ranked.notes.push(ranked.chosen.told());
        let json = serde_json::to_vec(&ranked).map_err(|e| Error::failed(FILE, e))?;
        durable::write(&work.folder.join(FILE), &json)
    }

    fn load(artifact: &Artifact) -> Result<Ranked> {
        artifact.json(FILE, "run the stage again: --from graph")
    }
}

/// What says that the chosen ranker, or LightGCN, falls behind popularity: the first by any part,
/// the second by the first part.
fn behind(ranked: &Ranked) -> Vec<String> {
    let chosen = &ranked.chosen.name;
    let own = ranked.tables.iter().filter_map(|table| table.falls_behind(chosen));
    let graph = ranked.tables.first().filter(|_| chosen != rows::LIGHTGCN);
    own.chain(graph.and_then(|table| table.falls_behind(rows::LIGHTGCN))).collect()
}

fn tell(ranked: &Ranked, work: &Work<'_>) {
    // Those of validation are told by the training, epoch by epoch.
    let test = ranked.tables.iter().find(|table| table.split == Part::Test.name());
    let row = test.and_then(|table| table.row(rows::LIGHTGCN));
    // The longest lists last, and of these recall: what papers report stands at the end.
    for cut in CUTS {
        for metric in RANKING.into_iter().chain([&COVERAGE]).rev() {
            let name = format!("{}@{cut}", metric.name);
            let Some(value) = row.and_then(|row| row.value(&name)) else { continue };
            let (stage, split) = (work.monitor.stage().into(), Part::Test.name().into());
            work.monitor.emit(Event::Metric { stage, name, split, value, epoch: None, best: false });
        }
    }
    for behind in behind(ranked) {
        let next = if behind.starts_with(rows::LIGHTGCN) {
            "train longer or with another graph.lightgcn.learning_rate"
        } else {
            "give the validation part more users (data.split), so that the choice rests on more of them"
        };
        work.monitor.warn(&behind, next);
    }
}
