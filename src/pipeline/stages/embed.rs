//! `embed`: item texts to vectors, pooled over their real tokens, each distinct text read once.
//!
//! The embedding of the plain texts alone is an artifact of its own, made only where retrieval asks
//! for `txt`.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;

use crate::config::{Embed as Section, Pooling, Recipe};
use crate::content::Content;
use crate::data::{Dataset, Descriptions};
use crate::durable::Appending;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::generate;
use crate::lm::{Clip, View};
use crate::memory;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::matrices;
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::tensor::Matrix;
use crate::text::item_text::{Genres, TextSource, texts};

/// Embeds the texts of the items.
pub struct Embed;

/// What `embed` sees of the recipe.
#[derive(Debug, Clone, Serialize)]
pub struct EmbedSettings {
    source: TextSource,
    pooling: Pooling,
    max_tokens: usize,
    description_tokens: usize,
}

impl EmbedSettings {
    /// Takes them out of a recipe.
    pub fn of(recipe: &Recipe) -> Self {
        let Section { source, pooling, max_tokens, description_tokens } = recipe.embed;
        let description_tokens = if source == TextSource::Plain { 0 } else { description_tokens };
        Self { source, pooling, max_tokens, description_tokens }
    }

    /// The same for the plain texts alone.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { source: TextSource::Plain, description_tokens: 0, ..self }
    }

    /// Descriptions are read.
    pub fn reads_descriptions(&self) -> bool {
        self.source != TextSource::Plain
    }

    /// Most tokens of an item's text number `part` of `parts`. Descriptions stand last; plain texts
    /// alone have none behind them.
    fn limit(&self, part: usize, parts: usize) -> usize {
        let described = self.reads_descriptions() && part + 1 == parts;
        match self.description_tokens {
            shorter if described && shorter > 0 => shorter.min(self.max_tokens),
            _ => self.max_tokens,
        }
    }
}

/// What `embed` reads.
pub struct EmbedInputs<'a> {
    /// Items, users, interactions.
    pub tables: &'a Made<Dataset>,
    /// Their descriptions, where they are embedded.
    pub descriptions: Option<&'a Made<Descriptions>>,
    /// The model.
    pub model: View<'a>,
}

impl Inputs for EmbedInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([("tables", Some(self.tables.content())), ("descriptions", self.descriptions.map(Made::content))])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("model", self.model.identity()?)])
    }
}

impl Stage for Embed {
    const ID: StageId = StageId::Embed;
    const VERSION: u32 = 1;
    type Settings<'r> = EmbedSettings;
    type Inputs<'a> = EmbedInputs<'a>;
    /// Items x width (hidden size times the texts of an item).
    type Output = Matrix;

    fn run(settings: &EmbedSettings, inputs: &EmbedInputs<'_>, work: &Work<'_>) -> Result<()> {
        let none = Descriptions::default();
        let descriptions = inputs.descriptions.map_or(Ok(&none), Made::get)?;
        let all = texts(inputs.tables.get()?, descriptions, settings.source, Genres::First);
        let parts = settings.source.parts();
        let clips: Vec<Clip<'_>> = (all.iter())
            .flat_map(|item| item.iter().enumerate())
            .map(|(part, text)| Clip { text, most_tokens: settings.limit(part, parts) })
            .collect();
        let pooling = match settings.pooling {
            Pooling::Mean => generate::Pooling::Mean,
            Pooling::Last => generate::Pooling::Last,
        };
        let model = inputs.model.open(work.device)?;
        let hidden = model.hidden();
        let path = work.folder.join("vectors.f32");
        let bytes = 4 * (clips.len() as u64).saturating_mul(hidden as u64);
        memory::ask("vectors of the items", bytes, "use a smaller model, or keep fewer items by data.core.top_items")?;
        let mut vectors = Matrix::zeros(clips.len(), hidden);
        let known = read_vectors(&path, &mut vectors)?;
        let mut file = Appending::open(&path, (known.len() * record(hidden)) as u64)?;
        model.embed(&clips, pooling, &|text| known.contains(&text), work.monitor, &mut |text, vector| {
            vectors.row_mut(text).copy_from_slice(vector);
            let mut bytes = (text as u32).to_le_bytes().to_vec();
            bytes.extend_from_slice(bytemuck::cast_slice(vector));
            bytes.extend_from_slice(&sum(&bytes));
            file.append(&bytes)
        })?;
        // The vectors of an item's texts lie side by side.
        let text = Matrix::from_vec(all.len(), hidden * parts, vectors.into_vec())?;
        matrices::write(&work.folder.join("text.safetensors"), &[("text", &text)])?;
        std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove the working file", &e))
    }

