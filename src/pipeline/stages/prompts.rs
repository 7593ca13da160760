//! `prompts`: what the language model reads for every row and variant, within the model's context.

use serde::{Deserialize, Serialize};

use super::data::Ground;
use super::graph::Collaborative;
use super::language::{self, Language};
use super::retrieve::{Embeddings, Retrieval, Set, Variant};
use super::soft::{self, SoftSource};
use crate::config::Recipe;
use crate::data::{ItemIdx, Part, Rated, UserIdx};
use crate::error::{Error, Kind, Result};
use crate::eval::yardsticks::Logistic;
use crate::matrix::Matrix;
use crate::models::soft_prompt::Inputs;
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::matrices;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::retrieval::Template;
use crate::rng::{Rng, Use};
use crate::text::knowledge::{Facts, Knowledge, KnowledgeBase};
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
    /// What the collaborative facts alone say, where they are in the prompt.
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
    /// The projector's inputs, where the prompts have soft tokens.
    pub fn inputs(&self, language: &Language) -> Result<Option<Inputs>> {
        let of = |x: &Matrix| Inputs::new(soft::ids(&soft::numbers(&self.rows), language), x.clone());
        self.soft.as_ref().map(of).transpose()
    }
}

/// The embeddings behind the soft tokens.
const SOFT: &str = "soft.safetensors";

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
    let key = KeyBuilder::new("prompts", 1)
        .input("data", &ground.artifact.key)
        .input("retrieve", &retrieval.artifact.key)
        .settings("prompt", &recipe.prompt)?
        .settings("facts", &recipe.facts)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?;
    let key = soft::add_to_key(key, recipe, embeddings)?.finish();
    let artifact = run.stage("prompts", &key, |work| {
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
    let facts = FactSource::fit(recipe, ground, colla)?;
    let limit = language.model.config().context.saturating_sub(ANSWER_ROOM);
    let mut cuts = CutReport::default();
    let total = retrieval.shown.len() as u64;
    for (n, shown) in retrieval.shown.iter().enumerate() {
        if n % 256 == 0 {
            work.monitor.check()?;
        }
        let sample = ground.sample(shown.row);
        let template = shown.variant.settings(&recipe.retrieve).template;
        let settings = crate::text::prompts::Settings { order: wording(template), ..recipe.prompt.clone() };
        let places = soft.as_mut().map(|s| s.places(ground, shown.row, shown.at));
        let prompter = Prompter::new(&ground.dataset, recipe.data.threshold(), &settings)?.with_soft(places);
        let known = facts.of(ground, shown.set, shown.row, shown.at);
        let least = drop_order(least_valuable(template), shown.items.len());
        let fitted = fit(
            &|keep| prompter.build_some(sample.user, &shown.items, keep, sample.item, known.as_ref()),
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

/// Collaborative facts, fitted on training rows only.
pub struct FactSource {
    base: Option<KnowledgeBase>,
    fit: Option<Logistic>,
    affinity: Option<Affinity>,
}

struct Affinity {
    users: crate::Matrix,
    items: crate::Matrix,
}

impl FactSource {
    /// Fits what the recipe's `facts` section asks for.
    pub fn fit(recipe: &Recipe, ground: &Ground, colla: &Collaborative) -> Result<Self> {
        if recipe.facts.knowledge == Knowledge::None {
            return Ok(Self { base: None, fit: None, affinity: None });
        }
        let train = ground.samples.part(Part::Train);
        let base = KnowledgeBase::fit(ground.dataset.items.len(), recipe.data.threshold(), train, &recipe.facts)?;
        let affinity =
            recipe.facts.affinity.then(|| Affinity { users: colla.users.clone(), items: colla.items.clone() });
        let mut source = Self { base: Some(base), fit: None, affinity };
        // The weight of each fact is learnt on a draw of training rows, each seen through the other users' folds.
        let range = ground.samples.split.range(Part::Train);
        let mut rows: Vec<usize> = range.collect();
        Rng::new(recipe.seed, Use::Rows, 77, 0).shuffle(&mut rows);
        rows.truncate(20_000);
        let mut features = Vec::with_capacity(rows.len());
        for &row in &rows {
            if let Some(facts) = source.of(ground, Set::Tune, row, row) {
                features.extend(facts.features());
            }
        }
        let labels: Vec<bool> = rows.iter().map(|&r| ground.sample(r).label).collect();
        source.fit = Some(Logistic::fit(&features, 3, &labels, 1.0)?);
        Ok(source)
    }

    /// The facts of a row, `None` when the recipe wants none.
    pub fn of(&self, ground: &Ground, set: Set, row: usize, at: usize) -> Option<Facts> {
        let base = self.base.as_ref()?;
        let sample = ground.sample(row);
        let history = ground.history_at(row, at);
        let facts = match set {
            Set::Tune => base.of_training_row(sample.user, sample.item, &history),
            Set::Valid | Set::Test => base.of_new_row(sample.item, &history),
        };
        Some(self.complete(facts, sample.user, sample.item))
    }

    /// The facts of an item that the user has not rated.
    pub fn of_candidate(&self, user: UserIdx, item: ItemIdx, history: &[Rated]) -> Option<Facts> {
        let base = self.base.as_ref()?;
        Some(self.complete(base.of_new_row(item, history), user, item))
    }

    fn complete(&self, mut facts: Facts, user: UserIdx, item: ItemIdx) -> Facts {
        if let Some(affinity) = &self.affinity {
            facts = facts.with_affinity(affinity.share_below(user.at(), item.at()));
        }
        match &self.fit {
            Some(fit) => facts.calibrated(fit),
            None => facts,
        }
    }
}

impl Affinity {
    /// Share of the catalogue that suits the user less than the item does.
    fn share_below(&self, user: usize, item: usize) -> f64 {
        let user = self.users.row(user);
        let score = |i: usize| -> f32 { user.iter().zip(self.items.row(i)).map(|(a, b)| a * b).sum() };
        let own = score(item);
        let below = (0..self.items.rows()).filter(|&i| score(i) < own).count();
        below as f64 / self.items.rows().max(1) as f64
    }
}
