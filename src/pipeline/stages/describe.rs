//! `describe`: item descriptions, written by the model, read from a file, or none.

use std::collections::HashMap;

use super::data::Ground;
use super::language::{self, Language};
use super::scorer::Scorer;
use crate::config::{Describe, DescribeSource, Recipe};
use crate::data::ItemIdx;
use crate::data::descriptions::{self, DescriptionRow, Descriptions};
use crate::device::Device;
use crate::error::Result;
use crate::events::StageId;
use crate::generate::{self, Listener, Prompt, Sample};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::text::prompts::{clean_description, description};

/// Descriptions in the order of the catalogue.
pub struct Described {
    /// The texts.
    pub descriptions: Descriptions,
    /// The artifact.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn describe(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    language: &mut super::Lazy<'_>,
) -> Result<Described> {
    let mut key = KeyBuilder::new(StageId::Describe.name(), 1)
        .input("data", &ground.artifact.key)
        .settings("describe", &recipe.describe)?;
    if recipe.describe.source == DescribeSource::Model {
        key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?;
    }
    if let (DescribeSource::File, Some(file)) = (recipe.describe.source, &recipe.describe.file) {
        key = key.path("file", file)?;
    }
    let artifact = run.stage(StageId::Describe, &key.finish(), |work| match recipe.describe.source {
        DescribeSource::Model => write(work, recipe, device, ground, language.get()?),
        DescribeSource::File => {
            let Describe { file, words, .. } = &recipe.describe;
            let found = descriptions::load(&recipe.data, file.as_deref(), *words, &ground.dataset, work.monitor)?;
            keep(work, ground, &found)
        }
        DescribeSource::None => {
            keep(work, ground, &Descriptions { texts: vec![None; ground.dataset.items.len()], ..Default::default() })
        }
    })?;
    let rows: Vec<DescriptionRow> = read_rows(&artifact.file("descriptions.jsonl"))?;
    let mut by_id: HashMap<_, _> = rows.into_iter().map(|r| (r.item, r.text)).collect();
    let texts: Vec<_> = ground.dataset.items.iter().map(|i| by_id.remove(&i.raw).filter(|t| !t.is_empty())).collect();
    let missing = texts.iter().filter(|t| t.is_none()).count();
    if missing > 0 && recipe.describe.source != DescribeSource::None {
        run.reporter().line().line(&format!(
            "describe   {missing} of {} items have no description: their templated text stands in",
            texts.len()
        ));
    }
    if recipe.describe.source == DescribeSource::File && missing == texts.len() && !recipe.data.kind.set().described {
        crate::Monitor::warn(
            run.reporter(),
            "no item has a description",
            "set describe.file to a file of this data set",
        );
    }
    Ok(Described { descriptions: Descriptions { texts, missing, ..Default::default() }, artifact })
}

fn keep(work: &Work<'_>, ground: &Ground, found: &Descriptions) -> Result<()> {
    let (mut file, done) = RowFile::<DescriptionRow>::open(&work.folder.join("descriptions.jsonl"))?;
    let total = found.texts.len() as u64;
    for (n, (item, text)) in ground.dataset.items.iter().zip(&found.texts).enumerate().skip(done.len()) {
        file.append(&DescriptionRow { item: item.raw.clone(), text: text.clone().unwrap_or_default() })?;
        work.monitor.progress(n as u64 + 1, total, "items");
    }
    Ok(())
}

fn write(work: &Work<'_>, recipe: &Recipe, device: &Device, ground: &Ground, language: &Language) -> Result<()> {
    let settings = &recipe.describe;
    let (mut file, done) = RowFile::<DescriptionRow>::open(&work.folder.join("descriptions.jsonl"))?;
    let written: std::collections::HashSet<_> = done.iter().map(|r| r.item.clone()).collect();
    let mut asked = Vec::new();
    for (n, _) in ground.dataset.items.iter().enumerate().filter(|(_, i)| !written.contains(&i.raw)) {
        let tokens = language.chat_tokens(&description(&ground.dataset, ItemIdx(n as u32))?)?;
        asked.push(Prompt::new(n as u32, tokens, 1));
    }
    let sampling = generate::Settings {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: 0,
        min_new_tokens: settings.min_tokens,
        max_new_tokens: settings.max_tokens,
        seed: settings.seed,
        ..generate::Settings::default()
    };
    let mut listener = Writer {
        file: &mut file,
        ground,
        language,
        words: settings.words,
        done: done.len() as u64,
        monitor: work.monitor,
    };
    let quiet = CountedElsewhere(work.monitor);
    Scorer::new(device, &language.model)?.generate(&asked, &language.stop, &sampling, &quiet, &mut listener)
}

/// Writes a description as soon as it is finished.
struct Writer<'a> {
    file: &'a mut RowFile<DescriptionRow>,
    ground: &'a Ground,
    language: &'a Language,
    words: usize,
    done: u64,
    monitor: &'a dyn Monitor,
}

impl Listener for Writer<'_> {
    fn finished(&mut self, sample: Sample) -> Result<()> {
        let text = clean_description(&self.language.tokenizer.decode(&sample.tokens, true)?);
        let text = if self.words == 0 { &text } else { descriptions::cut(&text, self.words).0 };
        let item = self.ground.dataset.items[sample.row as usize].raw.clone();
        self.file.append(&DescriptionRow { item, text: text.to_string() })?;
        self.done += 1;
        self.monitor.progress(self.done, self.ground.dataset.items.len() as u64, "items");
        Ok(())
    }
}
