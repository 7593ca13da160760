//! `graph`: training interactions to LightGCN embeddings.

use std::collections::BTreeMap;

use crate::config;
use crate::content::Content;
use crate::data::{Dataset, GraphEdges, ItemIdx, Part, Samples, UserIdx, graph_edges, leaks};
use crate::error::Result;
use crate::events::StageId;
use crate::models::lightgcn::{self, Graph as Edges};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::matrices;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::tensor::Matrix;

/// Trains LightGCN on the interaction graph.
pub struct Graph;

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
    fn contents(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("tables", self.tables.content()), ("samples", self.samples.content())])
    }
}

const FILE: &str = "embeddings.safetensors";

impl Stage for Graph {
    const ID: StageId = StageId::Graph;
    const VERSION: u32 = 1;
    type Settings<'r> = &'r config::Graph;
    type Inputs<'a> = GraphInputs<'a>;
    type Output = Collaborative;

    fn run(settings: &&config::Graph, inputs: &GraphInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (dataset, samples) = (inputs.tables.get()?, inputs.samples.get()?);
        let edges = graph_edges(dataset, samples, settings.edges);
        let allowed = leaks::Allowed {
            later_edges: settings.edges == GraphEdges::LeaveOneOut,
            target_in_history: true,
            ..Default::default()
        };
        leaks::check(leaks::Inputs { samples, edges: Some(&edges), selection: None, allowed }, work.monitor)?;
        let graph = Edges::new(dataset.users.len(), dataset.items.len(), &edges)?;
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
