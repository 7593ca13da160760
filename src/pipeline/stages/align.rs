//! `align`: the projector that maps text embeddings into the collaborative space (SSL embedding).

use super::data::Ground;
use super::embed::Embedded;
use super::graph::Collaborative;
use crate::config::Recipe;
use crate::data::ItemIdx;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::models::projector;
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::matrices;
use crate::pipeline::run::Run;
use crate::tensor::Matrix;

/// SSL embeddings.
pub struct AlignedItems {
    /// Items x dim.
    pub ssl: Matrix,
    /// The artifact.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn align(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    text: &Embedded,
    colla: &Collaborative,
) -> Result<AlignedItems> {
    let key = KeyBuilder::new(StageId::Align.name(), 1)
        .input("data", &ground.artifact.key)
        .input("embed", &text.artifact.key)
        .input("graph", &colla.artifact.key)
        .settings("align", &recipe.align)?
        .finish();
    let artifact = run.stage(StageId::Align, &key, |work| {
        let filled = |m: &Matrix, i: usize| m.row(i).iter().any(|&x| x != 0.0);
        let both: Vec<ItemIdx> = (0..ground.dataset.items.len())
            .filter(|&i| filled(&text.text, i) && filled(&colla.items, i))
            .map(|i| ItemIdx(i as u32))
            .collect();
        let of = projector::Embeddings { text: &text.text, colla: &colla.items, both: &both };
        let aligned = projector::train(device, of, &recipe.align, Some(work.folder), work.monitor)?;
        let summary = serde_json::json!({
            "items": both.len(), "before": aligned.before, "after": aligned.after, "history": aligned.history,
        });
        let json = serde_json::to_vec_pretty(&summary).map_err(|e| Error::failed("align.json", e))?;
        write_atomically(&work.folder.join("align.json"), &json)?;
        matrices::write(&work.folder.join("ssl.safetensors"), &[("ssl", &aligned.ssl)])?;
        projector::forget(work.folder)
    })?;
    Ok(AlignedItems { ssl: matrices::read(&artifact.file("ssl.safetensors"), "ssl")?, artifact })
}
