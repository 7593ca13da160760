//! `prompts`: what the language model reads for every row and variant, within the model's context.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::data::Ground;
use super::features;
use super::graph::Collaborative;
use super::language::{self, Language};
use super::retrieve::{Embeddings, Retrieval, Set, Variant};
use super::soft::{self, SoftSource};
use crate::config::Recipe;
use crate::error::{Error, Kind, Result};
use crate::events::StageId;
use crate::models::soft_prompt::Inputs;
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::matrices;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::retrieval::Template;
use crate::tensor::Matrix;
use crate::text::prompts::{CutReport, Drop, Order, Prompt, Prompter, drop_order, fit};

/// One prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PromptRow {
    /// Which set.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// Index of the sample that the history is frozen at; rows of a group share it.
    pub at: usize,
    /// How the history was chosen.
    pub variant: Variant,
    /// Its label.
    pub label: bool,
    /// What the causal features alone say, where the recipe wants them.
    pub facts_p: Option<f64>,
    /// The turns.
    pub prompt: Prompt,
}

/// All prompts.
pub struct Prompts {
    /// In the order of sets, rows, variants.
    pub rows: Vec<PromptRow>,
    /// Embeddings behind the soft tokens, where the recipe wants them, in ascending order of their numbers.
    pub soft: Option<Matrix>,
    /// The artifact.
    pub artifact: Artifact,
}

impl Prompts {
    /// What the causal features alone say of the rows of a set, where there are any.
    pub fn facts(&self, set: Set) -> HashMap<usize, f64> {
        let own = |r: &&PromptRow| r.set == set && r.variant == Variant::Main;
        self.rows.iter().filter(own).filter_map(|r| r.facts_p.map(|p| (r.row, p))).collect()
    }

    /// The projector's inputs, where the prompts have soft tokens.
    pub fn inputs(&self, language: &Language) -> Result<Option<Inputs>> {
        let of = |x: &Matrix| Inputs::new(soft::ids(&soft::numbers(&self.rows), language), x.clone());
        self.soft.as_ref().map(of).transpose()
    }
}

/// The embeddings behind the soft tokens.
const SOFT: &str = "soft.safetensors";

/// The weight of each causal feature.
pub(super) const WEIGHTS: &str = "facts.json";

/// Room left for the answer and the end of the turn.
pub(super) const ANSWER_ROOM: usize = 8;

/// Runs or reuses the stage.
pub fn prompts(
    run: &Run,
    recipe: &Recipe,
    ground: &Ground,
    retrieval: &Retrieval,
    embeddings: &Embeddings<'_>,
    language: &mut super::Lazy<'_>,
) -> Result<Prompts> {
    let colla = embeddings.colla;
    let key = KeyBuilder::new(StageId::Prompts.name(), 1)
        .input("data", &ground.artifact.key)
        .input("retrieve", &retrieval.artifact.key)
        .settings("prompt", &recipe.prompt)?
        .settings("facts", &recipe.collab)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?;
    let key = soft::add_to_key(key, recipe, embeddings)?.finish();
    let artifact = run.stage(StageId::Prompts, &key, |work| {
        let soft = SoftSource::new(recipe, embeddings);
        write(work, recipe, ground, retrieval, colla, soft, language.get()?)
    })?;
    let soft = recipe.soft.is_on().then(|| matrices::read(&artifact.file(SOFT), "embeddings")).transpose()?;
    Ok(Prompts { rows: read_rows(&artifact.file("prompts.jsonl"))?, soft, artifact })
}

fn write(
    work: &Work<'_>,
    recipe: &Recipe,
    ground: &Ground,
    retrieval: &Retrieval,
    colla: &Collaborative,
    mut soft: Option<SoftSource>,
    language: &Language,
) -> Result<()> {
    let path = work.folder.join("prompts.jsonl");
    if path.exists() {
        std::fs::remove_file(&path).map_err(|e| Error::io(&path, "start the file again", &e))?;
    }
    let (mut file, _) = RowFile::<PromptRow>::open(&path)?;
    let fitted = features::fit(recipe, ground, colla, &work.folder.join(WEIGHTS), work.monitor)?;
    let limit = language.model.config().context.saturating_sub(ANSWER_ROOM);
    let mut cuts = CutReport::default();
    let total = retrieval.shown.len() as u64;
    for (n, shown) in retrieval.shown.iter().enumerate() {
        if n % 256 == 0 {
            work.monitor.check()?;
        }
        let sample = ground.sample(shown.row);
        let template = shown.variant.settings(recipe).template;
        let settings = crate::text::prompts::Settings { order: wording(template), ..recipe.prompt.clone() };
        let places = soft.as_mut().map(|s| s.places(ground, shown.row, shown.at));
        let prompter = Prompter::new(&ground.dataset, recipe.data.threshold(), &settings)?.with_soft(places);
        let known = fitted.as_ref().map(|f| features::of(f, ground, shown.set, shown.row, shown.at));
        let stated = known.and_then(|f| f.stated(recipe.collab.wording));
        let least = drop_order(least_valuable(template), shown.items.len());
        let fitted = fit(
            &|keep| prompter.build_some(sample.user, &shown.items, keep, sample.item, stated.as_ref()),
            &least,
            &|prompt| language.prompt_tokens(prompt).map(|t| t.len()),
            limit,
        )
        .map_err(|e| {
            if e.kind() != Kind::Usage {
                return e;
            }
            Error::input(e.place(), format!("{}: the model reads {} tokens", e.what(), limit + ANSWER_ROOM))
                .next("use a model with a longer context, or a shorter wording: prompt.style = \"short\"")
        })?;
        cuts.add(fitted.dropped);
        file.append(&PromptRow {
            set: shown.set,
            row: shown.row,
            at: shown.at,
            variant: shown.variant,
            label: sample.label,
            facts_p: known.map(|f| f.p),
            prompt: fitted.prompt,
        })?;
        work.monitor.progress(n as u64 + 1, total, "prompts");
    }
    if cuts.cut > 0 {
        let what = format!(
            "{} of {} prompts were too long for the model: {} history items left out",
            cuts.cut, cuts.prompts, cuts.items
        );
        work.monitor.warn(&what, "lower retrieve.k, or use a model with a longer context");
    }
    if let Some(soft) = &soft {
        let embeddings = soft.matrix(&soft::numbers(&read_rows(&path)?))?;
        matrices::write(&work.folder.join(SOFT), &[("embeddings", &embeddings)])?;
    }
    let json = serde_json::to_vec_pretty(&cuts).map_err(|e| Error::failed("cuts.json", e))?;
    write_atomically(&work.folder.join("cuts.json"), &json)
}

/// What the prompt says about the order of the items.
pub(super) fn wording(template: Template) -> Order {
    match template {
        Template::Simple | Template::Sequential => Order::InOrder,
        Template::High | Template::Low => Order::MostRelevant,
        Template::Rerank => Order::Relevant,
    }
}

/// Which end of the list matters least.
pub(super) fn least_valuable(template: Template) -> Drop {
    match template {
        Template::Simple | Template::Sequential | Template::Low => Drop::Front,
        Template::High | Template::Rerank => Drop::Back,
    }
}
