//! `describe`: item descriptions, written by the model, read from a file, or none.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use crate::config::{DescribeSource, Recipe};
use crate::content::Content;
use crate::data::descriptions::{self, DescriptionRow, Descriptions};
use crate::data::{self, Dataset, ItemIdx, Kind, RawId};
use crate::durable;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::generate;
use crate::lm::{Answer, Ask, Listener, Reading, View};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::earlier::{AskedFile, AskedFiles, Earlier, Named};
use crate::pipeline::rows::read_rows;
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::store::chat::Message;
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
        built_in: Option<&'r data::synthetic::SyntheticSettings>,
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
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([("tables", Some(self.tables.content()))])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(contents([
            ("model", self.model.map(|m| m.identity()).transpose()?),
            ("file", self.file.map(Content::of_path).transpose()?),
        ]))
    }
}

/// One line an item, in the order of the catalogue; empty where there is none.
pub(super) const FILES: AskedFiles = AskedFiles { rows: "descriptions.jsonl", asked: "descriptions.asked.jsonl" };

impl Named for DescriptionRow {
    type Name = RawId;

    fn name(&self) -> RawId {
        self.item.clone()
    }
}

/// All that a written description follows from.
#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    settings: &'a DescribeSettings<'a>,
    model: &'a Content,
    messages: &'a [Message],
    /// The item's number is the random counter.
    item: usize,
}

impl Stage for Describe {
    const ID: StageId = StageId::Describe;
    const VERSION: u32 = 2;
    const NOTES: &'static [&'static str] = &[FILES.asked];
    const TAKES_OVER: bool = true;
    type Settings<'r> = DescribeSettings<'r>;
    type Inputs<'a> = DescribeInputs<'a>;
    /// In the order of the catalogue.
    type Output = Descriptions;

    fn run(settings: &DescribeSettings<'_>, inputs: &DescribeInputs<'_>, work: &Work<'_>) -> Result<()> {
        let dataset = inputs.tables.get()?;
        let found = match settings {
            DescribeSettings::Written { .. } => return write(settings, inputs, dataset, work),
            DescribeSettings::Read { words, built_in } => {
                let settings = data::DataSettings {
                    kind: if built_in.is_some() { Kind::SYNTHETIC } else { Kind::TABLE },
                    synthetic: (*built_in).cloned().unwrap_or_default(),
                    ..data::DataSettings::default()
                };
                descriptions::load(&settings, inputs.file, *words, dataset, work.monitor)?.texts
            }
            DescribeSettings::None => vec![None; dataset.items.len()],
        };
        let rows = dataset.items.iter().zip(found);
        keep(work, rows.map(|(item, text)| DescriptionRow { item: item.raw.clone(), text: text.unwrap_or_default() }))
    }

    fn load(artifact: &Artifact) -> Result<Descriptions> {
        read(artifact)
    }
}

/// The descriptions of a finished artifact, in the order of the catalogue.
pub(super) fn read(artifact: &Artifact) -> Result<Descriptions> {
    let rows: Vec<DescriptionRow> = read_rows(&artifact.file(FILES.rows))?;
    let texts: Vec<_> = rows.into_iter().map(|r| Some(r.text).filter(|t| !t.is_empty())).collect();
    let missing = texts.iter().filter(|t| t.is_none()).count();
    Ok(Descriptions { texts, missing, ..Default::default() })
}

/// The demo and tests have fewer items: their toy's descriptions are wanted.
const FEW: usize = 300;

fn keep(work: &Work<'_>, rows: impl Iterator<Item = DescriptionRow>) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, &row).map_err(|e| Error::failed(FILES.rows, e))?;
        text.push(b'\n');
    }
    durable::write(&work.folder.join(FILES.rows), &text)
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
    let items = dataset.items.len();
    if model.spec() == crate::store::builtin::NAME && items > FEW {
        work.monitor.warn(
            &format!("the built-in toy model writes {items} descriptions: minutes of work, and its words mean nothing"),
            "set describe.source to \"none\" or \"file\", or model.path to a real model",
        );
    }
    let (mut file, done) = AskedFile::<DescriptionRow>::open(work.folder, FILES)?;
    let written: HashSet<_> = done.iter().map(Named::name).collect();
    let earlier = Earlier::<DescriptionRow>::read(work.others, &[FILES]);
    let identity = model.identity()?;
    let mut count = done.len() as u64;
    let (mut asked, mut questions) = (Vec::new(), HashMap::new());
    for (n, item) in dataset.items.iter().enumerate().filter(|(_, i)| !written.contains(&i.raw)) {
        let messages = description(dataset, ItemIdx(n as u32))?;
        let question = Content::of(&Question {
            version: Describe::VERSION,
            settings,
            model: &identity,
            messages: &messages,
            item: n,
        })?;
        if let Some(found) = earlier.get(&question) {
            file.append(&DescriptionRow { item: item.raw.clone(), text: found.text.clone() }, &question)?;
            count += 1;
            continue;
        }
        questions.insert(n as u32, question);
        asked.push(Ask { row: n as u32, reading: Reading::chat(messages), samples: vec![0] });
    }
    work.monitor.progress(count, dataset.items.len() as u64, "items");
    let sampling = generate::GenerateSettings {
        temperature,
        top_p,
        top_k: 0,
        min_new_tokens: min_tokens,
        max_new_tokens: max_tokens,
        seed,
        ..generate::GenerateSettings::default()
    };
    let mut listener = Writer { file: &mut file, questions, dataset, words, done: count, monitor: work.monitor };
    let quiet = CountedElsewhere(work.monitor);
    if !asked.is_empty() {
        model.open(work.device)?.write_on(&asked, &sampling, &quiet, &mut listener)?;
    }
    // Answers end in any order, and after a kill in another one: the artifact has them in the order
    // of the catalogue.
    let mut rows: HashMap<_, _> =
        read_rows::<DescriptionRow>(&work.folder.join(FILES.rows))?.into_iter().map(|r| (r.item.clone(), r)).collect();
    keep(work, dataset.items.iter().filter_map(|item| rows.remove(&item.raw)))
}

/// Writes a description as soon as it is finished.
struct Writer<'a> {
    file: &'a mut AskedFile<DescriptionRow>,
    /// What was asked, by number of the item.
    questions: HashMap<u32, Content>,
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
        let Some(question) = self.questions.get(&answer.row) else { return Ok(()) };
        self.file.append(&DescriptionRow { item, text: text.to_string() }, question)?;
        self.done += 1;
        self.monitor.progress(self.done, self.dataset.items.len() as u64, "items");
        Ok(())
    }
}
