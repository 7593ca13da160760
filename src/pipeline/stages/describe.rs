//! `describe`: item descriptions, written by the model, read from a file, or none.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;

use crate::config::{DescribeSource, Recipe};
use crate::content::Content;
use crate::data::descriptions::{self, DescriptionRow, Descriptions};
use crate::data::{self, Dataset, ItemIdx, Kind};
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::generate;
use crate::lm::{Answer, Ask, Listener, Reading, View};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::text::prompts::{clean_description, description};

/// Gives every item a description.
pub struct Describe;

/// What `describe` sees of the recipe.
#[derive(Serialize)]
pub enum DescribeSettings<'r> {
    /// Written by the model.
    Written {
        /// Descriptions are cut after this many words; 0 keeps them whole.
        words: usize,
        /// Sampling.
        temperature: f32,
        /// Nucleus.
        top_p: f64,
        /// Fewest new tokens.
        min_tokens: usize,
        /// Most new tokens.
        max_tokens: usize,
        /// Of the draws.
        seed: u64,
    },
    /// Read from a file, or the built-in set's own.
    Read {
        /// Descriptions are cut after this many words; 0 keeps them whole.
        words: usize,
        /// The built-in set, where there is no file.
        built_in: Option<&'r data::synthetic::Settings>,
    },
    /// None.
    None,
}

impl<'r> DescribeSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let own = &recipe.describe;
        match own.source {
            DescribeSource::Model => Self::Written {
                words: own.words,
                temperature: own.temperature,
                top_p: own.top_p,
                min_tokens: own.min_tokens,
                max_tokens: own.max_tokens,
                seed: own.seed,
            },
            DescribeSource::File => {
                let built_in = own.file.is_none() && recipe.data.kind == Kind::SYNTHETIC;
                Self::Read { words: own.words, built_in: built_in.then_some(&recipe.data.synthetic) }
            }
            DescribeSource::None => Self::None,
        }
    }
}

/// What `describe` reads.
pub struct DescribeInputs<'a> {
    /// Items, users, interactions.
    pub tables: &'a Made<Dataset>,
    /// The model that writes.
    pub model: Option<View<'a>>,
    /// The file with descriptions.
    pub file: Option<&'a Path>,
}

impl Inputs for DescribeInputs<'_> {
    fn contents(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(contents([
            ("tables", Some(self.tables.content())),
            ("model", self.model.map(|m| m.identity()).transpose()?),
            ("file", self.file.map(Content::of_path).transpose()?),
        ]))
    }
}

/// One line an item, in the order of the catalogue; empty where there is none.
const FILE: &str = "descriptions.jsonl";

impl Stage for Describe {
    const ID: StageId = StageId::Describe;
    const VERSION: u32 = 2;
    type Settings<'r> = DescribeSettings<'r>;
    type Inputs<'a> = DescribeInputs<'a>;
    /// In the order of the catalogue.
    type Output = Descriptions;

    fn run(settings: &DescribeSettings<'_>, inputs: &DescribeInputs<'_>, work: &Work<'_>) -> Result<()> {
        let dataset = inputs.tables.get()?;
        let found = match settings {
            DescribeSettings::Written { .. } => return write(settings, inputs, dataset, work),
            DescribeSettings::Read { words, built_in } => {
                let settings = data::Settings {
                    kind: if built_in.is_some() { Kind::SYNTHETIC } else { Kind::TABLE },
                    synthetic: (*built_in).cloned().unwrap_or_default(),
                    ..data::Settings::default()
                };
                descriptions::load(&settings, inputs.file, *words, dataset, work.monitor)?.texts
            }
            DescribeSettings::None => vec![None; dataset.items.len()],
        };
        let rows = dataset.items.iter().zip(found);
        keep(work, rows.map(|(item, text)| DescriptionRow { item: item.raw.clone(), text: text.unwrap_or_default() }))
    }

    fn load(artifact: &Artifact) -> Result<Descriptions> {
        let rows: Vec<DescriptionRow> = read_rows(&artifact.file(FILE))?;
        let texts: Vec<_> = rows.into_iter().map(|r| Some(r.text).filter(|t| !t.is_empty())).collect();
        let missing = texts.iter().filter(|t| t.is_none()).count();
        Ok(Descriptions { texts, missing, ..Default::default() })
    }
}

fn keep(work: &Work<'_>, rows: impl Iterator<Item = DescriptionRow>) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, &row).map_err(|e| Error::failed(FILE, e))?;
        text.push(b'\n');
    }
    write_atomically(&work.folder.join(FILE), &text)
}

fn write(
    settings: &DescribeSettings<'_>,
    inputs: &DescribeInputs<'_>,
    dataset: &Dataset,
    work: &Work<'_>,
) -> Result<()> {
    let DescribeSettings::Written { words, temperature, top_p, min_tokens, max_tokens, seed } = *settings else {
        return Ok(());
    };
    let Some(model) = inputs.model else { return Err(Error::failed("describe", "no model was handed over")) };
    let path = work.folder.join(FILE);
    let (mut file, done) = RowFile::<DescriptionRow>::open(&path)?;
    let written: HashSet<_> = done.iter().map(|r| r.item.clone()).collect();
    let mut asked = Vec::new();
    for (n, _) in dataset.items.iter().enumerate().filter(|(_, i)| !written.contains(&i.raw)) {
        let reading = Reading::chat(description(dataset, ItemIdx(n as u32))?);
        asked.push(Ask { row: n as u32, reading, samples: vec![0] });
    }
    let sampling = generate::GenerateSettings {
        temperature,
        top_p,
        top_k: 0,
        min_new_tokens: min_tokens,
        max_new_tokens: max_tokens,
        seed,
        ..generate::GenerateSettings::default()
    };
    let mut listener = Writer { file: &mut file, dataset, words, done: done.len() as u64, monitor: work.monitor };
    let quiet = CountedElsewhere(work.monitor);
    model.open(work.device)?.write_on(&asked, &sampling, &quiet, &mut listener)?;
    // Answers end in any order, and after a kill in another one: the artifact has them in the order
    // of the catalogue.
    let mut rows: std::collections::HashMap<_, _> =
        read_rows::<DescriptionRow>(&path)?.into_iter().map(|r| (r.item.clone(), r)).collect();
    keep(work, dataset.items.iter().filter_map(|item| rows.remove(&item.raw)))
}

/// Writes a description as soon as it is finished.
struct Writer<'a> {
    file: &'a mut RowFile<DescriptionRow>,
    dataset: &'a Dataset,
    words: usize,
    done: u64,
    monitor: &'a dyn Monitor,
}

impl Listener for Writer<'_> {
    fn finished(&mut self, answer: Answer) -> Result<()> {
        let text = clean_description(&answer.text);
        let text = if self.words == 0 { &text } else { descriptions::cut(&text, self.words).0 };
        let item = self.dataset.items[answer.row as usize].raw.clone();
        self.file.append(&DescriptionRow { item, text: text.to_string() })?;
        self.done += 1;
        self.monitor.progress(self.done, self.dataset.items.len() as u64, "items");
        Ok(())
    }
}
