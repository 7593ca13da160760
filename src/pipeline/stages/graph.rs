//! `graph`: training interactions to LightGCN embeddings.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::config;
use crate::content::Content;
use crate::data::{Dataset, GraphEdges, ItemIdx, Kind, Part, Rated, Samples, UserIdx, graph_edges, leaks};
use crate::error::Result;
use crate::events::StageId;
use crate::models::lightgcn::{self, Graph as Edges};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::matrices;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::tensor::Matrix;

/// Trains LightGCN on the interaction graph.
pub struct Graph;

/// What `graph` sees of the recipe.
#[derive(Serialize)]
pub struct GraphSettings<'r> {
    #[serde(flatten)]
    graph: &'r config::Graph,
    /// Rows of the log weigh without being rated: heavier edges are drawn more often.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    weighed: bool,
}

impl<'r> GraphSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r config::Recipe) -> Self {
        let weighed = recipe.data.kind == Kind::TABLE && recipe.data.table.is_weighed();
        Self { graph: &recipe.graph, weighed }
    }
}

/// LightGCN's rows.
pub struct Collaborative {
    /// Users x dim.
    pub users: Matrix,
    /// Items x dim; zero rows for items outside the graph.
    pub items: Matrix,
}

/// What `graph` reads.
pub struct GraphInputs<'a> {
    /// Users and items.
    pub tables: &'a Made<Dataset>,
    /// The training interactions.
    pub samples: &'a Made<Samples>,
}

impl Inputs for GraphInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.tables.content()), ("samples", self.samples.content())]
    }
}

const FILE: &str = "embeddings.safetensors";

/// What each pair of a log without ratings weighs.
fn weights(samples: &Samples) -> HashMap<(UserIdx, ItemIdx), f32> {
    let own = |(user, timeline): (UserIdx, &Vec<Rated>)| -> Vec<_> {
        timeline.iter().map(|row| ((user, row.item), row.rating)).collect()
    };
    (0..).map(UserIdx).zip(&samples.timelines).flat_map(own).collect()
}

impl Stage for Graph {
    const ID: StageId = StageId::Graph;
    const VERSION: u32 = 1;
    type Settings<'r> = GraphSettings<'r>;
    type Inputs<'a> = GraphInputs<'a>;
    type Output = Collaborative;

    fn run(settings: &GraphSettings<'_>, inputs: &GraphInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (dataset, samples) = (inputs.tables.get()?, inputs.samples.get()?);
        let GraphSettings { graph: settings, weighed } = settings;
        let edges = graph_edges(dataset, samples, settings.edges);
        let allowed = leaks::Allowed {
            later_edges: settings.edges == GraphEdges::LeaveOneOut,
            target_in_history: true,
            ..Default::default()
        };
        leaks::check(leaks::Inputs { samples, edges: Some(&edges), selection: None, allowed }, work.monitor)?;
        let mut graph = Edges::new(dataset.users.len(), dataset.items.len(), &edges)?;
        if *weighed {
            let weights = weights(samples);
            graph = graph.weighed(|user, item| weights.get(&(user, item)).copied().unwrap_or(1.0))?;
        }
        // Ranking is judged on what validation users took next; users without edges have no
        // embedding to judge.
        let mut valid: BTreeMap<UserIdx, Vec<ItemIdx>> = BTreeMap::new();
        for sample in samples.part(Part::Valid) {
            if graph.nodes_of(sample.user).is_empty() || !graph.has_item(sample.item) {
                continue;
            }
            let items = valid.entry(sample.user).or_default();
            if !items.contains(&sample.item) {
                items.push(sample.item);
            }
        }
        let valid: Vec<_> = valid.into_iter().collect();
        let (lightgcn, folder) = (&settings.lightgcn, Some(work.folder));
        let found = lightgcn::train(work.device, &graph, &valid, lightgcn, folder, work.monitor)?;
        matrices::write(&work.folder.join(FILE), &[("users", &found.users), ("items", &found.items)])
    }

    fn load(artifact: &Artifact) -> Result<Collaborative> {
        let file = artifact.file(FILE);
        Ok(Collaborative { users: matrices::read(&file, "users")?, items: matrices::read(&file, "items")? })
    }
}
