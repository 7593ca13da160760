//! A part of `graph`: how well its vectors rank the catalogue, beside popularity, on the users who
//! like something that is held out.

use rallrec_events::Event;
use rallrec_events::metric::{COVERAGE, RANKING};
use serde::Serialize;

use super::graph::Collaborative;
use crate::content::Content;
use crate::data::split::held_out;
use crate::data::{Dataset, GraphEdges, Part, Samples, graph_edges};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::ranking::{CUTS, RankingTable};
use crate::eval::rows;
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::retrieval::rankers::{LightGcn, Popularity, Ranker, judge};

/// Evaluates rankers.
pub struct Rank;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct RankSettings {
    /// A rating above it is a like.
    pub threshold: f32,
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
}

const FILE: &str = "ranking.json";

impl Stage for Rank {
    const ID: StageId = StageId::Graph;
    const VERSION: u32 = 1;
    type Settings<'r> = RankSettings;
    type Inputs<'a> = RankInputs<'a>;
    type Output = Ranked;

    fn run(settings: &RankSettings, inputs: &RankInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (dataset, samples) = (inputs.tables.get()?, inputs.samples.get()?);
        let Collaborative { users, items } = inputs.colla.get()?;
        let pairs = graph_edges(dataset, samples, GraphEdges::TrainSplit);
        let popularity = Popularity::new(dataset.items.len(), &pairs);
        let lightgcn = LightGcn::new(users.clone(), items)?;
        // The reference first. Other rankers are added here.
        let rankers: [&dyn Ranker; 2] = [&popularity, &lightgcn];
        let mut ranked = Ranked::default();
        for part in [Part::Valid, Part::Test] {
            let asked = held_out(samples, part, settings.threshold);
            if asked.is_empty() {
                continue;
            }
            let catalogue = dataset.items.len();
            ranked.tables.push(judge(&rankers, &popularity, &asked, part, catalogue, work.device, work.monitor)?);
            let unknown = lightgcn.unknown(&asked);
            if unknown > 0 {
                ranked.notes.push(format!(
                    "ranking, {} part: {unknown} of {} users have no training row; LightGCN ranks by popularity for them",
                    part.name(),
                    asked.len()
                ));
            }
        }
        tell(&ranked, work);
        ranked.notes.extend(behind(&ranked));
        let json = serde_json::to_vec(&ranked).map_err(|e| Error::failed(FILE, e))?;
        durable::write(&work.folder.join(FILE), &json)
    }

    fn load(artifact: &Artifact) -> Result<Ranked> {
        let path = artifact.file(FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read the file", &e))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::input(path.display(), e).next("run the stage again: --from graph"))
    }
}

/// What says that LightGCN falls behind popularity: by validation, or by test where there is none.
fn behind(ranked: &Ranked) -> Option<String> {
    ranked.tables.first().and_then(|table| table.falls_behind(rows::LIGHTGCN))
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
    if let Some(behind) = behind(ranked) {
        let next = "train longer or with another graph.lightgcn.learning_rate; `recommend` ranks by it";
        work.monitor.warn(&behind, next);
    }
}