    fn load(artifact: &Artifact) -> Result<Matrix> {
        matrices::read(&artifact.file("text.safetensors"), "text")
    }
}

/// Bytes of one text in the working file: its number, its vector, their sum.
fn record(width: usize) -> usize {
    4 + 4 * width + SUM
}

/// Bytes of a sum.
const SUM: usize = 8;

/// A hash by which a damaged record is known: a power cut may leave zeros in its place.
fn sum(record: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    sum.copy_from_slice(&blake3::hash(record).as_bytes()[..SUM]);
    sum
}

/// Puts the whole records of an earlier try in their places, up to the first that is damaged;
/// returns whose they are.
fn read_vectors(path: &Path, vectors: &mut Matrix) -> Result<HashSet<usize>> {
    let mut known = HashSet::new();
    if !path.exists() {
        return Ok(known);
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read the file", &e))?;
    for record in bytes.chunks_exact(record(vectors.cols())) {
        let (record, own) = record.split_at(record.len() - SUM);
        let (number, vector) = record.split_at(4);
        let text = number.try_into().map_or(usize::MAX, |n| u32::from_le_bytes(n) as usize);
        if own != sum(record) || text >= vectors.rows() || known.contains(&text) {
            break;
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(vector);
        vectors.row_mut(text).copy_from_slice(&values);
        known.insert(text);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Local, Options};

    #[test]
    fn descriptions_and_other_texts_have_limits_of_their_own_in_tokens() {
        let model = Local::load(crate::store::builtin::NAME, &Options::default()).unwrap();
        let text = "a long and winding story of a town by the sea and of all who lived there";
        let whole = model.tokenizer.encode(text, true).unwrap();
        assert!(whole.len() > 12, "{}", whole.len());
        let lengths = |source, max_tokens, description_tokens| {
            let settings = EmbedSettings { source, pooling: Pooling::Mean, max_tokens, description_tokens };
            let parts = source.parts();
            let ids = (0..parts).map(|part| {
                let ids = model.clip(&Clip { text, most_tokens: settings.limit(part, parts) }).unwrap();
                assert!(whole.starts_with(&ids), "the beginning is kept");
                ids.len()
            });
            ids.collect::<Vec<_>>()
        };
        let all = whole.len();
        assert_eq!(lengths(TextSource::Both, 512, 0), [all, all]);
        assert_eq!(lengths(TextSource::Both, 512, 5), [all, 5]);
        assert_eq!(lengths(TextSource::Both, 7, 5), [7, 5]);
        assert_eq!(lengths(TextSource::Both, 5, 7), [5, 5]);
        assert_eq!(lengths(TextSource::Description, 512, 5), [5]);
        assert_eq!(lengths(TextSource::Plain, 512, 5), [all]);
    }

    #[test]
    fn a_torn_row_of_an_earlier_try_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors.f32");
        let row = |text: u32, x: f32| {
            let row = [&text.to_le_bytes()[..], bytemuck::cast_slice(&[x, -x])].concat();
            [&row[..], &sum(&row)].concat()
        };
        let bytes = [row(2, 1.5), row(0, 2.5), row(1, 3.5)].concat();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut vectors = Matrix::zeros(3, 2);
            let known = read_vectors(&path, &mut vectors).unwrap();
            assert_eq!(known.len(), cut / record(2));
            if known.len() > 1 {
                assert_eq!((vectors.row(2), vectors.row(0)), (&[1.5, -1.5][..], &[2.5, -2.5][..]));
            }
        }
        // Rows behind a damaged one are done again: zeros in its place would be a vector of text 0.
        for damaged in [row(3, 0.0), vec![0; record(2)]] {
            std::fs::write(&path, [row(2, 1.5), damaged, row(1, 3.5)].concat()).unwrap();
            assert_eq!(read_vectors(&path, &mut Matrix::zeros(3, 2)).unwrap(), HashSet::from([2]));
        }
    }
}
