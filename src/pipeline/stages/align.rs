//! `align`: the projector that maps text embeddings into the collaborative space (SSL embedding).

use super::graph::Collaborative;
use crate::config::Recipe;
use crate::content::Content;
use crate::data::ItemIdx;
use crate::durable;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::models::projector;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::matrices;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::tensor::Matrix;

/// Trains the projector from text embeddings to LightGCN's space.
pub struct Align;

/// What it sees of the recipe; keys that nothing is made of are at their defaults.
pub fn settings(recipe: &Recipe) -> projector::ProjectorSettings {
    let own = recipe.align.clone();
    if own.projection == projector::Projection::Attention {
        return own;
    }
    projector::ProjectorSettings { tokens: projector::ProjectorSettings::default().tokens, ..own }
}

/// What `align` reads.
pub struct AlignInputs<'a> {
    /// Text embeddings.
    pub text: &'a Made<Matrix>,
    /// LightGCN embeddings.
    pub colla: &'a Made<Collaborative>,
}

impl Inputs for AlignInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("text", self.text.content()), ("graph", self.colla.content())]
    }
}

impl Stage for Align {
    const ID: StageId = StageId::Align;
    const VERSION: u32 = 1;
    const NOTES: &'static [&'static str] = &["align.json"];
    type Settings<'r> = projector::ProjectorSettings;
    type Inputs<'a> = AlignInputs<'a>;
    /// SSL embeddings, items x dim.
    type Output = Matrix;

    fn run(settings: &projector::ProjectorSettings, inputs: &AlignInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (text, items) = (inputs.text.get()?, &inputs.colla.get()?.items);
        let filled = |m: &Matrix, i: usize| m.row(i).iter().any(|&x| x != 0.0);
        let both: Vec<ItemIdx> =
            (0..text.rows()).filter(|&i| filled(text, i) && filled(items, i)).map(|i| ItemIdx(i as u32)).collect();
        let of = projector::Embeddings { text, colla: items, both: &both };
        let aligned = projector::train(work.device, of, settings, Some(work.folder), work.monitor)?;
        let summary = serde_json::json!({
            "items": both.len(), "before": aligned.before, "after": aligned.after, "history": aligned.history,
        });
        let json = serde_json::to_vec_pretty(&summary).map_err(|e| Error::failed("align.json", e))?;
        durable::write(&work.folder.join("align.json"), &json)?;
        matrices::write(&work.folder.join("ssl.safetensors"), &[("ssl", &aligned.ssl)])?;
        projector::forget(work.folder)
    }

    fn load(artifact: &Artifact) -> Result<Matrix> {
        matrices::read(&artifact.file("ssl.safetensors"), "ssl")
    }
}
