//! `graph`: training interactions to LightGCN embeddings.

use std::collections::BTreeMap;

use super::data::Ground;
use crate::config::Recipe;
use crate::data::{GraphEdges, ItemIdx, Part, UserIdx, graph_edges, leaks};
use crate::device::Device;
use crate::error::Result;
use crate::events::StageId;
use crate::models::lightgcn::{self, Graph};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::matrices;
use crate::pipeline::run::Run;
use crate::tensor::Matrix;

/// LightGCN's rows.
pub struct Collaborative {
    /// Users x dim.
    pub users: Matrix,
    /// Items x dim; zero rows for items outside the graph.
    pub items: Matrix,
    /// The artifact.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn graph(run: &Run, recipe: &Recipe, device: &Device, ground: &Ground) -> Result<Collaborative> {
    let key = KeyBuilder::new(StageId::Graph.name(), 1)
        .input("data", &ground.artifact.key)
        .settings("graph", &recipe.graph)?
        .finish();
    let artifact = run.stage(StageId::Graph, &key, |work| {
        let edges = graph_edges(&ground.dataset, &ground.samples, recipe.graph.edges);
        let allowed = leaks::Allowed {
            later_edges: recipe.graph.edges == GraphEdges::LeaveOneOut,
            target_in_history: true,
            ..Default::default()
        };
        let inputs = leaks::Inputs { samples: &ground.samples, edges: Some(&edges), selection: None, allowed };
        leaks::check(inputs, work.monitor)?;
        let graph = Graph::new(ground.dataset.users.len(), ground.dataset.items.len(), &edges)?;
        // Ranking is judged on what validation users took next; users without edges have no embedding to judge.
        let mut valid: BTreeMap<UserIdx, Vec<ItemIdx>> = BTreeMap::new();
        for sample in ground.samples.part(Part::Valid) {
            if graph.nodes_of(sample.user).is_empty() || !graph.has_item(sample.item) {
                continue;
            }
            let items = valid.entry(sample.user).or_default();
            if !items.contains(&sample.item) {
                items.push(sample.item);
            }
        }
        let valid: Vec<_> = valid.into_iter().collect();
        let settings = &recipe.graph.lightgcn;
        let found = lightgcn::train(device, &graph, &valid, settings, Some(work.folder), work.monitor)?;
        matrices::write(
            &work.folder.join("embeddings.safetensors"),
            &[("users", &found.users), ("items", &found.items)],
        )
    })?;
    let file = artifact.file("embeddings.safetensors");
    Ok(Collaborative { users: matrices::read(&file, "users")?, items: matrices::read(&file, "items")?, artifact })
}
